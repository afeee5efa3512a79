"""The preprocessing contract: how any image file becomes ``uint8 (height, width, 3)`` RGB.

This is the reference every faster decoder is measured against; `isc_fast.engines.spec.PREPROCESSING` names it.

| file | rule |
|---|---|
| EXIF orientation 1–8 | applied; any other value, or one that Pillow cannot read in a damaged block, is ignored |
| grey, 1 bit, YCbCr, Lab | converted to RGB |
| palette | looked up; a transparent entry counts as alpha |
| a transparent colour (PNG) | counts as alpha at 8 bits a channel; at others only Pillow knows |
| alpha | composited onto white, as a page would show it |
| 16 bits a channel | the high byte (colour PPM: rounded) |
| 32-bit integers | taken as 16 bits, clipped |
| CMYK, YCCK | Pillow's conversion; colour profiles are ignored |
| animated, several pages | the first frame |
| more than `MAX_PIXELS` | refused before it is decoded |
| truncated, empty, no image, floating point, none of `FORMATS` | refused |

Then the resize to the square: Pillow's ``resize(BILINEAR)``, antialiased, aspect ratio ignored, which is what the
published networks were trained and evaluated with. Pillow 13 resizes columns before rows where that saves work, as for
photos that are enlarged in width alone: there one value in five is one grey level off what Pillow 12 makes.
"""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .base import Problem

MAX_PIXELS = 178_956_970
"""Width × height above which an image counts as a decompression bomb: Pillow's own limit."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA")
"""What Pillow may try, whatever a file is called. It knows some thirty more, rarely used and rarely tested, and hands
an EPS file to Ghostscript: nothing that should meet files of unknown origin."""

Image.init()  # every plugin is imported here, once, and not by several threads at their first file
_KNOWN_FORMATS = tuple(name for name in FORMATS if name in Image.OPEN)  # Pillow before 11.3 has no AVIF


class ImageProblem(Exception):
    """An image that cannot become network input, with the stage and the reason."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(stage, reason)


def quiet_pillow() -> None:
    """Silence Pillow's warnings about one odd photo for this process: they say nothing that the ledger of failures does not."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextlib.contextmanager
def problems() -> Iterator[None]:
    """Whatever goes wrong inside is an `ImageProblem`: Pillow's plugins raise nearly anything on damaged data."""
    try:
        yield
    except ImageProblem:
        raise
    except Exception as error:
        raise _as_problem(error) from error


def open_regular(path: str) -> IO[bytes]:
    """Open a regular file; a named pipe called ``x.jpg`` would block the run for ever.

    Raises:
        ImageProblem: there is none, it is something else, or it cannot be opened.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open(path, "rb")
        if not stat.S_ISDIR(mode):
            raise ImageProblem("read", "is not a regular file")
    except (OSError, ValueError) as error:
        raise ImageProblem("read", getattr(error, "strerror", None) or str(error)) from error
    try:
        os.scandir(path).close()
    except OSError as error:
        raise ImageProblem("read", f"a folder that cannot be listed ({error.strerror or error})") from error
    raise ImageProblem("read", "is a folder")


def _to_rgb(image: Image.Image) -> Image.Image:
    """The colour rules of the contract. No copy that is not needed: of 60 megapixels each takes 240 MB."""
    if image.mode.startswith("I"):  # I;16, I;16B, I: a 16-bit grey image; Pillow's own conversion would clip to 255
        wide = np.asarray(image)
        if image.mode == "I":
            wide = np.clip(wide, 0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8), "L")
    if image.mode == "F":
        raise ImageProblem("decode", "floating-point pixels have no agreed range")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGB", layer.size, "white")
        page.paste(layer, mask=layer)
        return page
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that counts, 1 to 8, for who turns the pixels himself; from 5 on, width and height change places."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # as below
        return 1
    return int(value) if value in range(1, 9) else 1  # not the text "6", which `_turn_upright` ignores too


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # a damaged EXIF block, in any of its many ways: the pixels are fine, so they count
        return


def load_rgb(path: str) -> Image.Image:
    """Decode a file by the colour and orientation rules, at its full size.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    with open_regular(path) as stream:
        return read_rgb(stream)


def read_rgb(stream: IO[bytes]) -> Image.Image:
    """`load_rgb` from an open file.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    with problems():
        return decode_rgb(open_image(stream))


def open_image(stream: IO[bytes]) -> Image.Image:
    """Read the header alone, refusing what the contract refuses. Belongs inside `problems`."""
    if not stream.read(1):
        raise ImageProblem("decode", "the file is empty")
    image = Image.open(stream, formats=_KNOWN_FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageProblem("decode", f"decompression bomb: {width} × {height} pixels, limit {MAX_PIXELS}")
    return image


def decode_rgb(image: Image.Image) -> Image.Image:
    """Decode what `open_image` opened, upright and as RGB. Belongs inside `problems`."""
    image.load()
    _turn_upright(image)
    return _to_rgb(image)


def _as_problem(error: Exception) -> ImageProblem:
    if isinstance(error, MemoryError):
        return ImageProblem("decode", "not enough memory")
    if isinstance(error, UnidentifiedImageError):
        return ImageProblem("decode", f"not an image of a known format ({', '.join(_KNOWN_FORMATS)})")
    if isinstance(error, Image.DecompressionBombError):
        return ImageProblem("decode", f"decompression bomb: more than {MAX_PIXELS} pixels")
    if isinstance(error, OSError) and error.errno:  # the disk's, not Pillow's
        return ImageProblem("read", error.strerror or str(error))
    text = "".join(c if c.isprintable() else " " for c in str(error))  # some quote the file's bytes
    return ImageProblem("decode", " ".join(text.split())[:200] or type(error).__name__)


def load_input(path: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Decode a file into network input ``uint8 (height, width, 3)``.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    image = load_rgb(path)
    with problems():
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
