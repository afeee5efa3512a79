"""Writing descriptor files, block by block; `isc_fast.descriptors.store` has their layout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import FormatError
from ..files.digests import Digests
from ..items import Failure
from .columns import rounded, row_type, write_facts
from .hdf5 import Hdf5Writer, create_hdf5
from .store import ATTRIBUTE, BLOCK_ROWS, FORMAT_VERSION, VIEWS_VERSION, Descriptors
from .texts import FAILURE_FIELDS, TEXT, id_bytes, note_bytes, repeated_id

_BLOCK_IDS = 4096


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
        column = file.create_dataset("ids", (len(ids),), TEXT)
        for start in range(0, len(ids), _BLOCK_IDS):
            rows = ids[start : start + _BLOCK_IDS]
            column[start : start + len(rows)] = np.array([id_bytes(id_) for id_ in rows], dtype=object)
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
        for name in FAILURE_FIELDS:
            place = f"{group}/{name}"
            column = writer.file[place] if start else writer.file.create_dataset(place, (len(rows),), TEXT)
            column[start : start + len(some)] = np.array([note_bytes(getattr(row, name)) for row in some], object)
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
