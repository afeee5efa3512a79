"""Negative embedding subtraction (NES): the mean of a descriptor's nearest negatives is subtracted from it.

The submitted network was made for it. Source: Yokoo, "Contrastive Learning with Large Memory Bank and Negative Embedding
Subtraction for Accurate Copy Detection", 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...descriptors.store import Descriptors
from ...errors import InputError
from ..searchers.arrays import Floats, Ints
from ..searchers.cpu_searcher import CPU
from ..searchers.searcher import Searcher, open_searcher
from .normalization import check_numbers, nearest_negatives, normalized
from .row_sums import add_up, in_steps, to_unit
from .stamps import check_negatives, nes_meta

NES_K = 10
NES_BETA = 0.35
NES_ITERATIONS = 1


@dataclass(frozen=True)
class NegativeSubtraction:
    """``x ← norm(x − beta · mean of x's k nearest negatives)``; see `subtract_negatives`."""

    k: int = NES_K
    beta: float = NES_BETA
    iterations: int = NES_ITERATIONS

    def __post_init__(self) -> None:
        check_numbers(k=self.k, iterations=self.iterations, beta=self.beta)

    def check(self, descriptors: Descriptors, negatives: Descriptors | None) -> None:
        """See `Method.check`."""
        check_negatives(descriptors, _given(negatives))

    def made_dim(self, dim: int) -> int:
        """The dimensions stay."""
        return dim

    def blocks(self, blocks: Iterable[Floats], negatives: Descriptors | None, searcher: Searcher) -> Iterator[Floats]:
        """See `Method.blocks`."""
        given = _given(negatives)

        def subtract(out: Floats, rows: Floats, indices: Ints) -> None:
            add_up(given.vectors, indices, None, out)
            out /= np.float32(indices.shape[1])
            out *= np.float32(self.beta)
            np.subtract(rows, out, out=out)
            to_unit(out)

        for rows in blocks:
            for _ in range(self.iterations):
                _, indices = nearest_negatives(rows, given, self.k, searcher)
                rows = in_steps(subtract, given.dim, rows, indices)
            yield rows

    def meta(self, descriptors: Descriptors, negatives: Descriptors | None) -> dict[str, Any]:
        """See `Method.meta`."""
        return nes_meta(descriptors, _given(negatives), k=self.k, beta=self.beta, iterations=self.iterations)


def _given(negatives: Descriptors | None) -> Descriptors:
    if negatives is None:
        raise InputError("negative embedding subtraction needs negatives; make them with: isc-fast negatives")
    return negatives


def subtract_negatives(
    descriptors: Descriptors,
    negatives: Descriptors,
    *,
    k: int = NES_K,
    beta: float = NES_BETA,
    iterations: int = NES_ITERATIONS,
    device: str | Searcher = CPU,
) -> Descriptors:
    """Subtract negatives, from queries and references alike: ``x ← norm(x − beta · mean of k negatives)``.

    Args:
        descriptors: ``(n, d)`` rows of unit length; they stay as they are.
        negatives: from `smooth_negatives` (or plain, for the method without smoothing).
        k: nearest negatives of each descriptor.
        beta: how much of their mean is subtracted.
        iterations: how often it is subtracted.
        device: what searches; see `isc_fast.search`.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: the descriptors are normalised already, or a number is out of range.
        EngineError: there is no such device, or faiss does not work on it.
    """
    method = NegativeSubtraction(k, beta, iterations)
    method.check(descriptors, negatives)
    return normalized(descriptors, negatives, method, open_searcher(device))
