"""The best pairs of each query: how pairs are ordered, and how the pairs of many blocks become one result."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .arrays import Floats, Ints, Pairs


def rising(scores: Floats) -> npt.NDArray[np.uint32]:
    """Integers that are ordered as the scores are, ``uint32 (n,)``."""
    # A float's bits, read as an integer, rise with the float if the bits of negative numbers are flipped and positive numbers
    # are put above them. Adding 0.0 turns -0.0 into 0.0, which it is equal to.
    bits = (scores + np.float32(0)).view(np.uint32)
    ordered: npt.NDArray[np.uint32] = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return ordered


def scores_from(ordered: npt.NDArray[np.uint32]) -> Floats:
    """The scores of which `rising` made these integers."""
    bits: npt.NDArray[np.uint32] = np.where(ordered >> 31, ordered & np.uint32(0x7FFFFFFF), ~ordered)
    return bits.view(np.float32)


def _best_first(queries: Ints, indices: Ints, scores: Floats) -> Ints:
    """The order of pairs by query, then from the best score down. Equal scores are ordered by index."""
    # Query and score make one key, which sorts several times as fast as three keys do.
    keys = queries.astype(np.uint64) << np.uint64(32) | ~rising(scores)
    order: Ints = np.argsort(keys)
    keys = keys[order]
    equal = keys[1:] == keys[:-1]
    tied = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
    order[tied] = order[tied][np.lexsort((indices[order[tied]], keys[tied]))]
    return order


def best_first(pairs: Pairs, k: int) -> Ints:
    """The numbers of the k best pairs of each query, in the order of the queries, best first."""
    order = _best_first(*pairs)
    query = pairs[0][order]
    first = np.searchsorted(query, query)
    return order[np.arange(len(order)) - first < k]


def best_of_each(pairs: Pairs, k: int) -> Pairs:
    """The k best pairs of each query, in the order of the queries, best first."""
    order = best_first(pairs, k)
    return pairs[0][order], pairs[1][order], pairs[2][order]


class Best:
    """The k best rows of each query so far. The result does not depend on the order in which blocks are added.

    Attributes:
        scores: ``float32 (n, k)``, falling along each row; there are fewer columns while fewer rows were seen.
        indices: ``int64 (n, k)``.
    """

    def __init__(self, count: int, k: int) -> None:
        """Begin for so many queries.

        Raises:
            InputError: k is below 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, not {k}")
        self.k, self.seen = k, 0
        self.scores: Floats = np.empty((count, 0), np.float32)
        self.indices: Ints = np.empty((count, 0), np.int64)

    def least(self) -> Floats:
        """The lowest score that still counts for each query ``(n,)``."""
        if self.seen >= self.k:
            return self.scores[:, -1]
        return np.full(len(self.scores), -np.inf, np.float32)

    def add(self, pairs: Pairs, rows: int) -> None:
        """Add what was found in a block of so many rows: at least each query's k best rows of it, as far as they count."""
        first = not self.seen
        more = min(self.k, self.seen + rows) - self.scores.shape[1]
        if more:
            fill = ((0, 0), (0, more))
            self.scores = np.pad(self.scores, fill, constant_values=-np.inf)
            self.indices = np.pad(self.indices, fill, constant_values=np.iinfo(np.int64).max)
        self.seen += rows
        if not len(pairs[0]):
            return
        queries, places = np.unique(pairs[0], return_inverse=True)
        width = self.scores.shape[1]
        if first and np.bincount(places).min() >= width:  # the new pairs fill the whole table
            query, index, score = places, pairs[1], pairs[2]
        else:
            query = np.concatenate([np.repeat(np.arange(len(queries)), width), places])
            score = np.concatenate([self.scores[queries].ravel(), pairs[2]])
            index = np.concatenate([self.indices[queries].ravel(), pairs[1]])
        order = _best_first(query, index, score)
        counts = np.bincount(query, minlength=len(queries))
        best = order[(np.cumsum(counts) - counts)[:, None] + np.arange(width)]
        self.scores[queries], self.indices[queries] = score[best], index[best]
