"""The runner that computes with workers on a Ray cluster.

Each worker is a plain Ray actor that loads the engine, computes shards and writes their parts into the shared folder itself
(`ray_actor`). This process hands out shards and keeps the account (`account`); a process of its own talks with Ray (`ray_driver`,
`ray_link`). None of Ray's retries is used: which shards of a lost worker are computed again, by whom, and which of them is to
blame, the account knows better. `ray_crew` knows the workers.

Every wait has a limit, so the run ends: a worker without progress is killed (`patience`), and a cluster that has no room for the
fewest workers is an error.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...decoders.base import can_isolate
from ...decoders.opening import ImageProblem, open_photo
from ...errors import EngineError, InputError
from ...progress import Tally
from ...sources.listing import open_item
from .account import Account, Report, refuse_undone
from .base import Facts, Work
from .cluster import Cluster
from .handed import Handed
from .ray_crew import Crew, Gone
from .ray_link import Link

IN_HAND = 2
"""Shards in a worker's hands: it computes one, and the next is there when it is done."""
_LOOK_S = 0.5


class OnRay:
    """Computes on a Ray cluster; see `isc_fast.extraction.runners.base.Runner`. Use it with `on_ray`.

    Args:
        link: to the cluster.
        cluster: what the user wants of it.
        engine: path of the engine's file on every node, or ``"demo"``.
        device: ``"cpu"`` or ``"cuda"``; on the latter each worker has a GPU.
        options: further arguments of `isc_fast.load_engine`.
        isolated: see `isc_fast.decoders.base.make_decoder`.

    Attributes:
        made_on: by shard that this run computed, what decides the last bits on the worker that did.
    """

    def __init__(
        self, link: Link, cluster: Cluster, engine: str, device: str, options: Mapping[str, Any], isolated: bool
    ) -> None:
        path = engine if engine == "demo" else os.path.abspath(engine)
        self._crew = Crew(link, cluster, {"engine": path, "device": device, "options": dict(options)})
        self._cluster, self._isolated = cluster, isolated
        self.made_on: dict[int, Mapping[str, str]] = {}

    @property
    def notes(self) -> list[str]:
        """What the user should know about the workers."""
        return self._crew.notes

    @property
    def facts(self) -> Facts:
        """What the engine is, as the first worker says. It stays for the run.

        Raises:
            EngineError: the engine cannot be loaded there, or the cluster has no room for a worker.
        """
        began = time.monotonic()
        while self._crew.facts is None:
            self._crew.want(1)
            self._crew.next(_LOOK_S)
            self._crew.stalled(set())
            self.refuse_waiting(began, 1)
        return Facts.of_message(self._crew.facts)

    def run(self, work: Work, tally: Tally) -> None:
        """See `isc_fast.extraction.runners.base.Runner`.

        Raises:
            InputError: only this process can open the photos.
            IscFastError: a worker reported it, or too many workers died.
        """
        if not work.source.by_path:
            raise InputError(
                "this source opens its photos in this process only, and a cluster needs photos that have paths; leave out the "
                "cluster, or write the photos to files"
            )
        isolates = not self._isolated and can_isolate(work.plan.decoder)
        run = _Run(work, Account(work.missing, tally, isolates=isolates), self._crew, self)
        try:
            run.until_done(tally, *self._bounds(len(work.missing)))
        finally:
            self._crew.dismiss()
        refuse_undone(run.account, work.plan)

    def _bounds(self, shards: int) -> tuple[int, int]:
        least, most = self._cluster.workers or (1, self._crew.room)
        return min(least, shards), min(most, shards)

    def begin(self, work: Work) -> dict[str, Any]:
        """What every worker is told before its first shard."""
        plan = work.plan
        task = {
            "engine_id": plan.engine_id,
            "plan_id": plan.id,
            "batch_size": plan.batch_size,
            "decoder": plan.decoder,
            "views": plan.views,
            "decode_threads": self._crew.cores,
            "isolated": self._isolated,
            "checksum": work.checksum,
            "expansion": work.expansion,
        }
        return {
            "output": work.parts.address,
            "in_folder": work.parts.in_folder,
            "plan_bytes": work.parts.plan_size(),
            "probe": _probe(work),
            "task": task,
        }

    def refuse_waiting(self, since: float, least: int) -> None:
        """End a run for which the cluster has had no room for too long.

        Args:
            since: when there were enough workers the last time.
            least: how many are needed.

        Raises:
            EngineError: it has.
        """
        crew, limit = self._crew, self._cluster.patience_s
        if time.monotonic() - since > limit:
            raise EngineError(
                f"{len(crew.ready)} of {least} workers were there after {limit:.0f} s; each needs {crew.needs}, and the cluster "
                f"had {crew.has} at the start: ask for fewer workers, or add nodes"
            )


