"""Every kind of picture file against the numbers that were written and against other readers: `test_picture_kinds.py` at length.

    python tests/torture/formats.py [--share 1.0] [--magick]

The other readers are OpenCV, libvips (`pip install opencv-python-headless pyvips-binary pyvips`), tifffile and, with --magick,
ImageMagick's `convert`; each is left out where it is not installed. It prints how many files of each kind were decoded, how
many were confirmed by two of them, and each file that was decoded wrongly or not at all. The exit status is 1 if any is wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import shutil
import subprocess
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pictures import Picture, everything, three

from isc_fast.decoders.opening import ImageProblem
from isc_fast.decoders.rules import load_rgb

Reader = Callable[[bytes], "np.ndarray | None"]
CLOSE = 2
"""Grey levels that two readers may differ by at most where nothing is lossy: they round 16 bits and alpha in their own ways."""


def page(pixels: np.ndarray) -> np.ndarray:
    """Samples of a reader as ``int (h, w, 3)`` on white."""
    pixels = pixels >> 8 if pixels.dtype == np.uint16 else pixels
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    colour, cover = (pixels[..., :-1], pixels[..., -1:]) if pixels.shape[2] in (2, 4) else (pixels, None)
    colour = three(colour[..., 0]) if colour.shape[2] == 1 else colour
    if cover is None:
        return colour.astype(int)
    return np.round(colour * (cover / 255) + 255 * (1 - cover / 255)).astype(int)


def opencv() -> Reader:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

    def read(data: bytes) -> np.ndarray | None:
        made = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return None if made is None else made[..., ::-1].astype(int)

    return read


def libvips() -> Reader:
    import pyvips

    def read(data: bytes) -> np.ndarray | None:
        image = pyvips.Image.new_from_buffer(data, "").autorot()
        image = image.colourspace("srgb")
        if image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        return page(image.cast("uchar").numpy())

    return read


def tifffile_() -> Reader:
    import tifffile

    def read(data: bytes) -> np.ndarray | None:
        if data[:2] not in (b"II", b"MM"):
            return None
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            first = file.pages[0]
            samples = first.asarray()
            if first.planarconfig == 2 and samples.ndim == 3:
                samples = np.moveaxis(samples, 0, 2)
            if samples.dtype not in (np.uint8, np.uint16) or first.photometric not in (0, 1, 2):
                return None
            if first.bitspersample not in (8, 16) or (274 in first.tags and first.tags[274].value != 1):
                return None
            extra = first.tags.get(338)
            colours = 3 if first.photometric == 2 else 1
            kept = samples if samples.ndim == 2 else samples[..., :colours]
            kept = ~kept if first.photometric == 0 else kept
            if extra is not None and 2 in np.atleast_1d(extra.value) and samples[..., colours].any():
                return page(np.concatenate((kept, samples[..., colours:][..., :1]), axis=2))
            return None if extra is not None and 1 in np.atleast_1d(extra.value) else page(kept)

    return read


def magick() -> Reader:
    if shutil.which("/usr/bin/convert") is None:
        raise ImportError("convert")

    def read(data: bytes) -> np.ndarray | None:
        for source in ("-[0]", "tga:-[0]"):  # a Targa does not say what it is
            flat = ["-auto-orient", "-background", "white", "-alpha", "remove", "-colorspace", "sRGB", "-depth", "8"]
            orders = ["/usr/bin/convert", "-quiet", source, *flat, "ppm:-"]
            made = subprocess.run(orders, input=data, capture_output=True, timeout=30)
            if made.returncode == 0 and made.stdout:
                return np.asarray(load_rgb(made.stdout)).astype(int)
        return None

    return read


def opened(data: bytes) -> tuple[np.ndarray | None, str]:
    try:
        return np.asarray(load_rgb(data)).astype(int), ""
    except ImageProblem as error:
        return None, error.problem.reason


def agree(one: np.ndarray | None, other: np.ndarray, tolerance: int) -> bool:
    return one is not None and one.shape == other.shape and int(np.abs(one - other).max()) <= tolerance


def main() -> int:
    """Print the tables and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the 4,000 TIFFs of each layout, 0 to 1")
    parser.add_argument("--magick", action="store_true", help="ask ImageMagick too: a process for each file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    readers: dict[str, Reader] = {}
    makers = {"opencv": opencv, "libvips": libvips, "tifffile": tifffile_} | (
        {"magick": magick} if arguments.magick else {}
    )
    for name, make in makers.items():
        with suppress(ImportError, OSError):
            readers[name] = make()
    decoded, refused, confirmed, read_by = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    wrong: list[tuple[str, str]] = []
    reasons: dict[str, list[str]] = defaultdict(list)
    alone: dict[str, list[str]] = defaultdict(list)
    for picture in everything(arguments.share):
        got, reason = opened(picture.data)
        if got is None:
            refused[picture.kind] += 1
            reasons[reason].append(picture.name)
            if picture.right is not None:
                wrong.append((picture.name, f"refused: {reason}"))
            continue
        decoded[picture.kind] += 1
        if picture.right is None or not agree(got, picture.right, picture.tolerance):
            wrong.append((picture.name, "decoded, and not what was written"))
        votes = _votes(picture, got, readers)
        read_by.update(votes)
        confirmed[picture.kind] += len(votes) >= 2
        if not votes:
            alone[picture.kind].append(picture.name)
    print(f"readers: {', '.join(readers)}")
    print(f"{'kind':<22}{'decoded':>9}{'refused':>9}{'two readers agree':>19}{'no reader agrees':>18}")
    for kind in sorted({*decoded, *refused}):
        print(f"{kind:<22}{decoded[kind]:>9}{refused[kind]:>9}{confirmed[kind]:>19}{len(alone[kind]):>18}")
    for name, count in read_by.items():
        print(f"{name} agrees on {count}")
    for reason, names in reasons.items():
        print(f"refused {len(names)}: {reason} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})")
    for kind, names in alone.items():
        if not names:
            continue
        print(f"no other reader agrees, {kind}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}")
    for name, what in wrong:
        print(f"WRONG {name}: {what}")
    total = {
        "decoded": decoded.total(),
        "refused": refused.total(),
        "two_readers": confirmed.total(),
        "wrong": len(wrong),
    }
    print(json.dumps(total))
    return 1 if wrong else 0


def _votes(picture: Picture, got: np.ndarray, readers: dict[str, Reader]) -> list[str]:
    """The readers that see the same picture."""
    votes = []
    for name, read in readers.items():
        with suppress(Exception):  # it does not read this file: no vote
            if agree(read(picture.data), got, max(CLOSE, picture.tolerance)):
                votes.append(name)
    return votes


if __name__ == "__main__":
    sys.exit(main())
