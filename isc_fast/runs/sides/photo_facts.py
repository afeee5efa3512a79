"""What is known of photos beside their descriptors: size, age, and which of them are equal. It decides who stays."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ...decoders.contents import content_digest
from ...decoders.opening import ImageProblem, open_image, open_photo, problems, upright_size
from ...decoders.rules import load_rgb
from ...errors import InputError
from ...items import Ints, Photo
from ...machine.cores import available_cores
from ...sources.objects import metas_of
from ...stores.urls import is_url


@dataclass(frozen=True)
class PhotoFacts:
    """What a photo's file says.

    Attributes:
        bytes: of its file; 0 if it cannot be read.
        width, height: upright, by its header; 0 if nothing can be read there, or if nobody asked for them.
        modified: when its file, or its object in a bucket, was changed last, in seconds since 1970; None for a photo in a
            container.
        file: device and number of its file, the same for two names of one file; None for a photo without one.
    """

    bytes: int = 0
    width: int = 0
    height: int = 0
    modified: float | None = None
    file: tuple[int, int] | None = None

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read_facts(photos: Sequence[Photo], paths: Sequence[str], *, headers: bool) -> list[PhotoFacts]:
    """Look at photos, without decoding them.

    Args:
        photos: of any kind.
        paths: of their items.
        headers: whether their headers are read too, for width and height.

    Raises:
        StoreError: the store of a photo cannot be reached.
    """
    with ThreadPoolExecutor(4 * available_cores(), thread_name_prefix="decode") as threads:
        return list(threads.map(lambda photo, path: _facts(photo, path, headers), photos, paths))


def _facts(photo: Photo, path: str, headers: bool) -> PhotoFacts:
    size, modified, file = 0, None, None
    if is_url(path):
        meta = metas_of([path])[0]
        if meta is None:
            return PhotoFacts()
        size, modified = meta.size, meta.modified_ns / 1e9 if meta.modified_ns else None
        if not headers:
            return PhotoFacts(size, modified=modified)
    if isinstance(photo, str):
        try:
            status = os.stat(photo)
        except (OSError, ValueError):
            return PhotoFacts()
        size, modified, file = status.st_size, status.st_mtime, (status.st_dev, status.st_ino)
        if not headers:
            return PhotoFacts(size, modified=modified, file=file)
    try:
        with open_photo(photo) as stream:
            if file is None:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
            width, height = _size(stream) if headers else (0, 0)
    except (ImageProblem, OSError):
        width = height = 0
    return PhotoFacts(size, width, height, modified, file)


def _size(stream: Any) -> tuple[int, int]:
    with problems():
        return upright_size(open_image(stream))


_LATEST = float("inf")

ORDERS: dict[str, Callable[[PhotoFacts], tuple[float, ...]]] = {
    "largest": lambda facts: (-facts.pixels, -facts.bytes),
    "oldest": lambda facts: (_LATEST if facts.modified is None else facts.modified,),
    "newest": lambda facts: (_LATEST if facts.modified is None else -facts.modified,),
    "best-quality": lambda facts: (-facts.bytes / max(1, facts.pixels), -facts.pixels),
    "first": lambda facts: (),
}
"""What makes one photo stay rather than another: a lower key. Equal ones stay in the order in which they were given.

``best-quality`` is the file with most bytes for each pixel, the one that was compressed least. It takes a small original for
better than a large photo that was saved coarsely, and cannot know that a PNG was made from a JPEG.
"""

NEEDS_HEADERS = ("largest", "best-quality")


def check_order(keep: str) -> None:
    """See that there is such an order.

    Raises:
        InputError: there is none.
    """
    if keep not in ORDERS:
        raise InputError(f"there is no rule {keep!r} for what to keep; choose one of {', '.join(ORDERS)}")


def order_of(count: int, rows: Ints, facts: Sequence[PhotoFacts], keep: str) -> Ints:
    """All row numbers, the most preferred first ``(count,)``; rows of which nothing is known come last.

    Args:
        count: of all rows.
        rows: those of which something is known, rising ``(m,)``.
        facts: of these.
        keep: one of `ORDERS`.
    """
    rank = ORDERS[keep]
    preferred = sorted(range(len(rows)), key=lambda place: (*rank(facts[place]), place))
    others = np.ones(count, bool)
    others[rows] = False
    return np.concatenate([rows[np.array(preferred, np.int64)], np.flatnonzero(others)])


@dataclass(frozen=True)
class Sameness:
    """Which photos are equal: numbers that two rows share where their files, or their decoded pixels, are the same.

    Attributes:
        file, pixels: ``(n,)``.
    """

    file: Ints
    pixels: Ints

    def kinds(self, first: Ints, second: Ints) -> list[str]:
        """For each pair of rows: ``"file"``, ``"pixels"`` or ``"near"``."""
        found = np.full(len(first), "near", dtype=object)
        found[self.pixels[first] == self.pixels[second]] = "pixels"
        found[self.file[first] == self.file[second]] = "file"
        kinds: list[str] = found.tolist()
        return kinds


def find_equal(count: int, rows: Ints, photos: Mapping[int, Photo], facts: Mapping[int, PhotoFacts]) -> Sameness:
    """Find which photos have equal files, and which of the others have equal pixels.

    Files are compared by size, then by content (SHA-256); pixels by width and height, then as they are decoded:
    upright RGB, so that a PNG and a BMP of one picture are equal.

    Args:
        count: of all rows.
        rows: those that are looked at ``(m,)``; the others are equal to none.
        photos, facts: of these rows; the facts with headers.
    """
    file = np.arange(count)
    _give_number(file, _shared(rows.tolist(), lambda row: facts[row].bytes), lambda row: content_digest(photos[row]))
    pixels = file.copy()
    one_a_file = [row for row in rows.tolist() if file[row] == row and facts[row].pixels]
    _give_number(
        pixels, _shared(one_a_file, lambda row: (facts[row].width, facts[row].height)), lambda row: _pixels(photos[row])
    )
    return Sameness(file, pixels[file])


def _shared(rows: Iterable[int], key: Callable[[int], Any]) -> list[int]:
    """The rows whose key another row has too."""
    groups = defaultdict[Any, list[int]](list)
    for row in rows:
        groups[key(row)].append(row)
    return sorted(row for group in groups.values() if len(group) > 1 for row in group)


def _give_number(numbers: Ints, rows: Sequence[int], digest: Callable[[int], bytes | None]) -> None:
    """Let rows of one digest have the number of the first of them."""
    first: dict[bytes, int] = {}
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="decode") as threads:
        for row, found in zip(rows, threads.map(digest, rows), strict=True):
            if found is not None:
                numbers[row] = first.setdefault(found, row)


def _pixels(photo: Photo) -> bytes | None:
    try:
        image = load_rgb(photo)
    except ImageProblem:
        return None
    return blake2b(repr(image.size).encode() + image.tobytes(), digest_size=32).digest()
