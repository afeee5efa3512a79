"""Image files of every odd kind, which decoders, the pipeline and the command line must survive.

Making all of them takes about a second.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from isc_fast.assets import demo_photos

Image.init()  # so that Image.SAVE is complete

TRUNCATED = "truncated"
UNKNOWN = "not an image of a known format"
BOMB = "decompression bomb"
MISSING = "No such file or directory"

# EXIF orientation → a function that stores an upright picture so that turning it by the tag makes it upright again.
STORED_AS = {
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.swapaxes(0, 1),
    6: lambda rgb: np.rot90(rgb, 1),
    7: lambda rgb: rgb[::-1, ::-1].swapaxes(0, 1),
    8: lambda rgb: np.rot90(rgb, -1),
}


def noise(width: int, height: int, *, seed: int = 0, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Return random pixels, in which no two corners, rows or channels are alike."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def blocks(width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """Return tiles of 16 × 16 pixels in six colours. A JPEG keeps such tiles, however they are turned."""
    colours = np.array(
        [[200, 40, 40], [40, 180, 60], [60, 60, 220], [230, 220, 60], [250, 250, 250], [5, 5, 5]], np.uint8
    )
    tiles = np.arange(height // 16 * (width // 16)).reshape(height // 16, -1) * 7 // 3 % 6
    return colours[tiles].repeat(16, axis=0).repeat(16, axis=1)


def encode(image: Image.Image | npt.NDArray[Any], form: str, **options: Any) -> bytes:
    """Return the bytes of an image file with this picture."""
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, form, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """Make a PNG by hand, for kinds that Pillow cannot write. ``rows`` includes the filter byte of each row."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


def with_exif(jpeg: bytes, payload: bytes) -> bytes:
    """Insert an APP1 block with these bytes right after the start of a JPEG."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def orientation(value: int, *, kind: int = 3, count: int = 1) -> bytes:
    """Make an EXIF block that holds only the orientation, by default as one 16-bit number."""
    entry = struct.pack("<HHIHH", 0x0112, kind, count, value, 0)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """Change the size that the header of a JPEG claims."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


@cache
def sixty_megapixels() -> bytes:
    """Make a flat grey JPEG of 10,000 × 6,000 pixels. It takes 240 MB as an RGB image in Pillow, and little on disk."""
    return encode(Image.new("L", (10_000, 6_000), 90), "JPEG", quality=50)


