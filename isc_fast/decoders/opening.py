"""Opening photos: the one place where files of unknown origin are opened, and where it is decided which may be decoded.

Decoders, training, reports and exports all begin here. Nothing else in the package opens a photo.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from typing import IO

from PIL import ExifTags, Image, UnidentifiedImageError

from ..items import Photo, Problem
from .limits import MAX_JPEG_PIXELS, MAX_PIXELS, too_large, too_much

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA")
"""The formats that Pillow may try, whatever a file is called. It knows some thirty more, which are rarely used and rarely
tested, and it hands EPS files to Ghostscript: nothing that should meet files of unknown origin."""

Image.init()  # every plugin is imported here, once, and not by several threads at their first file
_KNOWN_FORMATS = tuple(name for name in FORMATS if name in Image.OPEN)  # Pillow before 11.3 has no AVIF


class ImageProblem(Exception):
    """An image that cannot become network input, with the stage and the reason."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(stage, reason)


def quiet_pillow() -> None:
    """Silence Pillow's warnings about single photos in this process: the ledger of failures says all that matters."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextlib.contextmanager
def problems() -> Iterator[None]:
    """Turn any exception inside into an `ImageProblem`: Pillow's plugins raise nearly anything on damaged data."""
    try:
        yield
    except ImageProblem:
        raise
    except Exception as error:
        raise _as_problem(error) from error


def open_photo(photo: Photo) -> IO[bytes]:
    """Open a photo of any kind as a stream of bytes.

    Raises:
        ImageProblem: it is a problem, its function fails, or its file cannot be opened.
    """
    while callable(photo):
        try:
            photo = photo()
        except Exception as error:  # a source may raise anything, and one photo must not end a run
            raise ImageProblem("read", _one_line(error)) from error
    if isinstance(photo, Problem):
        raise ImageProblem(photo.stage, photo.reason)
    return io.BytesIO(photo) if isinstance(photo, bytes) else _open_regular(photo)


def _open_regular(path: str) -> IO[bytes]:
    """Open a regular file. A named pipe called ``x.jpg`` would block the run for ever."""
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


def open_image(stream: IO[bytes]) -> Image.Image:
    """Read the header of an image and refuse what the contract refuses. Call it inside `problems`."""
    if not stream.read(1):
        raise ImageProblem("decode", "the file is empty")
    stream.seek(0)
    refusal = too_large(stream)
    if refusal is not None:
        raise ImageProblem("decode", refusal)
    image: Image.Image
    try:
        image = Image.open(stream, formats=_KNOWN_FORMATS)
    except Image.DecompressionBombError:
        image = _large_jpeg(stream)
    refusal = too_much(image, stream)
    if refusal is not None:
        raise ImageProblem("decode", refusal)
    return image


def _large_jpeg(stream: IO[bytes]) -> Image.Image:
    """Read the header of a JPEG without Pillow's limit: a JPEG is decoded at a fraction where it is large."""
    stream.seek(0)
    if stream.read(3) != b"\xff\xd8\xff":
        raise Image.DecompressionBombError
    stream.seek(0)
    return Image.OPEN["JPEG"][0](stream, "")


def is_jpeg(image: Image.Image) -> bool:
    """Whether an image is a JPEG. MPO is a JPEG with more of them behind it."""
    return image.format in ("JPEG", "MPO")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that counts, from 1 to 8, for callers that turn the pixels themselves; from 5 on, width and height
    change places."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # a damaged EXIF block, in any of its many ways: the pixels are fine, so they count
        return 1
    return int(value) if value in range(1, 9) else 1  # the text "6" does not count: Pillow ignores it too


def _one_line(error: Exception) -> str:
    """The text of an error, or its type: some texts quote the file's bytes, and some are long or empty."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split())[:200] or type(error).__name__


def _as_problem(error: Exception) -> ImageProblem:
    if isinstance(error, MemoryError):
        return ImageProblem("decode", "not enough memory")
    if isinstance(error, UnidentifiedImageError):
        return ImageProblem("decode", f"not an image of a known format ({', '.join(_KNOWN_FORMATS)})")
    if isinstance(error, Image.DecompressionBombError):
        return ImageProblem(
            "decode", f"decompression bomb: more than {MAX_PIXELS} pixels, or {MAX_JPEG_PIXELS} of a JPEG"
        )
    if isinstance(error, OSError) and error.errno:  # this is the disk's error, not Pillow's
        return ImageProblem("read", error.strerror or str(error))
    return ImageProblem("decode", _one_line(error))
