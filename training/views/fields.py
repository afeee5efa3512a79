"""The numbers of two edits that are computed once and used by both ways to carry them out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import edits


def bent_places(edit: edits.Bend, width: int, height: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the columns and the rows that the pixels of a bent photo come from, each ``int64 (height, width)``."""
    half = min(width, height) / 2
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / half)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / half)[:, None]
    factor = (1 + edit.radial * (x * x + y * y)) / (1 + abs(edit.radial))
    across = x * factor + edit.swing * np.sin(edit.rate * y + edit.phase)
    down = y * factor + edit.swing * np.sin(edit.rate * x + edit.phase)
    columns, rows = np.floor(across * half + width / 2), np.floor(down * half + height / 2)
    return columns.clip(0, width - 1).astype(np.int64), rows.clip(0, height - 1).astype(np.int64)


def screen_light(edit: edits.Screen, width: int, height: int) -> npt.NDArray[np.float32]:
    """Return what a screen adds to each pixel, in grey levels, ``float32 (height, width)``."""
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    (ax, ay), (bx, by) = edit.waves
    stripes = np.sin(ax * x + ay * y) * np.sin(bx * x + by * y)
    away = np.hypot(x - edit.place[0] * width, y - edit.place[1] * height)
    reflection = np.maximum(0, 1 - away / (edit.reach * np.hypot(width, height)))
    light: npt.NDArray[np.float32] = (edit.lift + edit.stripes * stripes + edit.glare * reflection).astype(np.float32)
    return light
