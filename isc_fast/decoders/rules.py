"""The preprocessing contract: how any image file becomes ``uint8 (height, width, 3)`` RGB.

This is the reference every faster decoder is measured against; `isc_fast.spec.PREPROCESSING` names it.

| file | rule |
|---|---|
| EXIF orientation 1–8 | applied; a damaged EXIF block is ignored |
| grey, 1 bit, YCbCr, HSV | converted to RGB |
| palette | looked up; a transparent entry counts as alpha |
| alpha | composited onto white, as a page would show it |
| 16 bits a channel | the high byte |
| CMYK, YCCK | Pillow's conversion; colour profiles are ignored |
| animated, several pages | the first frame |
| more than `MAX_PIXELS` | refused before it is decoded |
| truncated, empty, no image, floating point | refused |

Then the resize to the square: Pillow's ``resize(BILINEAR)``, antialiased, aspect ratio ignored, which is what the
published networks were trained and evaluated with.
"""

from __future__ import annotations

import os
import stat
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from . import Problem

MAX_PIXELS = 178_956_970
"""Width × height above which an image counts as a decompression bomb: Pillow's own limit."""


class ImageProblem(Exception):
    """An image that cannot become network input, with the stage and the reason."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(stage, reason)


def _open_regular(path: str) -> IO[bytes]:
    """Open a regular file; a named pipe called ``x.jpg`` would block the run for ever."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "is a folder" if os.path.isdir(path) else "is not a regular file"
            raise ImageProblem("read", kind)
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise ImageProblem("read", getattr(error, "strerror", None) or str(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """The colour rules of the contract."""
    if image.mode.startswith("I"):  # I;16, I;16B, I: a 16-bit grey image; Pillow's own conversion would clip to 255
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8), "L")
    if image.mode == "F":
        raise ImageProblem("decode", "floating-point pixels have no agreed range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


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
    with _open_regular(path) as stream:
        if not stream.read(1):
            raise ImageProblem("decode", "the file is empty")
        stream.seek(0)
        try:
            image = Image.open(stream)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageProblem("decode", f"decompression bomb: {width} × {height} pixels, limit {MAX_PIXELS}")
            image.load()
            _turn_upright(image)
            return _to_rgb(image)
        except ImageProblem:
            raise
        except UnidentifiedImageError as error:
            raise ImageProblem("decode", "not an image that Pillow can read") from error
        except Image.DecompressionBombError as error:
            raise ImageProblem("decode", f"decompression bomb: more than {MAX_PIXELS} pixels") from error
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged data
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageProblem("decode", reason) from error


def load_input(path: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Decode a file into network input ``uint8 (height, width, 3)``.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    image = load_rgb(path)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
