"""The workers of a run on a Ray cluster: how many are wanted, which are there, and which have stopped working."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import errors
from ...errors import EngineError, IscFastError
from ...machine.likeness import unlike
from .account import Report
from .cluster import Cluster
from .patience import Patience
from .ray_link import Link

_log = logging.getLogger("isc_fast.ray")

_FAILED_STARTS = 3
"""So many workers in a row that end before they have loaded their tool end the run."""


@dataclass
class Member:
    """A worker.

    Attributes:
        host: the name of its node, once the tool is loaded there.
        hardware: what decides the last bits there.
        moved: when it was last seen to make progress; None while the cluster has no room for it.
        told: whether it was told what the run is about.
        works: whether it has reported work.
    """

    host: str = ""
    hardware: Mapping[str, str] = field(default_factory=dict)
    moved: float | None = None
    told: bool = False
    works: bool = False


@dataclass
class Gone:
    """A worker that is lost: its number, how it ended, and whether its shard may be the cause."""

    number: int
    how: str
    blame: bool = True


@dataclass
class Reported:
    """What a worker reports: its number, and what it did."""

    number: int
    report: Report


class Crew:
    """See the module's text.

    Args:
        link: to the cluster.
        cluster: what the user wants.
        job: see `isc_fast.extraction.runners.ray_actor.RayWorker`.

    Attributes:
        members: the workers that are there or asked for, by number.
        facts: what the first worker said of its tool.
        notes: what the user should know.
        refused: how many workers the run does without.
    """

    def __init__(self, link: Link, cluster: Cluster, job: Mapping[str, Any]) -> None:
        self.members: dict[int, Member] = {}
        self.facts: dict[str, Any] | None = None
        self.notes: list[str] = []
        self.patience = Patience(cluster.patience_s)
        self._link, self._cluster, self._job = link, cluster, {**job, "orphan_s": max(60.0, cluster.patience_s)}
        self._gpus = int(job["device"] == "cuda")
        self.cores = cluster.cores or (max(1, link.cores // link.gpus) if self._gpus and link.gpus else 1)
        self._job["cores"] = self.cores
        self._newest, self._failed_starts, self.refused = -1, 0, 0
        self._first: Member | None = None

    @property
    def room(self) -> int:
        """How many workers the cluster holds as it is now."""
        return max(1, min(self._link.cores // self.cores, self._link.gpus if self._gpus else self._link.cores))

    @property
    def needs(self) -> str:
        """What each worker needs, in words."""
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'}" + (" and a GPU" if self._gpus else "")

    @property
    def has(self) -> str:
        """What the cluster had at the start, in words."""
        return f"{self._link.cores} cores and {self._link.gpus} GPUs"

    @property
    def ready(self) -> list[int]:
        """The workers that have loaded their tool."""
        return [number for number, member in self.members.items() if member.host]

    def want(self, count: int) -> None:
        """Ask for workers until there are so many; those that were refused are not replaced."""
        while len(self.members) < max(1, count - self.refused):
            self._newest += 1
            self.members[self._newest] = Member()
            self._link.start(self._newest, self._job, self.cores, self._gpus)

    def tell(self, number: int, message: dict[str, Any]) -> None:
        """Send a message to a worker, whose time begins anew."""
        self.members[number].moved = time.monotonic()
        self._link.tell(number, message)

    def next(self, wait_s: float) -> Reported | Gone | None:
        """Wait for a worker's report, or for a worker to be lost; None where neither happens in that time.

        Raises:
            IscFastError: a worker reported it, too many workers end while they load, or the cluster is lost.
        """
        event = self._link.next(wait_s)
        if event is None:
            return None
        if event["event"] in ("ended", "failed"):
            raise EngineError(
                "the connection to the Ray cluster was lost; what is complete is kept: run the same command again"
            )
        number = event["worker"]
        if number not in self.members:
            return None  # it was given up before
        member = self.members[number]
        if event["event"] == "gone":
            return self._gone(number, event["how"], blame=event["blame"])
        member.moved = time.monotonic()
        message = event.get("message", {"kind": "alive"})
        if message["kind"] == "ready":
            return self._loaded(number, member, message)
        if message["kind"] == "error":
            return self._error(number, message)
        return Reported(number, Report(**message["report"])) if message["kind"] == "report" else None

    def _gone(self, number: int, how: str, *, blame: bool) -> Gone:
        member = self.members.pop(number)
        how = f"the worker on {member.host or 'the Ray cluster'} {how}"
        if not member.host and blame:
            self._failed_starts += 1
            if self._failed_starts == _FAILED_STARTS:
                raise EngineError(f"{how}, as {_FAILED_STARTS} in a row did before they could begin")
        return Gone(number, how, blame)

    def _loaded(self, number: int, member: Member, message: dict[str, Any]) -> Gone | None:
        self._failed_starts = 0
        difference = unlike(self._first.hardware, message["hardware"]) if self._first else None
        if difference and not self._cluster.mixed:
            assert self._first is not None
            return self.refuse(
                number,
                f"the worker on {message['host']} was refused: {difference} on {self._first.host}, so its results would "
                "differ in their last bits; --mixed allows that",
            )
        if difference:
            self._note(f"the results of unlike machines are mixed: {message['host']} has {difference}")
        member.host, member.hardware = message["host"], message["hardware"]
        self._first = self._first or member
        self.facts = self.facts or message["facts"]
        return None

    def _error(self, number: int, message: dict[str, Any]) -> Gone:
        """A worker that cannot even begin is done without, where others work."""
        if self.members[number].works or not any(member.works for member in self.members.values()):
            raise getattr(errors, message["type"], IscFastError)(message["text"])
        return self.refuse(number, f"the worker on {message['host']} was refused: {message['text']}")

    def refuse(self, number: int, why: str) -> Gone:
        """Do without a worker and without another one in its place, and tell the user."""
        self._note(why)
        self.refused += 1
        return self.give_up(number, "was refused", blame=False)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            _log.warning("%s", text)

    def give_up(self, number: int, how: str, *, blame: bool = True) -> Gone:
        """Kill a worker. One that cannot be killed does no harm: its parts are those of its plan, or nobody's."""
        self._link.kill(number)
        member = self.members.pop(number)
        return Gone(number, f"the worker on {member.host or 'the Ray cluster'} {how}", blame)

    def stalled(self, idle: set[int]) -> list[Gone]:
        """Kill the workers that are without progress for too long.

        Args:
            idle: those that have nothing to do.
        """
        limit = self.patience.limit_s
        late = time.monotonic() - limit
        found = [n for n, m in self.members.items() if n not in idle and m.moved is not None and m.moved < late]
        return [self.give_up(number, f"made no progress for {limit:.0f} s") for number in found]

    def dismiss(self) -> None:
        """End all workers."""
        for number in list(self.members):
            self.give_up(number, "is done")
