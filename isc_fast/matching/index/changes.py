"""Building an index and changing it. Each change ends with a new manifest, in one step; before that the index is as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...descriptors.assembling import Piece, assemble
from ...descriptors.comparing import compare_in_itself, compare_with_index
from ...descriptors.lengths import check_lengths
from ...descriptors.store import Descriptors
from ...descriptors.texts import repeated_id
from ...descriptors.writing import stored_as
from ...errors import FormatError, InputError, OutputError
from ...files.atomic import make_folder
from ...files.one_run import one_run
from .layout import (
    CANDIDATES,
    Manifest,
    Promise,
    SegmentFacts,
    has_manifest,
    holds_other_files,
    new_gone_name,
    read_manifest,
    sweep,
    write_manifest,
)
from .memory import to_bytes
from .sealing import Say, write_segment
from .segment import Segment
from .summed import digest_of, write_numbers

FLAT_BELOW = 20_000
"""Fewer rows than this are compared one by one, which takes 2 ms for 256 numbers and needs no lists."""

_AT_ONCE = 65_536  # ids that are looked up at a time
_NAMED = 3  # ids in a message


@dataclass(frozen=True)
class IndexChange:
    """What a change of an index did.

    Attributes:
        rows: how many rows the index has now.
        added, removed: how many came and went.
        missing: of the ids to remove, how many are not in the index.
        segments: what it consists of now; see `isc_fast.matching.index.layout.SegmentFacts`.
    """

    rows: int
    segments: Sequence[SegmentFacts]
    added: int = 0
    removed: int = 0
    missing: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        segments = [
            {
                "rows": one.rows,
                "removed": one.gone,
                "lists": one.lists.factory if one.lists else None,
                "nprobe": one.lists.nprobe if one.lists else None,
                "recall": vars(one.lists.recall) if one.lists else None,
            }
            for one in self.segments
        ]
        counts = {name: getattr(self, name) for name in ("rows", "added", "removed", "missing")}
        return counts | {"segments": segments}


def _silent(_step: str) -> None:
    """Say nothing."""


def build_index(
    descriptors: Descriptors,
    output: str | os.PathLike[str],
    *,
    recall: float = 0.99,
    k: int = 10,
    memory: int | str | None = None,
    overwrite: bool = False,
    flat_below: int = FLAT_BELOW,
    say: Say = _silent,
) -> IndexChange:
    """Build an index that answers a few queries in milliseconds; see `isc_fast.Index`.

    Args:
        descriptors: the rows; may be open on disk.
        output: the folder of the index. An interrupted call leaves what was there, and the same call begins again.
        recall: the share of a row's ``k`` nearest other rows that a query must find, between 0 and 0.999. It is measured on a
            sample, and the lower end of its 95 % interval counts.
        k: see ``recall``.
        memory: for the lists, in bytes or as ``"8GB"``; the finest kind of lists that fits is taken. None sets no limit.
        overwrite: replace an index that is there.
        flat_below: see `FLAT_BELOW`.
        say: gets the name of each step when it begins.

    Raises:
        InputError: there are no rows, a number is out of range, the lists do not fit into the memory, or they do not keep the
            promise.
        MismatchError: the rows are smoothed negatives, or one side of score normalisation.
        FormatError: an id occurs twice.
        OutputError: there is an index already, the folder holds other files, or somebody else writes to it.
    """
    if not 0 < recall <= 0.999:
        raise InputError(
            f"a recall of {recall:g} cannot be promised; give one above 0 and at most 0.999, or search exactly"
        )
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    memory_bytes = None if memory is None else to_bytes(memory)
    promise = Promise(recall, k, memory_bytes, max(2, flat_below))
    if not len(descriptors):
        raise InputError("there are no descriptors to build an index of")
    compare_in_itself(descriptors).require()
    check_lengths(descriptors, "reference")
    _refuse_repeated(descriptors)
    folder = make_folder(output)
    with one_run(folder):
        if has_manifest(folder) and not overwrite:
            raise OutputError(
                f"{folder} is an index already; add to it with isc-fast index add, or build it anew with --overwrite"
            )
        if holds_other_files(folder):
            raise OutputError(f"{folder} holds other files than an index; choose another output: -o FOLDER")
        if not has_manifest(folder):
            sweep(folder, None)
        made = write_segment(folder, descriptors, promise, memory_bytes, say)
        manifest = Manifest(descriptors.dim, stored_as(descriptors, "float32").meta, promise, (made,))
        _publish(folder, manifest)
    return IndexChange(manifest.live, manifest.segments, added=len(descriptors))


def add_to_index(index: str | os.PathLike[str], descriptors: Descriptors, *, say: Say = _silent) -> IndexChange:
    """Add rows to an index. It takes as long as the rows and small segments beside them need, not the whole index.

    Args:
        index: its folder.
        descriptors: the rows; may be open on disk.
        say: see `build_index`.

    Raises:
        MismatchError: the rows were made by another engine or with other negatives than those of the index.
        InputError: an id is in the index already, or the lists do not fit.
        FormatError: there is no index, it is damaged, or an id occurs twice.
        OutputError: it cannot be written, or somebody else writes to it.
    """
    with _changing(index) as (folder, manifest):
        nothing = Descriptors(np.empty((0, manifest.dim), np.float32), [], dict(manifest.meta))
        compare_with_index(descriptors, nothing).require()
        check_lengths(descriptors, "new")
        if not len(descriptors):
            return IndexChange(manifest.live, manifest.segments)
        _refuse_repeated(descriptors)
        with ExitStack() as stack:
            opened = [stack.enter_context(Segment(folder, facts)) for facts in manifest.segments]
            _refuse_known(opened, descriptors)
            merged = _small_ones(opened, len(descriptors), manifest.promise.flat_below)
            pieces = [*(Piece(one.descriptors, one.numbers) for one in merged), Piece(descriptors)]
            rows = assemble(pieces, dict(manifest.meta))
            kept = [one.facts for one in opened if one not in merged]
            left = _left_bytes(folder, manifest, kept)
            made = write_segment(folder, rows, manifest.promise, left, say)
        changed = replace(manifest, segments=(*kept, made))
        _publish(folder, changed)
    return IndexChange(changed.live, changed.segments, added=len(descriptors))


def remove_from_index(index: str | os.PathLike[str], ids: Sequence[str]) -> IndexChange:
    """Remove rows from an index by their ids. They take room until `compact_index`.

    Args:
        index: its folder.
        ids: of the rows; those that are not in the index are counted.

    Raises:
        InputError: none of the ids is in the index.
        FormatError: there is no index, or it is damaged.
        OutputError: it cannot be written, or somebody else writes to it.
    """
    wanted = list(dict.fromkeys(ids))
    with _changing(index) as (folder, manifest):
        found, segments = 0, []
        for facts in manifest.segments:
            with Segment(folder, facts) as segment:
                rows = segment.live_rows_of(wanted)
                rows = rows[rows >= 0]
                found += len(rows)
                segments.append(_without(folder, segment, rows) if len(rows) else facts)
        if wanted and not found:
            raise InputError(
                f"none of the {len(wanted)} ids is in the index, such as {wanted[0]!r:.80}; give ids as the descriptor file "
                "has them, one a line"
            )
        changed = replace(manifest, segments=tuple(one for one in segments if one.gone < one.rows))
        _publish(folder, changed)
    return IndexChange(changed.live, changed.segments, removed=found, missing=len(wanted) - found)


def compact_index(index: str | os.PathLike[str], *, say: Say = _silent) -> IndexChange:
    """Write the whole index anew as one segment, without the rows that were removed.

    Args:
        index: its folder.
        say: see `build_index`.

    Raises:
        InputError: the lists do not fit into the memory that the index was built for, or do not keep its promise.
        FormatError: there is no index, or it is damaged.
        OutputError: it cannot be written, or somebody else writes to it.
    """
    with _changing(index) as (folder, manifest):
        if len(manifest.segments) < 2 and not any(one.gone for one in manifest.segments):
            return IndexChange(manifest.live, manifest.segments)
        with ExitStack() as stack:
            opened = [stack.enter_context(Segment(folder, facts)) for facts in manifest.segments]
            rows = assemble([Piece(one.descriptors, one.numbers) for one in opened], dict(manifest.meta))
            made = write_segment(folder, rows, manifest.promise, manifest.promise.memory_bytes, say)
        changed = replace(manifest, segments=(made,))
        _publish(folder, changed)
    return IndexChange(changed.live, changed.segments)


@contextmanager
def _changing(index: str | os.PathLike[str]) -> Iterator[tuple[Path, Manifest]]:
    """The folder of an index and its manifest, while nobody else writes to it."""
    folder = Path(index)
    if not folder.is_dir():
        read_manifest(folder)  # says that there is none
    with one_run(folder):
        manifest = read_manifest(folder)
        sweep(folder, manifest)
        yield folder, manifest


def _publish(folder: Path, manifest: Manifest) -> None:
    write_manifest(folder, manifest)
    sweep(folder, manifest)


def _refuse_repeated(descriptors: Descriptors) -> None:
    twice = repeated_id(descriptors.ids)
    if twice is not None:
        raise FormatError(f"the id {twice!r} occurs twice; every descriptor needs an id of its own")


def _refuse_known(segments: Sequence[Segment], descriptors: Descriptors) -> None:
    known: list[str] = []
    count = 0
    for start in range(0, len(descriptors), _AT_ONCE):
        some = list(descriptors.ids[start : start + _AT_ONCE])
        for segment in segments:
            rows = np.flatnonzero(segment.live_rows_of(some) >= 0)
            count += len(rows)
            known += [some[row] for row in rows[:_NAMED].tolist()]
    if count:
        named = ", ".join(map(repr, known[:_NAMED]))
        raise InputError(
            f"{count} of the {len(descriptors)} ids are in the index already ({named:.200}); remove them first: isc-fast index "
            "remove INDEX --ids FILE"
        )


def _small_ones(segments: Sequence[Segment], new: int, flat_below: int) -> list[Segment]:
    """The segments without lists that new rows are written together with.

    Each is at most twice as large as what is written with it, so that a row is written anew a few times only and there are
    few segments. If all small segments together are large enough for lists, all are taken.
    """
    small = [segment for segment in segments if segment.facts.lists is None]
    if new < flat_below <= new + sum(len(one.numbers) for one in small):
        return small
    if new >= flat_below:
        return []
    taken: list[Segment] = []
    for segment in reversed(small):
        if len(segment.numbers) > 2 * new:
            break
        taken.insert(0, segment)
        new += len(segment.numbers)
    return taken


def _left_bytes(folder: Path, manifest: Manifest, kept: Sequence[SegmentFacts]) -> int | None:
    """Memory for the lists of a new segment beside those that stay."""
    if manifest.promise.memory_bytes is None:
        return None
    taken = sum((folder / one.name / CANDIDATES).stat().st_size for one in kept if one.lists)
    return manifest.promise.memory_bytes - taken


def _without(folder: Path, segment: Segment, rows: Any) -> SegmentFacts:
    """What the manifest says of a segment after some more of its rows were removed."""
    facts = segment.facts
    alive = np.ones(facts.rows, bool) if segment.alive is None else segment.alive.copy()
    alive[rows] = False
    gone = np.flatnonzero(~alive)
    name = new_gone_name()
    path = folder / facts.name / name
    write_numbers(path, gone.astype("<i8"))
    files = {key: digest for key, digest in facts.files.items() if key != facts.gone_file}
    return replace(facts, files={**files, name: digest_of(path)}, gone=len(gone), gone_file=name)
