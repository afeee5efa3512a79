"""The matrix of a change of perspective that moves four corners."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def perspective_matrix(start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return the eight coefficients that map the corners of the result to those of the source, as Pillow expects them.

    Args:
        start: corners of the source, ``(4, 2)``.
        end: corners of the result, ``(4, 2)``.
    """
    rows, places = [], []
    for (x, y), (u, v) in zip(end, start, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        places += [u, v]
    # This is least squares and not an exact solution, because the corners of a view of a few pixels may coincide.
    return tuple(float(c) for c in np.linalg.lstsq(np.array(rows), np.array(places))[0])
