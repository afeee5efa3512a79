"""The samples of a TIFF page as numbers, for the layouts that Pillow does not read, or reads wrongly.

The strips and tiles of a page are decompressed by libtiff: they are laid into a TIFF of one grey channel whose pixels are the
bytes, and Pillow opens that. What the bytes mean, libtiff is not asked.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..items import Pixels
from . import tiff_directory as tiff
from .tiff_directory import Directory

Samples = npt.NDArray[np.uint8 | np.uint16]

_RAW, _PREDICTABLE, _STREAMS = 1, (5, 8, 32946, 34925, 50000), (1, 5, 8, 32773, 32946, 34925, 50000)
_GROUP_BYTES = 1 << 24
"""Bytes that are decompressed at once, where the file's strips and tiles are no larger than that."""

_UNPACKED_BYTES = 1 << 21  # bytes whose bits are unpacked at once: they take 24 times that
_LARGEST_STRIP = (
    1 << 28
)  # Pillow refuses more; a page of 60 megapixels has 16 bits × 3 in 360 MB, in one strip if it is careless
_REVERSED = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], np.uint8)


def byte_stream(directory: Directory) -> bool:
    """Whether a page's compression gives bytes, whatever they mean: none, LZW, Deflate, PackBits, LZMA, Zstandard."""
    return directory.one(tiff.COMPRESSION, _RAW) in _STREAMS


