"""Draws recipes. A recipe is the list of edits that turn a photo into a view, as plain data.

Drawing a recipe is cheap. It happens on the host, it uses one random generator, and it needs the sizes of images but not
their pixels. Then `isc_fast.training.views.apply_pil` or, on any device, `isc_fast.training.views.apply_torch` carries out
the recipe. Both carry out the same recipe, so both have the same distributions, and every photo has its own random order of
edits.

Source of the distributions: the augmentations of Yokoo 2021 (arXiv 2112.04323) and its published code, which takes them
from torchvision (crop, colour, perspective, erasing) and AugLy 0.1 (overlays, text, pixels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

from ...evaluation.edits.perspective import perspective_matrix
from ..stages import HardView
from . import edits
from .artwork import Artwork
from .edits import Edit, Size, ViewRecipe
from .pages import draw_frame, draw_parts

__all__ = [
    "Size", "ViewRecipe", "draw_hard", "draw_moderate", "draw_plain", "draw_whole", "inscribed", "rotate_by", "view_random",
]  # fmt: skip

JPEG_QUALITIES = (10, 20, 30, 50)
HUE = 0.2
SHUFFLED_SHARE = 0.1
PERSPECTIVE = 0.5
MODERATE_AREA = (0.7, 1.0)
HARD_AREA = (0.15, 1.0)
PAGE_SIDE = (0.9, 1.0)  # of each side of a page little is cut off, because the photo may be a small part of it
CUT_BEFORE = 0.4  # the probability that only a part of the photo lies on the page
CUT_AREA = (0.35, 1.0)
BEND_RADIAL, BEND_SWING, BEND_RATES = 0.5, 0.06, (3.0, 12.0)


def view_random(seed: int, epoch: int, index: int, view: int) -> np.random.Generator:
    """Return the generator of all random numbers of one view.

    The numbers do not depend on how many processes make views or train.

    Args:
        seed, epoch: the seed of the run and the epoch, at least 0.
        index: the number of the photo, at least 0.
        view: a number that tells the views of a photo apart, at least 0.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, index, view]))


def draw_plain(size: int) -> ViewRecipe:
    """Return the recipe without augmentation, which does what extraction does to a photo."""
    return ViewRecipe((edits.Resize(size),), size)


def draw_whole(size: int) -> ViewRecipe:
    """Return the recipe that leaves a photo as it is, at its own size. Whoever describes it prepares it as extraction does."""
    return ViewRecipe((), size)


def draw_moderate(photo_size: Size, size: int, random: np.random.Generator) -> ViewRecipe:
    """Draw the moderate view of a photo: a crop of 70 to 100 % of the area, which is mirrored half of the time."""
    crop = _draw_crop(photo_size, size, MODERATE_AREA, random)
    return ViewRecipe((crop, edits.Flip()) if random.random() <= 0.5 else (crop,), size)


def draw_hard(
    settings: HardView,
    photo_size: Size,
    size: int,
    random: np.random.Generator,
    *,
    open_other: Callable[[], Image.Image],
    artwork: Artwork,
) -> ViewRecipe:
    """Draw the hard view of a photo.

    Args:
        settings: how often and how strongly each edit happens.
        photo_size: the (width, height) of the decoded photo.
        size: the side of the view, in pixels.
        random: the generator that `view_random` returns.
        open_other: a function that opens another photo. It is called only if an overlay is drawn, and its errors are passed
            on.
        artwork: the fonts and emoji.
    """
    made: list[Edit] = []
    if random.random() <= settings.rotation:
        turn = rotate_by(photo_size, random.uniform(0, 180))
        made.append(turn)
        photo_size = (turn.width, turn.height)
    area = HARD_AREA
    draw_page = _draw_page_kind(settings, random)
    if draw_page is not None:
        if random.random() < CUT_BEFORE:
            cut = _draw_crop(photo_size, size, CUT_AREA, random)
            made.append(cut)
            photo_size = cut.width, cut.height
        page = (
            draw_frame(photo_size, size, random)
            if draw_page == "frame"
            else draw_parts(photo_size, size, random, open_other)
        )
        made += [page, _draw_page_crop((page.width, page.height), size, random)]
    elif random.random() <= settings.overlay:
        overlay, photo_size = _draw_overlay(settings, photo_size, random, open_other)
        made.append(overlay)
        area = MODERATE_AREA
    if draw_page is None:
        made.append(_draw_crop(photo_size, size, area, random))
    radius = settings.blur_radius * (size / (settings.blur_reference_size or size))
    optional: tuple[tuple[float, Callable[[], Edit | None]], ...] = (
        (1.0, lambda: _draw_jitter(settings.colour_jitter, random)),
        (settings.pixelize, lambda: _draw_pixelize(size, random)),
        (settings.shuffle_pixels, lambda: edits.ShufflePixels(SHUFFLED_SHARE)),
        (settings.jpeg, lambda: edits.Jpeg(JPEG_QUALITIES[random.integers(len(JPEG_QUALITIES))])),
        (settings.grayscale, edits.Grayscale),
        (settings.blur, lambda: edits.Blur(random.uniform(0, radius))),
        (settings.perspective, lambda: _draw_perspective(size, random)),
        (settings.flip, edits.Flip),
        (settings.turn_over, edits.TurnOver),
        (settings.text, lambda: _draw_text(size, random, artwork)),
        (settings.emoji, lambda: _draw_emoji(size, random, artwork)),
        (settings.edge_enhance, lambda: edits.EdgeEnhance(random.random() < 0.5)),
    )
    # An edit that a stage never makes draws no random numbers, so that the published stages keep their views.
    optional += tuple(
        (probability, draw)
        for probability, draw in (
            (settings.bend, lambda: _draw_bend(random)),
            (settings.screen, lambda: _draw_screen(size, random)),
        )
        if probability > 0
    )
    for i in random.permutation(len(optional)):
        probability, draw = optional[i]
        if random.random() <= probability and (edit := draw()) is not None:
            made.append(edit)
    erase = _draw_erase(size, random) if random.random() <= settings.erase else None
    return ViewRecipe(tuple(made), size, erase)


