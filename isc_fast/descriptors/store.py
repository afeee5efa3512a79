"""Descriptor files: HDF5 with ``vectors``, ``ids``, the ledger of failures, and how they were made.

Any HDF5 reader opens such a file. Its layout:

| name | content |
|---|---|
| ``vectors`` | float32 ``(n, d)``, or float16; see `isc_fast.descriptors.provenance.ROW_TYPES`; with views ``(n, v · d)`` |
| ``ids`` | UTF-8 strings ``(n,)``; bytes that are not UTF-8 are kept as they are |
| attribute ``unique`` of ``ids`` | true if the writer saw that no two are equal |
| ``failures/id``, ``path``, ``stage``, ``reason`` | strings ``(m,)``: the images without a descriptor, and why |
| ``stamps`` | int64 ``(n, 2)``: size and time of each photo's file before it was described; absent where nobody looked |
| ``failures/stamp`` | the same ``(m, 2)`` of the images without a descriptor |
| ``digests``, ``failures/digest`` | uint8 ``(n, 16)``, ``(m, 16)``: the SHA-256 of each photo, cut; absent where nobody asked |
| ``notes/id``, ``path``, ``stage``, ``reason`` | the same of images whose descriptor says little; absent where there are none |
| attribute ``checksums`` | says that there are checksums behind HDF5's data; see `isc_fast.files.sums` |
| attribute ``isc_fast`` | JSON: format version, engine, plan, normalisation; see `isc_fast.descriptors.provenance` |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import DamageError, FormatError
from ..files.digests import Digests
from ..files.lazy import Chosen, Lazy, Texts
from ..files.ledger import keep
from ..files.reading import parse_json
from ..files.repeats import repeated_rows
from ..items import Failure
from .columns import AsFloat32, read_facts, rounded, row_type, write_facts
from .hdf5 import DAMAGE, Hdf5Writer, create_hdf5, damage_in_words, dataset, open_hdf5
from .manifest import parts_home
from .provenance import Provenance

FORMAT_VERSION = 1
VIEWS_VERSION = 2
"""The version of a file with views of its photos. An earlier isc-fast, which would take a row for one descriptor, refuses it."""
ATTRIBUTE = "isc_fast"
# A block takes 16 MB at 256 dimensions. Blocks of 64 MB made a search 20 % slower: the system clears their memory each time.
BLOCK_ROWS = 16_384
_BLOCK_IDS = 4096
_TEXT = h5py.string_dtype("utf-8")
_FAILURE_FIELDS = ("id", "path", "stage", "reason")


@dataclass(frozen=True)
class Descriptors:
    """A set of descriptors.

    Attributes:
        vectors: ``float32 (n, d)``: an array, or anything that is sliced like one (an open HDF5 data set). Where photos were
            described in v views, ``(n, v · d)``: a row holds the descriptors of all views of a photo.
        ids: the n ids, in the order of the rows; those of an open file are read when they are needed.
        meta: how they were made, as the file says it: ``engine_id``, ``engine``, ``plan``, ``normalization``, …; empty for a
            foreign file. `provenance` is the same, typed.
        failures: the images that got no descriptor; those of an open file are read when they are needed, and so are the notes.
        notes: images that got one which says little, such as those of one single colour. Files of earlier versions have none.
        stamps: size and time of each photo's file before it was described, ``int64 (n, 2)``; None where nobody looked. See
            `isc_fast.sources.stamps`.
        failure_stamps: the same of the failures, ``int64 (m, 2)``.
        digests: of each photo's bytes before it was described, ``uint8 (n, 16)``; None where nobody asked. See
            `isc_fast.files.digests`.
        failure_digests: the same of the failures, ``uint8 (m, 16)``.
    """

    vectors: npt.NDArray[np.float32]
    ids: Sequence[str]
    meta: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    notes: Sequence[Failure] = ()
    stamps: npt.NDArray[np.int64] | None = None
    failure_stamps: npt.NDArray[np.int64] | None = None
    digests: Digests | None = None
    failure_digests: Digests | None = None

    def __post_init__(self) -> None:
        if len(self.vectors.shape) != 2 or len(self.vectors) != len(self.ids):
            raise FormatError(f"descriptors of shape {self.vectors.shape} do not go with {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def provenance(self) -> Provenance:
        """How they were made, typed: the facts of ``meta`` as attributes.

        Raises:
            FormatError: see `Provenance.read`.
        """
        return Provenance.read(self.meta)

    @property
    def views(self) -> tuple[str, ...]:
        """The views of a photo whose descriptors a row holds, in order; the whole photo alone where there are no others.

        Raises:
            FormatError: a row does not hold as many descriptors.
        """
        seen = self.provenance.seen
        if self.width % len(seen):
            raise FormatError(
                f"rows of {self.width} numbers are no descriptors of {len(seen)} views; extract them again"
            )
        return seen

    @property
    def width(self) -> int:
        """How many numbers a row has: those of the descriptors of all views."""
        return int(self.vectors.shape[1])

    @property
    def dim(self) -> int:
        """Length d of one descriptor.

        Raises:
            FormatError: see `views`.
        """
        return self.width // len(self.views)

    def blocks(self, rows: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        """The vectors in consecutive blocks ``float32 (≤ rows, width)``; reads no more than one block at a time.

        Args:
            rows: of a block; by default as many as hold `BLOCK_ROWS` descriptors.
        """
        rows = self.block_rows if rows is None else rows
        for start in range(0, len(self), rows):
            yield np.ascontiguousarray(self.vectors[start : start + rows], dtype=np.float32)

    @property
    def block_rows(self) -> int:
        """How many rows hold `BLOCK_ROWS` descriptors: fewer where a row holds those of several views."""
        return max(1, BLOCK_ROWS // len(self.views))

    def content_id(self) -> str:
        """SHA-256 of the numbers, in hexadecimal. Two sets with the same content id hold the same vectors."""
        digest = hashlib.sha256(f"{len(self)}x{self.width}".encode())
        for block in self.blocks():
            digest.update(block.data)
        return digest.hexdigest()


def _id_bytes(id_: str) -> bytes:
    try:
        encoded = id_.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FormatError(
            f"the id {id_!r} holds a lone surrogate (half of a character), which a file cannot express"
        ) from error
    if b"\0" in encoded:
        raise FormatError(f"the id {id_!r} holds a zero byte, which an HDF5 string cannot express")
    return encoded


def _note_bytes(text: str) -> bytes:
    """Text for the ledger. It always fits: a strange message of a library must not cost a whole run."""
    try:
        return _id_bytes(text)
    except FormatError:
        return text.replace("\0", "\\0").encode("utf-8", "backslashreplace")


def _to_text(values: npt.NDArray[Any]) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values]


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
        self._column, self._count, self._path = _strings(column), len(column), path
        self.unique = bool(column.attrs.get("unique", False))

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        with damage_in_words(self._path):
            return _to_text(self._column[start:stop])

    def at(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """See `FileIds`."""
        with damage_in_words(self._path):
            return _to_text(some_rows(self._column, rows))


def ids_at(ids: Sequence[str], rows: npt.NDArray[np.int64]) -> list[str]:
    """The ids of rows, in any order. A row that is named several times gives the same string object each time."""
    wanted, places = np.unique(rows, return_inverse=True)
    if isinstance(ids, Lazy):
        found = ids.at(wanted) if isinstance(ids, FileIds) else [*Chosen(ids, wanted)]
    else:
        found = [ids[row] for row in wanted.tolist()]
    made: list[str] = np.array(found, object)[places].tolist()
    return made


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


def kept_ids(ids: Sequence[str]) -> Sequence[str]:
    """The same ids, which stay after their file is closed."""
    return Texts(ids) if isinstance(ids, FileIds) else ids


def write_blocks(
    path: str | os.PathLike[str],
    blocks: Iterable[npt.NDArray[np.float32]],
    *,
    ids: Sequence[str],
    dim: int,
    meta: Mapping[str, Any],
    failures: Sequence[Failure] = (),
    notes: Sequence[Failure] = (),
    stamps: Iterable[npt.NDArray[np.int64]] | None = None,
    failure_stamps: npt.NDArray[np.int64] | None = None,
    digests: Iterable[Digests] | None = None,
    failure_digests: Digests | None = None,
    scratch: Path | None = None,
) -> None:
    """Write a descriptor file from blocks of rows, atomically; the same input gives the same bytes.

    Args:
        path: the file; an existing one is replaced.
        blocks: ``float32 (m, dim)`` each, ``len(ids)`` rows together.
        dim: how many numbers a row has; see `Descriptors.width`.
        ids, meta, failures, notes, failure_stamps, failure_digests: see `Descriptors`. The ids are read twice.
        stamps, digests: see `Descriptors`; each in blocks, which go together.
        scratch: folder for temporary files, on the same disk.

    Raises:
        OutputError: it cannot be written (disk full, no permission, …).
        FormatError: the blocks do not make up ``(len(ids), dim)``, or an id holds a zero byte.
    """
    with create_hdf5(path, scratch=scratch, with_sums=True) as writer:
        file = writer.file
        version = VIEWS_VERSION if meta.get("views") else FORMAT_VERSION
        file.attrs[ATTRIBUTE] = json.dumps({**meta, "version": version}, sort_keys=True)
        vectors = file.create_dataset("vectors", (len(ids), dim), row_type(meta))
        done = 0
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dim or done + len(block) > len(ids):
                raise FormatError(f"a block of shape {block.shape} at row {done} does not fit into {len(ids)} × {dim}")
            if len(block):
                vectors[done : done + len(block)] = rounded(block, vectors.dtype)
            writer.check()
            done += len(block)
        if done != len(ids):
            raise FormatError(f"{done} rows of descriptors for {len(ids)} ids")
        column = file.create_dataset("ids", (len(ids),), _TEXT)
        for start in range(0, len(ids), _BLOCK_IDS):
            rows = ids[start : start + _BLOCK_IDS]
            column[start : start + len(rows)] = np.array([_id_bytes(id_) for id_ in rows], dtype=object)
            writer.check()
        column.attrs["unique"] = repeated_id(ids, scratch or Path(path).parent) is None
        if stamps is not None and failure_stamps is not None:
            write_facts(writer, "stamp", stamps, len(ids), failure_stamps)
        if digests is not None and failure_digests is not None:
            write_facts(writer, "digest", digests, len(ids), failure_digests)
        for group, rows_ in (("failures", failures), ("notes", notes)):
            if len(rows_) or group == "failures":
                _write_ledger(writer, group, rows_)


def _write_ledger(writer: Hdf5Writer, group: str, rows: Sequence[Failure]) -> None:
    """Write a ledger in blocks, so that its rows are gone through once."""
    for start in range(0, max(len(rows), 1), _BLOCK_IDS):
        some = rows[start : start + _BLOCK_IDS]
        for name in _FAILURE_FIELDS:
            place = f"{group}/{name}"
            column = writer.file[place] if start else writer.file.create_dataset(place, (len(rows),), _TEXT)
            column[start : start + len(some)] = np.array([_note_bytes(getattr(row, name)) for row in some], object)
        writer.check()


def stored_as(descriptors: Descriptors, dtype: str | None) -> Descriptors:
    """The same descriptors, whose rows a file will hold in another type, one of `provenance.ROW_TYPES`; None leaves it as it is.

    Raises:
        InputError: there is no such type.
    """
    return descriptors if dtype is None else replace(descriptors, meta=descriptors.provenance.stored_as(dtype).write())


def write_descriptors(
    path: str | os.PathLike[str], descriptors: Descriptors, *, dtype: Literal["float32", "float16"] | None = None
) -> None:
    """Write a descriptor file, atomically and block by block. It may replace the one that the descriptors are read from.

    Args:
        path: the file.
        descriptors: what it gets.
        dtype: the type in which the file holds the rows; by default the one in which a file held them before, or float32. What is
            read of float16 is float32 again, each number rounded to 11 bits.

    Raises:
        OutputError: it cannot be written.
        FormatError: an id holds a zero byte, or occurs twice; or a number is too large for float16.
        InputError: there is no such type.
    """
    descriptors = stored_as(descriptors, dtype)
    twice = repeated_id(descriptors.ids)
    if twice is not None:
        raise FormatError(f"the id {twice!r} occurs twice; every descriptor needs an id of its own")
    write_set(path, descriptors)


def write_set(path: str | os.PathLike[str], descriptors: Descriptors) -> None:
    """Write a set block by block, with its ledgers and facts about photos; ids are not looked at. See `write_descriptors`."""
    write_blocks(
        path,
        descriptors.blocks(),
        ids=descriptors.ids,
        dim=descriptors.width,
        meta=descriptors.meta,
        failures=descriptors.failures,
        notes=descriptors.notes,
        stamps=None if descriptors.stamps is None else _in_blocks(descriptors.stamps),
        failure_stamps=None if descriptors.failure_stamps is None else descriptors.failure_stamps[:],
        digests=None if descriptors.digests is None else _in_blocks(descriptors.digests),
        failure_digests=None if descriptors.failure_digests is None else descriptors.failure_digests[:],
    )


def _in_blocks(table: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (table[start : start + BLOCK_ROWS] for start in range(0, len(table), BLOCK_ROWS))


def is_ours(file: h5py.File) -> bool:
    """Whether an open HDF5 file has our own layout."""
    return ATTRIBUTE in file.attrs


def _read_meta(file: h5py.File, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = parse_json(file.attrs[ATTRIBUTE])
        version = meta.pop("version")
    except DamageError:
        raise
    except DAMAGE as error:
        raise FormatError(f"{os.fspath(path)} is an HDF5 file, but not descriptors made by isc-fast") from error
    if version not in (FORMAT_VERSION, VIEWS_VERSION):
        raise FormatError(
            f"{os.fspath(path)} has format version {version}; this isc-fast reads {FORMAT_VERSION} and {VIEWS_VERSION}"
        )
    return meta


class StoredLedger(Lazy[Failure]):
    """The failures or the notes of an open file. Memory holds only those that were asked for.

    Raises:
        FormatError: reading them, where the file is damaged.
    """

    def __init__(self, file: h5py.File, group: str, path: str | os.PathLike[str]) -> None:
        self._columns = [_strings(dataset(file, f"{group}/{name}")) for name in _FAILURE_FIELDS]
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
            columns = [_to_text(column[start:stop]) for column in self._columns]
        return [Failure(*row) for row in zip(*columns, strict=True)]


def _strings(column: h5py.Dataset) -> h5py.Dataset:
    """A data set that is a row of strings.

    Raises:
        FormatError: it is something else.
    """
    if column.ndim != 1 or h5py.check_string_dtype(column.dtype) is None:
        raise FormatError(f"{column.name} of type {column.dtype} and shape {column.shape}, not a row of strings")
    return column


@contextlib.contextmanager
def open_descriptors(path: str | os.PathLike[str]) -> Iterator[Descriptors]:
    """Open a file of our own layout, or a result in parts, named by its folder, its prefix in a bucket, or its manifest.

    Its vectors and ids stay on disk and are read block by block. Both are gone when the file is closed; `load_descriptors` gives
    a set that stays.

    Raises:
        FormatError: it is not such a file, or damaged. Where vectors or ids are damaged, reading them raises DamageError.
    """
    if parts_home(path) is not None:
        from .part_set import open_parts

        with open_parts(path) as in_parts:
            yield in_parts
        return
    with open_hdf5(path) as file:
        meta = _read_meta(file, path)
        with damage_in_words(path):
            vectors = dataset(file, "vectors")
            if vectors.dtype.kind != "f":
                raise FormatError(f"vectors of type {vectors.dtype}, not floats")
            found = Descriptors(
                vectors=vectors if vectors.dtype == np.float32 else AsFloat32(vectors),  # type: ignore[arg-type]
                ids=StoredIds(dataset(file, "ids"), path),
                meta=meta,
                failures=StoredLedger(file, "failures", path),
                notes=StoredLedger(file, "notes", path) if "notes" in file else (),
                **read_facts(file, "stamp"),
                **read_facts(file, "digest"),
            )
        yield found


def load_descriptors(path: str | os.PathLike[str]) -> Descriptors:
    """Read a file of our own layout into memory.

    Raises:
        FormatError: it is not such a file, or damaged.
    """
    with open_descriptors(path) as found:
        return in_memory(found)


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


def in_memory(descriptors: Descriptors) -> Descriptors:
    """The same descriptors with their vectors as an array, and ids that outlast the file."""
    vectors = np.asarray(descriptors.vectors[:], dtype=np.float32)
    ledger = keep(descriptors.failures), keep(descriptors.notes)
    return Descriptors(vectors, kept_ids(descriptors.ids), descriptors.meta, *ledger)
