"""Negatives: images that are known to match nothing. Their descriptors tell which directions mean little.

This module says which descriptors and negatives may be used together, and what is stored with the result. The methods are
`isc_fast.matching.smoothing`, `isc_fast.matching.subtraction` and `isc_fast.matching.score_normalization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..descriptors.comparing import compare_with_negatives
from ..descriptors.provenance import Normalization, Smoothing
from ..descriptors.store import Descriptors
from ..errors import InputError
from .arrays import Floats, Ints
from .searcher import Searcher


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


def smooth_meta(negatives: Descriptors, k: int, power: int) -> dict[str, Any]:
    """The meta of smoothed negatives.

    Raises:
        InputError: these negatives are smoothed or normalised already, or there are none.
    """
    if negatives.provenance.smoothing:
        raise InputError("these negatives are smoothed already; smoothing is done once")
    if negatives.provenance.normalization:
        raise InputError("negatives must be plain descriptors, and these are normalised already")
    if not len(negatives):
        raise InputError("there are no negatives")
    smoothing = Smoothing(k=k, power=power, source=negatives.content_id())
    return negatives.provenance.smoothed(smoothing).write()


def _refuse_normalized(descriptors: Descriptors) -> None:
    done = descriptors.provenance.normalization
    if done:
        raise InputError(f"these descriptors are normalised already ({done.method}); start from the extracted ones")


def check_negatives(descriptors: Descriptors, negatives: Descriptors) -> None:
    """Refuse to normalise with negatives that do not belong to these descriptors.

    Raises:
        MismatchError: another network made them, or their dimensions differ.
        InputError: either is normalised already, or there are no negatives.
    """
    _refuse_normalized(descriptors)
    if not len(negatives):
        raise InputError("there are no negatives")
    if negatives.provenance.normalization:
        raise InputError("negatives must be plain or smoothed descriptors, and these are normalised already")
    compare_with_negatives(descriptors, negatives).require()


def check_score_side(descriptors: Descriptors, negatives: Descriptors | None) -> None:
    """Refuse to normalise scores of descriptors that do not allow it; references have no negatives.

    Raises:
        MismatchError: another network made the negatives, or their dimensions differ.
        InputError: the descriptors are normalised already, or the negatives are not plain.
    """
    if negatives is None:
        _refuse_normalized(descriptors)
        return
    check_negatives(descriptors, negatives)
    if negatives.provenance.smoothing:
        raise InputError("these negatives are smoothed; score normalisation takes plain descriptors")


def nes_stamp(negatives: Descriptors, *, k: int, beta: float, iterations: int) -> Normalization:
    """The stamp of descriptors that were normalised by NES; two sets may be searched together if their stamps are equal."""
    smoothing = negatives.provenance.smoothing
    return Normalization(
        method="nes",
        k=k,
        beta=beta,
        iterations=iterations,
        smoothing=smoothing,
        negatives=negatives.content_id(),
        # Null stands in the stamp of plain negatives, so that a reader sees that they were not smoothed.
        other={} if smoothing else {"smoothing": None},
    )


def score_stamp(negatives: Descriptors | None, *, k: int, beta: float) -> Normalization:
    """The stamp of descriptors whose scores were normalised. References, without negatives, depend on none of the numbers."""
    if negatives is None:
        return Normalization(method="score", role="reference")
    return Normalization(method="score", role="query", k=k, beta=beta, negatives=negatives.content_id())
