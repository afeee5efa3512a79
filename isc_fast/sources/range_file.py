"""Files that are read at places, on this machine or at an address: what containers and lists stand on."""

from __future__ import annotations

import io
import os
from typing import IO, Any, Protocol

from ..errors import InputError
from ..files.reading import open_regular
from ..stores.store import store_of
from ..stores.urls import is_url, split
from .cache import Cache

BLOCK_BYTES = 1 << 22
"""Bytes of one request, where less is wanted: it takes 40 ms at 100 MB/s, about as long as the answer takes to begin."""
KEPT_BYTES = 1 << 27
_MOST_BYTES = 1 << 25  # of one request, where more is wanted
_FARTHEST = 1 << 62
"""No file reaches that far. An archive may name a place that the system cannot count to, and there is nothing to read there."""


class ChangedError(InputError):
    """The object is another one than when it was opened."""


class Readable(Protocol):
    """A file that can be read at any place, by several threads at once.

    Attributes:
        length: in bytes.
    """

    length: int

    def read(self, size: int, offset: int) -> bytes:
        """Read at a place; fewer bytes where the file ends before."""
        ...

    def stamp(self) -> tuple[int, int]:
        """Size, and time of change or tag, of the file as it is now."""
        ...


class LocalFile:
    """A file on this machine, open as long as this object lives; see `Readable`.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, file: str) -> None:
        self._stream = open_regular(file)
        self.length = os.fstat(self._stream.fileno()).st_size

    def read(self, size: int, offset: int) -> bytes:
        """See `Readable`."""
        return os.pread(self._stream.fileno(), size, min(offset, _FARTHEST))

    def stamp(self) -> tuple[int, int]:
        """See `Readable`."""
        status = os.fstat(self._stream.fileno())
        return status.st_size, status.st_mtime_ns


_Block = tuple[str, tuple[int, int], int]
_BLOCKS: Cache[_Block, bytes] = Cache(lambda key: _fetched(*key), limit=KEPT_BYTES, size_of=len, least=1)


class RangeFile:
    """An object at an address; see `Readable`. Small reads are served from blocks, which stay for a while.

    Raises:
        NoObject: there is none.
        StoreError: its store cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        base, key = split(url)
        self._stamp = store_of(base).head(key, first=True).stamp
        self.length = self._stamp[0]

    def read(self, size: int, offset: int) -> bytes:
        """See `Readable`.

        Raises:
            ChangedError: the object was replaced.
        """
        end = min(offset + size, self.length)
        if end - offset >= BLOCK_BYTES:
            pieces = range(offset, end, _MOST_BYTES)
            return b"".join([_range(self.url, self._stamp, at, min(at + _MOST_BYTES, end)) for at in pieces])
        found = list[bytes]()
        for number in range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            start = number * BLOCK_BYTES
            block = _BLOCKS.get((self.url, self._stamp, number))
            found.append(block[max(offset - start, 0) : end - start])
        return b"".join(found)

    def stamp(self) -> tuple[int, int]:
        """See `Readable`. It is not asked for anew: each answer says whether the object is still the same."""
        return self._stamp


def _fetched(url: str, stamp: tuple[int, int], number: int) -> bytes:
    start = number * BLOCK_BYTES
    return _range(url, stamp, start, min(start + BLOCK_BYTES, stamp[0]))


def _range(url: str, stamp: tuple[int, int], start: int, stop: int) -> bytes:
    base, key = split(url)
    content, meta = store_of(base).read_range(key, start, stop)
    if meta.stamp != stamp:
        raise ChangedError(f"{url} has changed since it was listed: extract again")
    return content


class _Stream(io.RawIOBase):
    """A `RangeFile` as Python's streams are."""

    def __init__(self, file: RangeFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._file.length)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: Any) -> int:
        content = self._file.read(len(into), self._at)
        into[: len(content)] = content
        self._at += len(content)
        return len(content)


def open_readable(file: str) -> Readable:
    """Open a file by its path or its address.

    Raises:
        OSError: a file cannot be opened.
        NoObject, StoreError: an object cannot.
    """
    return RangeFile(file) if is_url(file) else LocalFile(file)


def open_stream(file: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file, by its path or its address, as a stream of bytes.

    Raises:
        OSError, NoObject, StoreError: as `open_readable`.
    """
    name = os.fspath(file)
    return io.BufferedReader(_Stream(RangeFile(name)), 1 << 16) if is_url(name) else open_regular(name)
