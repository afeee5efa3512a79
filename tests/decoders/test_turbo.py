"""The turbo decoder: Pillow's outcome for every file, pixels within one grey level of Pillow's.

The resize has 14 or 15 bits of weight where Pillow has 22, so a value next to a half is rounded the other way; in one value
of ten million both passes do that and the difference is two. Tests let three values of a file be such ones.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeEngine
from helpers_decoders import THREADED, outcome
from images import STORED_AS, blocks, claiming, encode, make_zoo, noise, orientation, with_exif
from PIL import Image
from without_extras import BLOCK, run_python

pytest.importorskip("simplejpeg")
pytest.importorskip("cykooz_resizer")

import isc_fast
from isc_fast.cli.main import main, make_parser
from isc_fast.decoders import turbo
from isc_fast.decoders.base import AUTO, DECODERS, make_decoder
from isc_fast.decoders.pillow import CpuDecoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.decoders.turbo import TurboDecoder, TurboScaledDecoder
from isc_fast.errors import InputError, MismatchError, MissingExtraError
from isc_fast.items import Problem

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF blocks

SIZES = ((1, 1), (1, 40), (40, 1), (2, 3), (7, 5), (16, 16), (17, 33), (250, 166), (331, 240), (3, 1500), (900, 700))


class Watched(TurboDecoder):
    """Counts what libjpeg-turbo decoded."""

    def __init__(self) -> None:
        super().__init__(1)
        self.fast = 0

    def _read_jpeg(self, stream, header, target):
        photo = super()._read_jpeg(stream, header, target)
        self.fast += photo is not None
        return photo


@pytest.fixture
def decoder() -> Watched:
    return Watched()


def difference(one: npt.NDArray[np.uint8] | Problem, two: npt.NDArray[np.uint8] | Problem) -> int:
    """Largest difference in grey levels, as above; both have to be pixels, or the same problem."""
    if isinstance(one, Problem) or isinstance(two, Problem):
        assert isinstance(one, Problem) is isinstance(two, Problem), (one, two)
        assert one == two
        return 0
    levels = np.sort(np.abs(one.astype(int) - two), axis=None)
    return int(levels[-1] if levels[-1] > 2 else levels[-4])


def compare(decoder: TurboDecoder, path: Path, height: int, width: int) -> int:
    return difference(outcome(CpuDecoder(1), path, height, width), outcome(decoder, path, height, width))


def mean_difference(decoder: TurboDecoder, path: Path, height: int, width: int) -> float:
    one, two = (outcome(which, path, height, width) for which in (CpuDecoder(1), decoder))
    assert not isinstance(one, Problem)
    assert not isinstance(two, Problem)
    return float(np.abs(one.astype(int) - two).mean())


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- pixels and problems are Pillow's ---


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("height", "width"), [(20, 28), (224, 224)])
def test_the_whole_zoo(tmp_path, decoder, height, width):
    """Everything that `images.make_zoo` makes: damaged, odd, huge, turned, no image at all."""
    names = make_zoo(tmp_path)
    wrong = {name: found for name in names if (found := compare(decoder, tmp_path / name, height, width)) > 1}
    assert not wrong
    assert decoder.fast > 40


@pytest.mark.parametrize("size", [32, 224, 512])
def test_photos(photos, decoder, size):
    for photo in photos[::3]:
        assert compare(decoder, photo, size, size) <= 1
        assert mean_difference(decoder, photo, size, size) < 0.05  # with the passes in the other order 0.1 to 0.2
    assert decoder.fast == 2 * len(photos[::3])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}])
def test_kinds_of_jpeg_at_odd_sizes(tmp_path, decoder, mode, options):
    for number, (width, height) in enumerate(SIZES):
        image = Image.fromarray(noise(width, height, seed=number)).convert(mode)
        path = written(tmp_path / "x.jpg", encode(image, "JPEG", **options))
        for target in ((32, 32), (9, 50)):
            assert compare(decoder, path, *target) <= 1, (width, height, target)
    assert decoder.fast == (0 if mode == "CMYK" else 2 * len(SIZES))


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("TIFF", "CMYK"), ("BMP", "P")]
)
def test_what_pillow_decodes_is_resized_alike(tmp_path, decoder, form, mode):
    for number, (width, height) in enumerate(SIZES):
        path = written(tmp_path / "x", encode(Image.fromarray(noise(width, height, seed=number)).convert(mode), form))
        assert compare(decoder, path, 33, 32) <= 1, (width, height)
    assert decoder.fast == 0


@pytest.mark.parametrize("tag", STORED_AS)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (512, 512), (20, 33), (9, 100), (100, 9)])
def test_turned_when_it_is_small(tmp_path, decoder, photos, tag, height, width):
    """The same pixels as of the upright photo, to the last bit: the passes are exchanged with the sides."""
    upright = np.asarray(Image.open(photos[1]).convert("RGB"))[:331, :240]
    path = tmp_path / "x.jpg"
    for pixels in (upright, blocks()):
        stored = np.ascontiguousarray(STORED_AS[tag](pixels))
        path.write_bytes(with_exif(encode(stored, "JPEG", subsampling="4:4:4"), orientation(tag)))
        assert compare(decoder, path, height, width) <= 1
        assert mean_difference(decoder, path, height, width) < 0.05
    assert decoder.fast == 4


def test_the_order_of_the_passes_is_the_one_of_the_pillow_that_is_installed():
    """Pillow 13 resizes columns first where that saves work; one pixel in seven depends on it."""
    rule, both = set(), 0
    for number, (width, height, across, down) in enumerate(
        itertools.product((40, 80), (40, 90, 160), (15, 38, 70), (12, 60))
    ):
        photo = Image.fromarray(noise(width, height, seed=number))
        bilinear = Image.Resampling.BILINEAR
        made = np.asarray(photo.resize((across, down), bilinear))
        rows, columns = (
            np.asarray(photo.resize(between, bilinear).resize((across, down), bilinear))
            for between in ((across, height), (width, down))
        )
        both += bool((rows == made).all() and (columns == made).all())
        found = turbo._columns_first((width, height), (across, down))
        np.testing.assert_array_equal(columns if found else rows, made)
        rule.add(found)
    assert both == 0
    assert len(rule) == (2 if turbo._SAVES_WORK else 1)


def test_noise_is_resized_within_a_level_but_for_one_in_a_million():
    """As said above; noise and black-and-white noise are the worst there is."""
    source = random.Random(3)
    off = values = 0
    resize = TurboDecoder(1)._resize_into
    for number in range(150):
        width, height, across, down = (source.choice((1, 7, 30, 224, 500)) + source.randrange(200) for _ in range(4))
        pixels = noise(width, height, seed=number)
        photo = Image.fromarray(pixels if number % 2 else 255 * (pixels & 1))
        slot = np.zeros((down, across, 3), np.uint8)
        resize(photo, 1, slot)
        away = np.abs(np.asarray(photo.resize((across, down), Image.Resampling.BILINEAR)).astype(int) - slot)
        assert away.max() <= 2
        off, values = off + int((away > 1).sum()), values + away.size
    assert values > 10_000_000
    assert off <= values / 1_000_000


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 127, 254)])
def test_flat_colours_stay_as_they_are(colour):
    """Weights that do not add up to one would darken the picture."""
    for side in (1, 3, 100, 777, 5000):
        slot = np.zeros((224, 224, 3), np.uint8)
        TurboDecoder(1)._resize_into(Image.new("RGB", (side, 5), colour), 1, slot)
        assert (slot == colour).all()


# --- damage ---


def damaged(data: bytes, source: random.Random) -> bytes:
    copy = bytearray(data)
    end = len(copy) if source.random() < 0.5 else 700  # half of the damage in the header
    match source.randrange(4):
        case 0:
            del copy[source.randrange(len(copy)) :]
        case 1:
            at = source.randrange(min(end, len(copy)))
            del copy[at : at + source.randrange(1, 20)]
        case 2:
            at = source.randrange(min(end, len(copy)))
            copy[at:at] = source.randbytes(source.randrange(1, 20))
        case _:
            for _ in range(source.randint(1, 4)):
                copy[source.randrange(min(end, len(copy)))] = source.choice((source.randrange(256), 255))
    return bytes(copy)


def whole_jpegs(photos: list[Path]) -> Iterator[bytes]:
    photo = Image.open(photos[3]).convert("RGB")
    for image in (
        Image.fromarray(noise(40, 30)),
        Image.fromarray(blocks()),
        photo.resize((121, 90)),
        photo.resize((900, 700)),
    ):
        for options in ({}, {"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_blocks": 1}):
            yield encode(image, "JPEG", **options)
            yield with_exif(encode(image.convert("L"), "JPEG", **options), orientation(6))
        yield encode(image.convert("CMYK"), "JPEG")
        yield encode(image, "MPO", save_all=True, append_images=[image])


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
def test_damaged_jpegs_end_as_pillow_ends_them(tmp_path, decoder, photos):
    """Of the files that libjpeg-turbo decodes, Pillow would have decoded every one, to the same pixels; and no more."""
    source = random.Random(7)
    whole = list(whole_jpegs(photos))
    pillow, path, refused = CpuDecoder(1), tmp_path / "x.jpg", 0
    for number in range(1500):
        data = whole[number % len(whole)]
        path.write_bytes(damaged(data, source) if len(data) < 50_000 or number % 5 == 0 else damaged(whole[0], source))
        expected = outcome(pillow, path, 20, 28)
        assert difference(expected, outcome(decoder, path, 20, 28)) <= 1
        refused += isinstance(expected, Problem)
    assert refused > 300
    assert decoder.fast > 150


def test_a_warning_of_libjpeg_turbo_leaves_the_file_to_pillow(tmp_path, decoder):
    """Damaged data that Pillow, not so strict, decodes to something."""
    data = bytearray(encode(blocks(320, 240), "JPEG", subsampling="4:4:4"))
    data[len(data) // 2 : len(data) // 2 + 6] = b"\x3f\xff\xd3\x11\x3f\x55"
    path = written(tmp_path / "x.jpg", bytes(data))
    assert not isinstance(outcome(decoder, path, 32, 32), Problem)
    assert decoder.fast == 0
    assert compare(decoder, path, 32, 32) == 0


def test_a_header_that_lies_about_the_size_is_as_pillow_takes_it(tmp_path, decoder):
    jpeg = encode(noise(40, 30), "JPEG")
    for size in ((40, 31), (41, 30), (400, 300), (8, 8), (65_500, 65_500), (0, 30)):
        assert compare(decoder, written(tmp_path / "x.jpg", claiming(jpeg, *size)), 16, 16) <= 1


def test_the_limit_of_pixels_holds(tmp_path, decoder, monkeypatch):
    monkeypatch.setattr("isc_fast.decoders.limits.MAX_JPEG_PIXELS", 24)
    path = written(tmp_path / "x.jpg", encode(noise(5, 5), "JPEG"))
    assert outcome(decoder, path, 4, 4) == Problem("decode", "decompression bomb: 5 × 5 pixels, limit 24")
    assert decoder.fast == 0


def test_no_memory_is_a_problem_of_one_image(tmp_path, photos, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    png = written(tmp_path / "x.png", encode(noise(9, 9), "PNG"))
    for where in ("turbo.open_image", "turbo.decode_rgb", "turbo.orientation", "turbo.TurboDecoder._resize_into"):
        with monkeypatch.context() as patched:
            patched.setattr("isc_fast.decoders." + where, fail)
            jobs = [[str(png if "decode_rgb" in where else photos[0]), str(tmp_path / "gone")]]
            (batch,) = TurboDecoder(2).batches(jobs, Preprocessing(8, 8))
        assert batch.problems == [
            Problem("decode", "not enough memory"),
            Problem("read", "No such file or directory"),
        ], where
        assert not batch.pixels.any()
    decoder = TurboDecoder(1)
    decoder._decode_jpeg = fail
    assert outcome(decoder, photos[0], 8, 8) == Problem("decode", "not enough memory")


def test_an_error_of_the_disk_between_header_and_data_is_one_of_reading(decoder, photos, monkeypatch):
    class Stale(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if size is None or size > 1 << 26:
                raise OSError(116, "Stale file handle")
            return super().read(size)

    monkeypatch.setattr("isc_fast.decoders.opening.open", lambda *_: Stale(photos[0].read_bytes()), raising=False)
    assert outcome(decoder, photos[0], 8, 8) == Problem("read", "Stale file handle")


def test_a_file_that_is_replaced_between_header_and_data(decoder, photos, monkeypatch):
    """What libjpeg-turbo then decodes is not what Pillow has seen: Pillow has the word."""

    class Replaced(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return encode(noise(9, 9), "JPEG") if size is None or size > 1 << 26 else super().read(size)

    monkeypatch.setattr("isc_fast.decoders.opening.open", lambda *_: Replaced(photos[0].read_bytes()), raising=False)
    assert compare(decoder, photos[0], 8, 8) <= 1
    assert decoder.fast == 0


def test_buffers_are_kept_up_to_a_size_and_never_mixed(tmp_path, decoder, monkeypatch):
    """A small photo after a large one sees nothing of it; a buffer above the limit is not kept."""
    paths = [
        written(tmp_path / f"{side}.jpg", encode(noise(side, side, seed=side), "JPEG")) for side in (9, 300, 10, 200)
    ]
    alone = [outcome(Watched(), path, 20, 28) for path in paths]
    for limit in (turbo._KEPT_BYTES, 1000):
        monkeypatch.setattr(turbo, "_KEPT_BYTES", limit)
        for path, expected in zip(paths, alone, strict=True):
            slot = np.zeros((20, 28, 3), np.uint8)
            decoder.decode_into(str(path), Preprocessing(20, 28), slot)
            np.testing.assert_array_equal(slot, expected)
    fresh = Watched()
    for path in paths:
        fresh.decode_into(str(path), Preprocessing(20, 28), slot)
    assert len(fresh._thread.buffer("photo", 1)) == 1
    assert all(len(kept) <= 1000 for kept in fresh._thread._buffers.values())


def test_threads_share_nothing(photos):
    paths = [os.fspath(photo) for photo in photos]
    (one,) = TurboDecoder(1).batches([paths], Preprocessing(224, 224))
    for _ in range(3):
        (many,) = TurboDecoder(6).batches([paths], Preprocessing(224, 224))
        np.testing.assert_array_equal(many.pixels, one.pixels)


# --- turbo-scaled ---


def test_scaled_decoding_takes_the_smallest_fraction_that_is_large_enough(tmp_path):
    scaled = TurboScaledDecoder(1)
    for size, target, eighths in (
        ((4000, 3000), (512, 512), 2),
        ((4000, 3000), (224, 224), 1),
        ((1500, 1500), (512, 512), 4),  # not at three eighths, which takes longer
        ((1024, 768), (512, 512), 8),
        ((1024, 768), (384, 384), 4),
        ((1024, 1024), (512, 512), 4),
        ((1023, 1023), (512, 512), 4),  # libjpeg rounds up
        ((1022, 1023), (512, 512), 8),
        ((100, 4000), (100, 100), 8),
        ((1, 1), (1, 1), 1),
        ((20, 20), (224, 224), 8),
    ):
        assert scaled._eighths(size, target) == eighths, (size, target)


def test_scaled_pixels_are_near_and_other_files_exact(tmp_path, photos):
    scaled = TurboScaledDecoder(1)
    photo = Image.open(photos[5]).convert("RGB").resize((1000, 800))
    for data, near in (
        (encode(photo, "JPEG", quality=95), True),
        (with_exif(encode(photo, "JPEG", quality=95), orientation(6)), True),
        (encode(photo.convert("L"), "JPEG", quality=95, progressive=True), True),
        (encode(photo.resize((300, 300)), "JPEG"), False),
        (encode(photo, "PNG"), False),
        (encode(photo, "JPEG")[:-5000], False),
    ):
        path = written(tmp_path / "x", data)
        found = compare(scaled, path, 200, 200)
        assert 2 <= found <= 80 if near else found <= 1
        if near:
            assert 0 < mean_difference(scaled, path, 200, 200) < 2


# --- which decoder, and what it needs ---


def blocked(*modules: str) -> str:
    return f"BLOCKED = {set(modules)}{BLOCK}"


@pytest.mark.parametrize("module", ["simplejpeg", "cykooz_resizer"])
def test_without_its_libraries_auto_is_pillow_and_turbo_says_the_line(module):
    code = (
        blocked(module)
        + "from isc_fast.decoders.base import make_decoder\nfrom isc_fast.errors import MissingExtraError\n"
    )
    code += "print(make_decoder().name)\nfor name in ('turbo', 'turbo-scaled'):\n"
    code += "    try: make_decoder(name)\n    except MissingExtraError as error: print(error)"
    first, *rest = run_python(code).splitlines()
    assert first == "pillow"
    assert rest == [f"this needs {module}, which is not installed; run: pip install 'isc-fast[cpu]'"] * 2


def test_the_line_is_of_the_extra_that_is_installed(monkeypatch):
    """cpu beside gpu would break both."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.31")
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'isc-fast\[gpu\]'"):
        make_decoder("turbo")


