"""Some rows of an array or of a data set on disk, and where in its file a data set begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def rows_at(vectors: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rows ``float32 (m, d)`` of an array or of a data set on disk, in any order; no other row is read."""
    return np.asarray(_each_once(vectors, rows), np.float32)


def some_rows(table: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Rows of an array or of a data set on disk, in any order. Rows that lie near each other are read at once.

    HDF5 takes twelve times as long to read texts one by one as to read as many in a run.
    """
    if not len(rows):
        return np.asarray(table[:0])
    first, last = int(rows.min()), int(rows.max())
    if last - first < 2 * len(rows):
        return np.asarray(table[first : last + 1])[rows - first]
    return _each_once(table, rows)


def _each_once(table: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    wanted, places = np.unique(rows, return_inverse=True)
    return np.asarray(table[wanted])[places]


def place_of_rows(vectors: Any) -> int | None:
    """Where in its file a data set of rows begins, if they lie there as little-endian float32 one behind the other; else None."""
    stored = getattr(vectors, "id", None)  # rows that are converted while they are read have none
    offset = None if stored is None or vectors.dtype != np.dtype("<f4") else stored.get_offset()
    return None if offset is None else int(offset)
