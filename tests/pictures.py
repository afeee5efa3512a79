"""Small files of every kind that tifffile, Pillow, OpenCV and a few lines of our own can write, with the pixels they must give.

The right pixels follow from the numbers that were written and from the rules in `isc_fast.decoders.rules`, never from a reader.
"""

from __future__ import annotations

import io
import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from images import STORED_AS, encode, noise, png, png_chunk
from PIL import Image

Array = npt.NDArray[np.generic]
WIDTH, HEIGHT = 37, 21


@dataclass(frozen=True)
class Picture:
    """One file.

    Attributes:
        kind: the group under which it is counted.
        name: what is special about it, unique within all pictures.
        data: the file.
        right: ``uint8 (height, width, 3)``, or None where the file has to be refused.
        tolerance: grey levels that a value may be off.
    """

    kind: str
    name: str
    data: bytes
    right: npt.NDArray[np.uint8] | None
    tolerance: int = 0


def three(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=2)


def on_white(colour: Array, alpha: Array) -> npt.NDArray[np.uint8]:
    share = alpha.astype(float)[..., None] / 255
    return np.floor(colour * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def _samples(count: int, bits: int, seed: int = 0) -> Array:
    shape = (HEIGHT, WIDTH, count) if count > 1 else (HEIGHT, WIDTH)
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return np.random.default_rng(seed).integers(0, 1 << bits, shape, kind)


def high(values: Array, bits: int) -> npt.NDArray[np.uint8]:
    return (values >> (bits - 8)).astype(np.uint8)


def _colour(stored: npt.NDArray[np.uint8], photometric: str, extra: str | None) -> npt.NDArray[np.uint8]:
    """The picture of 8-bit samples."""
    if stored.ndim == 2:
        stored = stored[..., None]
    colours = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4}[photometric]
    colour, rest = stored[..., :colours], stored[..., colours:]
    if photometric == "miniswhite":
        colour = 255 - colour
    if photometric == "separated":
        inks = Image.fromarray(np.ascontiguousarray(colour), "CMYK")
        colour = np.asarray(inks.convert("RGB"))
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    if extra == "unassalpha" and rest[..., 0].any():
        return on_white(colour, rest[..., 0])
    if extra == "assocalpha" and rest[..., 0].any():
        if photometric == "separated":
            return colour
        return np.minimum(colour.astype(int) + 255 - rest[..., :1], 255).astype(np.uint8)
    return colour


_COMPRESSIONS = (None, "lzw", "zlib", "adobe_deflate", "packbits", "zstd", "lzma")
_LAYOUTS = (
    ("minisblack", 1, None), ("miniswhite", 1, None), ("rgb", 3, None), ("separated", 4, None),
    ("minisblack", 2, "unassalpha"), ("minisblack", 2, "assocalpha"), ("minisblack", 2, "unspecified"),
    ("miniswhite", 2, "unassalpha"),
    ("rgb", 4, "unassalpha"), ("rgb", 4, "assocalpha"), ("rgb", 4, "unspecified"), ("rgb", 5, "unspecified"),
    ("separated", 5, "unassalpha"), ("separated", 5, "assocalpha"), ("separated", 5, "unspecified"),
)  # fmt: skip


def tiffs(share: float = 1.0) -> Iterator[Picture]:
    """Every photometric interpretation, depth, plane, order, compression, predictor, tile, and alpha, or a share of them."""
    import tifffile

    chance = random.Random(13)

    choices = itertools.product(
        _LAYOUTS, (8, 16), ("contig", "separate"), "<>", _COMPRESSIONS, (False, True), (False, True), (False, True)
    )
    for (photometric, count, extra), bits, planar, order, compression, predictor, tiled, transparent in choices:
        if predictor and compression in (None, "packbits"):
            continue
        if transparent and extra not in ("unassalpha", "assocalpha"):
            continue
        if planar == "separate" and count == 1:
            continue
        if chance.random() >= share:
            continue
        stored = _samples(count, bits, seed=count * bits)
        if transparent:
            stored[..., -1] = 0
        elif extra == "assocalpha":
            alpha = stored[..., -1:].astype(np.float64) / ((1 << bits) - 1)
            stored[..., :-1] = np.floor(stored[..., :-1] * alpha)
        right = _colour(high(stored, bits), photometric, extra)
        written = np.moveaxis(stored, 2, 0) if planar == "separate" else stored
        out = io.BytesIO()
        extras = count - {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4}[photometric]
        tifffile.imwrite(
            out, written, photometric=photometric, planarconfig=planar if count > 1 else None, byteorder=order,
            compression=compression, predictor=predictor, tile=(16, 32) if tiled else None,
            rowsperstrip=None if tiled else 8, extrasamples=[extra] * extras if extra else None, metadata=None,
            bigtiff=bits == 16 and tiled,
        )  # fmt: skip
        name = "-".join(
            map(str, (photometric, count, extra, bits, planar, order, compression, predictor, tiled, transparent))
        )
        yield Picture(
            f"TIFF {bits} bits",
            f"tiff-{name}",
            out.getvalue(),
            right,
            3 if extra == "assocalpha" else 1 if extra == "unassalpha" else 0,
        )


