"""The views of a decoded photo: parts are cut out of it, and what has to be moved is said as an orientation or moved here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .colours import TURNS
from .views import TENTHS, VIEWS, Box

LEAST_SIDE = 32
"""A photo with a side of fewer pixels is not cut: all its views show the whole of it. A quarter of 31 × 31 is 16 × 16."""


def seen(image: Image.Image, turn: int, names: Sequence[str]) -> Iterator[tuple[Image.Image, int]]:
    """The views of a photo as it is stored: each a part of it, and the orientation whose correction makes the view of the part.

    Args:
        image: of any size and mode; nothing of it is copied for a view that shows the whole.
        turn: the EXIF orientation, from 1 to 8, in which it is stored.
        names: of `VIEWS`.
    """
    cut = min(image.size) >= LEAST_SIDE
    for name in names:
        view = VIEWS[name]
        box = _pixels(_stored(view.box, turn), image.size)
        whole = not cut or box == (0, 0, *image.size)
        yield image if whole else image.crop(box), _then(turn, view.move)


def views_of(image: Image.Image, names: Sequence[str]) -> Iterator[Image.Image]:
    """The views of an upright photo."""
    for part, turn in seen(image, 1, names):
        yield part if turn == 1 else part.transpose(TURNS[turn])


def upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of stored pixels ``(h, w, …)`` that is upright by the EXIF orientation 1 to 8."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _stored(box: Box, orientation: int) -> Box:
    """Where a box of the upright photo lies in the photo as it is stored: `upright` backwards."""
    left, top, right, bottom = box
    if orientation in (2, 3, 6, 7):
        left, right = TENTHS - right, TENTHS - left
    if orientation in (3, 4, 7, 8):
        top, bottom = TENTHS - bottom, TENTHS - top
    return (top, left, bottom, right) if orientation > 4 else (left, top, right, bottom)


def _pixels(box: Box, size: tuple[int, int]) -> Box:
    """A box in pixels. Both ends are rounded outwards in the same way, so that a mirrored box is the mirror image of it."""
    left, top, right, bottom = box
    width, height = size
    return (
        left * width // TENTHS,
        top * height // TENTHS,
        width - (TENTHS - right) * width // TENTHS,
        height - (TENTHS - bottom) * height // TENTHS,
    )


@cache
def _then(first: int, second: int) -> int:
    """The orientation whose correction does what those of two do, one after the other."""
    sample = np.arange(6).reshape(2, 3)
    wanted = upright(upright(sample, first), second)
    return next(turn for turn in range(1, 9) if np.array_equal(upright(sample, turn), wanted))
