"""Writing a segment: its rows, its ids and, if it is large, its lists with the recall that was measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...descriptors.picking import rows_at
from ...descriptors.store import BLOCK_ROWS, Descriptors, open_descriptors
from ...descriptors.writing import write_blocks
from ...errors import InputError
from ...files.atomic import output_error, sync_folder
from ...files.lazy import Texts
from ..searchers.arrays import Floats, Ints
from ..searchers.searcher import open_searcher
from .candidates import TRAINING_ROWS, Candidates
from .choosing import Sample, settle
from .keys import MOST_ROWS, make_keys
from .layout import CANDIDATES, KEYS, ROWS, Lists, Promise, SegmentFacts, new_segment_name
from .measured import queries_for
from .memory import choose_kind, list_count
from .summed import digest_of, write_numbers

Say = Callable[[str], None]
"""Takes the name of a step when it begins."""


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder for a segment, which is removed again if it does not get whole."""
    made = folder / new_segment_name()
    try:
        made.mkdir()
        try:
            yield made
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        sync_folder(made)
        sync_folder(folder)
    except OSError as error:
        raise output_error(made, error) from error


def write_segment(folder: Path, rows: Descriptors, promise: Promise, left_bytes: int | None, say: Say) -> SegmentFacts:
    """Write a segment that no manifest names yet.

    Args:
        folder: of the index.
        rows: at least one; read once, block by block.
        promise: what the index was asked for.
        left_bytes: of memory for the lists; None without a limit.
        say: see `Say`.

    Raises:
        InputError: the lists do not fit, do not keep the promise, or there are too many rows.
        OutputError: the segment cannot be written.
    """
    count = len(rows)
    if count > MOST_ROWS:
        raise InputError(f"{count} rows are more than a segment takes ({MOST_ROWS}); build several indexes")
    listed = count >= promise.flat_below
    if listed:
        choose_kind(count, rows.dim, left_bytes)  # before minutes of work
    with _new_folder(folder) as made:
        say("write rows")
        meta = rows.provenance.stored_as("float32").write()  # a query reads them one by one, past HDF5
        ids = Texts(rows.ids)  # they are gone through twice
        write_blocks(made / ROWS, rows.blocks(), ids=ids, dim=rows.dim, meta=meta)
        write_numbers(made / KEYS, make_keys(ids))
        lists = None
        if listed:
            with open_descriptors(made / ROWS) as stored:
                lists = _write_lists(made / CANDIDATES, stored, promise, left_bytes, say)
        names = [ROWS, KEYS, *([CANDIDATES] if lists else [])]
        return SegmentFacts(made.name, count, {name: digest_of(made / name) for name in names}, lists)


def _write_lists(path: Path, stored: Descriptors, promise: Promise, left_bytes: int | None, say: Say) -> Lists:
    count = len(stored)
    kind = choose_kind(count, stored.dim, left_bytes)
    random = np.random.default_rng(0)
    training = np.sort(random.choice(count, min(count, TRAINING_ROWS * list_count(count)), replace=False))
    asked = np.sort(random.choice(count, min(count, queries_for(promise.recall)), replace=False))
    say("train lists")
    candidates, factory = Candidates.of(stored.blocks(), _picked(stored, training), kind, count)
    say("search a sample exactly")
    k = min(promise.k, count - 1)
    sample = Sample.of(_picked(stored, asked), asked, stored.blocks(), k, open_searcher())
    say("measure recall")
    nprobe, recall = settle(
        candidates, sample, lambda rows: rows_at(stored.vectors, rows), spread=kind.spread, promised=promise.recall
    )
    candidates.write(path)
    return Lists(factory, nprobe, kind.spread, recall)


def _picked(stored: Descriptors, numbers: Ints) -> Floats:
    """Some rows, by their numbers, rising; the file is read once from front to back."""
    parts = []
    for start, block in zip(range(0, len(stored), BLOCK_ROWS), stored.blocks(BLOCK_ROWS), strict=True):
        first, last = np.searchsorted(numbers, [start, start + len(block)])
        parts.append(block[numbers[first:last] - start])
    return np.concatenate(parts)
