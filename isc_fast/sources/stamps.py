"""When a photo was last changed: what tells a photo from another one that took its name."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ..items import Ints, Problem
from ..stores.urls import Meta, is_url
from .containers import place_of
from .objects import metas_of

UNKNOWN = (-1, 0)
"""The stamp of a photo that cannot be looked at. It equals no other, not even another unknown one: see `same`."""


def stamp_of(path: str) -> tuple[int, int]:
    """The size of a photo's file in bytes, and the time of its last change in nanoseconds; `UNKNOWN` if there is none.

    A photo in a container has the stamp of the container, as it was when it was listed. The stamp of an object at an address is
    its size and its tag, or else its time; where nobody has looked, its store is asked.

    Raises:
        StoreError: a store was asked, and cannot be reached.
    """
    if is_url(path):
        return _of_object(metas_of([path])[0])
    if "://" in path:
        place = place_of(path)
        return UNKNOWN if isinstance(place, Problem) else place.stamp
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a ValueError: the path holds a zero byte
        return UNKNOWN
    return status.st_size, status.st_mtime_ns


def stamps_of(paths: Sequence[str]) -> Ints:
    """The stamps of photos: ``int64 (n, 2)``, size and time.

    Raises:
        StoreError: as `stamp_of`.
    """
    objects = [path for path in paths if is_url(path)]
    seen = iter(metas_of(objects))
    stamps = [_of_object(next(seen)) if is_url(path) else stamp_of(path) for path in paths]
    return np.array(stamps, np.int64).reshape(len(paths), 2)


def _of_object(meta: Meta | None) -> tuple[int, int]:
    return UNKNOWN if meta is None else meta.stamp


def unknown(count: int) -> Ints:
    """The stamps of photos that nobody looked at: ``int64 (count, 2)``, not to be written to."""
    return np.broadcast_to(np.array(UNKNOWN, np.int64), (count, 2))


def same(stamps: Ints, others: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which photos are as they were: ``bool (n,)``. An unknown stamp says that nobody knows, so such a photo is not."""
    return np.asarray((stamps == others).all(axis=1) & (stamps[:, 0] >= 0))
