"""Pairs that both sides count among their nearest, which leaves out photos that are a little like everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ...errors import InputError
from ..searchers.arrays import Ints, Pairs
from ..searchers.best import Best


def mutual_pairs(pairs: Iterable[Pairs], k: int, same: Ints) -> Iterator[Pairs]:
    """The pairs of which each row is among the k nearest of the other. Pairs of equal rows stay.

    Neighbours that score as high as the k-th count too.

    Args:
        pairs: gone through twice: every pair of a collection that reaches a score, each once.
        k: how many nearest rows of each row count.
        same: the first row that equals each row in every bit ``(n,)``; see `isc_fast.matching.pairs.self_join.SelfJoin`.

    Raises:
        InputError: k is below 1.
    """
    if k < 1:
        raise InputError(f"each photo's nearest must be at least 1, not {k}")
    k = min(k, max(1, len(same)))
    best = Best(len(same), k)
    for first, second, scores in pairs:
        apart = same[first] != same[second]
        one, other, score = first[apart], second[apart], scores[apart]
        best.add((np.concatenate([one, other]), np.concatenate([other, one]), np.concatenate([score, score])), k)
    least = best.least()
    for first, second, scores in pairs:
        stays = (scores >= np.maximum(least[first], least[second])) | (same[first] == same[second])
        yield first[stays], second[stays], scores[stays]
