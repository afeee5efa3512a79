"""The descriptor-track file of the challenge.

It is an HDF5 file that holds ``query``, ``query_ids``, ``reference``, ``reference_ids`` and perhaps ``train``. The reference
solution leaves the vectors of the training images in ``train_feats.npy`` beside the file, or in ``train_feats_phase2.npy`` beside
``fb-isc-submission-phase2.h5``; they are found there too.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...errors import FormatError
from ..hdf5 import create_hdf5, damage_in_words, dataset, open_hdf5
from ..picking import rows_at
from ..store import BLOCK_ROWS, Descriptors
from .base import SETS, Contents, Format, Sets, as_text, ascii_ids, read_npy, refuse_repeated, refuse_views

MAX_DIM = 256
"""Dimensions that the challenge allows."""
TRAIN_FILE, TRAIN_FILE_PHASE2 = "train_feats.npy", "train_feats_phase2.npy"


def train_file(submission: Path) -> Path:
    """The file of the reference solution that holds the training images' vectors of a submission."""
    return submission.with_name(TRAIN_FILE_PHASE2 if submission.stem.endswith("-phase2") else TRAIN_FILE)


def _recognises(contents: Contents) -> bool:
    names = set(contents.names)
    return not contents.is_folder and any({name, f"{name}_ids"} <= names for name in ("query", "reference"))


def read_submission(path: Path, which: str | None) -> Descriptors:
    """Read one set of a submission.

    Raises:
        FormatError: the file is damaged, has no such set, or holds several and ``which`` does not choose one.
    """
    with open_hdf5(path) as file:
        beside = train_file(path)
        if not beside.exists():
            beside = path.with_name(TRAIN_FILE)
        with damage_in_words(path):
            names = set(file)
        held = [name for name in SETS if name in names]
        if "train" not in held and beside.exists():
            held.append("train")
        if which is None and len(held) == 1:
            which = held[0]
        if which not in held:
            asked = f"has no set {which!r}" if which else "holds several sets"
            raise FormatError(f"{path} {asked}; choose one of {', '.join(held)} (--set, in Python which=)")
        with damage_in_words(path):
            if which != "train":
                vectors = np.asarray(dataset(file, str(which))[:], np.float32)
                return Descriptors(vectors, as_text(dataset(file, f"{which}_ids")[:]))
            if "train" in names:
                vectors = np.asarray(dataset(file, "train")[:], np.float32)
                ids = as_text(dataset(file, "train_ids")[:]) if "train_ids" in names else row_ids(len(vectors))
                return Descriptors(vectors, ids)
    vectors = read_npy(beside)
    return Descriptors(vectors, row_ids(len(vectors)))


def row_ids(count: int) -> list[str]:
    """Ids for a set that came without any: the numbers of the rows."""
    return [f"train/{row}" for row in range(count)]


def write_submission(
    path: str | os.PathLike[str],
    queries: Descriptors,
    references: Descriptors,
    train: Descriptors | None = None,
) -> None:
    """Write the descriptor-track file of the challenge, atomically: rows sorted by id, ids in fixed-width ASCII.

    Args:
        path: of the HDF5 file.
        queries, references, train: ``(n, d)`` with d ≤ 256.

    Raises:
        FormatError: more than 256 dimensions, several views of a photo, sides of different dimensions, or an id that is not
            ASCII or repeated.
        OutputError: the file cannot be written.
    """
    sides = {"query": queries, "reference": references} | ({"train": train} if train is not None else {})
    refuse_views(sides, "submission")
    dims = {name: side.dim for name, side in sides.items()}
    if len(set(dims.values())) > 1 or max(dims.values()) > MAX_DIM:
        raise FormatError(f"a submission has one number of dimensions, at most {MAX_DIM}; these have {dims}")
    names = {name: ascii_ids(side.ids) for name, side in sides.items()}
    for name, side in sides.items():
        refuse_repeated(side.ids, f"the {name} set")
    with create_hdf5(path) as writer:
        file = writer.file
        for name, side in sides.items():
            order = np.argsort(names[name], kind="stable")
            made = file.create_dataset(name, (len(side), side.dim), "f4")
            for start in range(0, len(side), BLOCK_ROWS):
                made[start : start + BLOCK_ROWS] = rows_at(side.vectors, order[start : start + BLOCK_ROWS])
                writer.check()
            if name != "train":
                file.create_dataset(f"{name}_ids", data=names[name][order])


def _write(path: Path, sets: Sets) -> None:
    write_submission(path, sets["query"], sets["reference"], sets.get("train"))


SUBMISSION = Format(
    name="submission",
    expected="query and reference (a submission)",
    recognises=_recognises,
    read=read_submission,
    write=_write,
    needs=("query", "reference"),
)