@cache
def _files() -> dict[bytes, tuple[bytes, str | None]]:
    """Map each name to (content, None if it must decode, or else a part of the reason why it cannot)."""
    rgb = noise(40, 30)
    image = Image.fromarray(rgb)
    jpeg = encode(image, "JPEG")
    rgba = Image.fromarray(noise(40, 30, channels=4), "RGBA")
    grey16 = noise(40, 30, channels=1).astype(np.uint16) * 255
    good: dict[str, bytes] = {
        "baseline.jpg": jpeg,
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "444.jpg": encode(image, "JPEG", subsampling="4:4:4", quality=100),
        "422.jpg": encode(image, "JPEG", subsampling="4:2:2"),
        "420.jpg": encode(image, "JPEG", subsampling="4:2:0"),
        "restart-markers.jpg": encode(image, "JPEG", restart_marker_blocks=1),
        "grey.jpg": encode(image.convert("L"), "JPEG"),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG"),
        "ycck.jpg": _ycck(encode(image.convert("CMYK"), "JPEG")),
        "profile.jpg": encode(image, "JPEG", icc_profile=b"not a profile" * 20),
        "comment.jpg": encode(image, "JPEG", comment=b"\xff\x00" * 500),
        "mpo.jpg": encode(image, "MPO", save_all=True, append_images=[image.rotate(180)]),
        "tail.jpg": jpeg + b"garbage" * 1000,
        "two-in-one.jpg": jpeg + encode(Image.new("RGB", (9, 9)), "JPEG"),
        "UPPER.JPG": jpeg,
        "png-inside.jpg": encode(image, "PNG"),
        "jpeg-inside.png": jpeg,
        "tiff-inside.webp": encode(image, "TIFF"),
        "1bit.png": encode(image.convert("1"), "PNG"),
        "grey.png": encode(image.convert("L"), "PNG"),
        "grey-alpha.png": encode(rgba.convert("LA"), "PNG"),
        "rgb.png": encode(image, "PNG"),
        "rgba.png": encode(rgba, "PNG"),
        "palette.png": encode(image.convert("P"), "PNG"),
        "palette-transparent.png": encode(image.convert("P"), "PNG", transparency=bytes(range(0, 256, 2))),
        "colour-key.png": encode(image, "PNG", transparency=tuple(map(int, rgb[0, 0]))),
        "grey16.png": encode(grey16, "PNG"),
        "rgb16.png": png(2, 1, 16, 2, b"\0" + bytes(range(12))),
        "rgba16.png": png(2, 1, 16, 6, b"\0" + bytes(range(16))),
        "grey2.png": png(4, 1, 2, 0, b"\0\x1b"),
        "interlaced.png": _interlaced(),
        "profile.png": encode(image, "PNG", icc_profile=b"profile" * 100),
        "animated.png": encode(image, "PNG", save_all=True, append_images=[Image.new("RGB", image.size)] * 3),
        "text-bomb.png": png(1, 1, 8, 2, b"\0\1\2\3", png_chunk(b"zTXt", b"Comment\0\0" + _zeros())),
        "profile-bomb.png": png(1, 1, 8, 2, b"\0\1\2\3", png_chunk(b"iCCP", b"sRGB\0\0" + _zeros())),
        "1x1.png": encode(noise(1, 1), "PNG"),
        "1x10000.png": encode(noise(1, 10_000), "PNG"),
        "10000x1.jpg": encode(noise(10_000, 1), "JPEG"),
        "animated.gif": encode(image, "GIF", save_all=True, append_images=[image.rotate(90)] * 3),
        "transparent.gif": encode(image.convert("P"), "GIF", transparency=3),
        "twenty-thousand-frames.gif": _many_frames(20_000),
        "grey16.tif": encode(grey16, "TIFF"),
        "grey16-big-endian.tif": encode(Image.fromarray(grey16.astype(">u2")), "TIFF"),
        "int32.tif": encode(Image.fromarray(grey16.astype(np.int32)), "TIFF"),
        "cmyk.tif": encode(image.convert("CMYK"), "TIFF"),
        "pages.tif": encode(image, "TIFF", save_all=True, append_images=[Image.new("L", (5, 5))] * 3),
        "lzw.tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "jpeg-in.tiff": encode(image, "TIFF", compression="jpeg"),
        "fax.tif": encode(image.convert("1"), "TIFF", compression="group4"),
        "rgb.bmp": encode(image, "BMP"),
        "palette.bmp": encode(image.convert("P"), "BMP"),
        "rgba.tga": encode(rgba, "TGA"),
        "grey.pgm": encode(image.convert("L"), "PPM"),
        "16bit.pgm": b"P5 2 1 65535\n\x00\x01\xff\x00",
        "plain.ppm": b"P3 2 1 255 1 2 3 4 5 6",
        'comma, quote\' and "double".jpg': jpeg,
        "new\nline.jpg": jpeg,
        "tab\tname.jpg": jpeg,
        " space .jpg": jpeg,
        "-dash.jpg": jpeg,
        ".hidden.jpg": jpeg,
        "%41%.jpg": jpeg,
        "ünïcödé 🦊 e\u0301.jpg": jpeg,
        "a" * 251 + ".jpg": jpeg,
        "sixty-megapixels.jpg": sixty_megapixels(),
        "exif-no-tag.jpg": encode(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        "exif-garbage.jpg": with_exif(jpeg, b"Exif\0\0" + b"\xde\xad\xbe\xef" * 30),
        "exif-empty.jpg": with_exif(jpeg, b"Exif\0\0"),
        "exif-cut.jpg": with_exif(jpeg, orientation(6)[:-9]),
        "exif-loop.jpg": with_exif(jpeg, b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0"),
        "exif-as-text.jpg": with_exif(jpeg, orientation(0x36, kind=2)),
        "exif-twice.jpg": with_exif(jpeg, orientation(6, count=2)),
        "exif-far-away.jpg": with_exif(jpeg, b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        **{f"exif-{n}.jpg": with_exif(jpeg, orientation(n)) for n in (0, 9, 65535)},
        **{f"exif-{n}.jpg": with_exif(encode(STORED_AS[n](blocks()), "JPEG"), orientation(n)) for n in STORED_AS},
    }
    if features.check("webp"):
        good["lossless.webp"] = encode(rgba, "WEBP", lossless=True)
        good["animated.webp"] = encode(image, "WEBP", save_all=True, append_images=[image.rotate(180)] * 3)
    if features.check("jpg_2000"):
        good["rgb.jp2"] = encode(image, "JPEG2000")
    if "AVIF" in Image.SAVE:
        good["rgba.avif"] = encode(rgba, "AVIF", speed=10)
        good["animated.avif"] = encode(image, "AVIF", speed=10, save_all=True, append_images=[image.rotate(180)])

    large = encode(noise(300, 200, seed=1), "JPEG")
    scan = large.index(b"\xff\xda")
    bad: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "the file is empty"),
        "one-byte.jpg": (b"\xff", UNKNOWN),
        "text.jpg": (b"<html>404 Not Found</html>\n", UNKNOWN),
        "zeros.jpg": (b"\0" * 5000, UNKNOWN),
        "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n", UNKNOWN),
        "drawing.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', UNKNOWN),
        "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100, "HEIF"),
        "icon.png": (encode(image, "ICO", sizes=[(16, 16)]), UNKNOWN),
        "cut-in-header.jpg": (large[: scan // 2], "runcated"),
        "cut-before-scan.jpg": (large[: scan + 2], "a JPEG file that is damaged"),
        "cut-in-scan.jpg": (large[: (scan + len(large)) // 2], TRUNCATED),
        "cut-progressive.jpg": (encode(noise(300, 200), "JPEG", progressive=True)[:-3000], TRUNCATED),
        "cut-in-header.png": (encode(image, "PNG")[:20], "runcated"),
        "cut-in-data.png": (encode(image, "PNG")[:1500], TRUNCATED),
        "damaged.png": (encode(image, "PNG").replace(b"IDAT", b"IDAT\1", 1), ""),
        "cut.gif": (encode(image, "GIF")[:1200], TRUNCATED),
        "cut.tif": (encode(image, "TIFF")[:2000], TRUNCATED),
        "cut.bmp": (encode(image, "BMP")[:2000], TRUNCATED),
        "cut.ppm": (encode(image, "PPM")[:2000], TRUNCATED),
        "cut.tga": (encode(image, "TGA")[:2000], TRUNCATED),
        "float.tif": (encode(np.ones((4, 4), np.float32), "TIFF"), "floating-point"),
        "bomb.png": (png(50_000, 50_000, 8, 2, b""), BOMB),
        "bomb.jpg": (claiming(jpeg, 65_500, 65_500), BOMB),
        "bomb.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0," + b"\0\0\0\0\xff\xff\xff\xff\0\x08\0;", BOMB),
        "bomb.tif": (_bomb_tiff(), BOMB),
        "just-too-large.png": (png(13_378, 13_378, 1, 0, b""), BOMB),
        "data-bomb.png": (png(50_000, 50_000, 8, 2, b"\0" * 10_000_000), BOMB),
    }
    for name in ("lossless.webp", "rgb.jp2", "rgba.avif"):
        if name in good:
            bad["cut-" + name] = (good[name][: len(good[name]) // 2], "")
    files: dict[bytes, tuple[bytes, str | None]] = {os.fsencode(name): (data, None) for name, data in good.items()}
    files |= {os.fsencode(name): content for name, content in bad.items()}
    if sys.platform == "linux":
        files[b"invalid \xff\xfe utf-8.jpg"] = (jpeg, None)
        files[b"invalid and empty \xe9.jpg"] = (b"", "the file is empty")
    return files


def _zeros() -> bytes:
    return zlib.compress(bytes(20_000_000))


def _ycck(cmyk_jpeg: bytes) -> bytes:
    """Declare the numbers of a CMYK JPEG as YCCK, by the transform byte of the Adobe block."""
    at = cmyk_jpeg.index(b"Adobe") + 11
    return cmyk_jpeg[:at] + b"\x02" + cmyk_jpeg[at + 1 :]


def _interlaced() -> bytes:
    """Make an Adam7 PNG of 2 × 2 grey pixels, 10, 20 / 30, 40, from its passes 1, 6 and 7."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1))
    data = png_chunk(b"IDAT", zlib.compress(b"\0\x0a" + b"\0\x14" + b"\0\x1e\x28"))
    return b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b"")


def _many_frames(count: int) -> bytes:
    one = encode(noise(4, 4, channels=1), "GIF")
    start = one.index(b"\x2c", 13 + 3 * 2 ** ((one[10] & 7) + 1))
    return one[:start] + one[start:-1] * count + b";"


def _bomb_tiff() -> bytes:
    """Make a TIFF that claims 60,000 × 60,000 grey pixels in one strip, which is not there."""
    tags = ((256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8), (278, 60_000), (279, 10))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


def make_zoo(folder: Path) -> dict[str, str | None]:
    """Write one file of each kind among a few real photos, and sub-folders with traps for code that lists them.

    Returns:
        for each file that a listing of the folder finds, by its name relative to the folder: None if the file must
        decode, or else a part of the reason why it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    zoo: dict[str, str | None] = {}
    for photo in sorted(demo_photos())[:4]:
        (folder / photo.name).write_bytes(photo.read_bytes())
        zoo[photo.name] = None
    for name, (data, reason) in _files().items():
        (folder / os.fsdecode(name)).write_bytes(data)
        zoo[os.fsdecode(name)] = reason

    (folder / "notes.txt").write_text("not an image, and not named like one")
    (folder / "no suffix").write_bytes(encode(noise(9, 9), "PNG"))
    (folder / "an empty folder.jpg").mkdir()
    (folder / "a folder.jpg" / "deeper").mkdir(parents=True)
    (folder / "a folder.jpg" / "deeper" / "in it.png").write_bytes(encode(noise(9, 9), "PNG"))
    zoo["a folder.jpg/deeper/in it.png"] = None
    for name, target, reason in (
        ("link.jpg", "baseline.jpg", None),
        ("link to nothing.jpg", "gone", MISSING),
        ("link to itself.jpg", "link to itself.jpg", "symbolic links"),
        ("link to a device.jpg", os.devnull, "is not a regular file"),
        ("link to a bad disk.jpg", "/proc/self/mem", "Input/output error"),
        ("link to nowhere", "not mounted", MISSING),
    ):
        if target.startswith("/proc") and not os.path.exists(target):
            continue
        (folder / name).symlink_to(target)
        zoo[name if os.path.splitext(name)[1] else name + "/"] = reason
    (folder / "a folder.jpg" / "up again").symlink_to("..")
    os.mkfifo(folder / "pipe.jpg")
    zoo["pipe.jpg"] = "is not a regular file"
    if os.geteuid():
        for name in ("locked.jpg", "locked folder/inside.jpg"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(encode(noise(9, 9), "PNG"))
        (folder / "locked.jpg").chmod(0)
        (folder / "locked folder").chmod(0)
        zoo["locked.jpg"] = "Permission denied"
        zoo["locked folder/"] = "a folder that cannot be listed (Permission denied)"
    return zoo
