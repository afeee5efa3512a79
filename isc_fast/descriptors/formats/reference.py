"""The files of the challenge's reference solution: a submission with the training vectors in ``train_feats.npy`` beside it.

Beside a submission whose name ends in ``-phase2`` they stand in ``train_feats_phase2.npy``.
"""

from __future__ import annotations

from pathlib import Path

from .base import Format, Sets, write_npy
from .submission import read_submission, train_file, write_submission


def _write(path: Path, sets: Sets) -> None:
    write_submission(path, sets["query"], sets["reference"])
    write_npy(train_file(path), sets["train"].vectors[:])


REFERENCE = Format(
    name="reference",
    expected="query and reference (a submission)",
    recognises=lambda _contents: False,  # its file is a submission, and is read as one
    read=read_submission,
    write=_write,
    needs=("query", "reference", "train"),
    beside=lambda path: (train_file(path),),
)