def test_a_pillow_that_the_resizer_does_not_know_is_left_alone(monkeypatch):
    """It reads Pillow's images in memory, by their layout."""
    monkeypatch.setattr(turbo, "__version__", "14.0.0")
    assert make_decoder(AUTO).name == "pillow"
    with pytest.raises(
        MissingExtraError, match=r"knows Pillow 11 to 13, and 14\.0\.0 is installed.*pip install 'pillow<14'"
    ):
        make_decoder("turbo-scaled")


def test_modules_import_and_help_works_without_the_libraries():
    code = blocked("simplejpeg", "cykooz_resizer")
    code += "import isc_fast.decoders.turbo, isc_fast.extraction.pipeline; print('fine')"
    assert run_python(code) == "fine\n"


def test_auto_is_turbo_here():
    assert make_decoder().name == make_decoder(AUTO).name == "turbo"


def test_the_command_line_offers_them_all():
    for verb in ("extract", "challenge"):
        (actions,) = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
        (flag,) = [action for action in actions.choices[verb]._actions if action.dest == "decoder"]
        assert flag.choices == (AUTO, *DECODERS)


# --- extract ---


def decoder_of(path: Path) -> str:
    with isc_fast.open_descriptors(path) as found:
        return found.meta["decoder"]


def test_extract_uses_the_decoder_that_is_named(tmp_path, engine, folder_of):
    folder = folder_of(tmp_path / "in", 4)
    rows = {}
    for name in (AUTO, *THREADED):
        made = isc_fast.extract(folder, engine, tmp_path / f"{name}.h5", decoder=name)
        assert decoder_of(made.path) == ("turbo" if name == AUTO else name)
        rows[name] = isc_fast.read_descriptors(made.path).vectors
    assert (tmp_path / "auto.h5").read_bytes() == (tmp_path / "turbo.h5").read_bytes()
    assert np.abs(rows["turbo"] - rows["pillow"]).max() < 0.01
    with pytest.raises(InputError, match="no decoder 'fast'"):
        isc_fast.extract(folder, engine, tmp_path / "x.h5", decoder="fast")


