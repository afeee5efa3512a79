"""Buckets, and single addresses, as inputs: ``s3://bucket/photos/``, ``https://host/a.jpg``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from ..errors import InputError
from ..stores.store import store_of
from ..stores.trouble import NoObject
from ..stores.urls import BUCKETS, WEB, Meta, is_url, join, path_of, split
from .base import Entry, Kind
from .choice import Choice, Sieve
from .folders import is_image_name
from .objects import is_web_page, open_object
from .sniffing import HEAD_BYTES, is_image_head


def _below(root: str, choice: Choice) -> Iterator[Entry | None]:
    """The objects under a prefix."""
    base, prefix = split(root)
    sieve, some = Sieve(choice), False
    for block in store_of(base).list(prefix):
        for meta in block:
            name = meta.key[len(prefix) :].lstrip("/")
            if not name:
                continue  # what stands for an empty folder
            some = True
            pattern = sieve.excluded_member(name)
            if pattern is not None:
                yield name, "", pattern
            elif sieve.included(name) and (is_image_name(name) or (choice.sniff and _is_image(base, meta))):
                yield name, path_of(base, meta), ""
            else:
                yield name, "", ""
    if not some:
        raise InputError(_nothing_below(base, prefix))


def _is_image(base: str, meta: Meta) -> bool:
    """Whether an object begins as an image does: one request for each."""
    try:
        return meta.size > 0 and is_image_head(store_of(base).read_range(meta.key, 0, min(HEAD_BYTES, meta.size))[0])
    except NoObject:
        return False


def _nothing_below(base: str, prefix: str) -> str:
    """Why a prefix gives nothing: it may be the name of an object."""
    if not prefix:
        return f"the bucket {base} is empty"
    try:
        store_of(base).head(prefix)
    except NoObject:
        return f"there is no object under {join(base, prefix)}/; to see what there is: {_list_command(base)}"
    return f"{join(base, prefix)} is an object, and its name is not an image's, a list's or a container's; rename it"


def _list_command(base: str) -> str:
    scheme, _, name = base.partition("://")
    commands = {"gs": f"gcloud storage ls {base}", "az": f"az storage blob list -c {name} -o table"}
    return commands.get(scheme, f"aws s3 ls {base}")


def _one_object(url: str, _choice: Choice) -> Iterator[Entry | None]:
    """A single photo at an address.

    Raises:
        NoObject: there is none.
        InputError: it is a web page.
        StoreError: its store cannot be reached.
    """
    base, key = split(url)
    meta = store_of(base).head(key, first=True)
    if is_web_page(url, meta):
        raise InputError(f"{url} is a web page ({meta.kind}), not a photo; give the address of the photo itself")
    yield os.path.basename(key) or "index", path_of(base, meta), ""


def _web(url: str, choice: Choice) -> Iterator[Entry | None]:
    """An address on the web whose name says nothing: it is a photo if its server says so."""
    base, key = split(url)
    meta = store_of(base).head(key, first=True)
    if not is_web_page(url, meta) and not meta.kind.startswith("image/"):
        raise InputError(
            f"{url} is {meta.kind or 'of no known kind'}; expected a photo, or a list or container by its name. What a web "
            "server has cannot be listed"
        )
    yield from _one_object(url, choice)


def check_address(url: str) -> None:
    """See that there is something at an address.

    Raises:
        InputError: there is not.
        StoreError: its store cannot be reached, or refuses.
    """
    base, key = split(url)
    if base.partition("://")[0] in WEB:
        store_of(base).head(key, first=True)
    elif not any(store_of(base).list(key)):
        try:
            store_of(base).head(key)
        except NoObject as error:
            raise InputError(_nothing_below(base, key)) from error


def _takes(scheme: str, name: str) -> bool:
    return is_url(name) and name.startswith(f"{scheme}://")


def _is_photo(name: str) -> bool:
    return is_url(name) and is_image_name(name)


PHOTO = Kind("an image at an address", _is_photo, _one_object, remote=True)
REMOTE: tuple[Kind, ...] = (
    *(
        Kind(
            f"a bucket or a prefix of {service} ({scheme}://)",
            partial(_takes, scheme),
            _below,
            True,
            scheme,
            open_object,
            remote=True,
        )
        for scheme, service in BUCKETS.items()
    ),
    *(
        Kind(f"an address ({scheme}://)", partial(_takes, scheme), _web, False, scheme, open_object, remote=True)
        for scheme in WEB
    ),
)
"""One kind for each scheme. They take what the other kinds do not take by its name."""
