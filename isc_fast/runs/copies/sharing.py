"""A comparison that several jobs share, between photos and lists: `dedup`, `find` and `leaks` over descriptors.

A job computes its share of the tasks without holding the output folder, since the tasks' files are created once and never
replaced. Who sees all of them there goes on as a run of its own and writes the lists; of two who do, one holds the folder. The
tasks' files stay, so that a job which comes late, or again, computes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.atomic import make_folder
from ...files.homes import home_of, is_bucket
from ...files.one_run import Held
from ...files.own_bucket import SharedBucket, own_bucket
from ...files.own_folder import OwnFolder, own_folder
from ...files.reading import file_sha256
from ...matching.pairs.pair_files import PairFiles
from ...sources.base import Source
from ...sources.listing import Inputs, names_of
from ...sources.paths import real
from ..sides.describing import Side, descriptors_among


@dataclass(frozen=True)
class Waits:
    """Why a job ended before the lists were written.

    Attributes:
        folder: the output.
        tasks: how many tasks the comparison has.
        done: how many of them are there. Where all are, another run writes to the folder.
    """

    folder: Path | str
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
    def of(cls, folder: Path | str, files: Iterable[PairFiles]) -> Waits:
        """How far the comparison is, by the files of its tasks."""
        counts = [(one.pieces, len(one.missing())) for one in files]
        tasks, missing = (sum(column) for column in zip(*counts, strict=True))
        return cls(folder, tasks, tasks - missing)


class Shared:
    """What `isc_fast.find_copies` and its neighbours return: several jobs may share the comparison, and only the last has all."""

    waits: Waits | None

    @property
    def complete(self) -> bool:
        """Whether the result is there. It is not where other jobs still compare."""
        return self.waits is None


_HOW = frozenset("output describing progress search_device search_workers search_cluster search_share link_to".split())
"""Arguments of `isc_fast.find_copies` and its neighbours that do not decide what lies in the output."""
_INPUTS = ("photos", "queries", "references", "train", "evaluations")
_LISTS = ("verdicts", "stop_list")


def asked_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result of a run whose output is in a bucket, as plain data; nothing for any other.

    Args:
        given: the arguments of `isc_fast.find_copies` or of one of its neighbours, by name.

    Raises:
        InputError: an input is an address that is not read, or a list cannot be read.
    """
    asked = dict[str, Any]()
    for name, value in given.items() if is_bucket(given["output"]) else ():
        if name in _INPUTS:
            asked[name] = [real(one) for one in names_of(value)]
        elif name in _LISTS or (name == "negatives" and value is not None and os.path.isfile(value)):
            asked[name] = None if value is None else _digest(value)
        elif name == "negatives":
            asked[name] = None if value is None else real(os.fspath(value))
        elif name not in _HOW:
            asked[name] = value if value is None or isinstance(value, (str, int, float)) else str(value)
    return asked


def _digest(file: str | os.PathLike[str]) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(file)}: {error.strerror}") from error


def shared_output(output: str | os.PathLike[str], record: str, begun: str, asked: Mapping[str, Any]) -> OwnFolder:
    """The output of a shared comparison, made if it is missing, and not held.

    Args:
        output, record, begun, asked: see `hold`.

    Raises:
        OutputError: it holds files of somebody else, or cannot be written to.
        MismatchError: another command was begun in it.
    """
    if is_bucket(output):
        return SharedBucket(home_of(output), record, asked)
    return OwnFolder(make_folder(output), record, begun)


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
                f"isc-fast extract {shown} --engine ENGINE -o {name}-described/ --shard-index I --num-shards N, and give "
                f"{name}-described/ to isc-fast {verb}"
            )
        sides.append(Side(name, path))
    return sides


def hold(
    stack: ExitStack,
    output: str | os.PathLike[str],
    record: str,
    begun: str,
    asked: Mapping[str, Any],
    *,
    shared: bool,
) -> OwnFolder | None:
    """Hold the output until the stack ends; None where another run holds it and the comparison is shared.

    Args:
        stack: gives the folder free.
        output, record, begun: see `isc_fast.files.own_folder.own_folder`; or the address of a prefix in a bucket.
        asked: what `asked_of` gives.
        shared: whether the jobs that share the comparison may all have come to its end.

    Raises:
        OutputError: see there.
        MismatchError: another command was begun in the bucket.
    """
    try:
        if is_bucket(output):
            return stack.enter_context(own_bucket(home_of(output), record, asked))
        return stack.enter_context(own_folder(output, record, begun))
    except Held:
        if shared:
            return None
        raise
