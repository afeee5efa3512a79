"""The small pictures of a page: made beside each other, each once, until the page is as large as it may be."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ..decoders.opening import ImageProblem
from ..decoders.rules import load_rgb
from ..items import Photo
from ..machine.cores import available_cores
from .pairs import Pair

Photos = Mapping[Any, Photo]
"""Photos by id; or by name of the collection and id, see `isc_fast.review.pairs.Pair.left_key`."""

Tell = Callable[[int, int, int], None]

_SIZES = ((150, 640), (600, 448), (2000, 288))
_SMALLEST = 208
"""Pixels of the longer side: up to 150 photos 640, and so on; of more than 2,000 photos 208."""

_QUALITY = 80
_AT_ONCE = 64  # pairs
_PAIR_BYTES = 120  # of a pair beside its ids
_PLACED_BYTES = 130  # of how its photos lie in each other, where that is known


@dataclass
class Pictures:
    """Photos of a page, in the order in which they were met.

    Attributes:
        ids: of the photos, as a page has them.
        at, size: where the picture of each begins in ``text``, and its characters; 0 characters where there is no picture.
        text: the pictures one after the other, each a JPEG in base64.
        numbers: of each photo, by side and key.
        bytes: about how large all this is on the page.
    """

    ids: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    numbers: dict[tuple[int, Hashable], int] = field(default_factory=dict)
    bytes: int = 0
    _length: int = 0

    def add(self, side: int, key: Hashable, id_: str, picture: str) -> None:
        """Take in a photo with its picture, an empty text where there is none."""
        self.numbers[side, key] = len(self.ids)
        self.ids.append(id_)
        self.at.append(self._length)
        self.size.append(len(picture))
        self.text.append(picture)
        self._length += len(picture)
        self.bytes += _cost(id_, picture)


def _cost(id_: str, picture: str) -> int:
    return len(picture) + len(json.dumps(id_)) + 16


def _picture(photo: Photo | None, longest: int) -> str:
    """A small upright picture as base64 of a JPEG; an empty text if there is none."""
    if photo is None:
        return ""
    try:
        image = load_rgb(photo, longest)
    except ImageProblem:
        return ""
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return base64.b64encode(out.getvalue()).decode("ascii")


def make_pictures(
    pairs: Sequence[Pair], left: Photos, right: Photos, most_bytes: int, progress: Tell | None = None
) -> tuple[Pictures, int]:
    """Make the pictures of pairs, in their order, as long as they fit.

    Args:
        pairs: the most wanted first.
        left, right: the photos of both sides; the same object where both sides are one collection.
        most_bytes: how large pictures and pairs may be together on the page.
        progress: is told how many pairs are done, how many there are, and 0.

    Returns:
        the pictures, and how many pairs fit.
    """
    made, sides = Pictures(), (left, left if left is right else right)
    second = 0 if left is right else 1
    keys = [((0, pair.left_key, pair.left), (second, pair.right, pair.right)) for pair in pairs]
    count = len({key[:2] for both in keys for key in both})
    longest = next((size for most, size in _SIZES if count <= most), _SMALLEST)
    if progress:
        progress(0, len(keys), 0)
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="page") as threads:
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            new = {key[:2]: None for both in some for key in both if key[:2] not in made.numbers}
            photos = [sides[side].get(key) for side, key in new]
            found = dict(zip(new, threads.map(lambda photo: _picture(photo, longest), photos), strict=True))
            for number, both in enumerate(some, start):
                missing = {key[:2]: key[2] for key in both if key[:2] not in made.numbers}
                its = _PAIR_BYTES + (_PLACED_BYTES if pairs[number].placement else 0)
                more = its + sum(_cost(id_, found[key]) for key, id_ in missing.items())
                if made.bytes + more > most_bytes:
                    return made, number
                made.bytes += its
                for (side, key), id_ in missing.items():
                    made.add(side, key, id_, found[side, key])
            if progress:
                progress(min(start + _AT_ONCE, len(keys)), len(keys), 0)
    return made, len(keys)


def place_of(made: Pictures, pair: Pair, *, one_side: bool) -> tuple[int, int]:
    """The numbers of a pair's two photos."""
    return made.numbers[0, pair.left_key], made.numbers[0 if one_side else 1, pair.right]
