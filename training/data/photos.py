"""Photos for training: they are opened, and replaced by others where they cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from ...decoders.opening import ImageProblem, open_image, open_photo, orientation, problems
from ...decoders.rules import load_rgb
from ...errors import InputError
from ...items import Item, Photo
from ...sources.listing import open_item

_TRIES = 50  # draws in a row that cannot be read before the run ends


@dataclass(frozen=True)
class OpenPhoto:
    """One photo, decoded or as the content of its file.

    Attributes:
        size: (width, height) in pixels, upright.
        image: decoded, RGB; None where only the content was read.
        file: the content; empty where the photo was decoded.
    """

    item: Item
    size: tuple[int, int]
    image: Image.Image | None = None
    file: bytes = b""


def _decoded(item: Item, photo: Photo) -> OpenPhoto:
    image = load_rgb(photo)
    return OpenPhoto(item, image.size, image)


def _content(item: Item, photo: Photo) -> OpenPhoto:
    """Read a photo and its header, which is enough to draw a view's recipe. Whether the rest decodes shows on the device."""
    with problems(), open_photo(photo) as stream:
        header = open_image(stream)
        width, height = header.size
        size = (height, width) if orientation(header) >= 5 else (width, height)
        stream.seek(0)
        return OpenPhoto(item, size, file=stream.read())


class PhotoReader:
    """Opens photos, and remembers which of them it could not read.

    Args:
        decoded: whether photos are decoded, or only their content is read.
        open_photo: gives the photo of an item; by default items are those of `isc_fast.list_images`.

    Attributes:
        skipped: (path, reason) of each photo that could not be read.
    """

    def __init__(self, *, decoded: bool = True, open_photo: Callable[[Item], Photo] = open_item) -> None:
        self._read, self._open = (_decoded if decoded else _content), open_photo
        self.skipped: list[tuple[str, str]] = []

    def open(self, items: Sequence[Item]) -> list[OpenPhoto] | None:
        """The photos of a sample, or None where one of them cannot be read."""
        photos = []
        for item in items:
            try:
                photos.append(self._read(item, partial(self._open, item)))
            except ImageProblem as error:
                self.skipped.append((item.path, error.problem.reason))
                return None
        return photos

    def draw(self, random: np.random.Generator, among: Sequence[tuple[Item, ...]]) -> tuple[int, list[OpenPhoto]]:
        """Draw until a sample can be read, and return its place and its photos.

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
        reader = PhotoReader(open_photo=self._open)
        _, (photo,) = reader.draw(random, among)
        self.skipped += reader.skipped
        assert photo.image is not None
        return photo.image
