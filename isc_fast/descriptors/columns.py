"""Columns of a descriptor file: the rows in their type, and facts about the photos' files beside rows and failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import FormatError
from ..files.digests import DIGEST_BYTES
from .hdf5 import Hdf5Writer, dataset
from .provenance import ROW_TYPES


def row_type(meta: Mapping[str, Any]) -> np.dtype[Any]:
    """The type in which a file with this meta holds its rows.

    Raises:
        FormatError: it is none of `ROW_TYPES`.
    """
    found = meta.get("dtype", ROW_TYPES[0])
    if found not in ROW_TYPES:
        raise FormatError(f"rows of type {found!r}, which this isc-fast does not write; install the one that made them")
    made: np.dtype[Any] = np.dtype(found)
    return made


def rounded(block: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Rows as a file holds them.

    Raises:
        FormatError: a number is too large for the type.
    """
    with np.errstate(over="ignore"):
        made = np.asarray(block, dtype)
    if dtype != np.float32 and np.isfinite(block).all() and not np.isfinite(made).all():
        raise FormatError(f"the rows hold numbers beyond {np.finfo(dtype).max:g}, the largest of {dtype}; use float32")
    return made


class AsFloat32:
    """Rows of a data set of another type, sliced like one of float32. NumPy converts them in half of HDF5's time."""

    dtype = np.dtype(np.float32)

    def __init__(self, data: h5py.Dataset) -> None:
        self._data, self.shape = data, data.shape

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float32]:
        return np.asarray(self._data[rows], np.float32)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


_FACTS: dict[str, tuple[np.dtype[Any], int]] = {
    "stamp": (np.dtype(np.int64), 2),
    "digest": (np.dtype(np.uint8), DIGEST_BYTES),
}
"""Facts about photos' files that stand beside rows and failures: the type and the number of the columns."""


def write_facts(
    writer: Hdf5Writer, name: str, blocks: Iterable[npt.NDArray[Any]], count: int, of_failures: npt.NDArray[Any]
) -> None:
    """Write facts of so many rows, given in blocks, and those of the failures."""
    dtype, width = _FACTS[name]
    table, done = writer.file.create_dataset(f"{name}s", (count, width), dtype), 0
    for block in blocks:
        table[done : done + len(block)] = block
        writer.check()
        done += len(block)
    writer.file.create_dataset(f"failures/{name}", data=np.asarray(of_failures, dtype).reshape(-1, width))


def read_facts(file: h5py.File, name: str, rows: int, failures: int) -> dict[str, h5py.Dataset]:
    """The facts of an open file of so many rows and failures, by the names that `Descriptors` gives them; nothing where it has
    none.

    Raises:
        FormatError: they have another type or shape, or do not go with the rows or the failures.
    """
    if f"{name}s" not in file:
        return {}
    dtype, width = _FACTS[name]
    found: dict[str, h5py.Dataset] = {}
    for place, count, attribute in (
        (f"{name}s", rows, f"{name}s"),
        (f"failures/{name}", failures, f"failure_{name}s"),
    ):
        column = found[attribute] = dataset(file, place)
        expected = (count, width)
        if column.dtype != dtype or column.shape != expected:
            raise FormatError(f"{place} of type {column.dtype} and shape {column.shape}, not {dtype} {expected}")
    return found
