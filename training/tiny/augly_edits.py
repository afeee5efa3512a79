"""The edits of the second held-out set: those of AugLy, the library that the challenge's own queries were made with.

    pip install augly        # MIT; with iopath, python-magic and regex, none of which the rest of isc-fast needs
    apt-get install libmagic1

None of AugLy's code is here; this module says which of its functions are called with which values, and draws them. AugLy 1.0.0
was written for Pillow 8 and numpy 1.19 and uses two names that later versions no longer have; `load_augly` gives them back to
AugLy's modules alone.

Where augly is installed, training takes its fonts and emoji too (see `isc_fast.training.views.artwork`). So train in another
environment than the one that has it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from ...errors import MissingExtraError

_WORDS = ("SO TRUE", "on my way", "WHY NOT", "best day ever", "no comment", "LOL", "who did this", "Monday again")


@dataclass(frozen=True)
class AugLy:
    """The library's functions for images, and the files that come with it.

    Attributes:
        functions: the module ``augly.image``.
        fonts, emoji, screenshots: the paths of its files, in a fixed order. A font has the list of its letters beside it.
    """

    functions: Any
    fonts: Sequence[str]
    emoji: Sequence[str]
    screenshots: Sequence[str]

    def edit(self, kind: str, photo: Image.Image, other: Image.Image, random: Random) -> Image.Image:
        """Make one edit of a kind in `AUGLY_EDITS`. The values are drawn; ``other`` is the photo for overlays."""
        drawn = {name: draw(random, self, other) for name, draw in AUGLY_EDITS[kind].items()}
        made: Image.Image = getattr(self.functions, kind)(photo, **drawn)
        return made.convert("RGB")


Draw = Callable[[Random, AugLy, Image.Image], Any]
"""A function (source of randomness, library, another photo) → the value of one parameter."""


def between(low: float, high: float) -> Draw:
    """Draw a number."""
    return lambda random, _augly, _other: random.uniform(low, high)


def whole(low: int, high: int) -> Draw:
    """Draw a whole number, both ends included."""
    return lambda random, _augly, _other: random.randint(low, high)


def one_of(*values: Any) -> Draw:
    """Draw one of some values."""
    return lambda random, _augly, _other: random.choice(values)


def another_photo(_random: Random, _augly: AugLy, other: Image.Image) -> Image.Image:
    return other


def a_font(random: Random, augly: AugLy, _other: Image.Image) -> str:
    return random.choice(augly.fonts)


def an_emoji(random: Random, augly: AugLy, _other: Image.Image) -> str:
    return random.choice(augly.emoji)


def a_screenshot(random: Random, augly: AugLy, _other: Image.Image) -> str:
    return random.choice(augly.screenshots)


def a_colour(random: Random, _augly: AugLy, _other: Image.Image) -> tuple[int, int, int]:
    return random.randrange(256), random.randrange(256), random.randrange(256)


def some_letters(random: Random, _augly: AugLy, _other: Image.Image) -> list[list[int]]:
    """Draw one or two lines of three to ten letters, as numbers of the font's letters."""
    return [[random.randrange(10_000) for _ in range(random.randint(3, 10))] for _ in range(random.randint(1, 2))]


