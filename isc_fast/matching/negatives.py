"""Negatives: images that are known to match nothing. Their descriptors tell which directions mean little.

This module says which descriptors and negatives may be used together, and what is stored with the result. The methods are
`isc_fast.matching.smoothing`, `isc_fast.matching.subtraction` and `isc_fast.matching.score_normalization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..descriptors.store import Descriptors, derived_meta
from ..errors import InputError, MismatchError
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
    """What is stored with smoothed negatives. Raises InputError if these negatives must not be smoothed."""
    if negatives.meta.get("smoothing"):
        raise InputError("these negatives are smoothed already; smoothing is done once")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain descriptors, and these are normalised already")
    if not len(negatives):
        raise InputError("there are no negatives")
    return derived_meta(negatives, smoothing={"k": k, "power": power, "source": negatives.content_id()})


def check_negatives(descriptors: Descriptors, negatives: Descriptors) -> None:
    """Refuse to normalise with negatives that do not belong to these descriptors.

    Raises:
        MismatchError: another engine made them, or their dimensions differ.
        InputError: either is normalised already, or there are no negatives.
    """
    done = descriptors.meta.get("normalization")
    if done:
        raise InputError(f"these descriptors are normalised already ({done['method']}); start from the extracted ones")
    if not len(negatives):
        raise InputError("there are no negatives")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain or smoothed descriptors, and these are normalised already")
    engines = descriptors.meta.get("engine_id"), negatives.meta.get("engine_id")
    if all(engines) and engines[0] != engines[1]:
        raise MismatchError(
            f"the negatives were made by another engine ({str(engines[1])[:12]}) than the descriptors "
            f"({str(engines[0])[:12]}); extract both with one engine"
        )
    if descriptors.dim != negatives.dim:
        raise MismatchError(f"descriptors have {descriptors.dim} dimensions and the negatives have {negatives.dim}")


def check_score_side(descriptors: Descriptors, negatives: Descriptors | None) -> None:
    """Refuse to normalise scores of descriptors that do not allow it; references have no negatives.

    Raises:
        MismatchError: the negatives come from another engine, or their dimensions differ.
        InputError: the descriptors are normalised already, or the negatives are not plain.
    """
    if negatives is not None:
        check_negatives(descriptors, negatives)
        if negatives.meta.get("smoothing"):
            raise InputError("these negatives are smoothed; score normalisation takes plain descriptors")
    elif descriptors.meta.get("normalization"):
        raise InputError("these descriptors are normalised already; start from the extracted ones")


def nes_meta(negatives: Descriptors, *, k: int, beta: float, iterations: int) -> dict[str, Any]:
    """What is stamped into a file normalised by NES: two files may be searched together if theirs are equal."""
    return {
        "method": "nes",
        "k": k,
        "beta": beta,
        "iterations": iterations,
        "smoothing": negatives.meta.get("smoothing"),
        "negatives": negatives.content_id(),
    }


def score_meta(negatives: Descriptors | None, *, k: int, beta: float) -> dict[str, Any]:
    """What is stamped into a file normalised by scores; references (no negatives) depend on none of the numbers."""
    if negatives is None:
        return {"method": "score", "role": "reference"}
    return {"method": "score", "role": "query", "k": k, "beta": beta, "negatives": negatives.content_id()}
