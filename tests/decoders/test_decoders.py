from __future__ import annotations

import io
import itertools
import os
import random
import struct
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers_decoders import batched, decoding_threads, mutations, outcome
from images import STORED_AS, UNKNOWN, blocks, encode, make_zoo, noise, orientation, png, png_chunk, with_exif
from PIL import Image, ImageFile, features

from isc_fast.decoders.base import AUTO, DECODERS, Batch, Decoder, make_decoder
from isc_fast.decoders.limits import MAX_PIXELS
from isc_fast.decoders.opening import FORMATS, ImageProblem
from isc_fast.decoders.opening import orientation as orientation_of
from isc_fast.decoders.pillow import CpuDecoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.decoders.rules import load_input, load_rgb
from isc_fast.decoders.threads import ThreadedDecoder
from isc_fast.errors import InputError
from isc_fast.items import Problem
from isc_fast.machine.cores import available_cores

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF blocks

RGB, RGBA = noise(6, 4), noise(6, 4, channels=4)
GREY, INDEX = noise(6, 4, channels=1), noise(6, 4, channels=1) % 5
PALETTE = noise(5, 1, seed=3)[0]
WIDE = noise(6, 4, channels=1).astype(np.uint16) * 256 + noise(6, 4, seed=5, channels=1)
KEY, GREY_KEY = RGB[0, 0], GREY[0, 0]
KEYED = np.where((RGB == KEY).all(axis=2, keepdims=True), 255, RGB)


