"""What the methods of normalisation have in common, and normalising a set in memory or into a file by any of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from ..descriptors.provenance import Normalization
from ..descriptors.store import Descriptors, kept_ids, write_blocks
from .arrays import Floats
from .row_sums import stacked
from .searcher import Searcher


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

    def stamp(self, negatives: Descriptors | None) -> Normalization:
        """What is stored with the result. Two sets may be searched together if their stamps belong together."""
        ...


def normalized(
    descriptors: Descriptors, negatives: Descriptors | None, method: Method, searcher: Searcher
) -> Descriptors:
    """Normalise descriptors that were checked, in memory."""
    blocks = descriptors.blocks(searcher.block_rows(descriptors.dim).queries)
    made = method.blocks(blocks, negatives, searcher)
    vectors = stacked(made, len(descriptors), method.made_dim(descriptors.dim))
    meta = descriptors.provenance.normalized(method.stamp(negatives)).write()
    return Descriptors(vectors, kept_ids(descriptors.ids), meta, descriptors.failures)


def write_normalized(
    descriptors: Descriptors,
    negatives: Descriptors | None,
    output: str | os.PathLike[str],
    method: Method,
    searcher: Searcher,
) -> None:
    """Normalise descriptors that were checked into a file, block by block.

    Raises:
        OutputError: the file cannot be written.
    """
    blocks = descriptors.blocks(searcher.block_rows(descriptors.dim).queries)
    write_blocks(
        Path(output),
        method.blocks(blocks, negatives, searcher),
        ids=descriptors.ids,
        dim=method.made_dim(descriptors.dim),
        meta=descriptors.provenance.normalized(method.stamp(negatives)).write(),
        failures=descriptors.failures,
    )
