"""The pairs of one collection: each two rows that reach a score, once, and no row with itself.

Rows that are equal in every bit, as thousands of blank pages are, would give a pair for each two of them. They count as one
row: each is paired with the first of them alone, and the first one stands for all in the pairs with other rows.

The collection is read in blocks, and each block is searched in the blocks from itself on, in runs of `RUN` blocks. A block in a
run is a piece of work of its own: its pairs do not depend on the others, so a run that was interrupted goes on with the pieces
that are missing, and several processes or machines may share them (`isc_fast.runs.tasks.joining`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...descriptors.comparing import compare_in_itself
from ...descriptors.store import Descriptors
from ...errors import InputError
from ..searchers.arrays import Floats, Ints, Pairs
from ..searchers.cpu_searcher import CPU
from ..searchers.equal_rows import same_rows_of
from ..searchers.exact import scores_of
from ..searchers.searcher import Searcher, open_searcher

RUN = 64
"""Blocks that a block is searched in at a time: a million rows of 16,384 a block, a minute's work of one core."""


def check_threshold(threshold: float) -> np.float32:
    """The threshold of a join as the scores have it.

    Raises:
        InputError: it is not a cosine.
    """
    if math.isnan(threshold) or not -1 <= threshold <= 1:
        raise InputError(f"the threshold is a cosine, from -1 to 1, and was {threshold:g}")
    return np.float32(threshold)


class SelfJoin:
    """The search of a collection for pairs in itself.

    Args:
        descriptors: ``(n, d)``; they may be open on disk, where they are read once for each block.
        threshold: the lowest score of a pair, a cosine. Equal rows are a pair whatever it is.
        device: what searches; see `isc_fast.search`.
        rows: of a block; by default what suits the device.

    Attributes:
        same: for each row, the number of the first row that equals it in every bit, itself where there is none ``(n,)``.
        rows: of a block.
        blocks: number of pieces: each is a block in a run of blocks.

    Raises:
        InputError: there is no row, or the threshold is not a cosine.
        MismatchError: the descriptors are not ones that may be compared with each other.
        EngineError: there is no such device, or faiss does not work on it.
    """

    def __init__(
        self, descriptors: Descriptors, threshold: float, *, device: str | Searcher = CPU, rows: int | None = None
    ) -> None:
        self._lowest = check_threshold(threshold)
        if not len(descriptors):
            raise InputError("there is no descriptor to compare")
        compare_in_itself(descriptors).require()
        self._searcher = open_searcher(device)
        sizes = self._searcher.block_rows(descriptors.dim)
        self.rows = rows or min(sizes.queries, sizes.references)
        self._descriptors = descriptors
        self.same = same_rows_of(lambda: descriptors.blocks(self.rows))
        count = -(-len(descriptors) // self.rows)
        self._pieces = [
            (block, first, min(first + RUN, count)) for block in range(count) for first in range(block, count, RUN)
        ]
        self.blocks = len(self._pieces)

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a piece compares, about: the measure of its work."""
        block, first, end = self._pieces[number]
        rows = [min(self.rows, len(self.same) - one * self.rows) for one in (block, end - 1)]
        return rows[0] * ((end - 1 - first) * self.rows + rows[1])

    def pairs(self, number: int) -> Iterator[Pairs]:
        """The pairs of a piece, whose first row lies in its block: row numbers ``first < second``, and scores, each ``(pairs,)``.

        Memory holds two blocks and what one of them gives.

        Raises:
            InputError: a number in a row is not finite, or a score does not fit into float32.
            EngineError: faiss fails on the device.
            MissingExtraError: faiss is not installed.
        """
        number, first_other, end = self._pieces[number]
        start = number * self.rows
        block = self._block(number)
        distinct, rows = self._distinct(block, start)
        if first_other == number:
            yield self._equal(block, start)
            # The block itself comes alone: copies lie close to each other in a collection, and a searcher that finds too many
            # pairs for its first pass does without it from then on.
            for first, second, scores in self._searcher.within(rows, [rows] if len(rows) else [], self._lowest):
                once = second > first
                yield distinct[first[once]], distinct[second[once]], scores[once]
            first_other += 1
        if not len(rows):
            return
        begin = min(first_other * self.rows, len(self.same))
        later = self.same[begin : end * self.rows]
        others = begin + np.flatnonzero(later == np.arange(begin, begin + len(later)))
        for first, second, scores in self._searcher.within(rows, self._blocks(first_other, end), self._lowest):
            yield distinct[first], others[second], scores

    def _block(self, number: int) -> Floats:
        part = slice(number * self.rows, (number + 1) * self.rows)
        return np.ascontiguousarray(self._descriptors.vectors[part], np.float32)

    def _blocks(self, first: int, end: int) -> Iterator[Floats]:
        for other in range(first, end):
            yield self._distinct(self._block(other), other * self.rows)[1]

    def _distinct(self, block: Floats, start: int) -> tuple[Ints, Floats]:
        """The numbers and the rows that stand for themselves."""
        numbers = start + np.arange(len(block))
        alone = self.same[numbers] == numbers
        return (numbers, block) if alone.all() else (numbers[alone], block[alone])

    def _equal(self, block: Floats, start: int) -> Pairs:
        """Each row of a block that equals an earlier row of the collection, paired with the first such row."""
        numbers = start + np.arange(len(block))
        others = np.flatnonzero(self.same[numbers] != numbers)
        rows = block[others]
        return self.same[others + start], others + start, scores_of(rows, rows, "ip")


def self_join(descriptors: Descriptors, threshold: float, *, device: str | Searcher = CPU) -> Iterator[Pairs]:
    """Every pair of a collection that reaches a score, once, as `SelfJoin` gives them, piece after piece.

    Args:
        descriptors, threshold, device: see `SelfJoin`.

    Yields:
        row numbers ``first < second`` and scores, each ``(pairs,)``.

    Raises:
        InputError, MismatchError, EngineError, MissingExtraError: see `SelfJoin`.
    """
    join = SelfJoin(descriptors, threshold, device=device)
    for number in range(join.blocks):
        yield from join.pairs(number)