def tiff(order: str, tags: dict[int, tuple[str, tuple[int, ...]]], strips: list[bytes]) -> bytes:
    """Write a TIFF by hand. Offsets and lengths of the strips are added; a type is a letter of `struct`."""
    tags = {**tags, 273: ("I", tuple(0 for _ in strips)), 279: ("I", tuple(map(len, strips)))}
    count = len(tags)
    after = 8 + 2 + 12 * count + 4
    sizes = {tag: len(values) * struct.calcsize("=" + kind) for tag, (kind, values) in tags.items()}
    start = after + sum(size + size % 2 for size in sizes.values() if size > 4)
    offsets = tuple(start + sum(map(len, strips[:i])) for i in range(len(strips)))
    tags[273] = ("I", offsets)
    entries, values_after = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        entries += struct.pack(order + "HHI", tag, {"B": 1, "H": 3, "I": 4}[kind], len(values))
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", after + len(values_after))
            values_after += packed + b"\0" * (len(packed) % 2)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    return head + entries + bytes(4) + values_after + b"".join(strips)


def packed(values: Array, bits: int) -> bytes:
    """Samples ``(rows, n)`` of any number of bits, each row padded to a byte, the highest bit first."""
    each = (values[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(each.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()


def hand_made_tiffs() -> Iterator[Picture]:
    """What tifffile does not write: odd depths, fill orders, palettes, fourth samples that nothing names."""
    for order, bits, photometric, fill in itertools.product(
        "<>", (1, 2, 4, 6, 8, 10, 12, 14, 16), (0, 1, 2, 5), (1, 2)
    ):
        samples = {0: 1, 1: 1, 2: 3, 5: 4}[photometric]
        stored = _samples(samples, bits, seed=bits)
        rows = stored.reshape(HEIGHT, -1)
        data = rows.astype(order + "u2").tobytes() if bits == 16 else packed(rows, bits)
        if fill == 2:
            data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        eight = high(stored, bits) if bits >= 8 else np.round(stored * (255 / ((1 << bits) - 1))).astype(np.uint8)
        right = _colour(eight, {0: "miniswhite", 1: "minisblack", 2: "rgb", 5: "separated"}[photometric], None)
        tags = {256: ("H", (WIDTH,)), 257: ("H", (HEIGHT,)), 258: ("H", (bits,) * samples), 259: ("H", (1,)),
                262: ("H", (photometric,)), 266: ("H", (fill,)), 277: ("H", (samples,)), 278: ("H", (8,))}  # fmt: skip
        line = len(data) // HEIGHT
        strips = [data[at * line : (at + 8) * line] for at in range(0, HEIGHT, 8)]
        yield Picture(
            f"TIFF {bits} bits", f"hand-{order}-{bits}-{photometric}-{fill}", tiff(order, tags, strips), right
        )
    for order, bits, most in itertools.product("<>", (1, 2, 4, 8), (255, 65535)):
        index = _samples(1, bits, seed=bits)
        colours = np.random.default_rng(bits).integers(0, most + 1, (3, 1 << bits))
        colours[0, 0] = most
        right = (colours if most == 255 else colours >> 8).astype(np.uint8).T[index]
        tags = {256: ("H", (WIDTH,)), 257: ("H", (HEIGHT,)), 258: ("H", (bits,)), 259: ("H", (1,)), 262: ("H", (3,)),
                277: ("H", (1,)), 278: ("H", (HEIGHT,)), 320: ("H", tuple(colours.ravel().tolist()))}  # fmt: skip
        yield Picture("TIFF palette", f"palette-{order}-{bits}-{most}", tiff(order, tags, [packed(index, bits)]), right)
    for order, bits, planar in itertools.product("<>", (8, 16), (1, 2)):
        stored = _samples(4, bits, seed=9)
        data = stored.astype(order + f"u{bits // 8}")
        strips = [data.tobytes()] if planar == 1 else [np.ascontiguousarray(data[..., k]).tobytes() for k in range(4)]
        tags = {256: ("H", (WIDTH,)), 257: ("H", (HEIGHT,)), 258: ("H", (bits,) * 4), 259: ("H", (1,)), 262: ("H", (2,)),
                277: ("H", (4,)), 278: ("H", (HEIGHT,)), 284: ("H", (planar,))}  # fmt: skip
        yield Picture(
            "TIFF 4 samples", f"unnamed-{order}-{bits}-{planar}", tiff(order, tags, strips), high(stored[..., :3], bits)
        )
    for order, bits, planar, photometric in itertools.product("<>", (8, 16), (2,), (0, 1)):  # one sample, "in planes"
        stored = _samples(1, bits, seed=4)
        tags = {256: ("H", (WIDTH,)), 257: ("H", (HEIGHT,)), 258: ("H", (bits,)), 259: ("H", (1,)), 262: ("H", (photometric,)),
                277: ("H", (1,)), 278: ("H", (HEIGHT,)), 284: ("H", (planar,))}  # fmt: skip
        right = three(high(stored, bits))
        data = stored.astype(order + f"u{bits // 8}").tobytes()
        yield Picture(
            "TIFF planar grey",
            f"planar1-{order}-{bits}-{photometric}",
            tiff(order, tags, [data]),
            right if photometric else 255 - right,
        )
    for tag in STORED_AS:
        for bits, order in itertools.product((8, 12, 16), "<>"):
            stored = _samples(3, bits, seed=tag)
            kept = np.ascontiguousarray(STORED_AS[tag](stored))
            rows = kept.reshape(len(kept), -1)
            data = packed(rows, bits) if bits == 12 else rows.astype(order + f"u{bits // 8}").tobytes()
            tags = {256: ("H", (kept.shape[1],)), 257: ("H", (kept.shape[0],)), 258: ("H", (bits,) * 3), 259: ("H", (1,)),
                    262: ("H", (2,)), 274: ("H", (tag,)), 277: ("H", (3,)), 278: ("H", (kept.shape[0],))}  # fmt: skip
            yield Picture("TIFF turned", f"turned-{tag}-{bits}-{order}", tiff(order, tags, [data]), high(stored, bits))


def ycbcr_tiffs() -> Iterator[Picture]:
    """Luminance and colours, uncompressed, with every usual sampling of the colours, in strips."""
    for order, across, down in itertools.product("<>", (1, 2, 4), (1, 2)):
        wide, high_ = -(-WIDTH // across), -(-HEIGHT // down)
        grey = _samples(1, 8, seed=1)
        colours = np.random.default_rng(2).integers(90, 160, (high_, wide, 2)).astype(np.uint8)
        padded = np.pad(grey, ((0, high_ * down - HEIGHT), (0, wide * across - WIDTH)))
        units = padded.reshape(high_, down, wide, across).swapaxes(1, 2).reshape(high_, wide, across * down)
        data = np.concatenate((units, colours), axis=2)
        strips = [data[at : at + 4].tobytes() for at in range(0, high_, 4)]
        tags = {256: ("H", (WIDTH,)), 257: ("H", (HEIGHT,)), 258: ("H", (8, 8, 8)), 259: ("H", (1,)), 262: ("H", (6,)),
                277: ("H", (3,)), 278: ("H", (4 * down,)), 530: ("H", (across, down))}  # fmt: skip
        luma = grey.astype(float)
        blue, red = (
            colours.repeat(down, axis=0).repeat(across, axis=1)[:HEIGHT, :WIDTH, k].astype(float) - 128 for k in (0, 1)
        )
        rgb = np.stack((luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue), axis=2)
        right = np.clip(np.round(rgb), 0, 255).astype(np.uint8)
        yield Picture("TIFF YCbCr", f"ycbcr-{order}-{across}-{down}", tiff(order, tags, strips), right, 2)


def smooth() -> npt.NDArray[np.uint8]:
    """A picture that lossy formats keep to a few grey levels: two slopes and a flat."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack((40 + 3 * x, 60 + 3 * y, np.full_like(x, 120) + y), axis=2).astype(np.uint8)


def codecs() -> Iterator[Picture]:
    """What Pillow writes in each other format, in each mode, turned by EXIF where there is any; lossy ones have a tolerance."""
    rgb = smooth()
    image = Image.fromarray(rgb)
    cover = np.where(np.arange(48)[:, None] < 24, 255, 100).astype(np.uint8).repeat(64, axis=1).reshape(48, 64)
    rgba = Image.fromarray(np.dstack((rgb, cover)))
    grey = np.asarray(image.convert("L"))
    modes: dict[str, tuple[Image.Image, npt.NDArray[np.uint8]]] = {
        "RGB": (image, rgb), "L": (image.convert("L"), three(grey)), "RGBA": (rgba, on_white(rgb, cover)),
        "LA": (Image.fromarray(np.dstack((grey, cover)), "LA"), on_white(three(grey), cover)),
        "CMYK": (image.convert("CMYK"), rgb),
    }  # fmt: skip
    forms: tuple[tuple[str, str, dict[str, object], int], ...] = (
        ("JPEG", "RGB L CMYK", {"quality": 95, "subsampling": "4:4:4"}, 8),
        ("JPEG", "RGB L CMYK", {"quality": 95, "subsampling": "4:2:0"}, 12),
        ("JPEG", "RGB L CMYK", {"quality": 95, "subsampling": "4:2:2", "progressive": True}, 12),
        ("JPEG", "RGB", {"quality": 95, "keep_rgb": True}, 8),
        ("JPEG2000", "RGB L RGBA LA", {}, 1),
        ("JPEG2000", "RGB L", {"irreversible": True, "quality_layers": [2]}, 8),
        ("JPEG2000", "RGB L RGBA", {"tile_size": (32, 32), "no_jp2": True}, 1),
        ("WEBP", "RGB RGBA", {"lossless": True, "exact": True}, 1),
        ("WEBP", "RGB RGBA", {"quality": 95}, 14),
        ("AVIF", "RGB RGBA", {"quality": 95, "subsampling": "4:4:4", "speed": 9}, 8),
        ("AVIF", "RGB RGBA", {"quality": 95, "subsampling": "4:2:0", "speed": 9}, 12),
        ("PNG", "RGB L RGBA LA", {}, 1),
        ("TIFF", "RGB L CMYK", {"compression": "jpeg", "quality": 95}, 12),
        ("TIFF", "RGB L RGBA LA CMYK", {"compression": "tiff_lzw"}, 1),
        ("TIFF", "RGB L", {"compression": "webp", "quality": 95}, 14),
        ("TGA", "RGB L RGBA LA", {"compression": "tga_rle"}, 1),
    )
    for form, names, options, tolerance in forms:
        if form not in Image.SAVE:
            continue
        for mode, tag in itertools.product(
            names.split(), STORED_AS if form in ("JPEG", "PNG", "WEBP", "TIFF") else (1,)
        ):
            stored, right = modes[mode]
            exif = Image.Exif()
            exif[0x0112] = tag
            kept = Image.fromarray(np.ascontiguousarray(STORED_AS[tag](np.asarray(stored))), stored.mode)
            try:
                data = encode(kept, form, **options, **({"exif": exif} if tag != 1 else {}))
            except (OSError, ValueError, KeyError):  # this build of Pillow does not write it
                continue
            name = "-".join([form, mode, str(tag), *map(str, options.values())])
            yield Picture(form, name, data, right, tolerance)
    bit = Image.fromarray(smooth()[..., 0] > 120)
    for compression in ("group3", "group4", "tiff_ccitt", "raw"):
        yield Picture(
            "TIFF fax",
            f"fax-{compression}",
            encode(bit, "TIFF", compression=compression),
            three(np.asarray(bit) * np.uint8(255)),
        )
    index = _samples(1, 8, seed=77)
    for interlace, transparent in itertools.product((0, 1), (None, 5)):
        paletted = Image.fromarray(index, "P")
        colours = noise(256, 1, seed=1)[0]
        paletted.putpalette(colours.tobytes())
        extra = {} if transparent is None else {"transparency": transparent}
        right = np.where(three(index) == transparent, 255, colours[index]).astype(np.uint8)
        yield Picture(
            "GIF", f"gif-{interlace}-{transparent}", encode(paletted, "GIF", interlace=interlace, **extra), right
        )


def jpeg2000s() -> Iterator[Picture]:
    """Depths of JPEG 2000 and of JPEG XL that Pillow does not write."""
    import imagecodecs

    for bits, count in itertools.product((1, 2, 4, 6, 8, 10, 12, 14, 16), (1, 3)):
        stored = _samples(count, bits, seed=bits)
        data = imagecodecs.jpeg2k_encode(stored, reversible=True, level=0, bitspersample=bits, codecformat="jp2")
        right = high(stored, bits) if bits >= 8 else np.round(stored * (255 / ((1 << bits) - 1))).astype(np.uint8)
        yield Picture("JPEG2000", f"jp2-{bits}-{count}", data, three(right) if count == 1 else right)
        if bits in (8, 16):
            right = high(stored, bits)
            xl = imagecodecs.jpegxl_encode(stored, lossless=True)
            yield Picture("JPEG XL", f"jxl-{bits}-{count}", xl, three(right) if count == 1 else right)
    for count in (2, 4):
        stored = _samples(count, 8, seed=count)
        colour = three(stored[..., 0]) if count == 2 else stored[..., :3]
        yield Picture(
            "JPEG XL",
            f"jxl-alpha-{count}",
            imagecodecs.jpegxl_encode(stored, lossless=True),
            on_white(colour, stored[..., -1]),
            1,
        )
    yield Picture(
        "JPEG XL", "jxl-float", imagecodecs.jpegxl_encode(_samples(3, 8).astype(np.float32), lossless=True), None
    )


def refused_tiffs() -> Iterator[Picture]:
    """Samples without an agreed range."""
    import tifffile

    for kind, count in itertools.product(("i1", "f2", "f4", "f8", "u4", "i4", "i2"), (1, 3)):
        values = (np.random.default_rng(1).random((HEIGHT, WIDTH, count)) * 100 - 50).astype(kind)
        if kind == "u4":
            values = values + np.uint32(1 << 20)
        out = io.BytesIO()
        tifffile.imwrite(out, values.squeeze(), photometric="rgb" if count == 3 else "minisblack", metadata=None)
        yield Picture("TIFF without a range", f"norange-{kind}-{count}", out.getvalue(), None)


def pngs() -> Iterator[Picture]:
    """Every colour type and depth, with and without a transparent colour."""
    for bits in (1, 2, 4, 8, 16):
        grey = _samples(1, bits, seed=bits)
        rows = lambda data: b"".join(b"\0" + line for line in data)  # noqa: E731
        lines = [line.astype(">u2").tobytes() if bits == 16 else packed(line[None], bits) for line in grey]
        eight = high(grey, bits) if bits >= 8 else (grey * (255 // ((1 << bits) - 1))).astype(np.uint8)
        yield Picture("PNG grey", f"png-grey-{bits}", png(WIDTH, HEIGHT, bits, 0, rows(lines)), three(eight))
        key = int(grey[3, 3])
        transparent = np.where((grey == key)[..., None], 255, three(eight)).astype(np.uint8)
        chunk = png_chunk(b"tRNS", struct.pack(">H", key))
        yield Picture("PNG colour key", f"png-key-{bits}", png(WIDTH, HEIGHT, bits, 0, rows(lines), chunk), transparent)
        if bits <= 8:
            colours = noise(1 << bits, 1, seed=bits)[0]
            covers = np.random.default_rng(bits).integers(0, 256, 1 << bits).astype(np.uint8)
            palette = png_chunk(b"PLTE", colours.tobytes())
            yield Picture(
                "PNG palette", f"png-palette-{bits}", png(WIDTH, HEIGHT, bits, 3, rows(lines), palette), colours[grey]
            )
            trns = png_chunk(b"tRNS", covers.tobytes())
            right = on_white(colours[grey], covers[grey])
            yield Picture(
                "PNG palette alpha",
                f"png-palette-alpha-{bits}",
                png(WIDTH, HEIGHT, bits, 3, rows(lines), palette, trns),
                right,
                1,
            )
        if bits >= 8:
            for colour, count in ((2, 3), (4, 2), (6, 4)):
                stored = _samples(count, bits, seed=bits + count)
                lines = [line.astype(f">u{bits // 8}").tobytes() for line in stored]
                eight = high(stored, bits)
                right = (
                    eight
                    if colour == 2
                    else on_white(three(eight[..., 0]) if colour == 4 else eight[..., :3], eight[..., -1])
                )
                yield Picture(
                    "PNG colour",
                    f"png-{colour}-{bits}",
                    png(WIDTH, HEIGHT, bits, colour, rows(lines)),
                    right,
                    colour != 2,
                )
                if colour == 2:
                    key3 = stored[5, 5]
                    chunk = png_chunk(b"tRNS", struct.pack(">3H", *key3.tolist()))
                    right = np.where((stored == key3).all(axis=2, keepdims=True), 255, eight).astype(np.uint8)
                    yield Picture(
                        "PNG colour key", f"png-key-rgb-{bits}", png(WIDTH, HEIGHT, bits, 2, rows(lines), chunk), right
                    )


def bmp(
    pixels: bytes,
    bits: int,
    *,
    header: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    down: bool = False,
) -> bytes:
    """Write a BMP by hand."""
    height = -HEIGHT if down else HEIGHT
    if header == 12:
        info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(pixels), 2835, 2835, len(palette) // 4, 0
        )
        info += struct.pack(f"<{len(masks)}I", *masks)
        info = info.ljust(header, b"\0")
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + info + palette + pixels


def bmps() -> Iterator[Picture]:
    """Depths, headers, masks, palettes, and both directions."""

    def lines(rows: list[bytes], down: bool) -> bytes:
        rows = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows]
        return b"".join(rows if down else rows[::-1])

    rgb = noise(WIDTH, HEIGHT, seed=2)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    for down in (False, True):
        yield Picture("BMP", f"bmp-24-{down}", bmp(lines([row.tobytes() for row in bgr], down), 24, down=down), rgb)
        for alpha in (0, 255, 77):
            four = np.concatenate((bgr, np.full((HEIGHT, WIDTH, 1), alpha, np.uint8)), axis=2)
            data = lines([row.tobytes() for row in four], down)
            yield Picture("BMP 32", f"bmp-32-rgb-{alpha}-{down}", bmp(data, 32, down=down), rgb)
            for header in (56, 108, 124):
                masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
                right = rgb if alpha in (0, 255) else on_white(rgb, four[..., 3])
                yield Picture(
                    "BMP 32 alpha",
                    f"bmp-32-{header}-{alpha}-{down}",
                    bmp(data, 32, header=header, compression=3, masks=masks, down=down),
                    right,
                    1,
                )
                none = bmp(data, 32, header=header, compression=3, masks=(*masks[:3], 0), down=down)
                yield Picture("BMP 32", f"bmp-32-{header}-nomask-{alpha}-{down}", none, rgb)
        for bits in (1, 4, 8):
            index = _samples(1, bits, seed=bits)
            colours = noise(1 << bits, 1, seed=bits)[0]
            table = b"".join(bytes([b, g, r, 0]) for r, g, b in colours.tolist())
            data = lines([packed(row[None], bits) for row in index], down)
            yield Picture(
                "BMP palette", f"bmp-{bits}-{down}", bmp(data, bits, palette=table, down=down), colours[index]
            )
            if not down:
                table3 = b"".join(bytes([b, g, r]) for r, g, b in colours.tolist())
                yield Picture(
                    "BMP palette", f"bmp-os2-{bits}", bmp(data, bits, header=12, palette=table3), colours[index]
                )
    values = _samples(1, 16, seed=16)
    data = lines([row.astype("<u2").tobytes() for row in values], False)
    five = lambda shift: np.round(((values >> shift) & 31) * 255 / 31)  # noqa: E731
    right = np.stack((five(10), five(5), five(0)), axis=2).astype(np.uint8)
    yield Picture("BMP 16", "bmp-16", bmp(data, 16), right, 8)
    right = np.stack((five(11), np.round(((values >> 5) & 63) * 255 / 63), five(0)), axis=2).astype(np.uint8)
    masked = bmp(data, 16, header=56, compression=3, masks=(0xF800, 0x7E0, 0x1F))
    yield Picture("BMP 16", "bmp-565", masked, right, 8)


def tga(kind: int, bits: int, flags: int, pixels: bytes, palette: bytes = b"", map_bits: int = 0) -> bytes:
    """Write a Targa by hand."""
    count = len(palette) // (-(-map_bits // 8)) if map_bits else 0
    head = struct.pack("<BBBHHBHHHHBB", 0, bool(map_bits), kind, 0, count, map_bits, 0, 0, WIDTH, HEIGHT, bits, flags)
    return head + palette + pixels


def tgas() -> Iterator[Picture]:
    """Types, depths, alpha bits, origins, with and without run lengths."""
    rgb, grey = noise(WIDTH, HEIGHT, seed=5), _samples(1, 8, seed=6)
    for origin, flipped in ((0x00, (-1, 1)), (0x10, (-1, -1)), (0x20, (1, 1)), (0x30, (1, -1))):
        place = lambda values, by=flipped: np.ascontiguousarray(values[:: by[0], :: by[1]])  # noqa: E731
        bgr = place(rgb[..., ::-1])
        yield Picture("TGA", f"tga-24-{origin}", tga(2, 24, origin, bgr.tobytes()), rgb)
        yield Picture("TGA", f"tga-grey-{origin}", tga(3, 8, origin, place(grey).tobytes()), three(grey))
        runs = b"".join(b"\0" + pixel.tobytes() for pixel in bgr.reshape(-1, 3))
        yield Picture("TGA", f"tga-rle-{origin}", tga(10, 24, origin, runs), rgb)
        colours = noise(256, 1, seed=7)[0]
        table = colours[:, ::-1].tobytes()
        yield Picture(
            "TGA palette", f"tga-palette-{origin}", tga(1, 8, origin, place(grey).tobytes(), table, 24), colours[grey]
        )
        for alpha, bits in itertools.product((0, 77, 255), (0, 8)):
            cover = np.full((HEIGHT, WIDTH), alpha, np.uint8)
            four = np.concatenate((bgr, cover[..., None]), axis=2)
            right = rgb if not bits or alpha in (0, 255) else on_white(rgb, cover)
            yield Picture(
                "TGA 32", f"tga-32-{origin}-{alpha}-{bits}", tga(2, 32, origin | bits, four.tobytes()), right, 1
            )
        for bits in (0, 1):
            for top in (0, 0x8000):
                values = _samples(1, 15, seed=8) | top
                five = [np.round(((values >> shift) & 31) * 255 / 31).astype(np.uint8) for shift in (10, 5, 0)]
                yield Picture(
                    "TGA 16",
                    f"tga-16-{origin}-{bits}-{top}",
                    tga(2, 16, origin | bits, place(values).astype("<u2").tobytes()),
                    np.stack(five, axis=2),
                    8,
                )


def portable() -> Iterator[Picture]:
    """PBM, PGM and PPM, in bytes and in words, with every kind of largest value."""
    for most, count in itertools.product((1, 15, 100, 255, 256, 1023, 4095, 65535), (1, 3)):
        values = np.random.default_rng(most).integers(0, most + 1, (HEIGHT, WIDTH, count))
        data = values.astype(">u2" if most > 255 else "u1").tobytes()
        right = np.repeat(values * (255 / most), 3 // count, axis=2)
        if most == 65535 and count == 1:
            right = np.repeat(values >> 8, 3, axis=2)
        head = f"{WIDTH} {HEIGHT}\n{most}\n".encode()
        yield Picture(
            "PPM",
            f"ppm-{count}-{most}",
            (b"P5 " if count == 1 else b"P6 ") + head + data,
            np.round(right).astype(np.uint8),
            1,
        )
        words = " ".join(map(str, values.ravel().tolist())).encode()
        yield Picture(
            "PPM",
            f"ppm-words-{count}-{most}",
            (b"P2 " if count == 1 else b"P3 ") + head + words,
            np.round(right).astype(np.uint8),
            1,
        )
    bit = _samples(1, 1)
    yield Picture("PPM", "pbm", b"P4 %d %d\n" % (WIDTH, HEIGHT) + packed(bit, 1), three(255 - 255 * bit))


def everything(share: float = 1.0) -> Iterator[Picture]:
    """All of them, always in the same order, or a share of the many TIFFs beside the others."""
    yield from tiffs(share)
    for maker in (hand_made_tiffs, ycbcr_tiffs, refused_tiffs, pngs, bmps, tgas, portable, codecs, jpeg2000s):
        yield from maker()
