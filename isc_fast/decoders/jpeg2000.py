"""JPEG 2000 of other than 8 bits. Pillow rounds deeper colours up past white, to black, and leaves shallower ones dark."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import MissingExtraError, require
from .deferred import Deferred

_SIZ = b"\xff\x4f\xff\x51"
_SEARCHED_BYTES = 1 << 22  # in which the pixels' data begin, behind colour profiles and the like
_MODES = {2: "LA", 3: "RGB", 4: "RGBA"}


def component_bits(stream: IO[bytes]) -> tuple[int, ...]:
    """The bits of each component. Empty where the file does not say."""
    stream.seek(0)
    head = stream.read(_SEARCHED_BYTES)
    at = head.find(_SIZ)
    if at < 0 or at + 42 > len(head):
        return ()
    count = int.from_bytes(head[at + 40 : at + 42], "big")
    return tuple((byte & 0x7F) + 1 for byte in head[at + 42 : at + 42 + 3 * count : 3])


def open_deep(image: Image.Image, stream: IO[bytes]) -> Image.Image | None:
    """Open a JPEG 2000 of more than 8 bits and several components, or return None where Pillow reads it.

    Raises:
        ValueError: its colours are of a kind that is not read, or imagecodecs is not installed.
    """
    bits = component_bits(stream)
    if len(bits) < 2 or max(bits) <= 8:
        return None
    if image.mode not in _MODES.values() or len(set(bits)) > 1:
        raise ValueError(f"a JPEG 2000 of a kind that is not read: {image.mode}, {bits} bits")
    try:
        decode = require("imagecodecs", "codecs").jpeg2k_decode
    except MissingExtraError as error:
        raise ValueError(f"JPEG 2000 of more than 8 bits: {error}") from error
    stream.seek(0)
    return Deferred("JPEG2000", image.size, 1, partial(_decoded, decode, stream.read(), bits[0]))


def _decoded(decode: Callable[..., npt.NDArray[Any]], data: bytes, bits: int) -> Image.Image:
    pixels = decode(data, numthreads=1)
    if pixels.ndim != 3 or pixels.shape[2] not in _MODES or pixels.dtype != np.uint16:
        raise ValueError(f"a JPEG 2000 of a kind that is not read: {pixels.dtype} {pixels.shape}")
    return Image.fromarray((pixels >> (bits - 8)).astype(np.uint8), _MODES[pixels.shape[2]])


def stretched(image: Image.Image, stream: IO[bytes]) -> Image.Image:
    """A loaded JPEG 2000, where its components have fewer than 8 bits from black to white, and its indices from 0 on."""
    bits = component_bits(stream)
    if not bits or min(bits) >= 8:
        return image
    if image.mode in ("P", "PA"):
        raise ValueError(f"a JPEG 2000 of a kind that is not read: a palette, {bits} bits")
    if len(bits) != len(image.getbands()):
        raise ValueError(f"a JPEG 2000 of a kind that is not read: {image.mode}, {bits} bits")
    table = [
        value if bit >= 8 else ((value >> (8 - bit)) * 255 + 2**bit // 2 - 1) // (2**bit - 1)
        for bit in bits
        for value in range(256)
    ]
    made = image.point(table)
    made.format = image.format
    return made
