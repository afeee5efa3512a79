"""The contract: how any image file becomes ``uint8 (height, width, 3)`` RGB. Pillow carries it out, and where it reads a
file wrongly, or not at all, the modules `tiff`, `jpeg2000`, `mending` and `extra_formats` beside this one.

Every faster decoder is measured against this module.

| file | rule |
|---|---|
| EXIF orientation 1–8 | applied; any other value, one in a damaged block that Pillow cannot read, and XMP's are ignored |
| grey, 1 bit, YCbCr, Lab | converted to RGB |
| palette | looked up; a transparent entry counts as alpha |
| a transparent colour (PNG) | counts as alpha |
| alpha | composited onto white, as a page would show it |
| a fourth sample that nothing calls alpha, or alpha that is zero in every pixel (TIFF, BMP, Targa) | no alpha |
| 9 to 16 bits a channel | the high byte (colour PPM: rounded) |
| 32-bit integers | taken as 16 bits; refused where a value is below 0 or above 65,535 |
| CMYK, YCCK | Pillow's conversion; colour profiles are ignored |
| animated, several pages | the first frame |
| a JPEG of 179 to 358 megapixels | decoded at a half |
| more than `isc_fast.decoders.limits` allow | refused before it is decoded |
| truncated, empty, no image, floating point, none of `isc_fast.decoders.opening.FORMATS` | refused |

Then the photo is resized as its `isc_fast.decoders.preprocessing.Preprocessing` says:

| preprocessing | rule |
|---|---|
| stretch | Pillow's ``resize`` to the size of the input |
| short_side_crop | the smallest size of the photo's aspect ratio that covers the input, its long side rounded down, and of that \
the middle, as torchvision's Resize and CenterCrop |
| pad | the largest size of the photo's aspect ratio that fits into the input, its short side rounded, in the middle (or half a \
pixel to the left, or up) |
| without antialiasing | Pillow's kernels at the width that they have where a photo grows; each value is rounded once |

The published networks were trained and evaluated with stretch, bilinear and antialiased. Pillow 13 resizes columns before
rows where that saves work, as for photos that are enlarged in width alone: there one value in five is one grey level off what
Pillow 12 makes.
"""

from __future__ import annotations

import math
from typing import IO

import numpy as np
from PIL import Image

from ..items import Doubles, Ints, Photo, Pixels
from .colours import to_rgb, turned
from .cutting import views_of
from .limits import ROOM, bytes_of
from .opening import load_image, open_image, open_photo, problems
from .preprocessing import Preprocessing

_LONGEST_WHOLE = 16
"""A photo is resized as a whole, and then cropped, up to this multiple of the input's pixels. Beyond it only the crop is
computed, which may differ by a few grey levels: at 224 rows, a panorama of 100,000 × 10 pixels would be 2 million pixels wide."""

_TIE = 1e-9  # a value that is a half but for the last bits of its sum is rounded up, whatever the order of the sum

_FILTERS = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}


def load_input(photo: Photo, height: int, width: int) -> Pixels:
    """Decode a photo into ``uint8 (height, width, 3)`` RGB: stretched, bilinear, antialiased.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    return prepare(photo, Preprocessing(height, width))


def prepare(photo: Photo, preprocessing: Preprocessing) -> Pixels:
    """Decode a photo into network input ``uint8 (height, width, 3)`` RGB; several views lie below each other.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    with problems(), open_photo(photo) as stream:
        image = open_image(stream)
        with ROOM.taken(room_of(preprocessing) * bytes_of(image, stream)):
            whole = decode_rgb(image, stream)
            if preprocessing.only_whole:
                return fit(whole, preprocessing)
            return np.concatenate([fit(view, preprocessing) for view in views_of(whole, preprocessing.views)])


def room_of(preprocessing: Preprocessing) -> int:
    """How many times its bytes a decoded photo takes: views are cut out of it one after the other."""
    return 1 if preprocessing.only_whole else 2


