"""The photos that engines are verified, calibrated and measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..decoders.opening import ImageProblem
from ..decoders.preprocessing import Preprocessing
from ..decoders.rules import prepare
from ..errors import InputError
from ..evaluation.copies import open_shrunk
from ..items import Pixels

_CALIBRATION_PHOTOS = 24


@dataclass(frozen=True)
class Photos:
    """The photos that calibrate an engine, and those that measure it; no photo is among both."""

    calibration: Sequence[Path]
    held_out: Sequence[Path]


def split_photos(photos: Sequence[Path]) -> Photos:
    """Take every second photo for calibration (24 at most) and the others for the gate.

    Raises:
        InputError: there are fewer than sixteen.
    """
    if len(photos) < 16:
        raise InputError(
            f"{len(photos)} photos are too few to calibrate and measure with; expected at least 16, better 60: --photos FOLDER"
        )
    return Photos(list(photos[::2])[:_CALIBRATION_PHOTOS], list(photos[1::2]))


def open_to_edit(path: Path, longest_side: int) -> Image.Image:
    """A photo that is to be edited, shrunk to a longest side in pixels.

    Raises:
        InputError: it cannot be decoded; its path is named.
    """
    try:
        return open_shrunk(str(path), longest_side)
    except ImageProblem as error:
        raise InputError(f"the photo {path} cannot be used to measure the engine: {error}") from error


def load_photos(paths: Sequence[Path], preprocessing: Preprocessing) -> Pixels:
    """Decode photos into an engine's input ``uint8 (n, height, width, 3)``.

    Raises:
        InputError: a photo cannot be decoded; its path is named.
    """
    pixels = np.empty((len(paths), preprocessing.height, preprocessing.width, 3), np.uint8)
    for i, path in enumerate(paths):
        try:
            pixels[i] = prepare(str(path), preprocessing)
        except ImageProblem as error:
            raise InputError(f"the photo {path} cannot be used to verify the engine: {error}") from error
    return pixels