def _probe(work: Work) -> tuple[str, str] | None:
    """An image that this machine can open, and so must the others."""
    for item in work.images(work.missing[0])[:16]:
        with contextlib.suppress(ImageProblem):
            open_photo(open_item(item)).close()
            return item.id, item.path
    return None


class _Run:
    """Hands out shards, until all are done."""

    def __init__(self, work: Work, account: Account, crew: Crew, runner: OnRay) -> None:
        self.account = account
        self._work, self._crew, self._runner = work, crew, runner
        self._begin = runner.begin(work)
        self._since: dict[int, float] = {}  # when each worker began with its first shard

    def until_done(self, tally: Tally, least: int, most: int) -> None:
        """Hand out shards, and replace workers that are lost.

        Raises:
            IscFastError: a worker reported it, or the cluster has no room.
        """
        begun, enough = False, time.monotonic()
        while not self.account.over:
            held = sum(self.account.holding(number) > 0 for number in self._crew.members)
            self._crew.want(min(most, self.account.undone + held))
            event = self._crew.next(_LOOK_S)
            if isinstance(event, Gone):
                self._lost(event)
            elif event is not None:
                self._reported(event.number, event.report)
            if len(self._crew.ready) >= (1 if begun else least):
                enough = time.monotonic()
                if not begun:  # the rate that users see leaves out the time of loading
                    tally.begin()
                    begun = True
                self._serve()
            elif not begun and most - self._crew.refused < least:
                raise EngineError(self._crew.notes[-1])
            else:
                self._runner.refuse_waiting(enough, 1 if begun else least)
            idle = {number for number in self._crew.ready if not self.account.holding(number)}
            for gone in self._crew.stalled(idle):
                self._lost(gone)

    def _lost(self, gone: Gone) -> None:
        self._since.pop(gone.number, None)
        self.account.died(gone.number, gone.how, blame=gone.blame)

    def _reported(self, number: int, report: Report) -> None:
        self._crew.members[number].works = True
        self.account.report(number, report)
        if report.stored:
            now = time.monotonic()
            self._crew.patience.took(now - self._since.get(number, now))
            self._since[number] = now
            self._runner.made_on[report.shard] = self._crew.members[number].hardware

    def _serve(self) -> None:
        """Fill the hands of all workers: first those that have nothing."""
        for full in range(1, IN_HAND + 1):
            for number in self._crew.ready:
                if self.account.holding(number) < full:
                    self._give(number)

    def _give(self, number: int) -> None:
        idle = not self.account.holding(number)
        index = self.account.hand_out(number)
        if index is None:
            return
        if idle:
            self._since[number] = time.monotonic()
            if not self._crew.members[number].told:
                self._crew.members[number].told = True
                self._crew.tell(number, self._begin)
            self._crew.members[number].moved = time.monotonic()
        shard = self._work.plan.shard(index)
        self._crew.tell(number, Handed(shard, self.account.must_isolate(index)).message())


@contextlib.contextmanager
def on_ray(
    cluster: Cluster, engine: str, device: str, options: Mapping[str, Any], *, isolated: bool
) -> Iterator[OnRay]:
    """Join or start a cluster, and leave or end it when the block ends.

    Raises:
        IscFastError: see `isc_fast.extraction.runners.ray_link.Link`.
    """
    link = Link(cluster.address)
    try:
        yield OnRay(link, cluster, engine, device, options, isolated)
    finally:
        link.close()
