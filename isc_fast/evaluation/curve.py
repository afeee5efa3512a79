"""The curve of precision and recall that matches reach as the threshold falls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..items import Doubles
from ..matching.matches import Matches, Truth
from .metrics import PRECISION

POINTS = 2000


@dataclass(frozen=True)
class Curve:
    """Precision and recall of all pairs at a score or above, by falling score.

    Attributes:
        score, precision, recall: of each point ``(n,)``.
    """

    score: Doubles
    precision: Doubles
    recall: Doubles


def precision_recall(matches: Matches, truth: Truth, *, points: int = POINTS) -> Curve:
    """The curve of matches. Pairs of equal score are one point.

    Args:
        matches: each pair at most once; queries that the ground truth does not label count as well, as in the protocol kit.
        truth: with at least one true pair.
        points: about how many the curve has at most. Of more, some are left out: the first half stay, and others
            evenly spread over the rest, with the one of the largest recall at a precision of 90 %.
    """
    scores = np.asarray(matches.scores, np.float64)
    correct = np.fromiter(((query, reference) in truth.pairs for query, reference, _ in matches), bool, len(scores))
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(correct[order])
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if len(scores) else np.empty(0, np.int64)
    if len(last) > points:
        precise = np.flatnonzero(hits[last] >= PRECISION * (last + 1.0))[-1:]
        spread = np.linspace(points // 2, len(last) - 1, points // 2).round().astype(np.int64)
        last = last[np.unique(np.r_[np.arange(points // 2), precise, spread])]
    return Curve(scores[last], hits[last] / (last + 1.0), hits[last] / len(truth.pairs))
