"""What one photo may cost, in time and memory, and all photos that are decoded at once together.

A photo that would cost more is a row of the ledger. What it would cost is known from its header and its structure, before a pixel
is decoded. These limits bound what a library is asked to do; a library that hangs or crashes all the same costs one photo where
photos are decoded in processes (`isc_fast.decoders.isolated`).

| limit | value | why |
|---|---|---|
| pixels | 178,956,970 | Pillow's own limit |
| pixels of a JPEG | twice that | decoded at a half, so in memory it is a quarter; 3 to 6 bytes a pixel if progressive |
| a side | 1,048,576 | the tables of a resize are as long as a side: 16 bytes a pixel of it |
| bytes of a file | 1 GiB | some libraries read it whole; JPEG and TIFF are read as far as their pixels need |
| pixels × scans of a progressive JPEG | 16 × the pixels | each scan goes through the whole photo; real ones have about ten |
| chunks of a PNG, strips or tiles of a TIFF | 262,144 | each is a step of Python, of some microseconds |
| bytes of all tags of a TIFF | twice the file | tags that lie over each other are read again and again |
| pixels that Pillow decodes in Python | 1,048,576 | PPM whose values do not end at 255 or 65,535, BMP in runs |
| bytes of all photos at once | 4 GiB, or half the memory | 9 a pixel, 5 for JPEG, and the file; one alone may always begin |
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO

from PIL import Image

MAX_PIXELS = 178_956_970
"""Width × height above which an image counts as a decompression bomb: Pillow's own limit."""

MAX_JPEG_PIXELS = 2 * MAX_PIXELS
"""The same for a JPEG, which is decoded at a half above `MAX_PIXELS`."""

MAX_SIDE = 1 << 20
MAX_FILE_BYTES = 1 << 30
MAX_CHUNKS = 1 << 18
MAX_SCANNED_PIXELS = 16 * MAX_PIXELS
MAX_PYTHON_PIXELS = 1 << 20

_PIXEL_BYTES, _JPEG_PIXEL_BYTES = 9, 5
"""Bytes of a pixel while it is decoded, at the worst: with alpha there are three images of four bytes, less what is freed."""

_READ_IN_PART = (b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how JPEG and TIFF begin
_PIECE_BYTES = 1 << 20
_SPARE_BYTES = 1 << 26  # of a JPEG file beside its pixels: profiles, thumbnails, further images
_PNG, _CHUNK_BYTES = b"\x89PNG\r\n\x1a\n", 12  # how a PNG begins; bytes of an empty chunk
_SCAN = b"\xff\xda"


def jpeg_bytes(size: tuple[int, int]) -> int:
    """The bytes from the beginning of a JPEG file of that size in pixels that a decoder may read: its pixels are among them."""
    return _SPARE_BYTES + 6 * size[0] * size[1]


def _file_bytes(stream: IO[bytes]) -> int:
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(here)
    return size


def too_large(stream: IO[bytes]) -> str | None:
    """Say why a file is refused before Pillow opens it, or None; the stream is at the beginning, and stays there."""
    size = _file_bytes(stream)
    if size <= _CHUNK_BYTES * MAX_CHUNKS:
        return None
    head = stream.read(8)
    stream.seek(0)
    if size <= MAX_FILE_BYTES:
        return f"a PNG of more than {MAX_CHUNKS} chunks" if head == _PNG and _has_many_chunks(stream) else None
    return None if head.startswith(_READ_IN_PART) else f"the file has {size} bytes, limit {MAX_FILE_BYTES}"


def _has_many_chunks(stream: IO[bytes]) -> bool:
    """Whether a PNG has more chunks than `MAX_CHUNKS`; the stream is at the beginning, and stays there."""
    stream.seek(len(_PNG))
    count = 0
    while count <= MAX_CHUNKS and len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
        stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
        count += 1
    stream.seek(0)
    return count > MAX_CHUNKS


def _scans(stream: IO[bytes], most: int, length: int) -> int:
    """Count the scans of a JPEG, no further than ``most``. In coded data the mark of a scan does not occur."""
    here = stream.tell()
    stream.seek(0)
    count, last = 0, b""
    while length > 0 and count <= most and (piece := stream.read(min(_PIECE_BYTES, length))):
        count += (last + piece).count(_SCAN)
        length, last = length - len(piece), piece[-1:]
    stream.seek(here)
    return count


def too_much(image: Image.Image, stream: IO[bytes]) -> str | None:
    """Say why a photo whose header was read is refused.

    Args:
        image: as Pillow opened it; a JPEG above `MAX_PIXELS` is set to be decoded at a half.
        stream: its file; stays where it is.

    Returns:
        one line, or None where the photo may be decoded.
    """
    width, height = image.size
    is_jpeg = image.format in ("JPEG", "MPO")
    most = MAX_JPEG_PIXELS if is_jpeg else MAX_PIXELS
    if width * height > most:
        return f"decompression bomb: {width} × {height} pixels, limit {most}"
    if max(width, height) > MAX_SIDE:
        return f"{width} × {height} pixels: a side is longer than the limit of {MAX_SIDE}"
    if any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())) and width * height > MAX_PYTHON_PIXELS:
        return f"{width} × {height} pixels of a rare kind that is slow to decode, limit {MAX_PYTHON_PIXELS}"
    if is_jpeg and image.info.get("progressive"):
        scans = MAX_SCANNED_PIXELS // (width * height)
        if _scans(stream, scans, min(_file_bytes(stream), jpeg_bytes(image.size))) > scans:
            return f"a progressive JPEG of more than {scans} scans, too many for {width} × {height} pixels"
    if is_jpeg and width * height > MAX_PIXELS:
        image.draft(None, (width // 2, height // 2))
    return None


def is_scaled(image: Image.Image) -> bool:
    """Whether a JPEG is set to be decoded at a fraction of its size: then only Pillow may decode it."""
    return bool(getattr(image, "decoderconfig", ()))


class Room:
    """Memory that photos take while they are decoded, in all threads of the process together.

    Args:
        size: in bytes.

    Attributes:
        outer: takes the room elsewhere: in a process that decodes for another one.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.outer: Callable[[int], AbstractContextManager[None]] | None = None
        self._taken = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until there is room for so many bytes, and take it. Who came first is served first; what is alone always fits."""
        if self.outer is not None:
            with self.outer(size):
                yield
            return
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or (self._taken and self._taken + size > self.size):
                    self._changed.wait()
                self._taken += size
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


def _room_bytes() -> int:
    return min(4 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


ROOM = Room(_room_bytes())
"""The room of this process."""


def bytes_of(image: Image.Image, stream: IO[bytes]) -> int:
    """The bytes that a photo takes while it is decoded, at the worst."""
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        return _JPEG_PIXEL_BYTES * width * height + min(_file_bytes(stream), jpeg_bytes(image.size))
    return _PIXEL_BYTES * width * height + min(_file_bytes(stream), MAX_FILE_BYTES)
