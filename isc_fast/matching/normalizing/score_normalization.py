"""Score normalisation: what a query scores among negatives is subtracted from its scores. References stay as they are.

Source: Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", 2022, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...descriptors.store import Descriptors
from ..searchers.arrays import Floats
from ..searchers.cpu_searcher import CPU
from ..searchers.searcher import Searcher, open_searcher
from .normalization import check_numbers, nearest_negatives, normalized
from .stamps import check_negatives, refuse_normalized, refuse_smoothed, score_meta

SCORE_K = 3
SCORE_BETA = 1.0


@dataclass(frozen=True)
class ScoreNormalization:
    """Score normalisation in one more dimension, so that an inner product gives the normalised score.

    A query becomes ``[q, −beta · mean score of its k nearest negatives]``. A reference, for which the negatives are None,
    becomes ``[r, 1]``. Search the result by inner product only.
    """

    k: int = SCORE_K
    beta: float = SCORE_BETA

    def __post_init__(self) -> None:
        check_numbers(k=self.k, beta=self.beta)

    def check(self, descriptors: Descriptors, negatives: Descriptors | None) -> None:
        """See `Method.check`."""
        if negatives is None:
            refuse_normalized(descriptors)
        else:
            check_negatives(descriptors, negatives)
            refuse_smoothed(negatives)

    def made_dim(self, dim: int) -> int:
        """One more dimension."""
        return dim + 1

    def blocks(self, blocks: Iterable[Floats], negatives: Descriptors | None, searcher: Searcher) -> Iterator[Floats]:
        """See `Method.blocks`."""
        for block in blocks:
            if negatives is None:
                extra = np.ones((len(block), 1), np.float32)
            else:
                scores, _ = nearest_negatives(block, negatives, self.k, searcher)
                extra = np.float32(-self.beta) * scores.mean(axis=1, keepdims=True)
            yield np.concatenate([block, extra], axis=1)

    def meta(self, descriptors: Descriptors, negatives: Descriptors | None) -> dict[str, Any]:
        """See `Method.meta`."""
        return score_meta(descriptors, negatives, k=self.k, beta=self.beta)


def normalize_scores(
    queries: Descriptors,
    references: Descriptors,
    negatives: Descriptors,
    *,
    k: int = SCORE_K,
    beta: float = SCORE_BETA,
    device: str | Searcher = CPU,
) -> tuple[Descriptors, Descriptors]:
    """Normalise scores: ``s(q, r) = q·r − beta · mean of q's k highest scores among the negatives``.

    `isc_fast.find_copies` does this and searches in one call, and tells a threshold.

    Args:
        queries, references, negatives: ``(n, d)`` rows of unit length; negatives plain, not smoothed.
        k: how many of a query's highest scores are averaged.
        beta: weight of their mean.
        device: what searches; see `isc_fast.search`.

    Returns:
        queries and references with d + 1 dimensions, to be searched by inner product.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: a side is normalised already, or a number is out of range.
        EngineError: there is no such device, or faiss does not work on it.
    """
    method = ScoreNormalization(k, beta)
    method.check(queries, negatives)
    method.check(references, negatives)
    searcher = open_searcher(device)
    return normalized(queries, negatives, method, searcher), normalized(references, None, method, searcher)
