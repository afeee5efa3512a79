"""The account of a run: which shards are not done, which worker has which, and which shard ends its workers.

The account is plain bookkeeping. It starts nothing, waits for nothing and sends nothing: a runner reports what happened
to its workers and asks what to do next. So any runner that has workers can use it, whatever they are and wherever they
run.

A worker may hold several shards, because its decoder works ahead of its engine. When a worker dies, any shard that it
held may be what killed it. So each of these is a *suspect* from then on: it is handed out after all other shards, to a
worker that holds nothing else. The death counts against the first shard that the worker held, since that is the one it
was computing. Counting all the shards that a worker held would, where workers are killed for other reasons, leave shards
that are good.

After `MOST_DEATHS` deaths a shard probably holds a photo that ends whatever decodes it. Its photos are then decoded in
processes of their own (`Account.must_isolate`), where such a photo becomes a row of the ledger and nothing else is lost. A
shard that ends its worker even so is *left*: it is not handed out again, and the run ends with an error once everything else
is done. Where photos cannot be isolated, or have been all the time, a shard is left after `MOST_DEATHS` deaths.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import EngineError
from ...progress import Tally
from ..plan import Plan

MOST_DEATHS = 2
"""The number of deaths that count against a shard when its photos are isolated, or else when it is left."""


@dataclass(frozen=True)
class Report:
    """What a worker did.

    Attributes:
        shard: index of the shard that it worked on.
        images: number of images that it did since its last report.
        failed: number of these that failed.
        stored: whether the part of the shard is stored, so that the shard is done.
    """

    shard: int
    images: int
    failed: int
    stored: bool


class Account:
    """See the module's text. Workers are known by numbers, which the runner chooses.

    Args:
        shards: the indices of the shards to do.
        tally: counts the images that are done, and subtracts those whose shard was lost with its worker.
        isolates: whether workers can decode the photos of a shard in processes of their own, and do not do so anyway.

    Attributes:
        most_deaths: the number of deaths that count against a shard when it is left.
        left: the shards that are left, each with the words that tell how the last worker died over it.
        last_death: how the last worker died that did, in words.
    """

    def __init__(self, shards: Iterable[int], tally: Tally, *, isolates: bool = False) -> None:
        self.most_deaths = MOST_DEATHS + isolates
        self.left: dict[int, str] = {}
        self.last_death = ""
        self._tally = tally
        self._fresh = deque(shards)
        self._suspects: deque[int] = deque()  # those that no worker holds
        self._suspected: set[int] = set()  # all that ever became suspects
        self._deaths: Counter[int] = Counter()
        self._held: dict[int, list[int]] = {}  # by worker, in the order in which they were handed out
        self._counted: dict[int, tuple[int, int]] = {}  # by shard that is not stored: images and failures in the tally

    @property
    def undone(self) -> int:
        """The number of shards that could be handed out: neither done, nor held by a worker, nor left."""
        return len(self._fresh) + len(self._suspects)

    @property
    def over(self) -> bool:
        """Whether there is nothing to hand out and no worker holds anything that could come back."""
        return not self.undone and not any(self._held.values())

    @property
    def must_end_isolated(self) -> bool:
        """Whether a shard waits that has to be isolated; see `must_isolate`."""
        return any(map(self.must_isolate, self._suspects))

    def must_isolate(self, shard: int) -> bool:
        """Whether the photos of a shard have to be decoded in processes of their own."""
        return MOST_DEATHS <= self._deaths[shard] < self.most_deaths

    def holding(self, worker: int) -> int:
        """The number of shards that a worker holds."""
        return len(self._held.get(worker, ()))

    def hand_out(self, worker: int) -> int | None:
        """Give a worker the next shard. None means that there is none for this worker now, but one may come back later."""
        held = self._held.setdefault(worker, [])
        if not self._suspected.isdisjoint(held):
            return None  # a suspect is computed alone
        queue = self._fresh if self._fresh or held else self._suspects
        if not queue:
            return None
        held.append(queue.popleft())
        return held[-1]

    def report(self, worker: int, report: Report) -> None:
        """Note what a worker did. A report about a shard that the worker does not hold any more changes nothing."""
        held = self._held.get(worker, [])
        if report.shard not in held:
            return
        images, failed = self._counted.pop(report.shard, (0, 0))
        if report.stored:
            held.remove(report.shard)
        else:
            self._counted[report.shard] = images + report.images, failed + report.failed
        self._tally.add(report.images, report.failed)

    def died(self, worker: int, how: str, *, blame: bool = True) -> None:
        """Note that a worker is dead, so that others get the shards that it held.

        Args:
            worker: its number.
            how: how it died, in words.
            blame: whether a shard may be the cause; not so where the whole machine is gone.
        """
        self.last_death = how
        held = self._held.pop(worker, [])
        for shard in held:
            images, failed = self._counted.pop(shard, (0, 0))
            if images:
                self._tally.add(-images, -failed)
        if blame and held:
            self._suspected.update(held)
            self._deaths[held[0]] += 1
            if self._deaths[held[0]] == self.most_deaths:
                self.left[held.pop(0)] = how
        for shard in held:
            (self._suspects if shard in self._suspected else self._fresh).append(shard)


def refuse_undone(account: Account, plan: Plan) -> None:
    """Raise an error where a run that has ended did not do all shards.

    Raises:
        EngineError: it did not; the message names the shard that is left, or how the last worker died.
    """
    undone = account.undone
    if account.left:
        index = min(account.left)
        items = plan.shard(index).items
        rest = f"{undone} other parts are not done either" if undone else "all else is done"
        raise EngineError(
            f"{account.most_deaths} processes ended over the images {items[0].path} to {items[-1].path} ({account.left[index]}); "
            f"{rest}; to find the image, extract a few of them at a time to another output; move it away, and run the same "
            "command again"
        )
    if undone:
        raise EngineError(
            f"{account.last_death}, and no other is left; what is complete is kept: run the same command again, on fewer "
            "devices or with smaller batches if the memory was too small"
        )