_SEED = whole(0, 2**31 - 1)
AUGLY_EDITS: dict[str, dict[str, Draw]] = {
    "crop": {"x1": between(0, 0.25), "y1": between(0, 0.25), "x2": between(0.75, 1), "y2": between(0.75, 1)},
    "rotate": {"degrees": between(-40, 40)},
    "perspective_transform": {"sigma": between(10, 35), "seed": _SEED},
    "skew": {"skew_factor": between(-0.4, 0.4), "axis": one_of(0, 1)},
    "change_aspect_ratio": {"ratio": between(0.5, 2)},
    "scale": {"factor": between(0.25, 0.7)},
    "hflip": {},
    "vflip": {},
    "brightness": {"factor": between(0.5, 1.7)},
    "contrast": {"factor": between(0.4, 1.8)},
    "saturation": {"factor": between(0, 3)},
    "color_jitter": {name: between(0.5, 1.5) for name in ("brightness_factor", "contrast_factor", "saturation_factor")},
    "grayscale": {"mode": one_of("luminosity", "average")},
    "sharpen": {"factor": between(3, 15)},
    "blur": {"radius": between(1, 3)},
    "random_noise": {"var": between(0.005, 0.04), "seed": _SEED},
    "shuffle_pixels": {"factor": between(0.05, 0.2), "seed": _SEED},
    "overlay_stripes": {
        "line_width": between(0.1, 0.4), "line_color": a_colour, "line_angle": between(-90, 90),
        "line_density": between(0.5, 0.9), "line_type": one_of("dotted", "dashed", "solid"), "line_opacity": between(0.4, 1),
    },
    "overlay_emoji": {
        "emoji_path": an_emoji, "opacity": between(0.7, 1), "emoji_size": between(0.2, 0.6),
        "x_pos": between(0, 0.7), "y_pos": between(0, 0.6),
    },
    "overlay_image": {
        "overlay": another_photo, "opacity": between(0.7, 1), "overlay_size": between(0.3, 0.6),
        "x_pos": between(0, 0.6), "y_pos": between(0, 0.6),
    },
    "overlay_text": {
        "text": some_letters, "font_file": a_font, "font_size": between(0.1, 0.25), "opacity": between(0.6, 1),
        "color": a_colour, "x_pos": between(0, 0.4), "y_pos": between(0, 0.7),
    },
    "meme_format": {
        "text": one_of(*_WORDS), "caption_height": whole(50, 110), "meme_bg_color": one_of((255, 255, 255), (255, 240, 200)),
    },
    "pad": {"w_factor": between(0.05, 0.3), "h_factor": between(0.05, 0.3), "color": a_colour},
    "pad_square": {"color": a_colour},
    "overlay_onto_background_image": {
        "background_image": another_photo, "opacity": between(0.8, 1), "overlay_size": between(0.5, 0.75),
        "x_pos": between(0, 0.25), "y_pos": between(0, 0.25), "scale_bg": one_of(True),
    },
    "overlay_onto_screenshot": {"template_filepath": a_screenshot},
    "pixelization": {"ratio": between(0.2, 0.6)},
    "encoding_quality": {"quality": whole(5, 35)},
}  # fmt: skip
"""Every edit by the name of AugLy's function, with the range of each value; others keep AugLy's defaults. A query with
several edits gets them in this order: shape, look, what is put on top, layout, sharing. Left out are functions that take another
function or only resize, and ``opacity``, which changes no pixel of a picture without an alpha channel."""

LIMITS = (
    (frozenset(("overlay_onto_background_image", "overlay_onto_screenshot")), 1),  # the photo becomes small
    (frozenset(("scale", "blur", "pixelization")), 1),  # detail is lost
    (frozenset(("scale", "blur", "pixelization", "random_noise", "encoding_quality")), 2),
)
"""Groups of kinds, and how many of each group one query gets at most."""


class _Font(ImageFont.FreeTypeFont):
    """A font that can still measure several lines at once. It lays them out without Raqm, which not every machine has."""

    def __init__(self, font: str, size: float) -> None:
        super().__init__(font, size, layout_engine=ImageFont.Layout.BASIC)

    def getsize_multiline(self, text: str) -> tuple[int, int]:
        """Return width and height in pixels, as Pillow 8 did, with 4 pixels between lines."""
        boxes = [self.getbbox(line) for line in text.split("\n")]
        width = max(right - left for left, _, right, _ in boxes)
        return round(width), round(len(boxes) * (self.getbbox("A")[3] + 4) - 4)


def load_augly() -> AugLy:
    """Import AugLy.

    Raises:
        MissingExtraError: it is not installed, or does not import.
    """
    try:
        functions = importlib.import_module("augly.image")
        inner = importlib.import_module("augly.image.functional")
        sums = importlib.import_module("augly.image.utils.utils")
        places = importlib.import_module("augly.utils")
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"the edits of the second set are AugLy's, which does not import ({error}); "
            "run: pip install augly, and on Debian: apt-get install libmagic1"
        ) from error
    inner.ImageFont = SimpleNamespace(truetype=_Font)  # type: ignore[attr-defined]
    sums.np = SimpleNamespace(**{**vars(np), "float": float})  # type: ignore[attr-defined]

    def files(folder: str, pattern: str) -> list[str]:
        return sorted(str(path) for path in Path(folder).rglob(pattern))

    fonts = [font for font in files(places.FONTS_DIR, "*.ttf") if Path(font).with_suffix(".pkl").is_file()]
    return AugLy(functions, fonts, files(places.EMOJI_DIR, "*.png"), files(places.SCREENSHOT_TEMPLATES_DIR, "*.png"))