@pytest.mark.parametrize("begun_with", THREADED)
def test_a_finished_output_keeps_its_decoder(tmp_path, engine, folder_of, begun_with):
    folder, output = folder_of(tmp_path / "in", 4), tmp_path / "out.h5"
    (folder / "bad.jpg").write_text("no picture")
    isc_fast.extract(folder, engine, output, decoder=begun_with)
    before = output.read_bytes()
    assert isc_fast.extract(folder, engine, output).computed == 0
    assert isc_fast.extract(folder, engine, output, retry_failed=True).computed == 1
    assert output.read_bytes() == before
    other = "turbo" if begun_with == "pillow" else "pillow"
    with pytest.raises(
        MismatchError, match=f"was made with the decoder {begun_with}, not {other}: give another output"
    ):
        isc_fast.extract(folder, engine, output, decoder=other)
    assert output.read_bytes() == before
    isc_fast.extract(folder, engine, output, decoder=other, overwrite=True)
    assert decoder_of(output) == other


class Stops(FakeEngine):
    """Is interrupted at its third batch."""

    def run(self, pixels):
        if len(self.calls) == 2:
            raise KeyboardInterrupt
        return super().run(pixels)


@pytest.mark.parametrize("begun_with", THREADED)
def test_resuming_keeps_the_decoder(tmp_path, engine, folder_of, begun_with):
    """So that installing a library, or a newer isc-fast, never costs what was computed before."""
    folder, output, whole = folder_of(tmp_path / "in", 9), tmp_path / "out.h5", tmp_path / "whole.h5"
    options = {"batch_size": 2, "shard_size": 4}
    isc_fast.extract(folder, FakeEngine(), whole, decoder=begun_with, **options)
    with pytest.raises(KeyboardInterrupt):
        isc_fast.extract(folder, Stops(), output, decoder=begun_with, **options)
    other = "turbo" if begun_with == "pillow" else "pillow"
    with pytest.raises(MismatchError, match=rf"another decoder \({begun_with} then, {other} now\)"):
        isc_fast.extract(folder, engine, output, decoder=other)
    assert isc_fast.extract(folder, engine, output).computed == 5
    assert output.read_bytes() == whole.read_bytes()


