"""The runner that computes with workers on a Ray cluster.

Each worker is a plain Ray actor that loads its tool (`assignment`), computes shards and writes their parts into the shared folder
itself (`ray_actor`). This process hands out shards and keeps the account (`account`); a process of its own talks with Ray
(`ray_driver`, `ray_link`). None of Ray's retries is used: which shards of a lost worker are computed again, by whom, and which of
them is to blame, the account knows better. `ray_crew` knows the workers.

Every wait has a limit, so the run ends: a worker without progress is killed (`patience`), and a cluster that has no room for the
fewest workers is an error.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import EngineError
from ...progress import Tally
from .account import Account, Report
from .assignment import Assignment
from .base import Facts, Work
from .cluster import Cluster
from .engine_tool import assigned, job_of
from .ray_crew import Crew, Gone
from .ray_link import Link

IN_HAND = 2
"""Shards in a worker's hands: it computes one, and the next is there when it is done."""
_LOOK_S = 0.5


class RayWorkers:
    """The workers of a run on a cluster. Use it with `ray_workers`.

    Args:
        link: to the cluster.
        cluster: what the user wants of it.
        job: names their tool; see `isc_fast.extraction.runners.assignment`. Its ``device`` is ``"cpu"`` or ``"cuda"``; on the
            latter each worker has a GPU.

    Attributes:
        made_on: by shard that this run computed, what decides the last bits on the worker that did.
    """

    def __init__(self, link: Link, cluster: Cluster, job: Mapping[str, Any]) -> None:
        self._crew, self._cluster = Crew(link, cluster, job), cluster
        self.made_on: dict[int, Mapping[str, str]] = {}

    @property
    def cores(self) -> int:
        """Of each worker."""
        return self._crew.cores

    @property
    def notes(self) -> list[str]:
        """What the user should know about the workers."""
        return self._crew.notes

    def facts(self) -> Mapping[str, Any]:
        """What the tool is, as the first worker says. It stays for the run.

        Raises:
            IscFastError: the tool cannot be loaded there, or the cluster has no room for a worker.
        """
        began = time.monotonic()
        while self._crew.facts is None:
            self._crew.want(1)
            self._crew.next(_LOOK_S)
            self._crew.stalled(set())
            self.refuse_waiting(began, 1)
        return self._crew.facts

    def carry_out(self, assignment: Assignment, tally: Tally) -> None:
        """Compute shards.

        Raises:
            IscFastError: a worker reported it, or too many workers died.
        """
        run = _Run(assignment, Account(assignment.missing, tally, isolates=assignment.careful), self._crew, self)
        try:
            run.until_done(tally, *self._bounds(len(assignment.missing)))
        finally:
            self._crew.dismiss()
        assignment.refuse(run.account)

    def _bounds(self, shards: int) -> tuple[int, int]:
        least, most = self._cluster.workers or (1, self._crew.room)
        return min(least, shards), min(most, shards)

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


class OnRay:
    """Computes an extraction on a Ray cluster; see `isc_fast.extraction.runners.base.Runner`. Use it with `on_ray`.

    Args:
        workers: on the cluster.
        job: of them; see `isc_fast.extraction.runners.engine_tool.job_of`.
        isolated: see `isc_fast.decoders.base.make_decoder`.
    """

    def __init__(self, workers: RayWorkers, job: Mapping[str, Any], *, isolated: bool) -> None:
        self._workers, self._job, self._isolated = workers, job, isolated

    @property
    def notes(self) -> list[str]:
        """What the user should know about the workers."""
        return self._workers.notes

    @property
    def made_on(self) -> Mapping[int, Mapping[str, str]]:
        """See `RayWorkers`."""
        return self._workers.made_on

    @property
    def facts(self) -> Facts:
        """See `isc_fast.extraction.runners.base.Runner`, and `RayWorkers.facts`."""
        return Facts.of_message(self._workers.facts())

    def run(self, work: Work, tally: Tally) -> None:
        """See `isc_fast.extraction.runners.base.Runner`.

        Raises:
            InputError: only this process can open the photos.
            IscFastError: a worker reported it, or too many workers died.
        """
        threads = self._workers.cores
        self._workers.carry_out(
            assigned(work, self._job, threads=threads, isolated=self._isolated, elsewhere=True), tally
        )


class _Run:
    """Hands out shards, until all are done."""

    def __init__(self, assignment: Assignment, account: Account, crew: Crew, runner: RayWorkers) -> None:
        self.account = account
        self._assignment, self._crew, self._runner = assignment, crew, runner
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
                self._crew.tell(number, dict(self._assignment.begin))
            self._crew.members[number].moved = time.monotonic()
        self._crew.tell(number, dict(self._assignment.hand(index, self.account.must_isolate(index))))


@contextlib.contextmanager
def ray_workers(cluster: Cluster, job: Mapping[str, Any]) -> Iterator[RayWorkers]:
    """Join or start a cluster, and leave or end it when the block ends.

    Raises:
        IscFastError: see `isc_fast.extraction.runners.ray_link.Link`.
    """
    link = Link(cluster.address)
    try:
        yield RayWorkers(link, cluster, job)
    finally:
        link.close()


@contextlib.contextmanager
def on_ray(
    cluster: Cluster, engine: str, device: str, options: Mapping[str, Any], *, isolated: bool
) -> Iterator[OnRay]:
    """The runner of an extraction on a cluster, which is left when the block ends.

    Args:
        cluster: what the user wants of it.
        engine: path of the engine's file on every node, or ``"demo"``.
        device: ``"cpu"`` or ``"cuda"``; on the latter each worker has a GPU.
        options: further arguments of `isc_fast.load_engine`.
        isolated: see `isc_fast.decoders.base.make_decoder`.

    Raises:
        IscFastError: see `isc_fast.extraction.runners.ray_link.Link`.
    """
    path = engine if engine == "demo" else os.path.abspath(engine)
    job = {**job_of(path, options), "device": device}
    with ray_workers(cluster, job) as workers:
        yield OnRay(workers, job, isolated=isolated)
