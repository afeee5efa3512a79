"""The pairs of two collections that reach a score. Rows that are equal in every bit count as one, as in `self_join`.

Of equal rows on a side, each is paired with the first of the equal rows on the other side, and the first with each of them. So
every row that has a match is in a pair, and a thousand blank pages on each side are two thousand pairs, not a million.

Where photos were described in several views, a row is a photo with all of them, and a pair stands for the best of its views.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...descriptors.comparing import compare
from ...descriptors.store import Descriptors
from ...errors import InputError
from ..searchers.arrays import Floats, Ints, Pairs, join
from ..searchers.cpu_searcher import CPU
from ..searchers.equal_rows import same_rows_of
from ..searchers.searcher import Searcher, open_searcher
from .self_join import check_threshold
from .views import Views


class CrossJoin:
    """The search of one collection for rows of another one.

    Args:
        queries, references: ``(nq, d)`` and ``(nr, d)``; with v views ``(nq, v · d)``. They may be open on disk. The references
            are read once for each block of queries.
        threshold: the lowest score of a pair, a cosine.
        device: what searches; see `isc_fast.search`.
        rows: of a block of queries, and of references; by default what suits the device.

    Attributes:
        rows: of a block of queries.
        reference_rows: of a block of references.
        blocks: number of blocks of queries.
        views: of both sides.
        same: of both sides, for each row the number of the first row that equals it in every bit.

    Raises:
        InputError: a side is empty, or the threshold is not a cosine.
        MismatchError: the two may not be compared.
        EngineError: there is no such device, or faiss does not work on it.
    """

    def __init__(
        self,
        queries: Descriptors,
        references: Descriptors,
        threshold: float,
        *,
        device: str | Searcher = CPU,
        rows: tuple[int, int] | None = None,
    ) -> None:
        self._lowest = check_threshold(threshold)
        for side, found in (("query", queries), ("reference", references)):
            if not len(found):
                raise InputError(f"there is no {side} descriptor to compare")
        compare(queries, references).require()
        self._searcher = open_searcher(device)
        sizes = self._searcher.block_rows(queries.dim)
        self.views = Views.of(queries, references)
        self.rows, self.reference_rows = rows or (
            max(1, sizes.queries // len(self.views.queries)),
            max(1, sizes.references // len(self.views.references)),
        )
        self._sides = (queries, references)
        self._equal = (_Equal(queries, self.rows), _Equal(references, self.reference_rows))
        self.same = (self._equal[0].same, self._equal[1].same)
        self.blocks = -(-len(queries) // self.rows)

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a block is compared in, at most: the measure of its work."""
        queries, references = self._sides
        return min(self.rows, len(queries) - number * self.rows) * len(references) * self.views.count

    def pairs(self, number: int) -> Iterator[Pairs]:
        """The pairs of a block of queries: row numbers of both sides, and scores, each ``(pairs,)``.

        With views, the row of a photo is that of its best view: ``v · photo + view``.

        Raises:
            InputError: a number in a row is not finite, or a score does not fit into float32.
            EngineError: faiss fails on the device.
            MissingExtraError: faiss is not installed.
        """
        start = number * self.rows
        block = np.ascontiguousarray(self._sides[0].vectors[start : start + self.rows], np.float32)
        numbers, rows = self._equal[0].distinct(block, start)
        if not len(rows):
            return
        others = np.flatnonzero(self._equal[1].alone)
        found = self._searcher.within(self._each(rows, 0), self._references(), self._lowest)
        of_queries, of_references = len(self.views.queries), len(self.views.references)
        for pairs in self._best(found):
            (first, view), (second, other_view) = np.divmod(pairs[0], of_queries), np.divmod(pairs[1], of_references)
            one, other, scores = numbers[first], others[second], pairs[2]
            yield one * of_queries + view, other * of_references + other_view, scores
            members, of = self._equal[0].others(one)
            yield members * of_queries + view[of], other[of] * of_references + other_view[of], scores[of]
            members, of = self._equal[1].others(other)
            yield one[of] * of_queries + view[of], members * of_references + other_view[of], scores[of]

    def _best(self, found: Iterator[Pairs]) -> Iterator[Pairs]:
        """The best pair of each two photos; where there is one view of each, all pairs as they come."""
        if not self.views.several:
            yield from found
        elif parts := list(found):
            yield self.views.best(join(parts))

    def _each(self, rows: Floats, side: int) -> Floats:
        """Rows of photos as rows of single views."""
        return rows.reshape(-1, self._sides[side].dim)

    def _references(self) -> Iterator[Floats]:
        start = 0
        for block in self._sides[1].blocks(self.reference_rows):
            yield self._each(self._equal[1].distinct(block, start)[1], 1)
            start += len(block)


class _Equal:
    """Which rows of a side equal an earlier one.

    Attributes:
        same: the first row that equals each row in every bit ``(n,)``.
        alone: whether each row is the first of its kind ``(n,)``.
    """

    def __init__(self, side: Descriptors, block_rows: int) -> None:
        self.same = same = same_rows_of(lambda: side.blocks(block_rows))
        self.alone = same == np.arange(len(same))
        self._members = np.flatnonzero(~self.alone)
        self._members = self._members[np.argsort(same[self._members], kind="stable")]
        self._first = same[self._members]

    def distinct(self, block: Floats, start: int) -> tuple[Ints, Floats]:
        """The numbers and the rows of a block that are the first of their kind."""
        alone = self.alone[start : start + len(block)]
        numbers = np.flatnonzero(alone) + start
        return numbers, block if alone.all() else block[alone]

    def others(self, rows: Ints) -> tuple[Ints, Ints]:
        """The later rows that equal each of some rows, and the place among these that each of them belongs to."""
        begin, end = (np.searchsorted(self._first, rows, side=side) for side in ("left", "right"))
        counts = end - begin
        of = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._members[begin[of] + within], of
