"""Photos that are objects of their own at an address: fetching them ahead, and looking at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..items import Photo, Problem
from ..stores.ahead import Ahead, Begun
from ..stores.store import store_of
from ..stores.trouble import NoObject
from ..stores.urls import WEB, Meta, is_url, meta_of, split, without_stamp

FETCHES = 32
"""Requests at once, in each process. With an answer after 100 ms, they fetch 320 photos in a second."""
AHEAD_BYTES = 1 << 27
"""Bytes of photos that are fetched or lie ready, in each process. Each thread of the decoder has one photo more."""
MAX_OBJECT_BYTES = 1 << 28
_UNKNOWN_BYTES = 1 << 20  # of a photo whose size nobody has looked at

_AHEAD = Ahead(FETCHES, AHEAD_BYTES)


def open_object(path: str) -> Photo:
    """The photo of an object, by its path: its bytes, or the problem because of which there are none. Waits for them.

    Raises:
        StoreError: its store cannot be reached, or refuses: that is no fault of the photo.
    """
    url = without_stamp(path)
    base, key = split(url)
    try:
        content, meta = store_of(base).read(key, MAX_OBJECT_BYTES)
    except NoObject as error:
        return Problem("read", error.reason)
    if meta.size > MAX_OBJECT_BYTES:
        return Problem("read", f"the photo has {meta.size} bytes, limit {MAX_OBJECT_BYTES} in a bucket: download it")
    if is_web_page(url, meta):
        return Problem("read", f"the address gives a web page ({meta.kind}), not a photo")
    return content


def is_web_page(url: str, meta: Meta) -> bool:
    """Whether an address gives a page for people."""
    return url.partition("://")[0] in WEB and meta.kind.startswith(("text/html", "application/xhtml"))


def awaited(open_: Callable[[str], Photo], path: str) -> Begun:
    """Begin to fetch a photo whose bytes a store has.

    Args:
        open_: opens it, and waits for it.
        path: of the photo.
    """
    meta = meta_of(path) if is_url(path) else None
    return _AHEAD.begin(partial(open_, path), _UNKNOWN_BYTES if meta is None else meta.size)


def look_at(path: str) -> Meta | None:
    """What the store of a photo says of it; None where there is no such object.

    Raises:
        StoreError: the store cannot be reached.
    """
    base, key = split(without_stamp(path))
    try:
        return store_of(base).head(key)
    except NoObject:
        return None


def metas_of(paths: Sequence[str]) -> list[Meta | None]:
    """What is known of objects: what was seen when they were listed, or what their stores say now.

    Raises:
        StoreError: a store cannot be reached.
    """
    found = [meta_of(path) for path in paths]
    unseen = [place for place, meta in enumerate(found) if meta is None]
    if unseen:
        with ThreadPoolExecutor(min(FETCHES, len(unseen))) as threads:
            for place, meta in zip(unseen, threads.map(look_at, [paths[place] for place in unseen]), strict=True):
                found[place] = meta
    return found
