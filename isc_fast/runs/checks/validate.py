"""Checks the files that are handed in to the challenge against its rules."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import numpy as np

from ...descriptors.formats.submission import MAX_DIM
from ...descriptors.hdf5 import open_hdf5
from ...descriptors.store import BLOCK_ROWS
from ...evaluation.metrics import KIT_CAP
from ...matching.lists.matches import read_matches


def _sample(ids: Collection[str]) -> str:
    some = sorted(ids)[:3]
    return ", ".join(some) + (", …" if len(ids) > len(some) else "")


def _side_problems(file: h5py.File, name: str, expected: Sequence[str]) -> list[str]:
    if name not in file or f"{name}_ids" not in file:
        return [f"{name}: the data sets {name} and {name}_ids must both be there"]
    vectors, raw_ids = file[name], file[f"{name}_ids"][:]
    problems = []
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        return [f"{name}: {vectors.dtype} {vectors.shape}; expected float32 (n, d)"]
    if vectors.shape[1] > MAX_DIM:
        problems.append(f"{name}: {vectors.shape[1]} dimensions; at most {MAX_DIM} are allowed")
    if len(vectors) != len(raw_ids):
        problems.append(f"{name}: {len(vectors)} rows and {len(raw_ids)} ids")
    ids = [id_.decode("utf-8", "replace") if isinstance(id_, bytes) else str(id_) for id_ in raw_ids]
    if ids != sorted(ids):
        problems.append(f"{name}: the rows are not sorted by id")
    if len(set(ids)) != len(ids):
        problems.append(f"{name}: {len(ids) - len(set(ids))} ids occur more than once")
    missing, unknown = set(expected) - set(ids), set(ids) - set(expected)
    if missing:
        problems.append(f"{name}: {len(missing)} of {len(expected)} images have no descriptor: {_sample(missing)}")
    if unknown:
        problems.append(f"{name}: {len(unknown)} ids are no images of the data set: {_sample(unknown)}")
    for start in range(0, len(vectors), BLOCK_ROWS):
        if not np.isfinite(vectors[start : start + BLOCK_ROWS]).all():
            problems.append(f"{name}: descriptors from row {start} on hold numbers that are not finite")
            break
    return problems


def check_submission(
    path: str | os.PathLike[str], *, query_ids: Sequence[str], reference_ids: Sequence[str]
) -> list[str]:
    """Check a descriptor-track file against the rules.

    Args:
        path: the HDF5 file.
        query_ids, reference_ids: the ids of every image that needs a descriptor.

    Returns:
        one line for each rule that is broken; nothing for a valid file.

    Raises:
        FormatError: it is not an HDF5 file.
    """
    with open_hdf5(path) as file:
        problems = _side_problems(file, "query", query_ids) + _side_problems(file, "reference", reference_ids)
        if not problems and file["query"].shape[1] != file["reference"].shape[1]:
            problems.append(
                f"queries have {file['query'].shape[1]} dimensions and references {file['reference'].shape[1]}"
            )
    return problems


def check_matches(path: str | os.PathLike[str], *, query_ids: Sequence[str], reference_ids: Sequence[str]) -> list[str]:
    """Check a matching-track CSV against the rules.

    Returns:
        one line for each rule that is broken; nothing for a valid file.

    Raises:
        FormatError: it is not such a CSV.
    """
    matches = read_matches(path)
    problems = []
    if len(matches) > KIT_CAP:
        problems.append(f"{Path(path).name}: {len(matches)} rows; at most {KIT_CAP} are allowed")
    if len(set(zip(matches.query_ids, matches.reference_ids, strict=True))) != len(matches):
        problems.append(f"{Path(path).name}: a pair stands there more than once")
    for side, ids, known in (
        ("query", matches.query_ids, query_ids),
        ("reference", matches.reference_ids, reference_ids),
    ):
        unknown = set(ids) - set(known)
        if unknown:
            problems.append(
                f"{Path(path).name}: {len(unknown)} {side} ids are no images of the set: {_sample(unknown)}"
            )
    if not np.isfinite(matches.scores).all():
        problems.append(f"{Path(path).name}: a score is not finite")
    return problems
