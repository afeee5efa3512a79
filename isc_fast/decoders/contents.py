"""The bytes of photos as digests, so that photos are compared without being decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np

from ..files.digests import DIGEST_BYTES, Digests
from ..items import Item, Photo
from ..machine.cores import available_cores
from .opening import ImageProblem, open_photo

_READ_BYTES = 1 << 20


def content_digest(photo: Photo) -> bytes | None:
    """The SHA-256 of a photo's bytes; None if it cannot be read."""
    made = sha256()
    try:
        with open_photo(photo) as stream:
            while block := stream.read(_READ_BYTES):
                made.update(block)
    except (ImageProblem, OSError):
        return None
    return made.digest()


def digests_of(items: Sequence[Item], photo_of: Callable[[Item], Photo]) -> Digests:
    """The digests of images ``(n, 16)``, unknown where one cannot be read. Every photo is read from its first to its last byte.

    Args:
        items: the images.
        photo_of: gives the photo of an image; several threads call it.
    """

    def digest(item: Item) -> bytes:
        # a function, so that what a source raises is a photo that cannot be read
        return (content_digest(lambda: photo_of(item)) or bytes(DIGEST_BYTES))[:DIGEST_BYTES]

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="decode") as threads:
        found = b"".join(threads.map(digest, items))
    return np.frombuffer(found, np.uint8).reshape(len(items), DIGEST_BYTES)
