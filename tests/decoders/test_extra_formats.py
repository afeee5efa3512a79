"""Formats with libraries of their own: what they give, and what is said where the library is not installed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from images import encode
from pictures import Array, smooth
from PIL import Image

from isc_fast.decoders.extra_formats import EXTRAS
from isc_fast.decoders.opening import ImageProblem, open_image
from isc_fast.decoders.rules import load_rgb
from isc_fast.sources.folders import IMAGE_SUFFIXES

DATA = Path(__file__).parent / "data"


def pixels(data: bytes | str) -> np.ndarray:
    return np.asarray(load_rgb(data)).astype(int)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("upright.heic", smooth()),
        ("turned_by_box.heic", np.rot90(smooth(), 3)),
        ("exif_without_box.heic", np.rot90(smooth())),  # the standard, libheif and libvips: only the box counts
    ],
)
def test_heif_is_turned_by_its_box_alone(name, right):
    pytest.importorskip("pi_heif")
    made = pixels(str(DATA / name))
    assert made.shape == right.shape
    assert np.abs(made - right).max() <= 6


def test_half_a_heif_is_refused():
    pytest.importorskip("pi_heif")
    data = (DATA / "upright.heic").read_bytes()
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(ImageProblem) as raised:
            load_rgb(data[: int(share * len(data))])
        assert raised.value.problem.stage == "decode"


@pytest.mark.parametrize(
    "size", [(8, 8), (40, 40), (256, 192), (257, 100), (300, 1000), (20_000, 3), (1, 1), (1920, 1080)]
)
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size, container):
    codecs = pytest.importorskip("imagecodecs")
    wide = np.zeros((size[1], size[0], 3), np.uint8)
    data = codecs.jpegxl_encode(wide, lossless=True, usecontainer=container)
    assert data.startswith(b"\0\0\0\x0c" if container else b"\xff\x0a")
    assert open_image(io.BytesIO(data)).size == size


def test_damaged_jpeg_xl_is_refused():
    codecs = pytest.importorskip("imagecodecs")
    data = codecs.jpegxl_encode(smooth(), lossless=True)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageProblem):
            load_rgb(data[: int(share * len(data))])
    with pytest.raises(ImageProblem, match=r"decompression bomb|JPEG XL"):
        load_rgb(b"\xff\x0a" + b"\xfe" + b"\xff" * 200)


MATRIX = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)
TOY = [
    (271, "s", 0, "Toy", True),
    (272, "s", 0, "camera", True),
    (50706, "B", 4, (1, 4, 0, 0), True),
    (50707, "B", 4, (1, 1, 0, 0), True),
    (50708, "s", 0, "Toy camera", True),
    (50721, "2i", 9, tuple(n for value in MATRIX for n in (value, 10_000)), True),
    (50778, "H", 1, 21, True),
    (50728, "2I", 3, (1,) * 6, True),
]
FILTERS = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]


def scene(size: tuple[int, int] = (640, 480)) -> np.ndarray:
    return np.asarray(Image.fromarray(smooth()).resize(size))


def sensor() -> Array:
    """What a camera's sensor sees of the scene: linear, behind filters of red, green, green and blue."""
    light = (np.float32(scene()) / 255) ** 2.2 * 65535
    seen = light[..., 1].copy()
    seen[0::2, 0::2], seen[1::2, 1::2] = light[0::2, 0::2, 0], light[1::2, 1::2, 2]
    return seen.astype(np.uint16)