def three(grey: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.repeat(grey[..., None], 3, axis=2)


def on_white(colour: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    share = alpha[..., None] / 255
    return np.floor(colour * share + 255 * (1 - share) + 0.5)


def rows_of(pixels: npt.NDArray[np.generic]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def paletted(**options: object) -> bytes:
    image = Image.fromarray(INDEX, "P")
    image.putpalette(PALETTE.tobytes())
    return encode(image, "PNG", **options)


def first_of(form: str, **options: object) -> bytes:
    later = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    return encode(RGB, form, save_all=True, append_images=later, **options)


def load(tmp_path: Path, data: bytes, name: str = "x.jpg") -> npt.NDArray[np.uint8]:
    (tmp_path / name).write_bytes(data)
    return np.asarray(load_rgb(str(tmp_path / name)))


def refusal(path: str | os.PathLike[str]) -> Problem:
    with pytest.raises(ImageProblem) as raised:
        load_rgb(os.fspath(path))
    return raised.value.problem


RULES: dict[str, tuple[bytes, npt.NDArray[np.generic]]] = {
    "1 bit": (png(4, 1, 1, 0, b"\0\xa0"), three(np.array([[255, 0, 255, 0]]))),
    "2 bits": (png(4, 1, 2, 0, b"\0\x1b"), three(np.array([[0, 85, 170, 255]]))),
    "grey": (encode(GREY, "PNG"), three(GREY)),
    "rgb": (encode(RGB, "PNG"), RGB),
    "interlaced rows": (encode(RGB, "TIFF", compression="tiff_lzw"), RGB),
    "bmp": (encode(RGB, "BMP"), RGB),
    "ppm": (encode(RGB, "PPM"), RGB),
    "ppm in words": (b"P3 2 1 255 1 2 3 4 5 6", np.array([[[1, 2, 3], [4, 5, 6]]])),
    "palette": (paletted(), PALETTE[INDEX]),
    "palette, one transparent": (paletted(transparency=2), np.where(three(INDEX) == 2, 255, PALETTE[INDEX])),
    "palette, half transparent": (
        paletted(transparency=bytes([0, 50, 100, 200, 255])),
        on_white(PALETTE[INDEX], np.array([0, 50, 100, 200, 255], np.uint8)[INDEX]),
    ),
    "colour key": (encode(RGB, "PNG", transparency=tuple(map(int, KEY))), KEYED),
    "grey key": (encode(GREY, "PNG", transparency=int(GREY_KEY)), three(np.where(GREY == GREY_KEY, 255, GREY))),
    "rgba png": (encode(RGBA, "PNG"), on_white(RGBA[..., :3], RGBA[..., 3])),
    "rgba tiff": (encode(RGBA, "TIFF"), on_white(RGBA[..., :3], RGBA[..., 3])),
    "rgba tga": (encode(RGBA, "TGA"), on_white(RGBA[..., :3], RGBA[..., 3])),
    "grey alpha": (encode(Image.fromarray(RGBA[..., :2], "LA"), "PNG"), on_white(three(RGBA[..., 0]), RGBA[..., 1])),
    "invisible": (encode(np.zeros((2, 2, 4), np.uint8), "PNG"), np.full((2, 2, 3), 255)),
    "grey16 png": (encode(WIDE, "PNG"), three(WIDE >> 8)),
    "grey16 tiff": (encode(WIDE, "TIFF"), three(WIDE >> 8)),
    "grey16 tiff, big endian": (encode(Image.fromarray(WIDE.astype(">u2")), "TIFF"), three(WIDE >> 8)),
    "grey16 pgm": (b"P5 6 4 65535\n" + WIDE.astype(">u2").tobytes(), three(WIDE >> 8)),
    "rgb16 png": (png(2, 4, 16, 2, rows_of(WIDE.astype(">u2"))), WIDE.reshape(4, 2, 3) >> 8),
    "rgba16 png": (png(1, 1, 16, 6, b"\0\x12\xff\x34\xff\x56\xff\x80\xff"), np.array([[[136, 153, 170]]])),
    "int32": (
        encode(np.array([[0, 0x12FF, 65_535]], np.int32), "TIFF"),
        three(np.array([[0, 0x12, 255]])),
    ),
    "cmyk": (
        encode(Image.frombytes("CMYK", (3, 1), bytes([10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 100])), "TIFF"),
        np.array([[[245, 235, 225], [0, 0, 0], [155, 155, 155]]]),
    ),
    "pages": (first_of("TIFF"), RGB),
    "frames of an apng": (first_of("PNG"), RGB),
    "frames of a gif": (
        encode(
            Image.fromarray(GREY).convert("P"),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (6, 4), 7)],
            optimize=False,
        ),
        three(GREY),
    ),
    "profile": (encode(RGB, "PNG", icc_profile=b"no profile at all"), RGB),
}
if features.check("webp"):
    RULES["frames of a webp"] = first_of("WEBP", lossless=True, exact=True), RGB
    RULES["rgba webp"] = encode(RGBA, "WEBP", lossless=True, exact=True), on_white(RGBA[..., :3], RGBA[..., 3])
if features.check("jpg_2000"):
    RULES["jpeg 2000"] = encode(RGB, "JPEG2000"), RGB


@pytest.mark.parametrize("case", RULES)
def test_rule_by_its_pixels(tmp_path, case):
    data, expected = RULES[case]
    np.testing.assert_array_equal(load(tmp_path, data), expected)


@pytest.mark.parametrize("k", [0, 255])
def test_cmyk_jpegs_are_not_inverted(tmp_path, k):
    flat = encode(Image.new("CMYK", (16, 16), (200, 100, 30, k)), "JPEG", quality=100, subsampling="4:4:4")
    wanted = (55, 155, 225) if k == 0 else (0, 0, 0)
    assert np.abs(load(tmp_path, flat).astype(int) - wanted).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(512, 512), (40, 91)])
def test_photos_are_exactly_what_pillow_makes_of_them(photos, height, width):
    for photo in photos[::8]:
        plain = Image.open(photo).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        made = load_input(str(photo), height, width)
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(made, np.asarray(plain))


@pytest.mark.parametrize("tag", STORED_AS)
@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"subsampling": "4:4:4"})]
)
def test_every_orientation_is_turned_upright(tmp_path, form, options, tag):
    upright = blocks() if form == "JPEG" else noise(20, 12)
    exif = Image.Exif()
    exif[0x0112] = tag
    made = load(tmp_path, encode(np.ascontiguousarray(STORED_AS[tag](upright)), form, exif=exif, **options))
    if form == "JPEG":
        np.testing.assert_array_equal(
            made, load(tmp_path, encode(upright, form, **options))
        )  # to the last bit the same for all
        assert np.abs(made.astype(int) - upright).max() < 12
    else:
        np.testing.assert_array_equal(made, upright)


