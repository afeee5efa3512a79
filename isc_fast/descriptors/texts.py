"""The texts of a descriptor file: ids and ledgers, which stay on disk until someone asks for them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import FormatError
from ..files.lazy import Chosen, Lazy, Texts
from ..files.repeats import repeated_rows
from ..items import Failure
from .hdf5 import damage_in_words, datasets
from .picking import some_rows

TEXT = h5py.string_dtype("utf-8")
FAILURE_FIELDS = ("id", "path", "stage", "reason")


def id_bytes(id_: str) -> bytes:
    try:
        encoded = id_.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FormatError(
            f"the id {id_!r} holds a lone surrogate (half of a character), which a file cannot express"
        ) from error
    if b"\0" in encoded:
        raise FormatError(f"the id {id_!r} holds a zero byte, which an HDF5 string cannot express")
    return encoded


def note_bytes(text: str) -> bytes:
    """Text for the ledger. It always fits: a strange message of a library must not cost a whole run."""
    try:
        return id_bytes(text)
    except FormatError:
        return text.replace("\0", "\\0").encode("utf-8", "backslashreplace")


def to_text(values: npt.NDArray[Any]) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values]


def strings(column: h5py.Dataset) -> h5py.Dataset:
    """A data set that is a row of strings.

    Raises:
        FormatError: it is something else.
    """
    if column.ndim != 1 or h5py.check_string_dtype(column.dtype) is None:
        raise FormatError(f"{column.name} of type {column.dtype} and shape {column.shape}, not a row of strings")
    return column


class FileIds(Lazy[str]):
    """Ids that lie in open files, and are gone with them."""

    @abstractmethod
    def at(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The ids of rows in rising order."""


class StoredIds(FileIds):
    """The ids of an open file. Memory holds only those that were asked for.

    Attributes:
        unique: whether the file says that no two are equal.

    Raises:
        FormatError: reading them, where the file is damaged.
    """

    def __init__(self, column: h5py.Dataset, path: str | os.PathLike[str]) -> None:
        self._column, self._count, self._path = strings(column), len(column), path
        self.unique = bool(column.attrs.get("unique", False))

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        with damage_in_words(self._path):
            return to_text(self._column[start:stop])

    def at(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """See `FileIds`."""
        with damage_in_words(self._path):
            return to_text(some_rows(self._column, rows))


def ids_at(ids: Sequence[str], rows: npt.NDArray[np.int64]) -> list[str]:
    """The ids of rows, in any order. A row that is named several times gives the same string object each time."""
    wanted, places = np.unique(rows, return_inverse=True)
    if isinstance(ids, Lazy):
        found = ids.at(wanted) if isinstance(ids, FileIds) else [*Chosen(ids, wanted)]
    else:
        found = [ids[row] for row in wanted.tolist()]
    made: list[str] = np.array(found, object)[places].tolist()
    return made


def kept_ids(ids: Sequence[str]) -> Sequence[str]:
    """The same ids, which stay after their file is closed."""
    return Texts(ids) if isinstance(ids, FileIds) else ids


def repeated_id(ids: Sequence[str], folder: Path | None = None) -> str | None:
    """The first id that occurs a second time, or None. Ids that are known to differ are not read.

    Args:
        ids: gone through once.
        folder: for a temporary file of 8 bytes an id; by default the system's.

    Raises:
        OutputError: the temporary file cannot be written.
    """
    if isinstance(ids, Lazy) and ids.unique:
        return None
    seen: set[str] = set()
    for row in repeated_rows(ids, folder).tolist():
        id_: str = ids[row]
        if id_ in seen:
            return id_
        seen.add(id_)
    return None


class StoredLedger(Lazy[Failure]):
    """The failures or the notes of an open file. Memory holds only those that were asked for.

    Raises:
        FormatError: reading them, where the file is damaged.
    """

    def __init__(self, file: h5py.File, group: str, path: str | os.PathLike[str]) -> None:
        self._columns = [strings(column) for column in datasets(file, group, FAILURE_FIELDS)]
        self._path = path
        lengths = {len(column) for column in self._columns}
        if len(lengths) > 1:
            raise FormatError(f"{group} whose columns have the lengths {sorted(lengths)}")
        (self._count,) = lengths

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[Failure]:
        """See `Lazy`."""
        with damage_in_words(self._path):
            columns = [to_text(column[start:stop]) for column in self._columns]
        return [Failure(*row) for row in zip(*columns, strict=True)]
