"""TIFF pages: which of them Pillow reads rightly, and the reader of the others.

Pillow reads most pages. It takes 16-bit samples in planes for something else, does not invert 16-bit white-is-zero, does not
scale 12 bits, and knows only some combinations of samples. Those pages are read here, from their bytes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import IO

import numpy as np
from PIL import Image

from ..items import Pixels
from . import tiff_directory as tiff
from .deferred import Deferred
from .tiff_directory import Directory
from .tiff_samples import Samples, byte_stream, read_samples

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
_NAMES = {
    4: "a transparency mask",
    6: "YCbCr",
    8: "Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "a camera's colour filters",
    34892: "linear raw",
}
_ASSOCIATED, _STRAIGHT = 1, (2, 999)  # 999 is Corel's
_MOST_SAMPLES = 16
_FORMS = {2: (16, 32), 3: (32,)}
"""Depths of one sample that Pillow opens, signed or floating point, by sample format. The rules look at the values."""

_RAW = 1  # the compression that is none


def _page(directory: Directory) -> tuple[int, tuple[int, ...], int, tuple[int, ...]]:
    """The photometric interpretation, bits of each sample, sample format and extra samples of a page.

    Raises:
        ValueError: they contradict each other.
    """
    photometric = directory.one(tiff.PHOTOMETRIC, _WHITE_IS_ZERO)
    samples = directory.one(tiff.SAMPLES, 1)
    if not 0 < samples <= _MOST_SAMPLES:
        raise ValueError(f"a TIFF with {samples} samples a pixel")
    bits = directory.tags.get(tiff.BITS, (1,))
    bits = bits * samples if len(bits) == 1 else bits[:samples]
    form = directory.tags.get(tiff.FORMAT, (1,))
    return photometric, bits, max(form), directory.tags.get(tiff.EXTRA, ())


def open_tiff(stream: IO[bytes], directory: Directory) -> Image.Image | None:
    """Open a page that Pillow would read wrongly or not at all, or return None where Pillow reads it.

    Raises:
        ValueError: nothing reads it rightly; the text says why.
    """
    photometric, bits, form, extra = _page(directory)
    if _pillow_reads(directory, photometric, bits, form, extra):
        return None
    width, height = directory.one(tiff.WIDTH, 0), directory.one(tiff.LENGTH, 0)
    if not width or not height:
        raise ValueError("a TIFF without a width or height")
    if form in (3, 6):
        raise ValueError("floating-point pixels have no agreed range")
    if form in (2, 5):
        raise ValueError("a TIFF of signed samples, which have no agreed range")
    turn = directory.one(tiff.ORIENTATION, 1)
    turn = turn if turn in range(1, 9) else 1
    if photometric == _YCBCR and bits == (8, 8, 8) and byte_stream(directory) and directory.one(tiff.PLANAR, 1) == 1:
        return Deferred("TIFF", (width, height), turn, partial(_read_ycbcr, stream, directory))
    if photometric not in _COLOURS:
        raise ValueError(
            f"a TIFF of a kind that is not read: {_NAMES.get(photometric, f'photometric {photometric}')}, {bits} bits"
        )
    if min(bits) > 16:
        raise ValueError(f"a TIFF of {bits[0]}-bit integers, which have no agreed range")
    if len(set(bits)) > 1 or not 0 < bits[0] <= 16:
        raise ValueError(f"a TIFF of a kind that is not read: {bits} bits")
    if len(bits) < _COLOURS[photometric]:
        raise ValueError(f"a TIFF with {len(bits)} samples a pixel where there must be {_COLOURS[photometric]}")
    if not byte_stream(directory):
        raise ValueError(
            f"a TIFF of a kind that is not read: compression {directory.one(tiff.COMPRESSION, 1)} of {bits} bits"
        )
    if photometric == _CMYK and directory.one(tiff.INKS, 1) != 1:
        raise ValueError("a TIFF of other inks than CMYK")
    make = partial(_read, stream, directory, photometric, bits, extra)
    return Deferred("TIFF", (width, height), turn, make)


def _pillow_reads(
    directory: Directory, photometric: int, bits: tuple[int, ...], form: int, extra: tuple[int, ...]
) -> bool:
    """Whether Pillow reads a page rightly. The tests hold this against other readers, combination by combination."""
    planar = directory.one(tiff.PLANAR, 1) == 2
    depth = bits[0]
    if (directory.big and directory.order == ">") or (
        form != 1 and not (len(bits) == 1 and depth in _FORMS.get(form, ()))
    ):
        return False
    if len(set(bits)) > 1 or (directory.one(tiff.FILL_ORDER, 1) == 2 and depth >= 8):
        return False
    if not byte_stream(directory):  # JPEG, fax and others: libtiff knows what the samples mean
        return not (planar and len(bits) > 1 and depth != 8)
    if planar:
        return (
            depth == 8
            and len(bits) > 1
            and photometric in (_RGB, _CMYK)
            and not extra
            and len(bits) == _COLOURS[photometric]
        )
    match photometric:
        case 0:
            return len(bits) == 1 and depth in (1, 2, 4, 8)
        case 1 if len(bits) == 1:
            return depth in (1, 2, 4, 8, 16, 32)
        case 1:
            return bits == (8, 8) and extra in ((0,), (2,))
        case 2:
            return depth in (8, 16) and (len(bits) == 3 or (len(bits) == 4 and extra in ((), (0,), (2,), (999,))))
        case 3:
            return depth in (1, 2, 4, 8) and len(bits) == 1
        case 5:
            return depth in (8, 16) and len(bits) == 4 and not extra and directory.one(tiff.INKS, 1) == 1
        case 6:
            raw = directory.one(tiff.COMPRESSION, _RAW) == _RAW
            return bits == (8, 8, 8) and not (raw and directory.tags.get(tiff.SUBSAMPLING, (2, 2)) != (1, 1))
        case 8:
            return bits == (8, 8, 8)
    return False


def _read(
    stream: IO[bytes], directory: Directory, photometric: int, bits: tuple[int, ...], extra: tuple[int, ...]
) -> Image.Image:
    """Read a page as an image of mode L, LA, RGB, RGBA or CMYK."""
    colours, depth = _COLOURS[photometric], bits[0]
    kinds = dict(zip(range(colours, len(bits)), extra[-(len(bits) - colours) :] if extra else (), strict=False))
    alpha = next((place for place, kind in kinds.items() if kind in (_ASSOCIATED, *_STRAIGHT)), None)
    page = read_samples(stream, directory, depth, len(bits), colours if alpha is None else alpha + 1)
    samples = page[..., :colours]
    if photometric == _PALETTE:
        colour = _looked_up(samples[..., 0], directory.tags.get(tiff.COLOUR_MAP, ()), depth)
    else:
        colour = _bytes(samples, depth)
        if photometric == _WHITE_IS_ZERO:
            colour = 255 - colour
    cover = None if alpha is None else _bytes(page[..., alpha], depth)
    if cover is not None and not cover.any():
        cover = None
    if photometric == _CMYK:
        made = Image.fromarray(np.ascontiguousarray(colour), "CMYK")
        if cover is not None and kinds[alpha or 0] != _ASSOCIATED:  # no ink where nothing is: that is white already
            made = made.convert("RGB")
            made.putalpha(Image.fromarray(cover, "L"))
        return made
    if cover is None:
        return _image(colour)
    made = _image(np.concatenate((colour, cover[..., None]), axis=2))
    if kinds[alpha or 0] == _ASSOCIATED:
        made = made.convert("RGBA") if made.mode == "LA" else made
        return Image.frombytes("RGBa", made.size, made.tobytes()).convert("RGBA")
    return made


def _read_ycbcr(stream: IO[bytes], directory: Directory) -> Image.Image:
    """Read a page whose colours have fewer pixels: each unit holds the luminance of a few pixels and one colour for all."""
    width, height = directory.one(tiff.WIDTH, 0), directory.one(tiff.LENGTH, 0)
    across, down = (*directory.tags.get(tiff.SUBSAMPLING, ()), 2, 2)[:2]
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise ValueError(f"a TIFF whose colours are subsampled by {across} × {down}")
    sides = {tiff.WIDTH: across, tiff.TILE_WIDTH: across, tiff.LENGTH: down, tiff.TILE_LENGTH: down, tiff.ROWS: down}
    units = {tag: (-(-directory.one(tag, 0) // by),) for tag, by in sides.items() if tag in directory.tags}
    each = across * down + 2
    page = read_samples(stream, replace(directory, tags={**directory.tags, **units}), 8, each, each)
    high, wide = page.shape[:2]
    grey = page[..., :-2].reshape(high, wide, down, across).swapaxes(1, 2).reshape(high * down, wide * across)
    colours = [page[..., k].repeat(down, axis=0).repeat(across, axis=1) for k in (-2, -1)]
    bands = [Image.fromarray(np.ascontiguousarray(band[:height, :width])) for band in (grey, *colours)]
    return Image.merge("YCbCr", bands).convert("RGB")


def _image(pixels: Pixels) -> Image.Image:
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    channels = pixels.shape[2]
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels), modes[channels])


def _bytes(samples: Samples, depth: int) -> Pixels:
    """Samples as 8 bits: the high byte, or the share of the largest value."""
    if depth > 8:
        return (samples >> (depth - 8)).astype(np.uint8)
    if depth == 8:
        return samples.astype(np.uint8, copy=False)
    most = (1 << depth) - 1
    table: Pixels = np.array([(value * 255 + most // 2) // most for value in range(most + 1)], np.uint8)
    return table[samples]


def _looked_up(indices: Samples, colour_map: tuple[int, ...], depth: int) -> Pixels:
    """The colours ``uint8 (height, width, 3)`` of indices."""
    if len(colour_map) != 3 << depth:
        raise ValueError(f"a TIFF with {len(colour_map)} values in its colour map where there must be {3 << depth}")
    table = eight_bit_map(colour_map)
    return table[indices]


def eight_bit_map(colour_map: tuple[int, ...]) -> Pixels:
    """A colour map as ``uint8 (colours, 3)``. The standard has 16 bits; a map without a value above 255 has 8."""
    table = np.array(colour_map, np.uint16).reshape(3, -1).T
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8)
