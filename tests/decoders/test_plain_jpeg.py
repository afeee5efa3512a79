"""What is left of a JPEG file before DALI decodes it: the same pixels, an orientation, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from helpers_decoders import mutations
from images import claiming, encode, noise, orientation, with_exif
from PIL import Image

from isc_fast.decoders.plain_jpeg import plain_jpeg

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF blocks

RGB = noise(40, 30)
JPEG = encode(RGB, "JPEG")


def decoded(data: bytes, turn: int = 1) -> npt.NDArray[np.uint8] | None:
    """What `plain_jpeg` leaves, decoded by Pillow and turned."""
    with Image.open(io.BytesIO(data)) as image:
        plain = plain_jpeg(data, image.size, turn)
    if plain is None:
        return None
    image = Image.open(io.BytesIO(plain))
    assert not {"icc_profile", "comment", "mpinfo", "xmp"} & set(image.info)
    assert image.getexif().get(0x0112, 1) == turn
    return np.asarray(image)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"restart_marker_blocks": 1},
        {"subsampling": "4:4:4", "quality": 100},
        {"subsampling": "4:2:2"},
        {"icc_profile": b"\xff\xd9 no profile" * 20},
        {"comment": b"\xff\xd9" * 500},
        {"optimize": True},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_has_the_same_pixels_and_nothing_else(mode, options):
    data = encode(Image.fromarray(RGB).convert(mode), "JPEG", **options)
    for more in (b"", b"garbage" * 1000, encode(noise(9, 9), "JPEG")):
        pixels = decoded(data + more)
        assert pixels is not None
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))
    assert len(plain_jpeg(data + b"garbage" * 1000, (40, 30), 1) or b"") <= len(data)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_plain_jpeg_says_the_orientation_that_it_is_given_and_no_other(turn):
    for data in (JPEG, with_exif(JPEG, orientation(6)), with_exif(JPEG, b"Exif\0\0" + b"\xde\xad\xbe\xef" * 30)):
        np.testing.assert_array_equal(decoded(data, turn), np.asarray(Image.open(io.BytesIO(JPEG))))


def test_fill_bytes_before_a_marker_are_no_damage():
    at = JPEG.index(b"\xff\xc4")
    assert decoded(JPEG[:at] + b"\xff\xff\xff" + JPEG[at:]) is not None


def _separate_scans(jpeg: bytes) -> bytes:
    """The scan of a JPEG said to hold one of its three components."""
    at = jpeg.index(b"\xff\xda")
    return jpeg[:at] + b"\xff\xda\x00\x08\x01" + jpeg[at + 5 : at + 7] + jpeg[at + 11 :]


def _sof(jpeg: bytes, offset: int, value: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + offset
    return jpeg[:at] + bytes([value]) + jpeg[at + 1 :]


NOT_PLAIN = {
    "png": encode(RGB, "PNG"),
    "nothing": b"",
    "start only": b"\xff\xd8",
    "no scan": b"\xff\xd8\xff\xd9",
    "cut in a header": JPEG[:100],
    "cut before the scan": JPEG[: JPEG.index(b"\xff\xda")],
    "cut in the scan": JPEG[:-200],
    "without its end": JPEG[:-2],
    "half its end": JPEG[:-1],
    "cmyk": encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "kept in rgb": encode(RGB, "JPEG", keep_rgb=True),
    "another size": claiming(JPEG, 41, 30),
    "no lines": claiming(JPEG, 40, 0),
    "12 bits": _sof(JPEG, 4, 12),
    "lossless": _sof(JPEG, 1, 0xC3),
    "arithmetic": _sof(JPEG, 1, 0xC9),
    "odd sampling": _sof(JPEG, 11, 0x31),
    "chroma finer than luminance": _sof(JPEG, 14, 0x22),
    "two frames": JPEG[:2] + JPEG[JPEG.index(b"\xff\xc0") :][:19] + JPEG[2:],
    "a scan before the frame": JPEG[:2] + JPEG[JPEG.index(b"\xff\xda") :],
    "several baseline scans": _separate_scans(JPEG),
    "stray bytes": JPEG[:2] + b"\0\0" + JPEG[2:],
    "a stray restart": JPEG[:2] + b"\xff\xd0" + JPEG[2:],
    "a length of nothing": JPEG[:2] + b"\xff\xe5\0\0" + JPEG[2:],
    "a length beyond the end": JPEG[:2] + b"\xff\xe5\xff\xff" + JPEG[2:],
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_pillow(case):
    assert plain_jpeg(NOT_PLAIN[case], (40, 30), 1) is None


def test_any_damage_gives_none_or_bytes():
    for data in mutations(with_exif(JPEG, orientation(6)), 2000):
        found = plain_jpeg(data, (40, 30), 1)
        assert found is None or found.endswith(b"\xff\xd9")
