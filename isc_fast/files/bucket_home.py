"""A result in a bucket: objects are created once and never replaced, and what is read of them lies on this disk for a while."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import IscFastError, OutputError
from ..stores.store import store_of
from ..stores.trouble import NoObject
from ..stores.urls import join, split
from .homes import Home, Write
from .scratch import ScratchFolder, needs_scratch

KEPT_BYTES = 1 << 30
"""Bytes of parts that were read and lie on this disk, for each home that is open."""
LEAST_KEPT = 64
"""So many stay however large they are: more than are open at once."""
MOST_BYTES = 1 << 30
"""Bytes of one object, which is created in one request, and is in memory meanwhile."""
_PIECE_BYTES = 1 << 25
_TRIAL = ".isc-fast-trial"
"""An object that is created and removed to see whether that is possible."""
_NEED = "reading a result in a bucket"


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bytes: int | None = None  # where the file is there
        self.stays = False


class BucketHome(Home):
    """A prefix in a bucket; see `Home`. Several threads may use it.

    Args:
        url: of the prefix.

    Raises:
        MissingExtraError: obstore is not installed.
        StoreError: the profile that the environment names has no keys. So do all methods where the store cannot be reached or
            refuses.
    """

    once = True

    def __init__(self, url: str) -> None:
        base, self._prefix = split(url)
        self._store = store_of(base)
        self.address = self.absolute = self.path = join(base, self._prefix) if self._prefix else base
        self._scratch: ScratchFolder | None = None
        self._lock = threading.Lock()
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._kept = 0

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")

    def _here(self, name: str) -> Path:
        with self._lock, needs_scratch(_NEED):
            self._scratch = self._scratch or ScratchFolder()
            return self._scratch.path / name.replace("/", "-")

    def file(self, name: str, *, stays: bool = False) -> Path:
        """See `Home`."""
        path = self._here(name)
        with self._lock:
            slot = self._slots.setdefault(name, _Slot())
            self._slots.move_to_end(name)
            slot.stays |= stays
        with slot.lock:
            if slot.bytes is None:
                try:
                    self._fetch(name, path)
                except NoObject:
                    path.unlink(missing_ok=True)
                    return path
                slot.bytes = path.stat().st_size
                self._count(slot.bytes)
            elif not path.exists():  # it has gone while this thread waited for it
                return self.file(name, stays=stays)
        return path

    def _fetch(self, name: str, path: Path) -> None:
        content, meta = self._store.read(self._key(name), _PIECE_BYTES)
        with needs_scratch(_NEED), open(path, "wb") as stream:
            stream.write(content)
            for start in range(len(content), meta.size, _PIECE_BYTES):
                stop = min(start + _PIECE_BYTES, meta.size)
                stream.write(self._store.read_range(self._key(name), start, stop)[0])

    def _count(self, size: int) -> None:
        """Note that a file was fetched, and remove those that were asked for the longest time ago."""
        with self._lock:
            self._kept += size
            for name in list(self._slots):
                if self._kept <= KEPT_BYTES or len(self._slots) <= LEAST_KEPT:
                    break
                slot = self._slots[name]
                if slot.bytes is not None and not slot.stays:
                    self._forget(name)

    def _forget(self, name: str) -> None:
        """Forget what was fetched. Call it with the lock."""
        slot = self._slots.pop(name, None)
        if slot is not None and slot.bytes is not None and self._scratch is not None:
            self._kept -= slot.bytes
            with contextlib.suppress(OSError):
                (self._scratch.path / name.replace("/", "-")).unlink()

    def read(self, name: str, most: int) -> bytes:
        """See `Home`."""
        try:
            size = self._store.head(self._key(name), first=True).size
            pieces = range(0, min(size, most), _PIECE_BYTES)
            return b"".join(
                self._store.read_range(self._key(name), start, min(start + _PIECE_BYTES, size, most))[0]
                for start in pieces
            )
        except NoObject as error:
            raise FileNotFoundError(2, error.reason) from error

    def within(self, name: str) -> Home:
        """See `Home`."""
        return BucketHome(f"{self.address}/{name}")

    def check(self) -> None:
        """See `Home`. What is asked for an object alone, does not say whether there is a bucket."""
        next(self._store.list(self._prefix), None)

    def size(self, name: str) -> int | None:
        """See `Home`."""
        key = self._key(name)
        try:
            return self._store.head(key, first=True).size if key else None  # a bucket is no object
        except NoObject:
            return None

    def sizes(self, folder: str) -> Mapping[str, int]:
        """See `Home`."""
        prefix = self._key(folder)
        found = (meta for block in self._store.list(prefix) for meta in block)
        return {meta.key[len(prefix) + 1 :]: meta.size for meta in found}

    def create(self, name: str, write: Write, is_right: Callable[[], bool] = lambda: True) -> None:
        """See `Home`."""
        with self._lock:
            self._forget(name)
        path = self._here(f"new-{threading.get_ident()}-{name}")
        try:
            write(path)
            with needs_scratch(_NEED):
                size = os.path.getsize(path)
                self._refuse_large(name, size)
                content = path.read_bytes()
        finally:
            path.unlink(missing_ok=True)
        if not self._store.create(self._key(name), content) and not is_right():
            raise OutputError(
                f"{self.address}/{name} is there already, and is damaged or of another run; nothing in a bucket is replaced: "
                "remove that object, or give another output"
            )

    def _refuse_large(self, name: str, size: int) -> None:
        if size > MOST_BYTES:
            raise OutputError(
                f"{name} has {size} bytes, limit {MOST_BYTES} for an object that is created in one request; give smaller parts "
                "(--shard-size), or a folder on this machine"
            )

    def prepare(self, ours: re.Pattern[str]) -> str | None:
        """See `Home`. Of the names, the first thousand are looked at."""
        for block in self._store.list(self._prefix):
            names = (meta.key[len(self._prefix) :].lstrip("/").partition("/")[0] for meta in block)
            other = next((name for name in names if name and name != _TRIAL and not ours.fullmatch(name)), None)
            if other is not None:
                return other
            break
        self._store.create(self._key(_TRIAL), b"")
        self.remove(_TRIAL)
        return None

    def remove(self, name: str) -> None:
        """See `Home`. Credentials may allow to create and not to remove; then it stays."""
        with self._lock:
            self._forget(name)
        with contextlib.suppress(IscFastError):
            self._store.remove(self._key(name))

    def remove_folder(self, name: str) -> None:
        """See `Home`."""
        with contextlib.suppress(IscFastError):
            for file in self.sizes(name):
                self.remove(f"{name}/{file}")
