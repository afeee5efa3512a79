"""The files of the challenge's reference solution: a submission with the training vectors in ``train_feats.npy`` beside it."""

from __future__ import annotations

from pathlib import Path

from .base import Format, Sets, write_npy
from .submission import TRAIN_FILE, read_submission, write_submission


def _write(path: Path, sets: Sets) -> None:
    write_submission(path, sets["query"], sets["reference"])
    write_npy(path.with_name(TRAIN_FILE), sets["train"].vectors[:])


REFERENCE = Format(
    name="reference",
    expected="query and reference (a submission)",
    recognises=lambda _contents: False,  # its file is a submission, and is read as one
    read=read_submission,
    write=_write,
    needs=("query", "reference", "train"),
)
