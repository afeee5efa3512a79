"""Draws pages: the photo among others, small on another one, or inside a frame.

Each function returns the edit, whose ``width`` and ``height`` are the size of its result. A page is at most
`LARGEST_SHARE` times as long as the side of the view, because a larger one would only cost time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from .edits import Box, Page, Size

GRIDS = ((1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2))  # columns and rows
LARGEST_SHARE = 2.0
_SMALL = (0.3, 0.7)  # the share of the background's side that a small photo takes up at most
_MARGIN = 0.5  # the largest margin of a frame, as a share of the photo's side
_BARE = 0.35  # the probability that a frame has no margin at one side


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    if random.random() < 0.6:  # most pages are grey: black, white or between
        grey = int(random.choice((0, 20, 128, 235, 255)))
        return grey, grey, grey
    red, green, blue = (int(value) for value in random.integers(256, size=3))
    return red, green, blue


def _rgb(picture: Image.Image) -> Image.Image:
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _fitted(page: Size, size: int) -> float:
    return min(1.0, LARGEST_SHARE * size / max(page))


def draw_parts(photo_size: Size, size: int, random: np.random.Generator, open_other: Callable[[], Image.Image]) -> Page:
    """Draw a page that shows the photo beside other photos, or small on another one. Both are equally frequent."""
    if random.random() < 0.5:
        return _draw_grid(photo_size, size, random, open_other)
    return _draw_small(photo_size, size, random, _rgb(open_other()))


def _draw_grid(photo_size: Size, size: int, random: np.random.Generator, open_other: Callable[[], Image.Image]) -> Page:
    columns, rows = GRIDS[int(random.integers(len(GRIDS)))]
    scale = _fitted((columns * photo_size[0], rows * photo_size[1]), size)
    width, height = (max(2, round(side * scale)) for side in photo_size)
    gap = int(random.integers(0, max(2, round(0.08 * min(width, height)))))
    place = int(random.integers(columns * rows))
    boxes: list[Box] = [
        (column * (width + gap), row * (height + gap), width, height)
        for row in range(rows)
        for column in range(columns)
    ]
    others = tuple((_rgb(open_other()), box) for number, box in enumerate(boxes) if number != place)
    page = columns * (width + gap) - gap, rows * (height + gap) - gap
    return Page(*page, _colour(random), boxes[place], others)


def _draw_small(photo_size: Size, size: int, random: np.random.Generator, back: Image.Image) -> Page:
    scale = _fitted(back.size, size)
    page = max(2, round(back.width * scale)), max(2, round(back.height * scale))
    share = random.uniform(*_SMALL)
    fit = share * min(page[0] / photo_size[0], page[1] / photo_size[1])
    width, height = (max(1, round(side * fit)) for side in photo_size)
    left, top = int(random.integers(page[0] - width + 1)), int(random.integers(page[1] - height + 1))
    return Page(*page, (0, 0, 0), (left, top, width, height), ((back, (0, 0, *page)),))


def draw_frame(photo_size: Size, size: int, random: np.random.Generator) -> Page:
    """Draw a frame of one colour around the photo, with margins of different widths."""
    left, top, right, bottom = (0.0 if random.random() < _BARE else random.uniform(0, _MARGIN) for _ in range(4))
    whole = photo_size[0] * (1 + left + right), photo_size[1] * (1 + top + bottom)
    scale = _fitted((round(whole[0]), round(whole[1])), size)
    width, height = (max(1, round(side * scale)) for side in photo_size)
    box = round(left * width), round(top * height), width, height
    page = box[0] + width + round(right * width), box[1] + height + round(bottom * height)
    return Page(*page, _colour(random), box)
