"""What becomes of a set's rows in tasks: they are normalised, or smoothed. The same numbers open it here and in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from ...descriptors.store import Descriptors
from ...matching.normalizing.methods import method_of
from ...matching.normalizing.normalization import made_blocks, made_width
from ...matching.normalizing.smoothing import NegativeSmoothing
from ...matching.searchers.arrays import Floats
from ...matching.searchers.searcher import Searcher, open_searcher
from .part_tasks import Made


def normalized(
    sides: Sequence[Descriptors], numbers: Mapping[str, Any], meta: Mapping[str, Any], device: str | Searcher
) -> Made:
    """A set that is normalised.

    Args:
        sides: the set, and the negatives where there are any.
        numbers: ``method``, ``k``, ``beta`` and ``iterations`` of `isc_fast.normalize_to_file`.
        meta: of the result.
        device: what searches. It is opened for the first part.
    """
    whole, negatives = sides[0], sides[1] if len(sides) > 1 else None
    method, opened = method_of(**numbers), cache(lambda: open_searcher(device))

    def rows(some: Descriptors) -> Iterable[Floats]:
        return made_blocks(some, negatives, method, opened())

    against = 1 if negatives is None else len(negatives) * len(negatives.views)
    return Made(whole, made_width(whole, method), meta, rows, against)


def smoothed(
    sides: Sequence[Descriptors], numbers: Mapping[str, Any], meta: Mapping[str, Any], device: str | Searcher
) -> Made:
    """Negatives that are smoothed among themselves; ``numbers`` are ``k`` and ``power`` of `isc_fast.smooth_to_file`."""
    (whole,) = sides
    method, opened = NegativeSmoothing(**numbers), cache(lambda: open_searcher(device))

    def rows(some: Descriptors) -> Iterable[Floats]:
        return method.blocks(whole, opened(), some)

    return Made(whole, whole.width, meta, rows, len(whole) * len(whole.views), ledger=False)


KINDS = {"normalize": normalized, "negatives": smoothed}
"""By name, which is that of the verb."""
