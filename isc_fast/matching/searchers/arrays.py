"""The types of arrays that a search takes and gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pairs = tuple[Ints, Ints, Floats]
"""Query rows, reference rows and scores of pairs, each ``(n,)``."""


def join(parts: list[Pairs]) -> Pairs:
    """All pairs of several lists; at least one list is needed."""
    rows, columns, scores = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)
