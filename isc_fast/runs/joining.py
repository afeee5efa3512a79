"""Joins whose pairs lie in files in the output folder, so that an interrupted run goes on with the pieces that are missing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ..descriptors.store import Descriptors
from ..matching.arrays import Pairs
from ..matching.pair_files import PairFiles
from .describing import Progress

PARTS = "pairs.parts"
_MILLION = 1_000_000


class Join(Protocol):
    """A search for pairs that is cut into pieces: `isc_fast.matching.self_join.SelfJoin` and its neighbour for two sides."""

    blocks: int

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a piece compares."""
        ...

    def pairs(self, number: int) -> Iterator[Pairs]:
        """The pairs of a piece."""
        ...


def place_of(folder: Path, threshold: float, *sets: Descriptors) -> Path:
    """Where the pieces of a join lie: the name depends on the rows and on the threshold alone."""
    words = [*(found.content_id() for found in sets), repr(np.float32(threshold))]
    return folder / PARTS / hashlib.sha256(" ".join(words).encode()).hexdigest()[:24]


def compute(join: Join, place: Path, progress: Progress | None, step: str = "compare") -> PairFiles:
    """Compute the pieces of a join that are missing, one file each.

    Args:
        join: what is computed.
        place: see `place_of`.
        progress: is told millions of pairs of rows that were compared.
        step: its name for that.

    Raises:
        OutputError: a file cannot be written.
        IscFastError: what the join raises.
    """
    files = PairFiles(place, join.blocks)
    sizes = [-(-join.comparisons(number) // _MILLION) for number in range(join.blocks)]
    missing = files.missing()
    done, total = sum(sizes) - sum(sizes[number] for number in missing), sum(sizes)
    tell = progress(step) if progress else None
    if tell:
        tell(done, total, 0)
    for number in missing:
        files.write(number, join.pairs(number))
        done += sizes[number]
        if tell:
            tell(done, total, 0)
    return files


def remove(folder: Path) -> None:
    """Remove the pieces of this and of earlier joins from an output folder, when everything is written."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