@pytest.mark.parametrize(
    "payload",
    [
        *(orientation(value) for value in (0, 9, 65535)),
        orientation(6)[:-9],
        orientation(0x36, kind=2),
        b"Exif\0\0",
        b"Exif\0\0" + b"\xde\xad\xbe\xef" * 30,
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
    ],
)
def test_a_senseless_orientation_is_ignored(tmp_path, payload):
    jpeg = encode(blocks(), "JPEG")
    np.testing.assert_array_equal(load(tmp_path, with_exif(jpeg, payload)), load(tmp_path, jpeg))
    assert orientation_of(Image.open(io.BytesIO(with_exif(jpeg, payload)))) == 1


def test_an_image_is_turned_although_the_rest_of_its_exif_is_damaged(tmp_path):
    good, bad = orientation(8), struct.pack("<HHII", 0x013B, 2, 400, 9_000)
    exif = good[:14] + b"\2\0" + good[16:-4] + bad + good[-4:]
    made = load(tmp_path, with_exif(encode(STORED_AS[8](blocks()), "JPEG", subsampling="4:4:4"), exif))
    np.testing.assert_array_equal(made, load(tmp_path, encode(blocks(), "JPEG", subsampling="4:4:4")))


@pytest.mark.parametrize("error", [SyntaxError("not a TIFF"), struct.error(), ZeroDivisionError(), AttributeError()])
def test_whatever_pillow_raises_on_exif_the_pixels_count(tmp_path, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("isc_fast.decoders.opening.Image.Exif.load", fail)
    np.testing.assert_array_equal(load(tmp_path, encode(RGB, "PNG")), RGB)


def test_formats_outside_the_list_are_never_tried(tmp_path, monkeypatch):
    """EPS among them, which Pillow would hand to Ghostscript."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was called"))
    written = set()
    for form in set(Image.SAVE) - {*FORMATS, "MPO"}:
        try:
            data = encode(Image.fromarray(noise(64, 64)), form)
        except Exception:  # wants another colour, or a library that is not there
            continue
        written.add(form)
        (tmp_path / "x.jpg").write_bytes(data)
        assert refusal(tmp_path / "x.jpg").reason.startswith(UNKNOWN), form
    assert written >= {"EPS", "PDF", "ICO", "PCX", "SGI"}


def test_every_listed_format_is_read(tmp_path):
    for form in set(FORMATS) & set(Image.SAVE):
        assert load(tmp_path, encode(RGB, form)).shape == RGB.shape, form


def test_the_limit_of_pixels_is_the_stated_one(tmp_path, monkeypatch):
    monkeypatch.setattr("isc_fast.decoders.limits.MAX_PIXELS", 24)
    assert load(tmp_path, encode(RGB, "PNG")).shape == (4, 6, 3)
    (tmp_path / "x.png").write_bytes(encode(noise(5, 5), "PNG"))
    assert refusal(tmp_path / "x.png") == Problem("decode", "decompression bomb: 5 × 5 pixels, limit 24")
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 2 * Image.MAX_IMAGE_PIXELS >= MAX_PIXELS, "Pillow would refuse what the contract allows"


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_a_reason_and_never_an_exception(tmp_path, form):
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow has no {form}")
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF") else {}
    reasons = []
    for data in mutations(encode(noise(24, 16), form, **options), 60):
        (tmp_path / "x").write_bytes(data)
        try:
            load_input(str(tmp_path / "x"), 8, 8)
        except ImageProblem as error:
            reasons.append(error.problem)
    assert len(reasons) >= 20
    for problem in reasons:
        assert problem.stage == "decode"
        assert problem.reason
        assert problem.reason.isprintable()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM"])
def test_half_a_file_is_refused_wherever_it_ends(tmp_path, form):
    data = encode(noise(60, 50), form)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        (tmp_path / "x").write_bytes(data[: int(share * len(data))])
        assert refusal(tmp_path / "x").stage == "decode"


@pytest.mark.parametrize(
    "where", ["rules.to_rgb", "opening.Image.open", "opening.Image.Exif.load", "rules.Image.Image.resize"]
)
def test_no_memory_is_a_problem_of_one_image(tmp_path, monkeypatch, photos, where):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("isc_fast.decoders." + where, fail)
    (batch,) = CpuDecoder(2).batches([[str(photos[0]), str(tmp_path / "gone")]], Preprocessing(8, 8))
    assert batch.problems == [Problem("decode", "not enough memory"), Problem("read", "No such file or directory")]


def test_a_reason_is_one_short_printable_line(monkeypatch, photos):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("bad\x00 \x1b[31m tag\n\udcff " + "x" * 1000)

    monkeypatch.setattr(Image, "open", fail)
    reason = refusal(photos[0]).reason
    assert reason.startswith("bad [31m tag xxx")
    assert len(reason) == 200


def test_an_error_of_the_disk_is_one_of_reading(tmp_path, monkeypatch, photos):
    class Stale(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(116, "Stale file handle")

    monkeypatch.setattr("isc_fast.decoders.opening.open", lambda *_: Stale(), raising=False)
    assert refusal(photos[0]) == Problem("read", "Stale file handle")


@pytest.mark.parametrize("values", [[-1, 0], [0, 65_536]])
def test_integers_beyond_sixteen_bits_have_no_agreed_range(tmp_path, values):
    (tmp_path / "x.tif").write_bytes(encode(np.array([values], np.int32), "TIFF"))
    assert "no agreed range" in refusal(tmp_path / "x.tif").reason


def test_what_is_not_a_file_says_what_it_is(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    assert refusal(tmp_path / "x.jpg") == Problem("read", "is a folder")
    assert refusal(tmp_path / "x.jpg" / "a.jpg").reason == "No such file or directory"
    assert refusal("a\0b.jpg").reason == "embedded null byte"
    assert refusal("x" * 300).reason == "File name too long"


# --- batches, of every decoder that takes one file after the other ---


@pytest.fixture(params=DECODERS, scope="module")
def make(request) -> Callable[..., Decoder]:
    """Makes the decoder, given the number of workers."""
    if request.param.startswith("dali"):
        pytest.importorskip("nvidia.dali")
        try:
            make_decoder(request.param, 1)
        except InputError as error:  # no GPU
            pytest.skip(str(error))
    elif request.param != "pillow":
        pytest.importorskip("simplejpeg")
        pytest.importorskip("cykooz_resizer")
    return partial(make_decoder, request.param)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> dict[str, str | None]:
    """path → a part of the reason why it cannot be decoded, or None."""
    folder = tmp_path_factory.mktemp("zoo")
    return {str(folder / name): reason for name, reason in make_zoo(folder).items()}


@pytest.fixture(scope="module")
def alone(zoo, make) -> dict[str, npt.NDArray[np.uint8] | Problem]:
    """path → what becomes of the image when it is the only one of its batch and its decoder."""
    return {path: outcome(make(1), path, 20, 28) for path in zoo}


@pytest.mark.timeout(60)
def test_each_kind_of_file_is_decoded_or_refused_for_its_reason(zoo, alone):
    wrong = {}
    for path, reason in zoo.items():
        got = alone[path].reason if isinstance(alone[path], Problem) else None
        if (got is None) != (reason is None) or (reason is not None and reason not in (got or "")):
            wrong[os.path.basename(path)] = got, reason
    assert not wrong
    assert sum(reason is None for reason in zoo.values()) > 80


def test_what_is_decoded_by_pillow_is_what_the_contract_says(zoo):
    (batch,) = CpuDecoder(2).batches([list(zoo)], Preprocessing(20, 28))
    for path, pixels, problem in zip(zoo, batch.pixels, batch.problems, strict=True):
        if problem is None:
            np.testing.assert_array_equal(pixels, load_input(path, 20, 28), err_msg=path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("workers", "size"), [(1, 4), (2, 1), (2, 7), (5, 3), (5, 1000)])
def test_neighbours_and_workers_change_nothing(alone, make, workers, size):
    paths = list(alone)
    random.Random(size).shuffle(paths)
    jobs = batched(paths, size)
    batches = list(make(workers).batches(jobs, Preprocessing(20, 28)))
    assert [len(batch.problems) for batch in batches] == [len(job) for job in jobs]
    slots = [slot for batch in batches for slot in zip(batch.pixels, batch.problems, strict=True)]
    for path, (pixels, problem) in zip(paths, slots, strict=True):
        single = alone[path]
        if isinstance(single, Problem):
            assert problem == single
            assert not pixels.any()
        else:
            assert problem is None
            np.testing.assert_array_equal(pixels, single, err_msg=path)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_nothing_is_left_open_or_changed(zoo, make):
    def state() -> tuple[object, ...]:
        settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, Image.WARN_POSSIBLE_FORMATS
        return len(os.listdir("/proc/self/fd")), decoding_threads(), list(warnings.filters), settings

    make(1)  # imports what it needs
    before = state()
    paths = [path for path in zoo if "sixty" not in path]
    for _ in make(3).batches(batched(paths, 10), Preprocessing(8, 8)):
        pass
    assert state() == before


@pytest.mark.parametrize(("workers", "size"), [(1, 1), (5, 1), (3, 4), (2, 100)])
def test_an_endless_list_is_taken_as_it_is_needed(make, workers, size):
    taken = itertools.count()
    latest = 0

    def jobs() -> Iterator[Sequence[str]]:
        nonlocal latest
        for latest in taken:
            yield [f"gone{latest}"] * size

    ahead = max(3 if make.args[0].startswith("dali") else 2, -(-2 * workers // size))
    batches = make(workers).batches(jobs(), Preprocessing(4, 4))
    assert latest == 0
    for number, _ in enumerate(itertools.islice(batches, 5)):
        assert latest + 1 == number + ahead
    assert decoding_threads()
    batches.close()
    assert not decoding_threads()


@pytest.mark.timeout(20)
def test_endless_empty_jobs_do_not_hang():
    batches = CpuDecoder(4).batches(itertools.repeat([]), Preprocessing(4, 4))
    assert next(batches).pixels.shape == (0, 4, 4, 3)
    batches.close()


def test_no_jobs_no_batches():
    assert list(CpuDecoder(2).batches([], Preprocessing(4, 4))) == []
    assert not decoding_threads()


def test_order_is_kept_when_the_first_is_the_slowest():
    class Slow(ThreadedDecoder):
        def decode_into(self, path: str, _: Preprocessing, slot: npt.NDArray[np.uint8]) -> None:
            time.sleep(0.05 if int(path) % 4 == 0 else 0)
            slot[:] = int(path)

    jobs = batched([str(i) for i in range(22)], 3)
    batches = list(Slow(4).batches(jobs, Preprocessing(2, 2)))
    assert [batch.pixels[:, 0, 0, 0].tolist() for batch in batches] == [[int(path) for path in job] for job in jobs]


def test_images_are_decoded_while_the_consumer_works():
    seen: list[str] = []

    class Seeing(ThreadedDecoder):
        def decode_into(self, path: str, _: Preprocessing, slot: npt.NDArray[np.uint8]) -> None:
            seen.append(path)

    batches = Seeing(2).batches(batched(["a", "b", "c", "d"], 2), Preprocessing(2, 2))
    next(batches)
    until = time.monotonic() + 5
    while len(seen) < 4 and time.monotonic() < until:
        time.sleep(0.001)
    assert sorted(seen) == ["a", "b", "c", "d"]
    batches.close()


def test_an_error_of_the_job_list_ends_the_threads():
    def jobs() -> Iterator[Sequence[str]]:
        yield ["gone"]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(CpuDecoder(2).batches(jobs(), Preprocessing(4, 4)))
    assert not decoding_threads()


def test_a_batch_is_what_it_says(make, photos):
    (batch,) = make(2).batches([[str(photos[0]), "gone.jpg"]], Preprocessing(9, 7))
    assert isinstance(batch, Batch)
    assert (batch.pixels.shape, batch.pixels.dtype) == ((2, 9, 7, 3), np.uint8)
    assert batch.pixels.flags.c_contiguous
    assert batch.problems == [None, Problem("read", "No such file or directory")]


def test_workers(make):
    assert make().workers == available_cores()
    with pytest.raises(InputError, match="workers must be at least 1, not 0"):
        make(0)


def test_a_program_that_accepts_half_photos_is_told(make, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match=r"LOAD_TRUNCATED_IMAGES.* set it to False"):
        make(1)


def test_a_decoder_has_the_name_it_is_made_by(make):
    assert make(1).name == make.args[0]
    with pytest.raises(InputError, match=f"no decoder 'none'; choose one of {', '.join((AUTO, *DECODERS))}"):
        make_decoder("none")


def test_metadata_bombs_cost_no_memory(tmp_path):
    bomb = png(1, 1, 8, 2, b"\0\1\2\3", png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000))))
    tracemalloc.start()
    assert load(tmp_path, bomb).shape == (1, 1, 3)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000
