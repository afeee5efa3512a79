"""Formats that take a library of their own: HEIF, JPEG XL, and the raw files of cameras.

Their first bytes say what they are. The library is imported at the first such file; where it is not installed, the reason names
the format and the extra that has it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from ..errors import require
from . import tiff_directory as tiff
from .deferred import Deferred
from .tiff_directory import Directory

HEAD = 64
"""Bytes of a file that say whether it is of one of these formats."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_JXL_CODE, _JXL_BOX = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
_TURNS = {0: 1, 3: 3, 5: 8, 6: 6}
"""LibRaw's turns, as EXIF orientations."""

_LEAST_PREVIEW = 512
"""A preview whose longer side has fewer pixels does not stand for a photo."""

_LARGE = 2048
"""Raw files whose shorter side has at least so many pixels are developed at half their size, which needs no interpolation."""


@dataclass(frozen=True)
class Extra:
    """One format with a library of its own.

    Attributes:
        noun: in messages.
        name: the extra of isc-fast that installs the library.
        takes: whether a file is of this format, by its first bytes and, of a TIFF, its first directory.
        open: a function that reads the header of a file.
    """

    noun: str
    name: str
    takes: Callable[[bytes, Directory | None], bool]
    open: Callable[[IO[bytes]], Image.Image]


def extra_of(head: bytes, directory: Directory | None) -> Extra | None:
    """The format that a file has, where it takes a library of its own."""
    return next((extra for extra in EXTRAS if extra.takes(head, directory)), None)


def _is_heif(head: bytes, _directory: Directory | None) -> bool:
    """By its main brand. AVIF files may begin with ``mif1`` too; then their brands have ``avif``."""
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return False
    brands = head[16 : min(len(head), int.from_bytes(head[:4], "big"))]
    return not any(brand in brands for brand in _AVIF_BRANDS)


def _open_heif(stream: IO[bytes]) -> Image.Image:
    """libheif turns the pictures as their boxes say, and only these count."""
    plugin = require("pi_heif", "heif")
    stream.seek(0)
    found = plugin.open_heif(stream, convert_hdr_to_8bit=True)
    return Deferred("HEIF", found.size, 1, found.to_pillow)


def _is_jxl(head: bytes, _directory: Directory | None) -> bool:
    return head.startswith((_JXL_CODE, _JXL_BOX))


def _open_jxl(stream: IO[bytes]) -> Image.Image:
    """libjxl turns the picture by its own header, which alone counts."""
    codecs = require("imagecodecs", "codecs")
    stream.seek(0)
    data = stream.read()
    return Deferred("JXL", _size_of_jxl(data), 1, partial(_decode_jxl, codecs.jpegxl_decode, data))


def _decode_jxl(decode: Callable[..., npt.NDArray[Any]], data: bytes) -> Image.Image:
    pixels = decode(data, index=0, numthreads=1)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError("floating-point pixels have no agreed range")
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise ValueError(f"a JPEG XL of {pixels.shape[2:]} channels")
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat), modes[pixels.shape[2]])


class _Bits:
    """Reads numbers from the bits of a JPEG XL's header, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data[:32], "little")

    def take(self, count: int) -> int:
        """The next bits as a number."""
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value

    def side(self) -> int:
        """A width or height."""
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])


def _size_of_jxl(data: bytes) -> tuple[int, int]:
    """Width and height as stored, by the header: libjxl would decode the file to say so."""
    bits = _Bits(_codestream(data)[2:])
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else bits.side()
    ratio = bits.take(3)
    if ratio:
        across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        return height * across // down, height
    return (8 * (1 + bits.take(5)) if small else bits.side()), height


def _codestream(data: bytes) -> bytes:
    """The first bytes of the pixels' data in a JPEG XL."""
    at = 0
    while not data.startswith(_JXL_CODE) and at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        if kind in (b"jxlc", b"jxlp"):
            return data[start + (4 if kind == b"jxlp" else 0) :][:64]
        if not length:
            break
        at += length
    if not data.startswith(_JXL_CODE):
        raise ValueError("a JPEG XL without a picture")
    return data[:64]


def _is_raw(head: bytes, directory: Directory | None) -> bool:
    """Most raw files are TIFFs whose first picture is a small one; nothing but a camera's file looks like these."""
    if directory is None:
        return head.startswith(_RAW_STARTS) or head[4:12] == b"ftypcrx "
    reduced = bool(directory.one(tiff.SUBFILE, 0) & 1) and tiff.SUBDIRECTORIES in directory.tags
    filters = directory.one(tiff.PHOTOMETRIC, 0) in (32803, 34892)
    return tiff.DNG in directory.tags or head[8:10] == b"CR" or reduced or filters


def _open_raw(stream: IO[bytes]) -> Image.Image:
    """The camera's own JPEG; the raw data, developed, where that is small. See docs/decisions/0028."""
    library = require("rawpy", "raw")
    stream.seek(0)
    raw = library.imread(stream)
    sizes = raw.sizes
    turn = _TURNS.get(sizes.flip, 1)
    preview = _preview(raw)
    if preview is not None and max(preview.size) >= _LEAST_PREVIEW:
        own = preview.getexif().get(ExifTags.Base.Orientation, 0)
        return Deferred("RAW", preview.size, int(own) if own in range(1, 9) else turn, lambda: preview)
    half = min(sizes.width, sizes.height) >= _LARGE
    size = (sizes.height, sizes.width) if turn > 4 else (sizes.width, sizes.height)
    return Deferred("RAW", size, 1, partial(_developed, raw, half))


def _preview(raw: Any) -> Image.Image | None:
    try:
        found = raw.extract_thumb()
    except Exception:  # there is none, or LibRaw does not know its format
        return None
    if found.format.name != "JPEG":
        return None
    return Image.open(io.BytesIO(found.data), formats=("JPEG",))


def _developed(raw: Any, half: bool) -> Image.Image:
    return Image.fromarray(raw.postprocess(use_camera_wb=True, half_size=half), "RGB")


EXTRAS = (
    Extra("HEIF (HEIC)", "heif", _is_heif, _open_heif),
    Extra("JPEG XL", "codecs", _is_jxl, _open_jxl),
    Extra("a camera's raw file", "raw", _is_raw, _open_raw),
)
"""The formats with libraries of their own, in the order in which they are asked."""
