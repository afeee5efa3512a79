"""Opens photos for training, and replaces a photo that cannot be read by another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from ...decoders.opening import ImageProblem, open_image, open_photo, problems, upright_size
from ...decoders.rules import load_rgb
from ...errors import InputError
from ...items import Item, Photo
from ...sources.listing import open_item

_TRIES = 50  # if so many draws in a row cannot be read, the run ends


@dataclass(frozen=True)
class OpenPhoto:
    """One photo, either decoded or as the content of its file.

    Attributes:
        item: the item of the photo.
        size: its (width, height) in pixels, upright.
        image: the decoded photo in RGB, or None if only the content was read.
        file: the content of the file. It is empty if the photo was decoded.
    """

    item: Item
    size: tuple[int, int]
    image: Image.Image | None = None
    file: bytes = b""


def _decoded(item: Item, photo: Photo) -> OpenPhoto:
    image = load_rgb(photo)
    return OpenPhoto(item, image.size, image)


def _content(item: Item, photo: Photo) -> OpenPhoto:
    """Read the content of a photo, and its size from the header, which is enough to draw the recipe of a view.

    Only the device finds out whether the pixels can be decoded.
    """
    with problems(), open_photo(photo) as stream:
        header = open_image(stream)
        size = upright_size(header)
        stream.seek(0)
        return OpenPhoto(item, size, file=stream.read())


class PhotoReader:
    """Opens photos, and remembers which of them it could not read.

    Args:
        decoded: whether to decode photos. Otherwise only their content is read.
        open_photo: a function that returns the photo of an item. The default opens items of `isc_fast.list_images`.

    Attributes:
        skipped: the path and the reason for each photo that could not be read.
    """

    def __init__(self, *, decoded: bool = True, open_photo: Callable[[Item], Photo] = open_item) -> None:
        self._read, self._open = (_decoded if decoded else _content), open_photo
        self.skipped: list[tuple[str, str]] = []

    def open(self, items: Sequence[Item]) -> list[OpenPhoto] | None:
        """Open the photos of a sample. Return None if one of them cannot be read."""
        photos = []
        for item in items:
            try:
                photos.append(self._read(item, partial(self._open, item)))
            except ImageProblem as error:
                self.skipped.append((item.path, error.problem.reason))
                return None
        return photos

    def draw(self, random: np.random.Generator, among: Sequence[tuple[Item, ...]]) -> tuple[int, list[OpenPhoto]]:
        """Draw samples until one can be read, and return its place and its photos.

        Args:
            random: the source of the random numbers.
            among: the samples to draw from.

        Raises:
            InputError: 50 samples in a row could not be read, so the cause is probably not a single photo.
        """
        for _ in range(_TRIES):
            place = int(random.integers(len(among)))
            photos = self.open(among[place])
            if photos is not None:
                return place, photos
        path, reason = self.skipped[-1]
        raise InputError(
            f"{_TRIES} images in a row could not be read, the last one {path}: {reason}; check that the data set is complete"
        )

    def draw_image(self, random: np.random.Generator, among: Sequence[tuple[Item, ...]]) -> tuple[int, Image.Image]:
        """Draw a photo in the same way as `draw`, and return its place and the decoded photo."""
        reader = PhotoReader(open_photo=self._open)
        place, (photo,) = reader.draw(random, among)
        self.skipped += reader.skipped
        assert photo.image is not None
        return place, photo.image
