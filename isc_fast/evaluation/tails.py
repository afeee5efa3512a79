"""Which share of unrelated pairs reaches a score, by the highest of those that were seen.

The share is counted as long as enough of them reach the score. Beyond that it is taken to fall exponentially, as the highest do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TAIL = 2000
"""So many of the highest unrelated pairs are kept."""
COUNTED = 30
"""Where fewer unrelated pairs than this reach a score, their share is extrapolated."""

Floats = npt.NDArray[np.float64]


def shares_above(tail: Floats, weights: Floats, pairs: float, thresholds: Floats) -> Floats:
    """The share of unrelated pairs that reach each of some thresholds.

    Args:
        tail: the scores of the highest unrelated pairs, falling ``(t,)``.
        weights: how often each of them counts ``(t,)``.
        pairs: how many unrelated pairs there were, counted alike.
        thresholds: ``(n,)``.
    """
    reached = np.concatenate([[0.0], np.cumsum(weights)])
    count = reached[np.searchsorted(-tail, -thresholds, side="right")]
    last = int(np.searchsorted(reached, min(COUNTED, reached[-1]), side="left"))
    start = tail[max(0, last - 1)]
    above = weights[:last]
    scale = max(1e-6, float((above * (tail[:last] - start)).sum() / max(above.sum(), 1e-12)))
    beyond = reached[last] * np.exp(np.minimum(0.0, (start - thresholds) / scale))
    made: Floats = np.where(thresholds > start, beyond, count) / max(pairs, 1e-12)
    return made
