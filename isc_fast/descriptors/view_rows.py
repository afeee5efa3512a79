"""Descriptors of several views of a photo as rows of their own, as what compares or changes single descriptors needs them.

In a file, a row is a photo with the descriptors of all its views one behind the other, ``(n, v · d)``. The same numbers in the
same order are ``(n · v, d)``: row ``v · photo + view``. So nothing is copied but what is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files.lazy import Lazy
from ..items import Ints, Vectors
from .picking import rows_at
from .store import Descriptors


def rows_of(descriptors: Descriptors) -> Descriptors:
    """The same descriptors with a row for each view of each photo, ``(n · v, d)``, under the photo's id.

    They are read when they are asked for.

    Raises:
        FormatError: see `Descriptors.views`.
    """
    views = len(descriptors.views)
    if views == 1:
        return descriptors
    return replace(
        descriptors,
        vectors=ViewRows(descriptors.vectors, views),  # type: ignore[arg-type]  # it is sliced like an array
        ids=_Repeated(descriptors.ids, views),
        meta=descriptors.provenance.without("views").write(),
        failures=(),
        notes=(),
        stamps=None,
        digests=None,
    )


def whole_of(descriptors: Descriptors) -> Descriptors:
    """The same photos with the descriptor of the whole photo alone, which is the first; read when it is asked for."""
    if len(descriptors.views) == 1:
        return descriptors
    vectors: Any = _First(descriptors.vectors, descriptors.dim)
    return replace(descriptors, vectors=vectors, meta=descriptors.provenance.without("views").write())


def rows_between(descriptors: Descriptors, start: int, stop: int) -> Descriptors:
    """Consecutive photos of a set, ``start ≤ row < stop``, without its ledgers; read when they are asked for."""
    vectors: Any = _Run(descriptors.vectors, start, stop)
    ids = _SomeIds(descriptors.ids, start, stop)
    return Descriptors(vectors, ids, descriptors.meta)


def row_blocks(descriptors: Descriptors, rows: int) -> Iterator[Vectors]:
    """Single descriptors in consecutive blocks ``float32 (m, d)`` of about so many rows, those of a photo in one block."""
    views = len(descriptors.views)
    for block in descriptors.blocks(max(1, rows // views)):
        yield block.reshape(len(block) * views, -1)


def photo_blocks(blocks: Iterable[Vectors], views: int) -> Iterator[Vectors]:
    """Blocks of single descriptors, as `row_blocks` gives them, as blocks ``(m / v, v · d)`` of rows of a file."""
    return (block.reshape(len(block) // views, -1) for block in blocks)


class ViewRows:
    """Rows ``(n · v, d)`` of a table ``(n, v · d)``: an array, or anything that is sliced like one."""

    dtype = np.dtype(np.float32)

    def __init__(self, table: Any, views: int) -> None:
        self._table, self._views = table, views
        self.shape = len(table) * views, table.shape[1] // views

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | Ints) -> Vectors:
        if not isinstance(wanted, slice):
            return self._at(np.asarray(wanted, np.int64))
        start, stop, step = wanted.indices(len(self))
        if step != 1:
            return self._at(np.arange(start, stop, step))
        first, last = start // self._views, -(-max(start, stop) // self._views)
        rows = np.asarray(self._table[first:last], np.float32).reshape(-1, self.shape[1])
        return rows[start - first * self._views : max(start, stop) - first * self._views]

    def _at(self, numbers: Ints) -> Vectors:
        photos, views = np.divmod(numbers, self._views)
        wanted, places = np.unique(photos, return_inverse=True)
        found = rows_at(self._table, wanted).reshape(len(wanted), self._views, self.shape[1])
        return found[places, views]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


class _First:
    """The first d numbers of each row of a table, sliced like an array ``(n, d)``."""

    dtype = np.dtype(np.float32)

    def __init__(self, table: Any, dim: int) -> None:
        self._table, self.shape = table, (len(table), dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | Ints) -> Vectors:
        return np.asarray(self._table[wanted][:, : self.shape[1]], np.float32)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


class _Repeated(Lazy[str]):
    """Each id as often as its photo has views."""

    def __init__(self, ids: Any, times: int) -> None:
        self._ids, self._times = ids, times

    def __len__(self) -> int:
        return len(self._ids) * self._times

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        first = start // self._times
        ids = self._ids[first : -(-stop // self._times)]
        return [ids[row // self._times - first] for row in range(start, stop)]


class _Run:
    """Consecutive rows of a table: an array, or anything that is sliced like one."""

    dtype = np.dtype(np.float32)

    def __init__(self, table: Any, start: int, stop: int) -> None:
        self._table, self._start = table, start
        self.shape = stop - start, table.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | Ints) -> Vectors:
        if not isinstance(wanted, slice):
            return rows_at(self._table, np.asarray(wanted, np.int64) + self._start)
        start, stop, step = wanted.indices(len(self))
        rows = np.asarray(self._table[self._start + start : self._start + max(start, stop)], np.float32)
        return rows[::step]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


class _SomeIds(Lazy[str]):
    """Consecutive ids of a set."""

    def __init__(self, ids: Any, start: int, stop: int) -> None:
        self._ids, self._start, self._stop = ids, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        return [*self._ids[self._start + start : self._start + stop]]
