"""Opening photos: the one place where files of unknown origin are opened, and where it is decided which may be decoded.

Decoders, training, reports and exports all begin here. Nothing else in the package opens a photo.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from typing import IO, Any

from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import MissingExtraError, StoreError
from ..files.reading import one_line
from ..items import Photo, Problem
from . import tiff_directory
from .deferred import Deferred
from .extra_formats import HEAD, extra_of
from .jpeg2000 import open_deep, stretched
from .limits import MAX_JPEG_PIXELS, MAX_PIXELS, too_large, too_much
from .mending import mended
from .tiff import open_tiff

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
    """Turn any exception inside into an `ImageProblem`: Pillow's plugins raise nearly anything on damaged data.

    Raises:
        StoreError: a store cannot be reached. That is no fault of the photo, and ends the run.
    """
    try:
        yield
    except (ImageProblem, StoreError):
        raise
    except Exception as error:
        raise _as_problem(error) from error


def open_photo(photo: Photo) -> IO[bytes]:
    """Open a photo of any kind as a stream of bytes.

    Raises:
        ImageProblem: it is a problem, its function fails, or its file cannot be opened.
        StoreError: the store that has it cannot be reached.
    """
    while callable(photo):
        try:
            photo = photo()
        except StoreError:
            raise  # the photo is as good as it was, and the same command goes on with it
        except Exception as error:  # a source may raise anything, and one photo must not end a run
            raise ImageProblem("read", one_line(error)) from error
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
    """Read the header of an image and refuse what the contract refuses. Call it inside `problems`.

    The image is loaded by `load_image`, which needs the stream again.
    """
    head = stream.read(HEAD)
    if not head:
        raise ImageProblem("decode", "the file is empty")
    stream.seek(0)
    _refuse(too_large(stream))
    image = _open_kind(stream, head)
    _refuse(too_much(image, stream))
    return image


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise ImageProblem("decode", reason)


def load_image(image: Image.Image, stream: IO[bytes]) -> Image.Image:
    """Decode what `open_image` opened, not turned but for TIFFs that Pillow reads. Call it inside `problems`.

    Returns:
        the image, or another one of the same picture, where the file has to be mended.
    """
    _forget_xmp(image)
    try:
        image.load()
        return stretched(image, stream) if image.format == "JPEG2000" else image
    except Exception as error:
        return _second_try(stream, error)


def _open_kind(stream: IO[bytes], head: bytes) -> Image.Image:
    """Open a file by what it is: an extra's format, a TIFF that Pillow does not read rightly, or one of Pillow's formats."""
    directory = tiff_directory.read_directory(stream) if tiff_directory.is_tiff(head) else None
    extra = extra_of(head, directory)
    if extra is not None:
        try:
            return extra.open(stream)
        except MissingExtraError as error:
            raise ImageProblem("decode", f"{extra.noun}: {error}") from error
        except Exception as error:
            raise ImageProblem("decode", f"{extra.noun} that is damaged: {one_line(error)}") from error
    image = None if directory is None else open_tiff(stream, directory)
    if image is not None:
        return image
    stream.seek(0)
    try:
        image = Image.open(stream, formats=_KNOWN_FORMATS)
        deep = open_deep(image, stream) if image.format == "JPEG2000" else None
        return image if deep is None else deep
    except Image.DecompressionBombError:
        return _large_jpeg(stream)
    except UnidentifiedImageError as error:
        return _second_try(stream, _why_not(stream, head) or error)
    except Exception as error:
        return _second_try(stream, error)


def _large_jpeg(stream: IO[bytes]) -> Image.Image:
    """Read the header of a JPEG without Pillow's limit: a JPEG is decoded at a fraction where it is large."""
    stream.seek(0)
    if stream.read(3) != b"\xff\xd8\xff":
        raise Image.DecompressionBombError
    stream.seek(0)
    return Image.OPEN["JPEG"][0](stream, "")


def _why_not(stream: IO[bytes], head: bytes) -> Exception | None:
    """What Pillow's plugin has against a file that begins as its format does; Pillow itself does not say."""
    for form in _KNOWN_FORMATS:
        opener, accept = Image.OPEN[form]
        if accept is not None and accept(head) is True:
            try:
                stream.seek(0)
                opener(stream, "")
            except Exception as error:
                return ImageProblem(
                    "decode", f"a {form} file that is damaged, or of a kind that is not read: {one_line(error)}"
                )
    return None


def _second_try(stream: IO[bytes], error: Exception) -> Image.Image:
    """The image of a file that was refused, where it can be mended. Else the error is raised again."""
    if isinstance(error, (MemoryError, Image.DecompressionBombError)):
        raise error
    try:
        made = mended(stream)
    except UnidentifiedImageError:
        made = None
    if made is None:
        raise error
    return made


def is_jpeg(image: Image.Image) -> bool:
    """Whether an image is a JPEG. MPO is a JPEG with more of them behind it."""
    return image.format in ("JPEG", "MPO")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that counts, from 1 to 8; from 5 on, width and height change places. XMP's does not count.

    Pillow turns TIFFs while it loads them: after that, theirs is 1.
    """
    if isinstance(image, Deferred):
        return image.turn
    try:
        value = _exif(image).get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # a damaged EXIF block, in any of its many ways: the pixels are fine, so they count
        return 1
    return int(value) if value in range(1, 9) else 1  # the text "6" does not count: Pillow ignores it too


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of what `open_image` opened, upright."""
    tags = getattr(image, "tag_v2", None)
    width, height = image.size if tags is None else (tags[tiff_directory.WIDTH], tags[tiff_directory.LENGTH])
    return (height, width) if orientation(image) > 4 else (width, height)


def _exif(image: Image.Image) -> Mapping[int, Any]:
    """The tags of an image's EXIF block. Pillow's own method looks into XMP too."""
    tags: Mapping[int, Any] | None = getattr(image, "tag_v2", None)
    if tags is not None:
        return tags
    block = image.info.get("exif")
    if block is None and (text := image.info.get("Raw profile type exif")) is not None:
        block = bytes.fromhex("".join(text.split("\n")[3:]))
    exif = Image.Exif()
    exif.load(block or b"")
    return exif


def _forget_xmp(image: Image.Image) -> None:
    """Remove XMP from a TIFF before Pillow turns it, since Pillow looks there for an orientation."""
    image.info.pop("xmp", None)


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
    return ImageProblem("decode", one_line(error))
