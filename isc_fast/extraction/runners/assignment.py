"""Shards for workers in other processes, whatever a shard is: photos to describe, or rows to compare.

A worker loads a *tool* and computes shards with it, one file each. The tool is named by its module, since the worker imports it
where it is; that module has a function ``open_tool(job, part)``. Everything else is messages, plain data for JSON:

| message | what it is |
|---|---|
| the job | which tool, and what it needs to load itself |
| the beginning | what is computed, once, before the first shard |
| a shard | its number under ``shard``, and what the tool needs to compute it |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from ...machine.cores import Part
from .account import Account, Report


class Channel(Protocol):
    """The line between a worker and whoever hands out shards."""

    def ask(self, *, wait: bool) -> Mapping[str, Any] | None:
        """The message of the next shard to compute.

        Args:
            wait: wait until there is a shard, or until there will be none; then None is final. Otherwise None means that
                there is no shard for this worker now.
        """
        ...

    def report(self, report: Report) -> None:
        """Tell what was done."""
        ...


class Tool(Protocol):
    """What a worker computes with.

    Attributes:
        facts: what whoever began the run must know of it, as a message.
        hardware: what decides the last bits of its results here; see `isc_fast.machine.likeness.hardware`.
    """

    @property
    def facts(self) -> Mapping[str, Any]: ...
    @property
    def hardware(self) -> Mapping[str, str]: ...

    def compute(self, channel: Channel, begin: Mapping[str, Any]) -> None:
        """Compute the shards that a channel hands out, until it says that there are no more.

        Raises:
            IscFastError: a shard could not be computed or stored.
        """
        ...


@dataclass(frozen=True)
class Assignment:
    """The shards that workers must compute.

    Attributes:
        job: names the tool, under ``tool``, and what it needs.
        begin: what every worker is told before its first shard.
        missing: the numbers of the shards.
        hand: the message of a shard; the flag says that it ended workers before, and has to be computed with care.
        refuse: raises the error of a run that ended without all shards, as its account tells.
        careful: whether the tool can do that.
        lock: a file descriptor that processes on this machine inherit; None where nothing is locked.
    """

    job: Mapping[str, Any]
    begin: Mapping[str, Any]
    missing: Sequence[int]
    hand: Callable[[int, bool], Mapping[str, Any]]
    refuse: Callable[[Account], None]
    careful: bool = False
    lock: int | None = None


def load_tool(job: Mapping[str, Any], part: Part | None) -> Tool:
    """Load the tool that a job names.

    Args:
        job: see `Assignment`; ``device`` is ``"cpu"`` or ``"cuda"``, on a cluster ``cores`` are those of this worker.
        part: which of the workers on this machine this is; None on a cluster.

    Raises:
        IscFastError: it cannot be loaded.
    """
    tool: Tool = import_module(job["tool"]).open_tool(job, part)
    return tool
