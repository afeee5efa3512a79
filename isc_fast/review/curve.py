"""The points of a curve of precision and recall that a page draws."""

from __future__ import annotations

import numpy as np

from ..evaluation.metrics import PRECISION, Curve
from .pairs import MOST

POINTS = 2000


def points_of(curve: Curve, most: int = POINTS) -> dict[str, list[float]]:
    """Score, precision and recall of the points of a curve, by falling score. Pairs of equal score are one point.

    Args:
        curve: of all predictions.
        most: about how many points there are at most. Of more, some are left out: the first half stay, and others evenly spread
            over the rest, with the one of the largest recall at a precision of 90 %.
    """
    scores = curve.scores
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if len(scores) else np.empty(0, np.int64)
    if len(last) > most:
        precise = np.flatnonzero(curve.precision[last] >= PRECISION)[-1:]
        spread = np.linspace(most // 2, len(last) - 1, most // 2).round().astype(np.int64)
        last = last[np.unique(np.r_[np.arange(most // 2), precise, spread])]
    columns = {"score": scores, "precision": curve.precision, "recall": curve.recall}
    return {
        name: np.clip(column[last].astype(np.float64), -MOST, MOST).round(7).tolist()
        for name, column in columns.items()
    }
