"""What the methods of normalisation share, and normalising a set in memory or into a file by any of them.

Negatives are images that are known to match nothing. Their descriptors tell which directions mean little. There are three
choices: no normalisation; `isc_fast.matching.normalizing.subtraction`, which the submitted network was made for; and
`isc_fast.matching.normalizing.score_normalization`, which leaves the references as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...descriptors.provenance import Provenance
from ...descriptors.store import Descriptors
from ...descriptors.texts import kept_ids
from ...descriptors.view_rows import photo_blocks, row_blocks, rows_of
from ...descriptors.writing import write_blocks
from ...errors import InputError
from ...files.ledger import keep
from ..searchers.arrays import Floats, Ints
from ..searchers.searcher import Searcher
from .row_sums import stacked


def nearest_negatives(rows: Floats, negatives: Descriptors, k: int, searcher: Searcher) -> tuple[Floats, Ints]:
    """Scores and indices of the k nearest negatives of each row, both ``(n, k)``."""
    return searcher.knn(rows, negatives.blocks(searcher.block_rows(negatives.dim).references), k)


def check_numbers(*, beta: float = 0.0, **counts: int) -> None:
    """Check the numbers of a method.

    Raises:
        InputError: a count is below 1, or beta is infinite or NaN.
    """
    for name, number in counts.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    if not np.isfinite(beta):
        raise InputError(f"beta must be a number, not {beta}")


class Method(Protocol):
    """A way to normalise descriptors by negatives. Its numbers are its attributes."""

    def check(self, descriptors: Descriptors, negatives: Descriptors | None) -> None:
        """Raise MismatchError or InputError if these descriptors must not be normalised with these negatives."""
        ...

    def made_dim(self, dim: int) -> int:
        """How many dimensions a descriptor of so many has afterwards."""
        ...

    def blocks(self, blocks: Iterable[Floats], negatives: Descriptors | None, searcher: Searcher) -> Iterator[Floats]:
        """Normalise blocks ``float32 (m, d)``. The inputs stay as they are.

        Memory holds one block. If the negatives are on disk, it also holds one block ``(n, d)`` of them.
        """
        ...

    def meta(self, descriptors: Descriptors, negatives: Descriptors | None) -> dict[str, Any]:
        """The meta of the result. It says how the result was normalised, so that only sets that fit are searched together."""
        ...


def normalized(
    descriptors: Descriptors, negatives: Descriptors | None, method: Method, searcher: Searcher
) -> Descriptors:
    """Normalise descriptors that were checked, in memory."""
    vectors = stacked(
        made_blocks(descriptors, negatives, method, searcher), len(descriptors), made_width(descriptors, method)
    )
    meta = method.meta(descriptors, negatives)
    return Descriptors(vectors, kept_ids(descriptors.ids), meta, keep(descriptors.failures))


def write_normalized(
    descriptors: Descriptors,
    negatives: Descriptors | None,
    output: str | os.PathLike[str],
    method: Method,
    searcher: Searcher,
    dtype: str | None = None,
) -> None:
    """Normalise descriptors that were checked into a file, block by block; see `isc_fast.normalize_to_file`.

    Raises:
        OutputError: the file cannot be written.
    """
    write_blocks(
        Path(output),
        made_blocks(descriptors, negatives, method, searcher),
        ids=descriptors.ids,
        dim=made_width(descriptors, method),
        meta=Provenance.read(method.meta(descriptors, negatives)).stored_as(dtype).write(),
        failures=descriptors.failures,
    )


def made_blocks(
    descriptors: Descriptors, negatives: Descriptors | None, method: Method, searcher: Searcher
) -> Iterator[Floats]:
    """The normalised rows in blocks; each descriptor of a row, of one view of a photo, is normalised by itself."""
    blocks = row_blocks(descriptors, searcher.block_rows(descriptors.dim).queries)
    against = None if negatives is None else rows_of(negatives)
    return photo_blocks(method.blocks(blocks, against, searcher), len(descriptors.views))


def made_width(descriptors: Descriptors, method: Method) -> int:
    """How many numbers a row has afterwards."""
    return method.made_dim(descriptors.dim) * len(descriptors.views)
