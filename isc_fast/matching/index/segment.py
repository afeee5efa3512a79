"""One segment of an index, opened for reading."""

from __future__ import annotations

import contextlib
import threading
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from ...descriptors.picking import place_of_rows
from ...descriptors.store import Descriptors, open_descriptors
from ...errors import FormatError
from ...files.sums import damage
from ..searchers.arrays import Floats, Ints, Pairs
from ..searchers.cpu_searcher import CpuSearcher
from ..searchers.exact import scores_of
from .candidates import Candidates
from .keys import KIND, Keys
from .layout import CANDIDATES, KEYS, ROWS, SegmentFacts
from .summed import digest_of, open_summed, read_numbers


class StoredRows:
    """The rows of a descriptor file, read one by one past HDF5, which takes ten times as long for it.

    Raises:
        DamageError: reading a row that is damaged.
    """

    def __init__(self, path: Path, digest: str, descriptors: Descriptors) -> None:
        offset = place_of_rows(descriptors.vectors)
        if offset is None:
            raise FormatError(f"{path} does not keep its rows in one piece of float32; build the index again")
        self._stream, self._offset, self._dim = open_summed(path, digest), offset, descriptors.dim
        self._lock = threading.Lock()

    def at(self, rows: Ints) -> Floats:
        """The rows of these numbers, ``float32 (n, d)``."""
        made = np.empty((len(rows), self._dim), np.float32)
        wide = self._dim * 4
        with self._lock:
            for place, row in zip(made, rows.tolist(), strict=True):
                self._stream.read_at(self._offset + row * wide, place)
        return made

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class Segment:
    """An open segment. What a query needs is read when the first one comes.

    Attributes:
        facts: what the manifest says of it.
        descriptors: its rows and ids, on the disk; those that were removed are among them.
        alive: which rows count ``(rows,)``; None where all do.

    Raises:
        DamageError: a file is damaged, or not the one that the manifest names.
        FormatError: one cannot be read.
    """

    def __init__(self, folder: Path, facts: SegmentFacts) -> None:
        self.facts, self._folder = facts, folder / facts.name
        path, digest = self._folder / ROWS, facts.files[ROWS]
        if digest_of(path) != digest:
            raise damage(str(path), "it is another file than the one that the index names")
        with contextlib.ExitStack() as stack:
            self.descriptors = stack.enter_context(open_descriptors(path))
            if len(self.descriptors) != facts.rows:
                raise damage(str(path), f"it holds {len(self.descriptors)} rows where {facts.rows} are expected")
            self.stored = StoredRows(path, digest, self.descriptors)
            stack.callback(self.stored.close)
            self.alive = self._read_alive()
            # Opened now, for somebody may write the index anew before the first query comes.
            self._lists_file = (
                open_summed(self._folder / CANDIDATES, facts.files[CANDIDATES]) if facts.lists is not None else None
            )
            if self._lists_file is not None:
                stack.callback(self._lists_file.close)
            self._stack = stack.pop_all()

    def _read_alive(self) -> npt.NDArray[np.bool_] | None:
        facts = self.facts
        if not facts.gone:
            return None
        path = self._folder / facts.gone_file
        gone = read_numbers(path, facts.files[facts.gone_file], "<i8", facts.gone)
        alive = np.ones(facts.rows, bool)
        if (gone < 0).any() or (gone >= facts.rows).any():
            raise damage(str(path), "it names rows that there are not")
        alive[gone] = False
        return alive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @cached_property
    def keys(self) -> Keys:
        """Where an id's row is."""
        table = read_numbers(self._folder / KEYS, self.facts.files[KEYS], KIND, self.facts.rows)
        return Keys(table, self.descriptors.ids)

    def live_rows_of(self, ids: list[str]) -> Ints:
        """The rows of ids ``(n,)``; −1 where there is none, or where it was removed."""
        rows = self.keys.rows_of(ids)
        if self.alive is not None:
            rows[(rows >= 0) & ~self.alive[rows]] = -1
        return rows

    @cached_property
    def numbers(self) -> Ints:
        """The numbers of the rows that count, rising."""
        return np.arange(self.facts.rows) if self.alive is None else np.flatnonzero(self.alive)

    @cached_property
    def _plain(self) -> Floats:
        return np.ascontiguousarray(self.descriptors.vectors[:], np.float32)[self.numbers]

    @cached_property
    def _candidates(self) -> Candidates:
        if self._lists_file is None:
            raise FormatError(f"{self._folder} has no lists; build the index again")
        self._lists_file.seek(0)
        found = Candidates.read(self._lists_file)
        if found.rows != self.facts.rows:
            raise damage(
                str(self._folder / CANDIDATES), f"it holds {found.rows} rows where {self.facts.rows} are expected"
            )
        return found

    def load(self) -> None:
        """Read what a query needs, so that the first one does not wait for it."""
        _ = self._candidates if self.facts.lists else self._plain

    def answer(self, xq: Floats, k: int) -> Pairs:
        """At least the k best rows of each query, as far as they are found; scores are those of the stored rows.

        Args:
            xq: queries ``float32 (n, d)``.
            k: at least 1.
        """
        lists = self.facts.lists
        if lists is None:
            scores, columns = CpuSearcher().knn(xq, [self._plain], k)
            queries = np.repeat(np.arange(len(xq)), columns.shape[1])
            return queries, self.numbers[columns.ravel()], scores.ravel()
        named = self._candidates.find(xq, k, nprobe=lists.nprobe, spread=lists.spread, alive=self.alive)
        queries, places = np.nonzero(named >= 0)
        rows = named[queries, places]
        wanted, where = np.unique(rows, return_inverse=True)
        return queries, rows, scores_of(xq[queries], self.stored.at(wanted)[where], "ip")
