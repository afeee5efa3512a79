"""The leader rule: which photos of a collection stay, and which one stands for each photo that goes.

In an order of preference, a photo is kept unless one that is kept already matches it directly. So each photo that goes matches
a kept one, which a chain of look-alikes (a matches b, b matches c, but a does not match c) cannot take away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..searchers.arrays import Floats, Ints, Pairs
from ..searchers.best import rising, scores_from

_AT_ONCE = 1 << 24  # links that are gone through at a time: 128 MB
_LOW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Leaders:
    """Who stands for whom.

    Attributes:
        of: for each row, the row that stands for it, itself if it is kept ``(n,)``.
        scores: with that row; NaN for a row that is kept ``(n,)``.
    """

    of: Ints
    scores: Floats

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Whether each row is kept ``(n,)``."""
        kept: npt.NDArray[np.bool_] = self.of == np.arange(len(self.of))
        return kept


def choose_leaders(pairs: Iterable[Pairs], order: Ints, same: Ints | None = None) -> Leaders:
    """Apply the leader rule. A row that is not kept goes to the kept one that it matches best, of equals to the preferred one.

    Args:
        pairs: gone through several times: each match once, in any direction, as `isc_fast.matching.pairs.self_join` gives them.
        order: all row numbers, the most preferred first ``(n,)``.
        same: the first row that equals each row in every bit, where equal rows were compared as one ``(n,)``. Such rows match
            each other and whatever one of them matches.
    """
    count = len(order)
    same = np.arange(count) if same is None else same
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    best = np.full(count, count)  # the rank of the most preferred of its equals
    np.minimum.at(best, same, rank)
    best = best[same]

    def links() -> Iterable[tuple[Ints, Ints, Floats]]:
        for first, second, scores in pairs:
            ranks = best[first], best[second]
            apart = ranks[0] != ranks[1]
            yield np.minimum(*ranks)[apart], np.maximum(*ranks)[apart], scores[apart]

    gone = _passed_over(links, count)
    nearest = _nearest_kept(links, gone)
    of = best.copy()
    scores = np.full(count, np.nan, np.float32)
    found = gone[of]
    to = nearest[of[found]]
    scores[found] = scores_from((to >> np.uint64(32)).astype(np.uint32))
    of[found] = (to & _LOW ^ _LOW).astype(np.int64)
    of = order[of]
    for first, second, score in pairs:  # of equal rows of which one is kept
        equal = same[first] == same[second]
        for row, value in ((first[equal], score[equal]), (second[equal], score[equal])):
            within = ~found[row]
            scores[row[within]] = value[within]
    scores[of == np.arange(count)] = np.nan
    return Leaders(of, scores)


def _passed_over(links: Any, count: int) -> npt.NDArray[np.bool_]:
    """Whether the row of each rank matches one that is kept before it ``(n,)``."""
    counts = np.zeros(count + 1, np.int64)
    for low, _, _ in links():
        counts[1:] += np.bincount(low, minlength=count)
    ends = np.cumsum(counts)
    gone = np.zeros(count, bool)
    seen = gone.data  # reads one element in a third of the time
    start = 0
    while start < count:  # as many ranks at a time as fit into memory with their links
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] + _AT_ONCE, side="right")) - 1)
        keys = [
            (low[here].astype(np.uint64) << np.uint64(32)) | high[here].astype(np.uint64)
            for low, high, _ in links()
            for here in [(low >= start) & (low < stop) & ~gone[low]]
        ]
        key = np.sort(np.concatenate(keys or [np.empty(0, np.uint64)]))
        del keys
        high = (key & _LOW).astype(np.int64)
        ranks, first = np.unique(key >> np.uint64(32), return_index=True)
        bounds = [*first.tolist(), len(high)]
        for one, begin, end in zip(ranks.tolist(), bounds, bounds[1:], strict=False):
            if not seen[one]:
                gone[high[begin:end]] = True
        start = stop
    return gone


def _nearest_kept(links: Any, gone: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """For the row of each rank that goes: the best kept one, as score and rank in one number that rises with both."""
    nearest = np.zeros(len(gone), np.uint64)
    for low, high, scores in links():
        high_bits = rising(scores).astype(np.uint64) << np.uint64(32)
        for one, other in ((low, high), (high, low)):
            counts = ~gone[one] & gone[other]
            np.maximum.at(nearest, other[counts], high_bits[counts] | (one[counts].astype(np.uint64) ^ _LOW))
    return nearest
