"""Photos for training: opened, and replaced by others where they cannot be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...decoders.rules import MAX_PIXELS, ImageProblem, load_rgb, orientation
from ...errors import InputError
from ...items import Item

_TRIES = 50  # draws in a row that cannot be read before the run gives up


@dataclass(frozen=True)
class Photo:
    """One photo, decoded or as it lies on the disk.

    Attributes:
        size: (width, height) in pixels, upright.
        image: decoded, RGB; None where only the bytes were read.
        file: the bytes; empty where it was decoded.
    """

    item: Item
    size: tuple[int, int]
    image: Image.Image | None = None
    file: bytes = b""


def _bytes_and_size(item: Item) -> Photo:
    """Read a file and its header: enough to draw a view's plan; whether the rest decodes shows on the device."""
    try:
        with open(item.path, "rb") as stream:
            data = stream.read()
        header = Image.open(io.BytesIO(data))
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged data
        raise ImageProblem("read", " ".join(str(error).split())[:200] or type(error).__name__) from error
    width, height = header.size
    if width * height > MAX_PIXELS:
        raise ImageProblem("decode", f"decompression bomb: {width} × {height} pixels, limit {MAX_PIXELS}")
    return Photo(item, (height, width) if orientation(header) >= 5 else (width, height), file=data)


class PhotoReader:
    """Opens photos, and remembers which could not be read.

    Args:
        decoded: whether photos are decoded, or their bytes only read.

    Attributes:
        skipped: (path, reason) of each photo that could not be read.
    """

    def __init__(self, *, decoded: bool = True) -> None:
        self._decoded = decoded
        self.skipped: list[tuple[str, str]] = []

    def open(self, items: Sequence[Item]) -> list[Photo] | None:
        """The photos of a sample, or None where one of them cannot be read."""
        photos = []
        for item in items:
            try:
                if self._decoded:
                    image = load_rgb(item.path)
                    photos.append(Photo(item, image.size, image))
                else:
                    photos.append(_bytes_and_size(item))
            except ImageProblem as problem:
                self.skipped.append((item.path, problem.problem.reason))
                return None
        return photos

    def draw(self, random: np.random.Generator, among: Sequence[tuple[Item, ...]]) -> tuple[int, list[Photo]]:
        """Draw until one can be read; returns its place and its photos.

        Raises:
            InputError: so many in a row could not be read that something else must be wrong.
        """
        for _ in range(_TRIES):
            place = int(random.integers(len(among)))
            photos = self.open(among[place])
            if photos is not None:
                return place, photos
        path, reason = self.skipped[-1]
        raise InputError(f"{_TRIES} images in a row could not be read, the last one {path}: {reason}")

    def draw_image(self, random: np.random.Generator, among: Sequence[tuple[Item, ...]]) -> Image.Image:
        """A decoded photo, drawn as by `draw`."""
        reader = PhotoReader()
        _, (photo,) = reader.draw(random, among)
        self.skipped += reader.skipped
        assert photo.image is not None
        return photo.image