@dataclass(frozen=True)
class _Layout:
    """Where the samples of a page are.

    Attributes:
        bits: of one sample, 1 to 16.
        samples: of one pixel, in one chunk: 1 where each sample has a plane of its own.
        planes: 1, or the number of the samples.
        width, rows: pixels of a chunk (a strip or a tile) to the right and down.
        across, down: chunks of a plane to the right and down.
    """

    bits: int
    samples: int
    planes: int
    width: int
    rows: int
    across: int
    down: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return -(-self.width * self.samples * self.bits // 8)


def _layout(directory: Directory, bits: int, samples: int) -> _Layout:
    width, height = directory.one(tiff.WIDTH, 0), directory.one(tiff.LENGTH, 0)
    planes = samples if directory.one(tiff.PLANAR, 1) == 2 else 1
    if tiff.TILES in directory.tags:
        wide, rows = directory.one(tiff.TILE_WIDTH, 0), directory.one(tiff.TILE_LENGTH, 0)
        offsets, lengths = directory.tags[tiff.TILES], directory.tags.get(tiff.TILE_BYTES, ())
    else:
        wide, rows = width, min(directory.one(tiff.ROWS, height), height)
        offsets, lengths = directory.tags.get(tiff.STRIPS, ()), directory.tags.get(tiff.STRIP_BYTES, ())
    if not (0 < wide <= 1 << 24 and 0 < rows <= 1 << 24):
        raise ValueError(f"a TIFF whose tiles have {wide} × {rows} pixels")
    across, down = -(-width // wide), -(-height // rows)
    made = _Layout(bits, samples // planes, planes, wide, rows, across, down, offsets, lengths)
    if len(offsets) != planes * across * down or len(lengths) != len(offsets):
        raise ValueError(f"a TIFF with {len(offsets)} strips or tiles where there must be {planes * across * down}")
    if sum(lengths) > directory.size:
        raise ValueError("a TIFF whose strips or tiles lie over each other")
    if made.row_bytes * rows > _LARGEST_STRIP:
        raise ValueError(f"a TIFF with a strip or tile of {made.row_bytes * rows} bytes, limit {_LARGEST_STRIP}")
    return made


def read_samples(stream: IO[bytes], directory: Directory, bits: int, samples: int, wanted: int) -> Samples:
    """Read the first samples of every pixel, not turned.

    Args:
        stream: the file.
        directory: of the page, whose compression is one of `byte_stream`.
        bits: of each sample, 1 to 16.
        samples: of each pixel in the file.
        wanted: how many of them are kept.

    Returns:
        ``uint8 (height, width, wanted)``, or ``uint16`` above 8 bits; values as they are in the file.

    Raises:
        ValueError, OSError: the page is damaged or cut short, or has a predictor that is not known.
    """
    layout = _layout(directory, bits, samples)
    width, height = directory.one(tiff.WIDTH, 0), directory.one(tiff.LENGTH, 0)
    predictor = directory.one(tiff.PREDICTOR, 1) if directory.one(tiff.COMPRESSION, _RAW) in _PREDICTABLE else 1
    if predictor not in (1, 2) or (predictor == 2 and bits not in (8, 16)):
        raise ValueError(f"a TIFF with predictor {predictor} for {bits} bits a sample")
    page = np.zeros((height, width, wanted), np.uint8 if bits <= 8 else np.uint16)
    per_plane = layout.across * layout.down
    for plane in range(min(layout.planes, wanted)):
        into = page[..., plane : plane + 1] if layout.planes > 1 else page
        for first, chunks in _decompressed(stream, directory, layout, plane * per_plane, (plane + 1) * per_plane):
            for number, chunk in enumerate(chunks, first - plane * per_plane):
                down, across = divmod(number, layout.across)
                top, left = down * layout.rows, across * layout.width
                for start in range(0, len(chunk), block := max(1, _UNPACKED_BYTES // max(1, layout.row_bytes))):
                    values = _unpacked(chunk[start : start + block], layout, directory.order)
                    if predictor == 2:
                        np.cumsum(values, axis=1, dtype=values.dtype, out=values)
                    place = into[top + start : top + start + len(values), left : left + layout.width]
                    place[:] = values[: place.shape[0], : place.shape[1], : place.shape[2]]
    return page


def _unpacked(rows: Pixels, layout: _Layout, order: str) -> Samples:
    """Bytes ``uint8 (rows, row_bytes)`` as samples ``(rows, width, samples)``."""
    shape = (len(rows), layout.width, layout.samples)
    if layout.bits == 8:
        return rows.reshape(shape).copy()
    if layout.bits == 16:
        return np.ascontiguousarray(rows).view(order + "u2").astype(np.uint16).reshape(shape)
    count = layout.width * layout.samples
    each = np.unpackbits(rows, axis=1)[:, : count * layout.bits].reshape(len(rows), count, layout.bits)
    values = np.zeros((len(rows), count), np.uint8 if layout.bits <= 8 else np.uint16)
    for bit in range(layout.bits):
        values = (values << 1) | each[..., bit]
    return values.reshape(shape)


def _decompressed(
    stream: IO[bytes], directory: Directory, layout: _Layout, start: int, stop: int
) -> Iterator[tuple[int, Pixels]]:
    """Yield the number of a chunk, and it and its followers as bytes ``uint8 (n, rows, row_bytes)``."""
    compression, fill_order = directory.one(tiff.COMPRESSION, _RAW), directory.one(tiff.FILL_ORDER, 1)
    height = directory.one(tiff.LENGTH, 0)
    whole = layout.row_bytes * layout.rows
    step = max(1, _GROUP_BYTES // whole)
    tiled = tiff.TILES in directory.tags
    last_rows = layout.rows if tiled else height - (layout.down - 1) * layout.rows
    for first in range(start, stop, step):
        numbers = range(first, min(first + step, stop))
        parts = []
        for number in numbers:
            stream.seek(layout.offsets[number])
            parts.append(stream.read(layout.lengths[number]))
            if len(parts[-1]) < layout.lengths[number]:
                raise ValueError("image file is truncated")
        rows = layout.rows * (len(numbers) - 1) + (last_rows if numbers[-1] == stop - 1 else layout.rows)
        if compression == _RAW:
            needed = [layout.row_bytes * (layout.rows if n < stop - 1 else last_rows) for n in numbers]
            if any(len(part) < size for part, size in zip(parts, needed, strict=True)):
                raise ValueError("image file is truncated")
            joined = b"".join(part[:size] for part, size in zip(parts, needed, strict=True))
            bytes_ = np.frombuffer(joined, np.uint8)
            bytes_ = _REVERSED[bytes_] if fill_order == 2 else bytes_
        else:
            bytes_ = _by_libtiff(parts, layout, rows, compression, fill_order)
        padded = np.zeros((len(numbers) * layout.rows, layout.row_bytes), np.uint8) if rows % layout.rows else None
        if padded is None:
            yield first, bytes_.reshape(len(numbers), layout.rows, layout.row_bytes)
        else:
            padded[:rows] = bytes_.reshape(rows, layout.row_bytes)
            yield first, padded.reshape(len(numbers), layout.rows, layout.row_bytes)


def _by_libtiff(parts: list[bytes], layout: _Layout, rows: int, compression: int, fill_order: int) -> Pixels:
    """Decompress chunks that lie below each other: ``uint8 (rows, row_bytes)``."""
    longs = 2 * len(parts) if len(parts) > 1 else 0
    entries = 10
    start = 8 + 2 + 12 * entries + 4 + 4 * longs
    offsets = [start + at for at in np.cumsum([0] + [len(part) for part in parts[:-1]]).tolist()]
    lengths = [len(part) for part in parts]
    table = 8 + 2 + 12 * entries + 4
    first_offset, first_length = (table, table + 4 * len(parts)) if longs else (offsets[0], lengths[0])
    tags = (
        (tiff.WIDTH, 1, layout.row_bytes),
        (tiff.LENGTH, 1, rows),
        (tiff.BITS, 1, 8),
        (tiff.COMPRESSION, 1, compression),
        (tiff.PHOTOMETRIC, 1, 1),
        (tiff.FILL_ORDER, 1, fill_order),
        (tiff.STRIPS, len(parts), first_offset),
        (tiff.SAMPLES, 1, 1),
        (tiff.ROWS, 1, layout.rows),
        (tiff.STRIP_BYTES, len(parts), first_length),
    )
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", entries)
    head += b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags) + bytes(4)
    if longs:
        head += struct.pack(f"<{longs}I", *offsets, *lengths)
    with Image.open(io.BytesIO(b"".join((head, *parts))), formats=("TIFF",)) as image:
        return np.array(image)
