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
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import DamageError, FormatError
from ..files.digests import Digests
from ..files.ledger import keep
from ..files.reading import parse_json
from ..items import Failure
from .columns import AsFloat32, read_facts
from .hdf5 import DAMAGE, damage_in_words, dataset, open_hdf5
from .manifest import parts_home
from .provenance import Provenance
from .texts import StoredIds, StoredLedger, kept_ids

FORMAT_VERSION = 1
VIEWS_VERSION = 2
"""The version of a file with views of its photos. An earlier isc-fast, which would take a row for one descriptor, refuses it."""
ATTRIBUTE = "isc_fast"
# A block takes 16 MB at 256 dimensions. Blocks of 64 MB made a search 20 % slower: the system clears their memory each time.
BLOCK_ROWS = 16_384


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
            failures = StoredLedger(file, "failures", path)
            found = Descriptors(
                vectors=vectors if vectors.dtype == np.float32 else AsFloat32(vectors),  # type: ignore[arg-type]
                ids=StoredIds(dataset(file, "ids"), path),
                meta=meta,
                failures=failures,
                notes=StoredLedger(file, "notes", path) if "notes" in file else (),
                **read_facts(file, "stamp", len(vectors), len(failures)),
                **read_facts(file, "digest", len(vectors), len(failures)),
            )
        yield found


def load_descriptors(path: str | os.PathLike[str]) -> Descriptors:
    """Read a file of our own layout into memory.

    Raises:
        FormatError: it is not such a file, or damaged.
    """
    with open_descriptors(path) as found:
        return in_memory(found)


def in_memory(descriptors: Descriptors) -> Descriptors:
    """The same descriptors with their vectors as an array, and ids that outlast the file."""
    vectors = np.asarray(descriptors.vectors[:], dtype=np.float32)
    ledger = keep(descriptors.failures), keep(descriptors.notes)
    return Descriptors(vectors, kept_ids(descriptors.ids), descriptors.meta, *ledger)
