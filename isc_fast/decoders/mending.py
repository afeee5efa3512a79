"""Files whose pixels are all there, though Pillow refuses them: PNGs with damaged or huge metadata, JPEGs without an end.

`mended` is asked after Pillow has refused a file. It changes nothing of a file that Pillow reads.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image

from .limits import jpeg_bytes, too_much

_PNG, _SOI, _EOI = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
_KEPT_CHUNKS = (b"tRNS", b"eXIf")
"""Chunks beside the critical ones that describe pixels: transparency, and the orientation."""

_LONGEST_HEADER = 1 << 20  # bytes of the chunk eXIf at most, and of PLTE, IHDR and tRNS, which are shorter


def mended(stream: IO[bytes]) -> Image.Image | None:
    """Decode a file that Pillow has refused, where no pixel of it is missing.

    Returns:
        the image, loaded, or None where the file is refused with reason.
    """
    stream.seek(0)
    head = stream.read(8)
    if head == _PNG:
        made = io.BytesIO(b"".join(_pixels_of_png(stream)))
        image = Image.open(made, formats=("PNG",))
        if (reason := too_much(image, made)) is not None:
            raise ValueError(reason)
        image.load()
        return image
    if head.startswith(_SOI):
        stream.seek(0)
        try:
            size = Image.open(stream, formats=("JPEG",)).size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        stream.seek(0)
        return _without_end(stream.read(jpeg_bytes(size)))
    return None


def _pixels_of_png(stream: IO[bytes]) -> Iterator[bytes]:
    """The chunks of a PNG that describe its pixels. Chunks of metadata are skipped unread."""
    stream.seek(len(_PNG))
    yield _PNG
    whole = False
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        critical = not kind[0] & 0x20
        if not critical and (kind not in _KEPT_CHUNKS or length > _LONGEST_HEADER):
            stream.seek(length + 4, io.SEEK_CUR)
            continue
        if kind == b"IEND":
            break
        body = stream.read(length + 4)
        if len(body) < length + 4:
            if kind == b"IDAT":
                raise OSError("image file is truncated")
            break
        if not critical and struct.pack(">I", zlib.crc32(kind + body[:length])) != body[length:]:
            continue
        whole = whole or kind == b"IDAT"
        yield head + body
    if not whole:
        raise OSError("a PNG that is truncated, or whose chunks are damaged")
    yield struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


def _without_end(data: bytes) -> Image.Image | None:
    """Decode a JPEG without an end marker, or None where any row or scan is missing.

    libjpeg fills what is missing from nothing, without a word to Pillow. So the file is decoded twice: once it ends after its
    data, and once noise follows them. The noise is seen in the picture where the file's own data do not reach its end.
    """
    if not _all_scans(data):
        return None
    try:
        made = [_decoded(data + tail + _EOI) for tail in (b"", _noise())]
    except OSError:
        return None
    return made[0] if made[0].tobytes() == made[1].tobytes() else None


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.load()
    return image


def _noise() -> bytes:
    """Coded data for any place in a scan: after bytes of chance, every restart marker, twice, with bytes of chance between."""
    source = random.Random(0)
    pieces = [bytes(source.randrange(255) for _ in range(400)) for _ in range(17)]
    return pieces[0] + b"".join(b"\xff" + bytes([0xD0 + i % 8]) + piece for i, piece in enumerate(pieces[1:]))


def _all_scans(data: bytes) -> bool:
    """Whether the scans of a JPEG hold every coefficient of every component, to its last bit."""
    missing: dict[int, set[int]] = {}
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0, 0xFF) or 0xD0 <= data[at + 1] <= 0xD7:  # coded data, or filling
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker in (0xC0, 0xC1, 0xC2) and len(body) >= 6 + 3 * body[5]:
            progressive = marker == 0xC2
            missing = {body[6 + 3 * i]: set(range(64 if progressive else 1)) for i in range(body[5])}
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[-3:]
            for i in range(body[0]):
                if bits & 15 == 0:
                    missing.get(body[1 + 2 * i], set()).difference_update(range(first, last + 1))
        at += 2 + length
    return bool(missing) and not any(missing.values())