def load_rgb(photo: Photo, shown: int | None = None) -> Image.Image:
    """Decode a photo by the rules of colour and orientation.

    Args:
        photo: any.
        shown: for people to look at, with so many pixels on its longer side: a JPEG that has more than four times as many is
            decoded to a half, a quarter or an eighth, which takes a fraction of the time. By default every photo has its full
            size, as descriptors need it.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    with problems(), open_photo(photo) as stream:
        image = open_image(stream)
        if shown is not None:
            # Pillow does this for JPEGs alone, and leaves at least so many pixels on either side.
            scale = 2 * shown / max(image.size)
            image.draft(None, (math.ceil(scale * image.width), math.ceil(scale * image.height)))
        return decode_rgb(image, stream)


def decode_rgb(image: Image.Image, stream: IO[bytes]) -> Image.Image:
    """Decode what `isc_fast.decoders.opening.open_image` opened, upright and as RGB. Call it inside `problems`."""
    image = load_image(image, stream)
    return to_rgb(turned(image), stream)


def fit(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Resize an RGB image to network input ``uint8 (height, width, 3)``."""
    return _FITS[preprocessing.resize](image, preprocessing)


def _stretch(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    return _resized(image, (preprocessing.width, preprocessing.height), preprocessing, (0, 0, *image.size))


def _short_side_crop(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    width, height = preprocessing.width, preprocessing.height
    if image.width * height >= image.height * width:
        whole = max(width, image.width * height // image.height), height
    else:
        whole = width, max(height, image.height * width // image.width)
    left, top = round((whole[0] - width) / 2), round((whole[1] - height) / 2)
    if whole[0] * whole[1] <= _LONGEST_WHOLE * width * height:
        made = _resized(image, whole, preprocessing, (0, 0, *image.size))
        return made[top : top + height, left : left + width]
    across, down = image.width / whole[0], image.height / whole[1]
    right, bottom = min((left + width) * across, image.width), min((top + height) * down, image.height)
    return _resized(image, (width, height), preprocessing, (left * across, top * down, right, bottom))


def _pad(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    scale = min(preprocessing.width / image.width, preprocessing.height / image.height)
    width = min(max(1, round(image.width * scale)), preprocessing.width)
    height = min(max(1, round(image.height * scale)), preprocessing.height)
    left, top = (preprocessing.width - width) // 2, (preprocessing.height - height) // 2
    page = np.empty((preprocessing.height, preprocessing.width, 3), np.uint8)
    page[:] = preprocessing.fill
    page[top : top + height, left : left + width] = _resized(image, (width, height), preprocessing, (0, 0, *image.size))
    return page


_FITS = {"stretch": _stretch, "short_side_crop": _short_side_crop, "pad": _pad}

_Box = tuple[float, float, float, float]


def _resized(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing, box: _Box) -> Pixels:
    """A box of an image (left, top, right, bottom) at a size (width, height)."""
    if preprocessing.antialias:
        return np.asarray(image.resize(size, _FILTERS[preprocessing.filter], box=box))
    columns, across = _taps(image.width, box[0], box[2], size[0], preprocessing.filter)
    rows, down = _taps(image.height, box[1], box[3], size[1], preprocessing.filter)
    photo = np.asarray(image)
    made = np.empty((*size[::-1], 3), np.uint8)
    for row, (nearest, weights) in enumerate(zip(rows, down, strict=True)):  # row by row: little memory for any size
        line = np.einsum("ywxc,y->wxc", photo[nearest[:, None, None], columns], weights)
        made[row] = np.clip(np.floor(np.einsum("wxc,wx->wc", line, across) + 0.5 + _TIE), 0, 255)
    return made


def _taps(length: int, start: float, end: float, count: int, filter_: str) -> tuple[Ints, Doubles]:
    """The pixels that each of ``count`` places along one side is interpolated from, and their weights, ``(count, taps)``."""
    support, kernel = _KERNELS[filter_]
    centres = start + (np.arange(count) + 0.5) * (end - start) / count
    first = np.ceil(centres - support - 0.5).astype(np.int64)
    pixels = first[:, None] + np.arange(2 * support)
    weights = kernel(np.abs(pixels + 0.5 - centres[:, None]))
    weights[(pixels < 0) | (pixels >= length)] = 0  # what is not there does not count, as in Pillow
    return np.clip(pixels, 0, length - 1), weights / weights.sum(axis=1, keepdims=True)


def _bilinear(x: Doubles) -> Doubles:
    return np.clip(1 - x, 0, None)


def _bicubic(x: Doubles) -> Doubles:
    """Pillow's, with a = −0.5."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: Doubles) -> Doubles:
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_KERNELS = {"bilinear": (1, _bilinear), "bicubic": (2, _bicubic), "lanczos": (3, _lanczos)}
"""By filter, how many pixels it reaches to each side, and its weight at a distance in pixels."""
