"""Sets of descriptors that are made of rows of other sets. Nothing is read before somebody goes through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files.digests import Digests, unknown_digests
from ..files.lazy import Chosen, Joined, Mapped
from ..items import Failure, Ints
from ..sources.stamps import unknown
from .picking import some_rows
from .store import Descriptors

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Piece:
    """What is taken of a set: rows, and entries of its ledgers, by their rising numbers. None takes all."""

    whole: Descriptors
    rows: Ints | None = None
    failures: Ints | None = None
    notes: Ints | None = None


class StackedRows:
    """Rows of several tables, one table behind the other. It is sliced like an array, and reads what is asked for.

    Args:
        tables: arrays or data sets ``(n, d)``, and of each the rising numbers of its rows, or None for all.
        dtype: of what is read.
    """

    def __init__(self, tables: Sequence[tuple[Any, Ints | None]], dtype: npt.DTypeLike) -> None:
        self._tables, self.dtype = tables, np.dtype(dtype)
        self._ends = np.cumsum([len(table if rows is None else rows) for table, rows in tables])
        self.shape = int(self._ends[-1]), int(tables[0][0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | Ints) -> Rows:
        if not isinstance(wanted, slice):
            return self._at(np.asarray(wanted, np.int64))
        start, stop, step = wanted.indices(len(self))
        if step != 1:
            return self._at(np.arange(start, stop, step))
        made = []
        for (table, rows), end in zip(self._tables, self._ends.tolist(), strict=True):
            count = len(table if rows is None else rows)
            first, last = max(0, start - end + count), min(count, stop - end + count)
            if first < last:
                found = table[first:last] if rows is None else some_rows(table, rows[first:last])
                made.append(np.asarray(found, self.dtype))
        return made[0] if len(made) == 1 else np.concatenate([np.empty((0, self.shape[1]), self.dtype), *made])

    def _at(self, numbers: Ints) -> Rows:
        made = np.empty((len(numbers), self.shape[1]), self.dtype)
        of_table = np.searchsorted(self._ends, numbers, side="right")
        for place, (table, rows) in enumerate(self._tables):
            mine = of_table == place
            inside = numbers[mine] - (self._ends[place - 1] if place else 0)
            made[mine] = some_rows(table, inside if rows is None else rows[inside])
        return made

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Rows:
        return np.asarray(self[:], dtype)


def assemble(pieces: Sequence[Piece], meta: dict[str, Any], *, unique: bool = False) -> Descriptors:
    """One set made of pieces, in order, with their ledgers, stamps and digests.

    Args:
        pieces: of sets of one dimension, at least one.
        meta: of the result.
        unique: whether it is known that no two ids of the result are equal.
    """
    sets = [piece.whole for piece in pieces]
    stamped = any(part.stamps is not None for part in sets)
    digested = any(part.digests is not None for part in sets)
    return Descriptors(
        vectors=StackedRows([(piece.whole.vectors, piece.rows) for piece in pieces], np.float32),  # type: ignore[arg-type]
        ids=Joined([_some(piece.whole.ids, piece.rows) for piece in pieces], unique=unique),
        meta=meta,
        failures=Joined([_some(piece.whole.failures, piece.failures) for piece in pieces]),
        notes=Joined([_some(piece.whole.notes, piece.notes) for piece in pieces]),
        stamps=_stamps([(p.whole.stamps, len(p.whole), p.rows) for p in pieces]) if stamped else None,
        failure_stamps=_stamps([(p.whole.failure_stamps, len(p.whole.failures), p.failures) for p in pieces])
        if stamped
        else None,
        digests=_digests([(p.whole.digests, len(p.whole), p.rows) for p in pieces]) if digested else None,
        failure_digests=_digests([(p.whole.failure_digests, len(p.whole.failures), p.failures) for p in pieces])
        if digested
        else None,
    )


def _some(elements: Sequence[Any], numbers: Ints | None) -> Sequence[Any]:
    return elements if numbers is None else Chosen(elements, numbers)


def _stamps(columns: Sequence[tuple[Any, int, Ints | None]]) -> npt.NDArray[np.int64]:
    tables = [(unknown(count) if table is None else table, rows) for table, count, rows in columns]
    return StackedRows(tables, np.int64)  # type: ignore[return-value]  # it is sliced like an array


def _digests(columns: Sequence[tuple[Any, int, Ints | None]]) -> Digests:
    tables = [(unknown_digests(count) if table is None else table, rows) for table, count, rows in columns]
    return StackedRows(tables, np.uint8)  # type: ignore[return-value]  # as above


def with_names(descriptors: Descriptors, name: Callable[[str], str]) -> Descriptors:
    """The same set under other ids, in its ledgers too.

    Args:
        descriptors: the set.
        name: gives the new id of an old one.
    """

    def renamed(row: Failure) -> Failure:
        return replace(row, id=name(row.id))

    ledgers = {"failures": Mapped(descriptors.failures, renamed), "notes": Mapped(descriptors.notes, renamed)}
    return replace(descriptors, ids=Mapped(descriptors.ids, name), **ledgers)  # type: ignore[arg-type]
