"""The one door to object stores and web servers: list, look at, read and create objects.

Every call is repeated here and not by the library, which repeats neither a listing that is cut short, nor a body, nor a create
whose answer was lost. The first contact is short, so that a dead address costs seconds.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..errors import IscFastError, require
from .profiles import profile_options
from .trouble import CutError, NoObject, endpoint_of, trouble_of
from .urls import WEB, Meta, join

T = TypeVar("T")

TRIES = 12
"""Of a call: with the pauses between them, a store may be busy for half a minute."""
PATIENCE_S = 180.0
"""No try begins later than this after the first."""
FIRST_TRIES, FIRST_PATIENCE_S = 3, 3.0
"""The same for the first contact."""
_STORES = 64
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 6.0
_TIMES = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "300s"}
_FIRST_TIMES = {"connect_timeout": "2s", "read_timeout": "6s", "timeout": "6s"}


@functools.lru_cache(_STORES)
def store_of(base: str) -> Store:
    """The store of a bucket or a server, ``s3://bucket`` or ``https://host``; those that were used last stay open.

    Raises:
        MissingExtraError: obstore is not installed.
        StoreError: the profile that the environment names has no keys.
    """
    return Store(base)


class Store:
    """One bucket, or one web server. Several threads may use it.

    Credentials come from the environment, or from the files of the services' own tools, and stay in the library.

    Args:
        base: ``s3://bucket``, ``gs://bucket``, ``az://container`` or ``https://host``.

    Raises:
        MissingExtraError: obstore is not installed.
        StoreError: the credentials cannot be used: the profile that the environment names has no keys, there is no account.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._library: Any = require("obstore", "remote")
        try:
            self._patient, self._brisk = _opened(base, _TIMES), _opened(base, _FIRST_TIMES)
        except IscFastError:
            raise
        except Exception as error:  # the library's; it looks at credentials that it will not use yet
            raise trouble_of(error, base, base).error from None
        self._met = False  # whether it has answered once
        self._gave_up = 0.0  # when a call last failed after all its tries: others that wait end too

    def __repr__(self) -> str:
        return f"Store({self.base!r})"

    def list(self, prefix: str) -> Iterator[Sequence[Meta]]:
        """Yield the objects under a prefix, a folder's name, in blocks.

        Raises:
            StoreError: the bucket cannot be listed.
            InputError: an object has a name that cannot be asked for.
        """
        last: str | None = None
        pages: Iterator[Any] | None = None

        def block() -> Sequence[Meta]:
            nonlocal pages
            if pages is None:  # at first, and after a fault, from behind the last object
                pages = iter(self._client(first=last is None).list(prefix or None, offset=last, chunk_size=1000))
            try:
                return [_meta(one) for one in next(pages, ())]
            except BaseException:
                pages = None
                raise

        while found := self._patiently(block, join(self.base, prefix), first=last is None):
            yield found
            last = found[-1].key

    def head(self, key: str, *, first: bool = False) -> Meta:
        """Look at an object.

        Args:
            key: its name.
            first: this is the first contact.

        Raises:
            NoObject: there is no such object.
            StoreError: the store cannot be reached or refuses.
        """

        def look() -> Meta:
            answer = self._client(first).get(key, options={"head": True})  # unlike head(), it says the media type
            return _meta(answer.meta, dict(answer.attributes))

        return self._patiently(look, join(self.base, key), first=first)

    def read(self, key: str, most: int) -> tuple[bytes, Meta]:
        """Read a whole object.

        Args:
            key: its name.
            most: of a larger object nothing is read, and the bytes are empty.

        Raises:
            NoObject: there is no such object, or its content is cut short at each try.
            StoreError: the store cannot be reached or refuses.
        """

        def fetch() -> tuple[bytes, Meta]:
            answer = self._patient.get(key)
            meta = _meta(answer.meta, dict(answer.attributes))
            return (_body(answer, meta.size) if meta.size <= most else b""), meta

        return self._patiently(fetch, join(self.base, key))

    def read_range(self, key: str, start: int, stop: int) -> tuple[bytes, Meta]:
        """Read the bytes of an object from ``start`` to ``stop``, which must lie in it.

        Raises:
            NoObject, StoreError: as `read`.
        """

        def fetch() -> tuple[bytes, Meta]:
            answer = self._patient.get(key, options={"range": (start, stop)})
            return _body(answer, stop - start), _meta(answer.meta)

        return self._patiently(fetch, join(self.base, key))

    def create(self, key: str, content: bytes) -> bool:
        """Create an object, unless there is one of that name already. It appears whole or not at all.

        Returns:
            whether the object is the one that was given: also where it was there already with the same bytes, as after an answer
            that was lost.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """

        def put() -> bool:
            try:
                self._patient.put(key, content, mode="create", use_multipart=False, attributes=_kind_of(key))
                return True
            except self._library.exceptions.AlreadyExistsError:
                # A conflict with another writer says the same, though nothing may be there: then this is tried again.
                answer = self._patient.get(key)
                return bool(answer.meta["size"] == len(content) and _body(answer, len(content)) == content)

        return self._patiently(put, join(self.base, key), missing_passes=True, doing="create")

    def remove(self, key: str) -> None:
        """Remove an object; one that is not there is removed already.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        with contextlib.suppress(NoObject):
            self._patiently(lambda: self._patient.delete(key), join(self.base, key), doing="remove")

    def _client(self, first: bool) -> Any:
        return self._brisk if first and not self._met else self._patient

    def _patiently(
        self,
        call: Callable[[], T],
        url: str,
        *,
        first: bool = False,
        missing_passes: bool = False,
        doing: str = "read",
    ) -> T:
        """Call until it succeeds, or will not."""
        began = time.monotonic()
        tries, patience_s = (FIRST_TRIES, FIRST_PATIENCE_S) if first and not self._met else (TRIES, PATIENCE_S)
        pause_s, number = _PAUSE_S, 0
        while True:
            number += 1
            try:
                made = call()
                self._met = True
                return made
            except Exception as error:
                trouble = trouble_of(error, self.base, url, doing)
            passes = trouble.passes or (missing_passes and isinstance(trouble.error, NoObject))
            if not passes:
                raise trouble.error
            if number == tries or time.monotonic() - began > patience_s or self._gave_up > began:
                if not isinstance(trouble.error, NoObject):
                    self._gave_up = time.monotonic()
                raise trouble.error
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _opened(base: str, times: dict[str, str]) -> Any:
    """The library's store, which asks once and waits as long as is said."""
    stores = require("obstore.store", "remote")
    scheme, _, name = base.partition("://")
    client: dict[str, Any] = {**times, "user_agent": "isc-fast"}
    options: dict[str, Any] = {"client_options": client, "retry_config": {"max_retries": 0}}
    if scheme in WEB:
        client["allow_http"] = scheme == "http"
        return stores.HTTPStore(base, **options)
    if scheme == "s3":
        found = profile_options()
        client["allow_http"] = any(map(_is_plain, (found.get("endpoint"), endpoint_of("s3"))))
        return stores.S3Store(name, **found, **options)
    client["allow_http"] = _is_plain(endpoint_of(scheme))
    return (stores.GCSStore if scheme == "gs" else stores.AzureStore)(name, **options)


