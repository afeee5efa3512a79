"""A drawing of where a copy lies in its original."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from ..errors import require
from .alignment import Alignment

_HEIGHT = 420
_GAP = 12
_LINES = 40
_OUTLINE, _POINT = (16, 185, 129), (245, 158, 11)
_BACK = (24, 26, 30)


def draw_evidence(query: Image.Image, reference: Image.Image, found: Alignment) -> Image.Image:
    """Draw the query, the reference with the query's outline in it, and the query laid over the reference.

    Lines join up to 40 places that agree, spread over the photo.

    Args:
        query, reference: RGB, of any size.
        found: how they lie in each other.

    Returns:
        an RGB image of three pictures side by side, 420 pixels high; the third shows half of each photo where they overlap.
    """
    left, right = _sized(query), _sized(reference)
    over = _laid_over(left, right, found)
    width = left.width + 2 * right.width + 2 * _GAP
    sheet = Image.new("RGB", (width, _HEIGHT), _BACK)
    begin = left.width + _GAP
    for picture, place in ((left, 0), (right, begin), (over, begin + right.width + _GAP)):
        sheet.paste(picture, (place, (_HEIGHT - picture.height) // 2))
    draw = ImageDraw.Draw(sheet)
    tops = (_HEIGHT - left.height) // 2, (_HEIGHT - right.height) // 2
    outline = [(begin + x * right.width, tops[1] + y * right.height) for x, y in found.outline()]
    draw.polygon(outline, outline=_OUTLINE, width=3)
    for number in _spread(found.query_points, _LINES):
        (x, y), (u, v) = found.query_points[number], found.reference_points[number]
        here = x * left.width, tops[0] + y * left.height
        there = begin + u * right.width, tops[1] + v * right.height
        draw.line([here, there], fill=_POINT, width=1)
        for a, b in (here, there):
            draw.ellipse([a - 2, b - 2, a + 2, b + 2], outline=_POINT)
    # The outline may reach over into the neighbours; the gaps show where a picture ends.
    return sheet


def _sized(image: Image.Image) -> Image.Image:
    made = image.convert("RGB")
    made.thumbnail((2 * _HEIGHT, _HEIGHT), Image.Resampling.BICUBIC)
    return made


def _laid_over(query: Image.Image, reference: Image.Image, found: Alignment) -> Image.Image:
    cv2 = require("cv2", "evidence")
    source = query.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if found.mirrored else query
    scale_in = np.diag([1 / source.width, 1 / source.height, 1.0])
    scale_out = np.diag([reference.width, reference.height, 1.0])
    matrix = scale_out @ found.homography @ scale_in
    warped = Image.fromarray(cv2.warpPerspective(np.asarray(source), matrix, reference.size))
    mask = Image.fromarray(cv2.warpPerspective(np.full(source.size[::-1], 128, np.uint8), matrix, reference.size))
    dimmed = ImageChops.multiply(reference, Image.new("RGB", reference.size, (150, 150, 150)))
    return Image.composite(Image.blend(reference, warped, 0.5), dimmed, mask.point(lambda value: 255 if value else 0))


def _spread(points: npt.NDArray[np.floating[Any]], most: int) -> list[int]:
    """Numbers of some points, each as far as possible from those before it."""
    chosen = [0]
    far = np.full(len(points), np.inf)
    while len(chosen) < min(most, len(points)):
        far = np.minimum(far, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(far.argmax()))
    return chosen
