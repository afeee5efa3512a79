"""Real files that were once read wrongly, or refused without need. All hold one photo; each stands for its kind."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers_decoders import outcome
from images import blocks, encode, noise, orientation, png, png_chunk, with_exif
from pictures import tiff
from PIL import Image

from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.opening import ImageProblem, open_image, upright_size
from isc_fast.decoders.opening import orientation as orientation_of
from isc_fast.decoders.rules import load_rgb
from isc_fast.items import Problem

DATA = Path(__file__).parent / "data"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def colour(name: str) -> np.ndarray:
    return np.asarray(load_rgb(str(DATA / name))).astype(int)


def far(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return colour("photo.jpg")


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    page = np.asarray(Image.open(DATA / "photo.jpg").convert("L")).astype(int)
    return np.repeat(page[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("xmp_orientation.jpg", 0.0),
        ("xmp_orientation.webp", 2.5),
        ("tiff16_planar.tif", 2.5),
        ("tiff_4_samples_no_extrasamples.tif", 2.5),
        ("tiff_cmyk_alpha.tif", 2.5),
        ("tiff_palette_8bit_map.tif", 3.7),
        ("bmp32_alpha_zero.bmp", 2.5),
        ("png_1MB_of_text.png", 2.5),
        ("png_bad_crc_of_phys.png", 2.5),
    ],
)
def test_the_photo_in_colour(photo, name, limit):
    """The means are those of JPEG itself: the files were made from the photo before it was compressed."""
    assert far(colour(name), photo) <= limit


@pytest.mark.parametrize("name", ["tiff16_white_is_zero.tif", "tiff12_grey.tif"])
def test_the_photo_in_grey(grey, name):
    assert far(colour(name), grey) <= 1.5


def test_files_that_hold_the_same_samples_are_equal():
    same = ["tiff16_planar.tif", "tiff_4_samples_no_extrasamples.tif", "bmp32_alpha_zero.bmp", "png_1MB_of_text.png"]
    first, *rest = map(colour, same)
    for other in rest:
        np.testing.assert_array_equal(other, first)


def test_a_jpeg_without_its_end_marker_is_whole():
    np.testing.assert_array_equal(colour("jpeg_without_eoi.jpg"), colour("jpeg_with_eoi.jpg"))


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.iterdir()))
@pytest.mark.parametrize("decoder", ["turbo", "dali-cpu"])
def test_all_decoders_agree(decoder, name):
    for module in {"turbo": ("simplejpeg", "cykooz_resizer"), "dali-cpu": ("nvidia.dali",)}[decoder]:
        pytest.importorskip(module)
    made, contract = (outcome(make_decoder(which, 1), DATA / name, 64, 64) for which in (decoder, "pillow"))
    assert isinstance(made, np.ndarray)
    assert isinstance(contract, np.ndarray)
    inner = np.abs(made.astype(int) - contract)[1:-1, 1:-1]  # DALI repeats the outermost rows
    assert inner.max() <= (1 if decoder == "turbo" else 8)


# --- the kinds behind the files ---


def xmp_in(form: str, exif: int | None) -> bytes:
    """A picture whose XMP says that it is turned; EXIF says 1, or nothing, or something else."""
    options: dict[str, object] = {"xmp": XMP} if form != "PNG" else {}
    if exif is not None and form != "JPEG":
        block = Image.Exif()
        block[0x0112] = exif
        options["exif"] = block
    if form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = info
    if form == "TIFF":
        options = {"tiffinfo": {700: XMP, **({274: exif} if exif else {})}}
    if form in ("WEBP", "AVIF"):
        options |= {"quality": 90}
    data = encode(blocks(), form, **options)
    return with_exif(data, orientation(exif)) if exif is not None and form == "JPEG" else data


@pytest.mark.parametrize("exif", [None, 1, 8])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_only_the_orientation_of_exif_counts(form, exif):
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow has no {form}")
    data = xmp_in(form, exif)
    turned = exif == 8
    picture = np.asarray(load_rgb(data)).astype(int)
    right = np.rot90(blocks()) if turned else blocks()
    assert picture.shape == right.shape
    assert np.abs(picture - right).mean() < 6
    with io.BytesIO(data) as stream:
        header = open_image(stream)
        assert upright_size(header) == right.shape[1::-1]
        assert orientation_of(header) == (exif or 1)


ROWS = [(4096, "4:2:0", {}), (4096, "4:4:4", {"progressive": True}), (0, "4:2:0", {"restart_marker_blocks": 2})]


@pytest.mark.parametrize(("_cut", "subsampling", "options"), ROWS)
def test_a_jpeg_that_lacks_anything_but_its_end_stays_refused(_cut, subsampling, options):
    """Every length of the file: only those that lack nothing but the marker are read, and they give all pixels."""
    whole = encode(noise(48, 40), "JPEG", subsampling=subsampling, quality=60, **options)
    right = np.asarray(load_rgb(whole))
    read = []
    for length in [*range(200, len(whole) - 40, 37), *range(len(whole) - 40, len(whole))]:
        try:
            made = np.asarray(load_rgb(whole[:length]))
        except ImageProblem:
            continue
        read.append(length)
        np.testing.assert_array_equal(made, right, err_msg=f"{length} of {len(whole)} bytes")
    assert len(whole) - 2 in read
    assert min(read) >= len(whole) - 4


def test_a_jpeg_that_ends_after_a_restart_or_a_scan_stays_refused():
    restarts = encode(noise(48, 40), "JPEG", restart_marker_blocks=2)
    for marker in range(4):
        at = restarts.find(b"\xff" + bytes([0xD0 + marker]))
        for end in (at, at + 2):
            with pytest.raises(ImageProblem, match=r"truncated|broken data"):
                load_rgb(restarts[:end])
    scans = encode(noise(48, 40), "JPEG", progressive=True)
    starts = [at for at in range(len(scans)) if scans[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        with pytest.raises(ImageProblem, match="truncated"):
            load_rgb(scans[:start])


LARGE_WHEN_UNPACKED = b"Comment\0\0" + zlib.compress(bytes(20_000_000))


def _chunks(name: bytes) -> dict[str, bytes]:
    good = png_chunk(name, b"something\0" * 40)
    return {
        "bad checksum": good[:-1] + bytes([good[-1] ^ 1]),
        "two gigabytes": struct.pack(">I", 2**31 - 1) + name + b"x",
        "huge when unpacked": png_chunk(name, LARGE_WHEN_UNPACKED),
        "damaged inside": png_chunk(name, b"\xff\0\0\1"),
        "empty": png_chunk(name, b""),
    }


@pytest.mark.parametrize("fault", ["bad checksum", "huge when unpacked", "damaged inside", "empty"])
@pytest.mark.parametrize(
    "name", [b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"eXIf", b"acTL", b"zzZz"]
)
@pytest.mark.parametrize("after", [False, True])
def test_metadata_of_a_png_costs_no_pixel(name, fault, after):
    rows = b"".join(b"\0" + row.tobytes() for row in noise(6, 4))
    chunk = _chunks(name)[fault]
    data = png(6, 4, 8, 2, rows, *([] if after else [chunk]))
    if after:
        data = data[:-12] + chunk + data[-12:]
    np.testing.assert_array_equal(np.asarray(load_rgb(data)), noise(6, 4))


@pytest.mark.parametrize("name", [b"tEXt", b"pHYs", b"eXIf", b"zzZz"])
def test_a_png_that_ends_within_its_last_metadata_is_whole(name):
    rows = b"".join(b"\0" + row.tobytes() for row in noise(6, 4))
    data = png(6, 4, 8, 2, rows)[:-12] + _chunks(name)["two gigabytes"]
    np.testing.assert_array_equal(np.asarray(load_rgb(data)), noise(6, 4))


def test_damaged_pixels_of_a_png_stay_refused_whatever_its_metadata():
    rows = b"".join(b"\0" + row.tobytes() for row in noise(60, 40))
    data = png(60, 40, 8, 2, rows, _chunks(b"pHYs")["bad checksum"])
    for end in (400, 2000, len(data) - 100):
        with pytest.raises(ImageProblem, match=r"truncated|chunks are damaged"):
            load_rgb(data[:end])
    palette = png(
        6, 4, 8, 3, b"\0\0\0\0\0\0\0" * 4, png_chunk(b"PLTE", bytes(9))[:-1] + b"x", _chunks(b"pHYs")["bad checksum"]
    )
    with pytest.raises(ImageProblem):
        load_rgb(palette)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({262: ("H", (34892 - 24580,))}, "photometric 10312"),
        ({262: ("H", (9,)), 277: ("H", (1,))}, "ICC Lab"),
        ({258: ("H", (24,)), 262: ("H", (1,))}, "24-bit integers, which have no agreed range"),
        ({259: ("H", (34712,)), 258: ("H", (12,)), 262: ("H", (1,))}, ""),
        ({277: ("H", (0,))}, "0 samples"),
        ({256: ("H", (0,)), 258: ("H", (12,))}, "without a width"),
        ({278: ("H", (1,)), 258: ("H", (12,))}, "strips or tiles"),
    ],
)
def test_a_tiff_that_is_not_read_says_why(tags, reason):
    base = {
        256: ("H", (6,)),
        257: ("H", (4,)),
        258: ("H", (8,)),
        259: ("H", (1,)),
        262: ("H", (1,)),
        277: ("H", (1,)),
        278: ("H", (4,)),
    }
    with pytest.raises(ImageProblem) as raised:
        load_rgb(tiff("<", {**base, **tags}, [bytes(200)]))
    assert reason in raised.value.problem.reason
    assert "known format" not in raised.value.problem.reason


def test_strips_that_lie_over_each_other_or_are_too_short_are_refused():
    base = {
        256: ("H", (64,)),
        257: ("H", (64,)),
        258: ("H", (12,)),
        259: ("H", (1,)),
        262: ("H", (1,)),
        277: ("H", (1,)),
        278: ("H", (1,)),
    }
    with pytest.raises(ImageProblem) as raised:
        load_rgb(tiff("<", base, [bytes(95)] * 64))
    assert raised.value.problem == Problem("decode", "image file is truncated")
    good = tiff("<", base, [bytes(96)] * 64)
    assert load_rgb(good).size == (64, 64)
    lying = good.replace(struct.pack("<I", 96), struct.pack("<I", 6000))
    with pytest.raises(ImageProblem, match="over each other"):
        load_rgb(lying)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_half_a_tiff_of_our_own_reader_is_refused(compression):
    tifffile = pytest.importorskip("tifffile")
    out = io.BytesIO()
    planes = np.random.default_rng(0).integers(0, 65536, (3, 40, 50)).astype(np.uint16)
    known = {"tiff_lzw": "lzw", "tiff_adobe_deflate": "adobe_deflate", "packbits": "packbits", "raw": None}[compression]
    tifffile.imwrite(out, planes, photometric="rgb", planarconfig="separate", compression=known, rowsperstrip=7)
    data = out.getvalue()
    load_rgb(data)
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(ImageProblem):
            load_rgb(data[: int(share * len(data))])
