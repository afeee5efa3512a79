"""Decoding on the processor with Pillow's pixels in less time: libjpeg-turbo, and a vectorised resize in Pillow's order.

Pillow reads the header of every file, so it alone says what is an image, how large it is and which way up. Then
libjpeg-turbo (`simplejpeg`) decodes grey and colour JPEGs strictly: at its first warning Pillow decodes the file instead and
says whether it is good. Pillow decodes everything else too. Both give the same pixels.

`cykooz_resizer` resizes. Its weights have 14 or 15 bits where Pillow's have 22: a value next to a half is
rounded the other way. Of 1,975 photos and edited copies at 224 × 224, 0.14 % of the values differ by one grey level and 2 of
297 million by two, where both passes do that; of photos of 1024 × 768 at 512 × 512 none differs.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import IO, Any

import numpy as np
from PIL import Image, __version__

from ..errors import MissingExtraError, require
from ..items import Photo, Pixels
from ..machine.versions import installed
from .cutting import seen, upright
from .limits import ROOM, bytes_of, is_scaled, jpeg_bytes
from .opening import is_jpeg, open_image, open_photo, orientation, problems
from .preprocessing import FIRST_NAME, Preprocessing
from .rules import decode_rgb, room_of
from .threads import ThreadedDecoder
from .views import TENTHS, least_tenths

_PILLOW_VERSIONS = range(11, 14)
"""Major versions of Pillow whose images in memory `cykooz_resizer` 4 knows. From another version it might read anything."""

_KEPT_BYTES = 1 << 26
"""Buffers up to this size, a photo of 16 megapixels, stay with their thread: a fresh one costs 20 ms of page faults."""

_PITCH = 16
"""Pixels between two rows of the result. Without them the rows of a 512 × 512 image lie 2048 bytes apart, all in the same
few lines of the cache, and turning it takes 1.8 ms; with them 0.3 ms."""


def _library(module: str) -> ModuleType:
    """Import one of the two libraries. The error names the extra that this installation has."""
    return require(module, "gpu" if installed(["onnxruntime-gpu"]) else "cpu")


class _PerThread(threading.local):
    """The resizer and the buffers of each thread: a resizer does one image at a time."""

    def __init__(self, resizer: Any) -> None:
        self.resizer = resizer()
        self._buffers: dict[str, Pixels] = {}

    def buffer(self, use: str, size: int) -> Pixels:
        """``uint8 (size,)`` with any content."""
        found = self._buffers.get(use)
        if found is None or len(found) < size:
            found = np.empty(size, np.uint8)
            if size <= _KEPT_BYTES:
                self._buffers[use] = found
        return found[:size]


class TurboDecoder(ThreadedDecoder):
    """See the module's text.

    Args:
        workers: threads that decode; by default one for each core of this process.

    Raises:
        InputError: there is no thread, or the program accepts truncated photos.
        MissingExtraError: one of the two libraries is not installed, or they do not know this Pillow.
    """

    name = "turbo"

    def __init__(self, workers: int | None = None) -> None:
        super().__init__(workers)
        self.check()
        self._decode_jpeg: Any = _library("simplejpeg").decode_jpeg
        resizing = _library("cykooz_resizer")
        bilinear = resizing.ResizeAlg.convolution(resizing.FilterType.bilinear)
        self._options: Any = resizing.ResizeOptions(resize_alg=bilinear, use_alpha=False)
        self._thread = _PerThread(resizing.Resizer)

    @classmethod
    def check(cls) -> None:
        """See `isc_fast.decoders.threads.ThreadedDecoder.check`."""
        for module in ("simplejpeg", "cykooz_resizer"):
            _library(module)
        if int(__version__.partition(".")[0]) not in _PILLOW_VERSIONS:
            raise MissingExtraError(
                f"the decoder {cls.name} knows Pillow {_PILLOW_VERSIONS[0]} to {_PILLOW_VERSIONS[-1]}, and {__version__} is "
                f"installed; use the decoder pillow, or run: pip install 'pillow<{_PILLOW_VERSIONS.stop}'"
            )

    @classmethod
    def can(cls, preprocessing: Preprocessing) -> bool:
        """See `isc_fast.decoders.base.Decoder`."""
        return preprocessing.name == FIRST_NAME

    def decode_into(self, photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> None:
        """See `isc_fast.decoders.threads.ThreadedDecoder.decode_into`."""
        if not self.can(preprocessing):
            super().decode_into(photo, preprocessing, slot)
            return
        least = least_tenths(preprocessing.views)
        width, height = (-(-TENTHS * side // least) for side in (preprocessing.width, preprocessing.height))
        slots = slot.reshape(-1, preprocessing.height, preprocessing.width, 3)
        with problems(), open_photo(photo) as stream:
            header = open_image(stream)
            with ROOM.taken(room_of(preprocessing) * bytes_of(header, stream)):
                turn = orientation(header) if is_jpeg(header) else 1
                image = self._read_jpeg(stream, header, _swapped((width, height), turn))
                if image is None:
                    image, turn = decode_rgb(header, stream), 1
                for into, (part, turned) in zip(slots, seen(image, turn, preprocessing.views), strict=True):
                    self._resize_into(part, turned, into)

    def _read_jpeg(self, stream: IO[bytes], header: Image.Image, target: tuple[int, int]) -> Image.Image | None:
        """Decode a JPEG, not turned: an image of mode L, or of mode CMYK whose four channels are R, G, B and nothing.

        CMYK is the mode of four bytes that both Pillow maps from a buffer and the resizer takes as it is.

        Returns:
            None where Pillow has to decode the file.
        """
        if not is_jpeg(header) or header.mode not in ("L", "RGB") or is_scaled(header):
            return None
        mode, colours = ("L", "GRAY") if header.mode == "L" else ("CMYK", "RGBX")
        eighths = self._eighths(header.size, target)
        width, height = (-(-side * eighths // 8) for side in header.size)
        least = {} if eighths == 8 else {"min_width": width, "min_height": height}
        buffer = self._thread.buffer("photo", width * height * len(mode))
        stream.seek(0)
        try:
            made = self._decode_jpeg(stream.read(jpeg_bytes(header.size)), colours, buffer=buffer, strict=True, **least)
        except (ValueError, RuntimeError):  # libjpeg-turbo's errors and warnings, or it could not begin
            return None
        if made.shape[:2] != (height, width):  # Pillow has read another header
            return None
        return _mapped(mode, (width, height), buffer)

    def _eighths(self, _size: tuple[int, int], _target: tuple[int, int]) -> int:
        """The eighths of its width and height at which a JPEG is decoded."""
        return 8

    def _resize_into(self, photo: Image.Image, turn: int, slot: Pixels) -> None:
        """Resize and turn a photo of mode L, CMYK (as above) or RGB.

        The two passes have Pillow's order, since each rounds to whole grey levels: the other way round one pixel in seven
        differs. A photo that has to be turned is resized as it is stored, with its passes exchanged, and turned when it is small.
        """
        height, width = slot.shape[:2]
        columns_first = _columns_first(_swapped(photo.size, turn), (width, height)) != (turn > 4)
        width, height = end = _swapped((width, height), turn)
        channels = 1 if photo.mode == "L" else 4
        for use, size in (("between", (photo.width, height) if columns_first else (width, photo.height)), ("end", end)):
            pitch = (size[0] + _PITCH) * channels
            buffer = self._thread.buffer(use, size[1] * pitch)
            # The resizer wants equal modes, but fills RGBA from RGB; after that the four bytes are CMYK, as above.
            into = _mapped("RGBA" if photo.mode == "RGB" else photo.mode, size, buffer, pitch)
            self._thread.resizer.resize_pil(photo, into, self._options)
            photo = _mapped("L" if channels == 1 else "CMYK", size, buffer, pitch)
        pixels = upright(buffer.reshape(height, width + _PITCH, channels)[:, :width], turn)
        for channel in range(3):  # 0.2 ms; all three in one assignment take 1.9
            slot[..., channel] = pixels[..., channel % channels]


class TurboScaledDecoder(TurboDecoder):
    """As turbo, but large JPEGs are decoded at a half, a quarter or an eighth, never below the size that is wanted.

    The pixels differ from the contract's; bench/decode.py measures how far descriptors move. Only these three fractions have
    vectorised transforms; five to seven eighths take longer than the whole photo (1024 × 768: 3.3 to 4.8 ms against 2.4).
    """

    name = "turbo-scaled"

    def _eighths(self, size: tuple[int, int], target: tuple[int, int]) -> int:
        for eighths in (1, 2, 4):
            if all(-(-side * eighths // 8) >= wanted for side, wanted in zip(size, target, strict=True)):
                return eighths
        return 8


def _swapped(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size as stored of an upright size, and the other way round: from orientation 5 on, width and height change places."""
    return (size[1], size[0]) if orientation > 4 else size


def _columns_first(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether this Pillow resizes columns before rows, ``(width, height)`` to ``(width, height)``.

    Pillow 11 and 12 never do; 13 does where it saves work. Tests hold both against the Pillow that is installed.
    """
    across, down = size[0] - target[0], size[1] - target[1]
    return _SAVES_WORK and down > 0 and down > 2 * across


def _saves_work() -> bool:
    """Whether this Pillow chooses the order of its passes: here it resizes columns first, and the result shows it."""
    photo = Image.frombytes("L", (8, 64), bytes(i * i % 251 for i in range(8 * 64)))
    small, filter_ = (7, 16), Image.Resampling.BILINEAR
    made, columns_first = photo.resize(small, filter_), photo.resize((8, 16), filter_).resize(small, filter_)
    return made.tobytes() == columns_first.tobytes()


_SAVES_WORK = _saves_work()


def _mapped(mode: str, size: tuple[int, int], buffer: Pixels, pitch: int = 0) -> Image.Image:
    """An image whose pixels are those of the buffer, in rows ``pitch`` bytes apart, without a copy."""
    return Image.frombuffer(mode, size, buffer, "raw", mode, pitch, 1)