def test_resuming_without_the_library_says_so_and_loses_nothing(tmp_path, engine, folder_of, monkeypatch):
    folder, output = folder_of(tmp_path / "in", 9), tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        isc_fast.extract(folder, Stops(), output, batch_size=2, shard_size=4)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "simplejpeg", None)
        with pytest.raises(MissingExtraError, match="simplejpeg"):
            isc_fast.extract(folder, engine, output)
    assert isc_fast.extract(folder, engine, output).computed == 5
    with monkeypatch.context() as patched:  # a complete one needs no decoder
        patched.setitem(sys.modules, "simplejpeg", None)
        assert isc_fast.extract(folder, engine, output).computed == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_do_not_depend_on_workers(tmp_path, engine, folder_of, workers):
    folder = folder_of(tmp_path / "in", 10)
    for name, number in (("one", 1), ("many", workers)):
        isc_fast.extract(folder, engine, tmp_path / f"{name}.h5", decoder="turbo", batch_size=4, workers=number)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "many.h5").read_bytes()


def test_the_flag_of_the_command_line(tmp_path, photos, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").symlink_to(photos[0])
    command = ["extract", str(tmp_path / "in"), "--engine", "demo", "-o", str(tmp_path / "o.h5")]
    assert main([*command, "--decoder", "pillow"]) == 0
    assert main([*command, "--decoder", "turbo"]) == 1
    assert "was made with the decoder pillow, not turbo" in capsys.readouterr().err
    assert main(command) == 0
    main(["info", str(tmp_path / "o.h5"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["decoder"] == "pillow"


def test_the_challenge_takes_it_too(tmp_path, engine, photos):
    folder = tmp_path / "data" / "query_images"
    folder.mkdir(parents=True)
    (folder / "Q00000.jpg").symlink_to(photos[0])
    isc_fast.run_challenge(tmp_path / "data", engine, tmp_path / "out", decoder="pillow")
    assert decoder_of(tmp_path / "out" / "query.h5") == "pillow"


def test_descriptors_of_photos_are_those_of_pillow(photos):
    engine = isc_fast.load_engine("demo")
    rows = []
    for name in ("pillow", "turbo"):
        (batch,) = make_decoder(name, 2).batches([[os.fspath(photo) for photo in photos[:24]]], Preprocessing(224, 224))
        rows.append(engine.run(batch.pixels))
    assert (rows[0] * rows[1]).sum(1).min() > 0.9995
