"""The rules of colour and orientation: how a decoded image of any mode becomes an upright RGB image."""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image

from . import tiff_directory
from .opening import ImageProblem, orientation
from .tiff import eight_bit_map

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What corrects each EXIF orientation; Pillow turns to the left."""
_CARELESS = ("TIFF", "BMP", "DIB", "TGA")
"""Formats whose writers often leave a fourth sample at zero that readers would take for alpha."""


def turned(image: Image.Image) -> Image.Image:
    """A loaded image, upright by the orientation that counts."""
    method = TURNS.get(orientation(image))
    if method is None or (image.format == "TIFF" and hasattr(image, "tag_v2")):  # Pillow has turned it
        return image
    made = image.transpose(method)
    made.format = image.format
    return made


def to_rgb(image: Image.Image, stream: IO[bytes]) -> Image.Image:
    """Apply the rules of colour. They make no copy that is not needed: each copy of 60 megapixels takes 240 MB.

    Args:
        image: loaded, of any mode.
        stream: its file.
    """
    if (
        image.format == "PNG"
        and "transparency" in image.info
        and image.mode != "P"
        and (keyed := _keyed(image, stream))
    ):
        return keyed
    if image.mode.startswith("I"):  # I;16, I;16B, I: a 16-bit grey image; Pillow's own conversion would clip to 255
        image = _high_byte(image)
    if image.mode == "F":
        raise ImageProblem("decode", "floating-point pixels have no agreed range")
    tags = getattr(image, "tag_v2", {})
    if image.mode in ("P", "PA") and (colours := tags.get(tiff_directory.COLOUR_MAP)) and max(colours) <= 255:
        image.putpalette(eight_bit_map(colours).tobytes())
    if image.has_transparency_data and _calls_alpha(image, stream):
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        if image.format not in _CARELESS or layer.getchannel("A").getextrema() != (0, 0):
            page = Image.new("RGB", layer.size, "white")
            page.paste(layer, mask=layer)
            return page
    return image if image.mode == "RGB" else image.convert("RGB")


def _keyed(image: Image.Image, stream: IO[bytes]) -> Image.Image | None:
    """A PNG whose transparent colour Pillow does not find, since it compares 4 and 16 bits with 8. None where it does."""
    key = image.info["transparency"]
    stream.seek(24)
    depth = stream.read(1)[0]
    if depth == 8 or isinstance(key, bytes):
        return None
    pixels = np.asarray(image)
    if image.mode == "RGB":
        stream.seek(0)
        low = Image.open(stream, formats=("PNG",))
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]  # takes the second byte of each sample
        wide = pixels.astype(np.uint16) << 8 | np.asarray(turned(low))
        hidden = (wide == np.array(key)).all(axis=2)
    elif image.mode.startswith("I"):
        hidden, pixels = pixels == key, (pixels >> 8).astype(np.uint8)
    else:
        pixels = np.asarray(image.convert("L"))
        hidden = pixels == key * 255 // ((1 << depth) - 1)
    page = Image.fromarray(pixels).convert("RGB")
    page.paste((255, 255, 255), mask=Image.fromarray(hidden))
    return page


def _high_byte(image: Image.Image) -> Image.Image:
    wide = np.asarray(image)
    if image.mode == "I" and wide.size and not 0 <= wide.min() <= wide.max() <= 65535:
        raise ImageProblem("decode", "integers below 0 or above 65,535 have no agreed range")
    return Image.fromarray((wide >> 8).astype(np.uint8), "L")


def _calls_alpha(image: Image.Image, stream: IO[bytes]) -> bool:
    """Whether the file says that its fourth sample is alpha, where Pillow takes any fourth sample for it."""
    if image.mode != "RGBA" or image.format not in _CARELESS:
        return True
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", None)
        return tags is None or tiff_directory.EXTRA in tags
    stream.seek(0)
    head = stream.read(70)
    if image.format == "TGA":
        return bool(head[17] & 15)  # the number of bits of each pixel that are alpha
    size, mask = (int.from_bytes(head[at : at + 4], "little") for at in (14, 66))
    return size >= 56 and mask != 0
