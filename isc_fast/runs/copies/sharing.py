"""A comparison that several jobs share, between photos and lists: `dedup`, `find` and `leaks` over descriptors.

A job computes its share of the tasks without holding the output folder, since the tasks' files are created once and never
replaced. Who sees all of them there goes on as a run of its own and writes the lists; of two who do, one holds the folder. The
tasks' files stay, so that a job which comes late, or again, computes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...files.atomic import make_folder
from ...files.one_run import Held
from ...files.own_folder import OwnFolder, own_folder
from ...matching.pairs.pair_files import PairFiles
from ...sources.base import Source
from ...sources.listing import Inputs, names_of
from ..sides.describing import Side, descriptors_among


@dataclass(frozen=True)
class Waits:
    """Why a job ended before the lists were written.

    Attributes:
        folder: the output.
        tasks: how many tasks the comparison has.
        done: how many of them are there. Where all are, another run writes to the folder.
    """

    folder: Path
    tasks: int
    done: int

    def __str__(self) -> str:
        if self.for_tasks:
            return f"{self.folder}: {self.done} of {self.tasks} tasks are there; the job that sees the last one writes the lists"
        return (
            f"{self.folder}: all {self.tasks} tasks are there, and another run writes the lists; if they are not there when it "
            "ends, run the same command again"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"folder": str(self.folder), "complete": False, "tasks": self.tasks, "done": self.done}

    @property
    def for_tasks(self) -> bool:
        """Whether tasks are missing, which other jobs compute."""
        return self.done < self.tasks

    @classmethod
    def of(cls, folder: Path, files: Iterable[PairFiles]) -> Waits:
        """How far the comparison is, by the files of its tasks."""
        counts = [(one.pieces, len(one.missing())) for one in files]
        tasks, missing = (sum(column) for column in zip(*counts, strict=True))
        return cls(folder, tasks, tasks - missing)


def shared_folder(output: str | os.PathLike[str], record: str, begun: str) -> Path:
    """The output folder of a shared comparison, made if it is missing, and not held.

    Raises:
        OutputError: it holds files of somebody else, or cannot be written to.
    """
    return OwnFolder(make_folder(output), record, begun).folder


def shared_sides(verb: str, given: Iterable[tuple[str, Inputs | Source]]) -> list[Side]:
    """The sides of a shared comparison by name, which are descriptors.

    Raises:
        InputError: one is photos, which several jobs would describe into the same file.
    """
    sides = []
    for name, inputs in given:
        path = descriptors_among(inputs)
        if path is None:
            shown = next(iter(names_of(inputs)), "this source")
            raise InputError(
                f"jobs share the comparison of descriptors, and {shown} is photos; describe them first, in an array too: "
                f"isc-fast extract {shown} -o {name}/ --shard-index I --num-shards N, and give {name}/ to isc-fast {verb}"
            )
        sides.append(Side(name, path))
    return sides


def hold(
    stack: ExitStack, output: str | os.PathLike[str], record: str, begun: str, *, shared: bool
) -> OwnFolder | None:
    """Hold the output folder until the stack ends; None where another run holds it and the comparison is shared.

    Args:
        stack: gives the folder free.
        output, record, begun: see `isc_fast.files.own_folder.own_folder`.
        shared: whether the jobs that share the comparison may all have come to its end.

    Raises:
        OutputError: see there.
    """
    try:
        return stack.enter_context(own_folder(output, record, begun))
    except Held:
        if shared:
            return None
        raise