def _kind_of(key: str) -> dict[str, str]:
    """The media type of a page, without which a browser does not show it."""
    return {"Content-Type": "text/html; charset=utf-8"} if key.endswith(".html") else {}


def _is_plain(endpoint: str | None) -> bool:
    """Whether an endpoint has no encryption. Somebody has named it on purpose then."""
    return endpoint is not None and endpoint.startswith("http://")


def _body(answer: Any, size: int) -> bytes:
    """The content of an answer, all of it."""
    try:
        content = bytes(answer.bytes())
    except Exception as error:
        text = str(error)
        if "TimedOut" in text or "kind: Timeout" in text:
            raise
        raise CutError from error
    if len(content) != size:
        raise CutError
    return content


def _meta(found: dict[str, Any], attributes: dict[str, str] | None = None) -> Meta:
    tag = str(found.get("e_tag") or "").removeprefix("W/").strip('"')
    changed = found.get("last_modified")
    seconds = changed.timestamp() if changed is not None else 0.0
    return Meta(
        found["path"],
        found["size"],
        max(0, round(seconds * 1000) * 1_000_000),
        int.from_bytes(hashlib.blake2b(tag.encode(), digest_size=8).digest()) >> 1 if tag else 0,
        (attributes or {}).get("Content-Type", ""),
    )
