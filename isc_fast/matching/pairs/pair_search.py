"""The search of two sides for pairs, whatever limit is set: the best of each query, the best of all, or all above a score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...descriptors.store import Descriptors
from ...errors import InputError
from ...items import Vectors
from ...progress import ProgressCallback
from ..searchers.arrays import Ints, Pairs, join
from ..searchers.exact import Metric
from ..searchers.searcher import Searcher
from .views import Views

MOST_PAIRS = 5_000_000
"""Pairs that a threshold alone may give. Four thousand copies of a blank page would be 16 million."""
_FIRST_K = 16
_GROWTH = 4
_ENTRIES = 1 << 25  # of one result (queries × k), 400 MB with the indices


def keep(pairs: Pairs, which: npt.NDArray[np.bool_] | Ints) -> Pairs:
    """Some of the pairs."""
    return pairs[0][which], pairs[1][which], pairs[2][which]


def best_overall(pairs: Pairs, count: int | None) -> Pairs:
    """The best pairs first; equal scores in the order of queries, then references."""
    order = np.lexsort((pairs[1], pairs[0], -pairs[2]))
    return keep(pairs, order[:count])


def limited(pairs: Pairs, views: Views, k: int | None, max_pairs: int | None) -> Pairs:
    """Of all pairs of rows that may count, those of a search's result, in its order.

    Args:
        pairs: of each query row at least its `Views.rows_for` k best, best first, the queries in order; or, where there is no k,
            every pair above a score, in any order.
        views: of both sides.
        k, max_pairs: see `isc_fast.search`.
    """
    if k is None:
        return best_overall(views.best(pairs), max_pairs)
    pairs = views.best_of_each(pairs, k) if views.several else pairs
    return pairs if max_pairs is None else best_overall(pairs, max_pairs)


def too_many_pairs(rows: Ints, ids: Sequence[str], lowest: np.float32) -> InputError:
    """The error of more than `MOST_PAIRS` pairs; ``rows`` are their queries, as far as they are known."""
    counts = np.bincount(rows)
    most = int(counts.argmax())
    return InputError(
        f"more than {MOST_PAIRS} pairs reach the threshold {lowest:g}; {counts[most]} of those found so far are of the query "
        f"{ids[most]!r}: equal pictures, such as blank pages, pair with each other; give also -k or "
        "--max-pairs (in Python k or max_pairs), or a higher threshold"
    )


class Reading:
    """References that are read again and again, and how much of that is done.

    Args:
        descriptors: the references.
        callback: see ``progress`` of `search`.
    """

    def __init__(self, descriptors: Descriptors, callback: ProgressCallback | None) -> None:
        self.dim, self._descriptors, self._callback = descriptors.dim, descriptors, callback
        self._done = self._total = 0

    def __len__(self) -> int:
        return len(self._descriptors)

    def expect(self, times: int) -> None:
        """They will be read so many times more."""
        self._total += times * len(self)
        self._tell(0)

    def blocks(self, rows: int) -> Iterator[Vectors]:
        """They are read once: see `Descriptors.blocks`."""
        for block in self._descriptors.blocks(rows):
            yield block
            self._tell(len(block))

    def _tell(self, rows: int) -> None:
        self._done += rows
        if self._callback:
            self._callback(self._done, self._total, 0)


@dataclass(frozen=True)
class PairSearch:
    """Two sides that may be compared, with a row for each view of each photo, and what searches them."""

    queries: Descriptors
    references: Reading
    views: Views
    metric: Metric
    searcher: Searcher

    def nearest(self, k: int, lowest: np.float32, rows: Ints | None = None) -> Pairs:
        """The k best references of each query that reach the lowest score; of the given queries only, if rows are given."""
        every = rows is None
        rows = np.arange(len(self.queries)) if rows is None else rows
        at_once = self.searcher.block_rows(self.references.dim)
        step = min(at_once.queries, max(1, _ENTRIES // min(k, len(self.references))))
        parts: list[Pairs] = []
        self.references.expect(-(-len(rows) // step))
        for start in range(0, len(rows), step):
            these = rows[start : start + step]
            blocks = self.references.blocks(at_once.references)
            vectors = self.queries.vectors[start : start + step] if every else self.queries.vectors[these]
            scores, indices = self.searcher.knn(vectors, blocks, k, self.metric)
            pairs = (np.repeat(these, scores.shape[1]), indices.ravel(), scores.ravel())
            parts.append(keep(pairs, pairs[2] >= lowest))
        return join(parts)

    def above(self, lowest: np.float32) -> Pairs:
        """Every pair that reaches the lowest score. Beside the pairs, memory holds two blocks.

        Raises:
            InputError: there are more than `MOST_PAIRS`.
        """
        at_once = self.searcher.block_rows(self.references.dim)
        parts: list[Pairs] = []
        start = found = 0
        self.references.expect(-(-len(self.queries) // at_once.queries))
        for block in self.queries.blocks(at_once.queries):
            blocks = self.references.blocks(at_once.references)
            for rows, columns, scores in self.searcher.within(block, blocks, lowest, self.metric):
                parts.append((rows + start, columns, scores))
                found += len(rows)
                if found > MOST_PAIRS:
                    rows = np.concatenate([rows for rows, _, _ in parts])
                    raise too_many_pairs(rows, self.queries.ids, lowest)
            start += len(block)
        return join(parts)

    def best_of_all(self, max_pairs: int, lowest: np.float32) -> Pairs:
        """The best pairs of all queries together, exactly, from nearest-neighbour searches alone.

        If a query's last neighbour is still good enough to count, the query may have more of them. Only such queries are
        searched again, for more neighbours. A pair that was found once stays: the same pair may score an ulp lower in another
        batch, and must not drop out for that.
        """
        k = min(_FIRST_K, len(self.references))
        pairs = best_overall(self.nearest(k, lowest), None)
        while k < len(self.references):
            cut, beating = lowest, pairs[0]
            counted = self._counted(pairs)
            if len(counted[2]) >= max_pairs:
                cut = counted[2][max_pairs - 1]
                pairs = keep(pairs, pairs[2] >= cut)
                # There are enough pairs that only equal the cut. Fetching every one of them could mean all copies of a blank
                # picture times all others.
                beating = pairs[0][pairs[2] > cut]
            # All k neighbours of such a query beat the cut, so the next one may beat it too.
            unfinished = np.flatnonzero(np.bincount(beating, minlength=len(self.queries)) >= k)
            if not len(unfinished):
                break
            k = min(k * _GROWTH, len(self.references))
            more = self.nearest(k, cut, unfinished)
            known = np.isin(self._number(more), self._number(pairs))
            pairs = best_overall(join([pairs, keep(more, ~known)]), None)
        return keep(counted := self._counted(pairs), np.arange(len(counted[2]))[:max_pairs])

    def _counted(self, pairs: Pairs) -> Pairs:
        """Pairs of rows, best first, as pairs of photos, best first."""
        return best_overall(self.views.best(pairs), None) if self.views.several else pairs

    def _number(self, pairs: Pairs) -> Ints:
        """One number for each pair."""
        return pairs[0] * len(self.references) + pairs[1]