def raw_file(preview: tuple[int, int] | None, turn: int = 1) -> bytes:
    """A DNG, with or without a preview (stored in grey, to tell it from the sensor's picture)."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    out, upright = io.BytesIO(), [(274, "H", 1, turn, True)]
    with tifffile.TiffWriter(out) as writer:
        if preview:
            grey = np.repeat(scene(preview).mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
            writer.write(grey, photometric="rgb", compression="jpeg", rowsperstrip=preview[1], subfiletype=1, subifds=1,
                         extratags=[*TOY, *upright], metadata=None)  # fmt: skip
            writer.write(sensor(), photometric=32803, subfiletype=0, extratags=FILTERS, metadata=None)
        else:
            writer.write(sensor(), photometric=32803, extratags=[*TOY, *FILTERS, *upright], metadata=None)
    return out.getvalue()


def is_grey(picture: np.ndarray) -> bool:
    return bool(np.abs(picture[..., 0] - picture[..., 2]).max() < 12)


@pytest.mark.parametrize(("turn", "turned"), [(1, lambda picture: picture), (6, lambda picture: np.rot90(picture, -1))])
def test_a_raw_file_gives_the_cameras_own_picture(turn, turned):
    pytest.importorskip("rawpy")
    made = pixels(raw_file((640, 480), turn))
    right = turned(scene().mean(axis=2))
    assert is_grey(made)
    assert made.shape[:2] == right.shape
    assert np.abs(made[..., 1] - right).mean() < 6


@pytest.mark.parametrize("preview", [None, (160, 120)])
@pytest.mark.parametrize(("turn", "turned"), [(1, lambda picture: picture), (6, lambda picture: np.rot90(picture, -1))])
def test_a_raw_file_without_a_large_preview_is_developed(preview, turn, turned):
    pytest.importorskip("rawpy")
    made = pixels(raw_file(preview, turn))
    right = turned(scene())
    assert not is_grey(made)
    assert made.shape == right.shape
    assert np.abs(made - right).mean() < 12


def test_a_tiff_of_one_page_or_with_pages_behind_it_is_no_raw_file():
    tifffile = pytest.importorskip("tifffile")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(smooth(), photometric="rgb", subifds=1)
        writer.write(smooth()[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(pixels(out.getvalue()), smooth())


@pytest.mark.parametrize(
    ("head", "noun", "extra", "module"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "HEIF (HEIC)", "heif", "pi_heif"),
        (b"\xff\x0a" + bytes(100), "JPEG XL", "codecs", "imagecodecs"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "JPEG XL", "codecs", "imagecodecs"),
        (b"FUJIFILMCCD-RAW " + bytes(100), "a camera's raw file", "raw", "rawpy"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100), "a camera's raw file", "raw", "rawpy"),
        (
            b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + b"\1\0\0\1\4\0\1\0\0\0\7\0\0\0" + bytes(60),
            "a camera's raw file",
            "raw",
            "rawpy",
        ),
    ],
)
def test_without_its_library_the_reason_names_the_format_and_the_extra(monkeypatch, head, noun, extra, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageProblem) as raised:
        load_rgb(head)
    wanted = f"{noun}: this needs {module}, which is not installed; run: pip install 'isc-fast[{extra}]'"
    assert raised.value.problem.reason == wanted


def test_without_its_library_a_deep_jpeg_2000_says_so(monkeypatch):
    codecs = pytest.importorskip("imagecodecs")
    data = codecs.jpeg2k_encode(
        np.full((20, 30, 3), 4095, np.uint16), reversible=True, level=0, bitspersample=12, codecformat="jp2"
    )
    assert pixels(data).min() == 255
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageProblem, match=r"JPEG 2000 of more than 8 bits: .*isc-fast\[codecs\]"):
        load_rgb(data)


def test_avif_is_no_heif():
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    data = encode(smooth(), "AVIF", quality=95, speed=9)
    for brands in (b"mif1" + data[12:16], data[8:16]):
        head = data[:8] + brands + data[16:64]
        assert not any(extra.takes(head, None) for extra in EXTRAS)
    assert np.abs(pixels(data) - smooth()).max() < 14


def test_every_suffix_of_these_formats_is_taken():
    assert {
        ".heic",
        ".hif",
        ".jxl",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".raf",
        ".mpo",
        ".pjpeg",
        ".jpx",
        ".apng",
        ".dib",
    } <= IMAGE_SUFFIXES