def _log_uniform(low: float, high: float, random: np.random.Generator) -> float:
    return math.exp(random.uniform(math.log(low), math.log(high)))


def _draw_crop(photo_size: Size, size: int, area: tuple[float, float], random: np.random.Generator) -> edits.Crop:
    """Draw a crop as torchvision's ``RandomResizedCrop`` does.

    If ten tries do not fit, the crop is the largest rectangle in the middle with an allowed aspect ratio.
    """
    width, height = photo_size
    for _ in range(10):
        pixels = width * height * random.uniform(*area)
        ratio = _log_uniform(3 / 4, 4 / 3, random)
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
            return edits.Crop(top, left, h, w, size)
    w, h = min(width, max(1, round(height * 4 / 3))), min(height, max(1, round(width / (3 / 4))))
    return edits.Crop((height - h) // 2, (width - w) // 2, h, w, size)


def rotate_by(photo_size: Size, angle: float) -> edits.Rotate:
    """Return the edit that turns a photo of this size by ``angle`` degrees."""
    width, height = inscribed(photo_size, angle)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # The matrix leads from the pixels of the result to those of the source, and from the middle of one to that of the other.
    x, y = width / 2, height / 2
    w, h = photo_size
    matrix = (cos, -sin, w / 2 - cos * x + sin * y, sin, cos, h / 2 - sin * x - cos * y)
    return edits.Rotate(angle, width, height, matrix)


def inscribed(photo_size: Size, angle: float) -> Size:
    """Return the size of the largest upright rectangle inside a photo that is turned by ``angle`` degrees."""
    width, height = photo_size
    sin, cos = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    long, short = max(width, height), min(width, height)
    if short <= 2 * sin * cos * long or abs(sin - cos) < 1e-10:  # two corners on the long sides, the others free
        across, along = short / 2 / max(sin, 1e-12), short / 2 / max(cos, 1e-12)
        w, h = (across, along) if width >= height else (along, across)
    else:  # a corner on each side
        w, h = (width * cos - height * sin) / (cos**2 - sin**2), (height * cos - width * sin) / (cos**2 - sin**2)
    return max(1, int(w)), max(1, int(h))


def _draw_page_crop(page: Size, size: int, random: np.random.Generator) -> edits.Crop:
    """Draw a crop that keeps nearly all of a page, whatever its shape."""
    w, h = (max(1, round(side * random.uniform(*PAGE_SIDE))) for side in page)
    left, top = int(random.integers(page[0] - w + 1)), int(random.integers(page[1] - h + 1))
    return edits.Crop(top, left, h, w, size)


def _draw_overlay(
    settings: HardView, photo_size: Size, random: np.random.Generator, open_other: Callable[[], Image.Image]
) -> tuple[edits.Overlay, Size]:
    """Draw an overlay, and return it with the size of its result.

    As in AugLy's arithmetic, decimals are cut off and not rounded.
    """
    onto = bool(random.random() > 0.5)
    opacity = random.uniform(settings.overlay_opacity, 1)
    share = random.uniform(*settings.overlay_size)
    x, y = random.uniform(0, 1 - share), random.uniform(0, 1 - share)
    picture = open_other()
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    back, pasted = (picture.size, photo_size) if onto else (photo_size, picture.size)
    height = max(1, int(back[1] * share))
    width = max(1, int(pasted[0] * height / pasted[1]))
    return edits.Overlay(picture, onto, width, height, int(back[0] * x), int(back[1] * y), int(255 * opacity)), back


def _draw_page_kind(settings: HardView, random: np.random.Generator) -> Literal["parts", "frame"] | None:
    """Draw whether the photo lies on a page, and on which kind of page."""
    if settings.parts + settings.frame <= 0:
        return None
    value = random.random()
    if value < settings.parts:
        return "parts"
    return "frame" if value < settings.parts + settings.frame else None


def _draw_bend(random: np.random.Generator) -> edits.Bend:
    """Draw a lens (a radial bend), waves, or both."""
    kind = int(random.integers(3))
    radial = random.uniform(-BEND_RADIAL, BEND_RADIAL) if kind != 1 else 0.0
    swing = random.uniform(0.0, BEND_SWING) if kind != 0 else 0.0
    return edits.Bend(radial, swing, random.uniform(*BEND_RATES), random.uniform(0, 2 * math.pi))


def _draw_screen(size: int, random: np.random.Generator) -> edits.Screen:
    """Draw what a camera adds. The waves have 8 to 60 periods in the view, in any two directions."""

    def wave() -> tuple[float, float]:
        rate, angle = 2 * math.pi * _log_uniform(8, 60, random) / size, random.uniform(0, 2 * math.pi)
        return rate * math.cos(angle), rate * math.sin(angle)

    contrast = random.uniform(0.5, 1)
    return edits.Screen(
        contrast,
        random.uniform(0, 255 * (1 - contrast)),
        random.uniform(0, 35),
        (wave(), wave()),
        random.uniform(0, 120) if random.random() < 0.7 else 0.0,
        (random.random(), random.random()),
        random.uniform(0.2, 0.8),
    )


def _draw_jitter(strength: float, random: np.random.Generator) -> edits.Jitter:
    low, high = max(0.0, 1 - strength), 1 + strength
    order = tuple(int(i) for i in random.permutation(4))
    brightness, contrast, saturation = (float(factor) for factor in random.uniform(low, high, size=3))
    return edits.Jitter(order, brightness, contrast, saturation, random.uniform(-HUE, HUE))


def _draw_pixelize(size: int, random: np.random.Generator) -> edits.Pixelize:
    side = max(1, int(size * random.uniform(0.1, 1)))
    return edits.Pixelize(side, side)


def _draw_perspective(size: int, random: np.random.Generator) -> edits.Perspective:
    """Draw a perspective as torchvision's ``RandomPerspective`` does.

    Each corner moves inwards by up to a quarter of the side.
    """
    reach = int(PERSPECTIVE * (size // 2)) + 1
    near = random.integers(reach, size=(4, 2))
    last = size - 1
    start = np.array([(0, 0), (last, 0), (last, last), (0, last)], dtype=np.float64)
    end = np.abs(start - near)
    return edits.Perspective(perspective_matrix(start, end))


def _draw_text(size: int, random: np.random.Generator, artwork: Artwork) -> edits.Paste | None:
    """Draw one or two lines of 5 to 9 random characters, cut off at the edge of the view, in AugLy's arithmetic."""
    font = int(random.integers(max(1, len(artwork.fonts))))
    glyphs = artwork.glyphs(font)
    share = random.uniform(0.1, 0.3)
    colour = tuple(int(c) for c in random.integers(256, size=3))
    x, y = random.uniform(0, 0.5), random.uniform(0, 0.5)
    lines = []
    for i in range(int(random.integers(1, 3))):
        chosen = random.integers(len(glyphs), size=int(random.integers(5, 10)))
        lines.append((int((y + i * share) * size), "".join(chr(glyphs[c]) for c in chosen)))
    left, top = int(x * size), lines[0][0]
    shifted = [(line_top - top, text) for line_top, text in lines]
    patch = artwork.write(font, shifted, max(1, int(size * share)), colour, (size - left, size - top))
    return edits.Paste("text", patch, left, top) if patch.size else None


def _draw_emoji(size: int, random: np.random.Generator, artwork: Artwork) -> edits.Paste:
    which = int(random.integers(len(artwork.emoji)))
    height = max(1, int(size * random.uniform(0.1, 0.3)))
    x, y = random.uniform(size=2)
    return edits.Paste("emoji", artwork.draw_emoji(which, height), int(size * x), int(size * y))


def _draw_erase(size: int, random: np.random.Generator) -> edits.Erase | None:
    """Draw a rectangle as torchvision's ``RandomErasing`` does, or nothing if ten tries do not fit."""
    for _ in range(10):
        pixels = size * size * random.uniform(0.02, 0.33)
        ratio = _log_uniform(0.3, 3.3, random)
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < h < size and 0 < w < size:
            top, left = int(random.integers(size - h + 1)), int(random.integers(size - w + 1))
            return edits.Erase(top, left, h, w, int(random.integers(2**62)))
    return None
