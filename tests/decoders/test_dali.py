"""The DALI decoder, through its processor pipeline: the code of the GPU's, with other kernels below.

The contract of all decoders (the zoo, neighbours, order, threads) is in test_decoders.py. What only a GPU can tell is
marked ``gpu`` and has not run yet.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeEngine
from helpers_decoders import batched, decoding_threads, outcome
from images import STORED_AS, blocks, encode, make_zoo, noise, orientation, with_exif
from PIL import Image
from without_extras import BLOCK, run_python

pytest.importorskip("nvidia.dali")

import isc_fast
from isc_fast.cli.main import main
from isc_fast.decoders import dali, dali_pipeline
from isc_fast.decoders.base import Batch, DeviceBatch, make_decoder
from isc_fast.decoders.dali import DaliCpuDecoder, DaliDecoder
from isc_fast.decoders.pillow import CpuDecoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.errors import InputError, MismatchError, MissingExtraError
from isc_fast.items import Problem

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF blocks

RGB = noise(40, 30)
JPEG = encode(RGB, "JPEG")
INNER_LEVELS, EDGE_LEVELS = 1, 30
"""How far pixels may be from Pillow's on the processor, where all of it is the resize: Pillow rounds between its two passes,
and at the edges of a photo that shrinks DALI repeats the last row where Pillow leaves out what is not there."""


class Watched:
    """Counts what DALI is given and what it refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[int] = []
        self.refused: list[int] = []
        self.fails: Callable[[Sequence[bytes]], bool] = lambda _: False
        run = dali_pipeline.Pipeline.run

        def watched(pipeline: dali_pipeline.Pipeline, jpegs: Sequence[bytes]) -> object:
            made = None if self.fails(jpegs) else run(pipeline, jpegs)
            (self.refused if made is None else self.decoded).append(len(jpegs))
            return made

        monkeypatch.setattr(dali_pipeline.Pipeline, "run", watched)


@pytest.fixture
def watched(monkeypatch) -> Watched:
    return Watched(monkeypatch)


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def assert_near(one: npt.NDArray[np.uint8], two: npt.NDArray[np.uint8], what: object = "") -> None:
    levels = np.abs(one.astype(int) - two)
    assert levels.max() <= EDGE_LEVELS, what
    assert levels[1:-1, 1:-1].max() <= INNER_LEVELS, what


def difference(one: npt.NDArray[np.uint8], two: npt.NDArray[np.uint8]) -> tuple[int, float]:
    levels = np.abs(one.astype(int) - two)
    return int(levels.max()), float(levels.mean())


# --- pixels and problems ---


def test_the_whole_zoo(tmp_path, watched):
    """The same problems as Pillow's; what is no JPEG to the last bit; JPEGs nearly."""
    paths = [str(tmp_path / name) for name in make_zoo(tmp_path)]
    (expected,) = CpuDecoder(2).batches([paths], Preprocessing(20, 28))
    (made,) = DaliCpuDecoder(2).batches([paths], Preprocessing(20, 28))
    assert made.problems == expected.problems
    other = 0
    for path, one, two in zip(paths, expected.pixels, made.pixels, strict=True):
        assert_near(one, two, path)
        other += bool((one != two).any())
    assert 20 < other <= sum(watched.decoded)  # so DALI has decoded something
    assert not watched.refused


@pytest.mark.parametrize("size", [32, 224, 512])
def test_photos(photos, watched, size):
    for photo in photos[::3]:
        assert_near(outcome(CpuDecoder(1), photo, size, size), outcome(DaliCpuDecoder(1), photo, size, size), photo)
    assert watched.decoded == [1] * len(photos[::3])


@pytest.mark.parametrize("tag", STORED_AS)
def test_every_orientation_is_turned_upright(tmp_path, watched, tag):
    upright = encode(blocks(320, 240), "JPEG", subsampling="4:4:4")
    stored = np.ascontiguousarray(STORED_AS[tag](blocks(320, 240)))
    path = written(tmp_path / "x.jpg", with_exif(encode(stored, "JPEG", subsampling="4:4:4"), orientation(tag)))
    for height, width in ((48, 64), (64, 48), (20, 33)):
        expected = outcome(DaliCpuDecoder(1), written(tmp_path / "upright.jpg", upright), height, width)
        np.testing.assert_array_equal(outcome(DaliCpuDecoder(1), path, height, width), expected)
    assert len(watched.decoded) == 6


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
def test_damaged_jpegs_end_as_pillow_ends_them(tmp_path, watched):
    """Whatever happens to a JPEG, the ledger says of it what Pillow says. The pixels of damaged data may differ."""
    source = random.Random(7)
    whole = [
        encode(noise(60, 50), "JPEG"),
        encode(noise(60, 50), "JPEG", progressive=True),
        with_exif(encode(blocks(64, 48), "JPEG", restart_marker_blocks=1), orientation(6)),
        encode(Image.fromarray(blocks(64, 48)).convert("L"), "JPEG"),
    ]
    paths = []
    for number in range(600):
        data = bytearray(whole[number % 4])
        end = len(data) if number % 8 < 4 else 700
        at = source.randrange(min(end, len(data)))
        match source.randrange(4):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + source.randrange(1, 20)]
            case 2:
                data[at:at] = source.randbytes(source.randrange(1, 20))
            case _:
                data[at] = source.choice((source.randrange(256), 255))
        paths.append(written(tmp_path / f"{number}.jpg", bytes(data)))
    made = list(DaliCpuDecoder(2).batches(batched(paths, 16), Preprocessing(20, 28)))
    expected = list(CpuDecoder(2).batches(batched(paths, 16), Preprocessing(20, 28)))
    for one, two in zip(expected, made, strict=True):
        assert two.problems == one.problems
    refused = sum(problem is not None for batch in expected for problem in batch.problems)
    assert 100 < refused < 500
    assert sum(watched.decoded) > 100


# --- what DALI refuses ---


@pytest.fixture
def poisoned(tmp_path, monkeypatch, photos) -> list[str]:
    """Twelve photos; the screen lets two bad files pass, one that Pillow decodes and one that nobody does."""
    paths = [str(photo) for photo in photos[:12]]
    paths[4] = written(tmp_path / "fine for Pillow.jpg", encode(RGB, "JPEG") + b"POISON")
    paths[9] = written(tmp_path / "for nobody.jpg", encode(RGB, "JPEG")[:400] + b"POISON")
    plain = dali.plain_jpeg

    def lenient(data: bytes, size: tuple[int, int], turn: int) -> bytes | None:
        return b"\xff\xd8\xff\xff" + data if data.endswith(b"POISON") else plain(data, size, turn)

    monkeypatch.setattr(dali, "plain_jpeg", lenient)
    return paths


@pytest.mark.parametrize("size", [1, 3, 5, 12])
def test_one_bad_file_costs_nothing_but_itself(poisoned, watched, size):
    alone = [outcome(DaliCpuDecoder(1), path, 32, 32) for path in poisoned]
    np.testing.assert_array_equal(alone[4], outcome(CpuDecoder(1), poisoned[4], 32, 32))
    assert alone[9] == outcome(CpuDecoder(1), poisoned[9], 32, 32)
    assert isinstance(alone[9], Problem)
    watched.refused.clear()
    batches = list(DaliCpuDecoder(2).batches(batched(poisoned, size), Preprocessing(32, 32)))
    assert [len(batch.problems) for batch in batches] == [len(job) for job in batched(poisoned, size)]
    slots = [slot for batch in batches for slot in zip(batch.pixels, batch.problems, strict=True)]
    for (pixels, problem), expected in zip(slots, alone, strict=True):
        if isinstance(expected, Problem):
            assert problem == expected
            assert not pixels.any()
        else:
            assert problem is None
            np.testing.assert_array_equal(pixels, expected)
    assert 2 <= len(watched.refused) <= 6


def test_a_run_of_bad_files_in_every_batch_goes_through(poisoned):
    jobs = [[poisoned[4], poisoned[0], poisoned[9]]] * 20
    (alone,) = DaliCpuDecoder(1).batches([[poisoned[0]]], Preprocessing(16, 16))
    for batch in DaliCpuDecoder(2).batches(jobs, Preprocessing(16, 16)):
        assert [problem is None for problem in batch.problems] == [True, True, False]
        np.testing.assert_array_equal(batch.pixels[1], alone.pixels[0])


def test_a_dali_that_decodes_nothing_is_an_error_and_no_slow_run(photos, watched):
    """Else every photo would go to Pillow, on a machine with a GPU, and nobody would be told."""
    watched.fails = lambda _: True
    with pytest.raises(InputError, match="DALI fails on every photo"):
        list(DaliCpuDecoder(1).batches([[str(photos[0]), str(photos[1])]], Preprocessing(8, 8)))
    assert not decoding_threads()


def test_a_pipeline_that_cannot_be_made_is_an_error(photos, monkeypatch):
    monkeypatch.setattr(
        dali_pipeline.Pipeline, "_build", lambda _: (_ for _ in ()).throw(RuntimeError("x encountered:\nno memory"))
    )
    with pytest.raises(InputError, match="DALI makes no pipeline: no memory; use the decoder turbo or pillow"):
        list(DaliCpuDecoder(1).batches([[str(photos[0])]], Preprocessing(8, 8)))


def test_what_is_too_much_at_once_is_halved(photos, watched):
    """A run that fails although each of its photos alone does not: out of memory, most likely."""
    paths = [str(photo) for photo in photos[:16]]
    (expected,) = DaliCpuDecoder(1).batches([paths], Preprocessing(16, 16))
    watched.fails = lambda jpegs: len(jpegs) > 5
    watched.decoded.clear()
    made = list(DaliCpuDecoder(1, pipelines=1).batches([paths] * 4, Preprocessing(16, 16)))
    for batch in made:
        assert batch.problems == [None] * 16
        np.testing.assert_array_equal(batch.pixels, expected.pixels)
    assert len(watched.refused) <= 4
    assert len(watched.decoded[-4:]) < sum(watched.decoded[-4:])


@pytest.mark.parametrize("limit", [1, 200_000, 10**9])
def test_batches_are_split_by_their_pixels(photos, watched, monkeypatch, limit):
    paths = [str(photo) for photo in photos[:10]]
    (expected,) = DaliCpuDecoder(1).batches([paths], Preprocessing(24, 24))
    watched.decoded.clear()
    (made,) = DaliCpuDecoder(1, run_pixels=limit).batches([paths], Preprocessing(24, 24))
    np.testing.assert_array_equal(made.pixels, expected.pixels)
    assert watched.decoded == ([1] * 10 if limit == 1 else [10] if limit == 10**9 else watched.decoded)
    if limit == 200_000:
        assert 1 < len(watched.decoded) <= 10
    monkeypatch.setattr(dali, "RUN_IMAGES", 4)
    watched.decoded.clear()
    (made,) = DaliCpuDecoder(1).batches([paths], Preprocessing(24, 24))
    np.testing.assert_array_equal(made.pixels, expected.pixels)
    assert watched.decoded == [4, 4, 2]


def test_very_large_photos_are_pillows(tmp_path, monkeypatch, watched):
    path = written(tmp_path / "x.jpg", JPEG)
    monkeypatch.setattr(dali, "LARGEST_PIXELS", 1199)
    np.testing.assert_array_equal(outcome(DaliCpuDecoder(1), path, 9, 9), outcome(CpuDecoder(1), path, 9, 9))
    assert not watched.decoded
    monkeypatch.setattr(dali, "LARGEST_PIXELS", 1200)
    outcome(DaliCpuDecoder(1), path, 9, 9)
    assert watched.decoded == [1]


def test_the_same_bytes_every_time(photos):
    paths = [str(photo) for photo in photos[:20]]
    first = [batch.pixels for batch in DaliCpuDecoder(1).batches(batched(paths, 7), Preprocessing(64, 64))]
    for workers, pipelines in ((1, 1), (3, 2), (4, 3)):
        again = DaliCpuDecoder(workers, pipelines=pipelines).batches(batched(paths, 7), Preprocessing(64, 64))
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, two.pixels)


def test_decode_into_is_a_batch_of_one(tmp_path, photos):
    decoder = DaliCpuDecoder(1)
    for size in (16, 32):
        for photo in photos[:3]:
            slot = np.zeros((size, size, 3), np.uint8)
            decoder.decode_into(str(photo), Preprocessing(size, size), slot)
            np.testing.assert_array_equal(slot, outcome(decoder, photo, size, size))
    with pytest.raises(dali.ImageProblem, match="the file is empty"):
        decoder.decode_into(written(tmp_path / "x.jpg", b""), Preprocessing(32, 32), slot)


# --- staying on the device ---


class OnDevice(DaliCpuDecoder):
    """Offers its batches at their address, which is the host's here."""

    def device_batches(self, jobs, preprocessing) -> Iterator[Batch | DeviceBatch]:
        return self._batches(jobs, preprocessing, stay=True)


class Begun:
    """What is known already."""

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        self.vectors = vectors

    def result(self) -> npt.NDArray[np.float32]:
        return self.vectors


class DeviceEngine(FakeEngine):
    """Takes an address, as TensorRT's engine does."""

    def __init__(self) -> None:
        super().__init__()
        self.from_device = 0

    def start(self, pixels: npt.NDArray[np.uint8]) -> Begun:
        return Begun(self.run(pixels))

    def start_device(self, pointer: int, count: int, **_order: int | None) -> Begun:
        size = self.spec.height
        raw = (ctypes.c_ubyte * (count * size * size * 3)).from_address(pointer)
        self.from_device += 1
        return self.start(np.frombuffer(raw, np.uint8).reshape(count, size, size, 3))

    def run_device(self, pointer: int, count: int, **order: int | None) -> npt.NDArray[np.float32]:
        return self.start_device(pointer, count, **order).result()


def test_what_stays_on_the_device_is_what_would_have_been_fetched(tmp_path, photos):
    paths = [str(photo) for photo in photos[:12]]
    paths[7] = written(tmp_path / "x.png", encode(RGB, "PNG"))
    jobs = [*batched(paths, 4), []]
    made = list(OnDevice(2).device_batches(jobs, Preprocessing(16, 16)))  # kept, all of them, while others are made
    assert [type(batch) for batch in made] == [DeviceBatch, Batch, DeviceBatch, Batch]
    for one, two in zip(DaliCpuDecoder(1).batches(jobs, Preprocessing(16, 16)), made, strict=True):
        assert one.problems == two.problems
        if isinstance(two, DeviceBatch):
            raw = (ctypes.c_ubyte * one.pixels.size).from_address(two.pointer)
            np.testing.assert_array_equal(np.frombuffer(raw, np.uint8), one.pixels.ravel())
        else:
            np.testing.assert_array_equal(two.pixels, one.pixels)


def test_what_stays_on_the_device_says_which_photos_are_of_one_colour(tmp_path, photos):
    blank = [written(tmp_path / f"{mode}.jpg", encode(Image.new(mode, (50, 40)), "JPEG")) for mode in ("L", "RGB")]
    (made,) = OnDevice(1).device_batches([[str(photos[0]), *blank, str(photos[1])]], Preprocessing(16, 16))
    assert isinstance(made, DeviceBatch)
    assert list(made.flat) == [False, True, True, False]


def test_a_bad_photo_takes_its_batch_off_the_device(poisoned):
    kinds = [type(batch) for batch in OnDevice(2).device_batches(batched(poisoned, 3), Preprocessing(16, 16))]
    assert kinds == [DeviceBatch, Batch, DeviceBatch, Batch]


def test_a_batch_in_several_runs_is_fetched(photos):
    (made,) = OnDevice(1, run_pixels=1).device_batches([[str(photo) for photo in photos[:3]]], Preprocessing(16, 16))
    assert isinstance(made, Batch)


def test_extract_gives_an_engine_what_is_on_its_device(tmp_path, folder_of, monkeypatch):
    folder = folder_of(tmp_path / "in", 12)
    (folder / "0.png").write_bytes(encode(RGB, "PNG"))
    (folder / "zz.jpg").write_text("no picture")
    isc_fast.extract(folder, FakeEngine(), tmp_path / "host.h5", decoder="dali-cpu", batch_size=4)
    monkeypatch.setattr(dali, "DaliCpuDecoder", OnDevice)
    engine = DeviceEngine()
    isc_fast.extract(folder, engine, tmp_path / "device.h5", decoder="dali-cpu", batch_size=4)
    assert engine.from_device == 2
    assert engine.calls == [4, 4, 4, 2]
    assert (tmp_path / "device.h5").read_bytes() == (tmp_path / "host.h5").read_bytes()


# --- as a user meets it ---


def test_without_dali_the_line_that_installs_it():
    code = f"BLOCKED = {{'nvidia'}}{BLOCK}"
    code += "from isc_fast.decoders.base import make_decoder\nfrom isc_fast.errors import MissingExtraError\n"
    code += "import isc_fast.decoders.dali\nfor name in ('dali', 'dali-cpu'):\n"
    code += "    try: make_decoder(name)\n    except MissingExtraError as error: print(error)"
    line = "the decoder {} needs NVIDIA DALI, which is not installed; run: pip install 'isc-fast[{}]'"
    assert run_python(code).splitlines() == [line.format("dali", "gpu"), line.format("dali-cpu", "dali")]


def test_a_dali_that_does_not_import_says_so(monkeypatch):
    def fail(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} is broken") from OSError("libcudart")

    monkeypatch.setattr(dali, "require", fail)
    with pytest.raises(MissingExtraError, match="is broken"):
        make_decoder("dali-cpu")


def _gpus() -> int:
    from nvidia.dali import backend

    return int(backend.GetCUDADeviceCount())


@pytest.mark.skipif(_gpus() > 0, reason="there is a GPU")
def test_without_a_gpu_dali_is_an_error_and_nothing_slower(tmp_path, folder_of, capsys):
    with pytest.raises(InputError, match="the decoder dali needs an NVIDIA GPU, and this process sees none"):
        make_decoder("dali")
    folder_of(tmp_path / "in", 2)
    command = ["extract", str(tmp_path / "in"), "--engine", "demo", "-o", str(tmp_path / "o.h5"), "--decoder", "dali"]
    assert main(command) == 1
    assert "use the decoder turbo or pillow" in capsys.readouterr().err
    assert not (tmp_path / "o.h5").exists()


def test_options(monkeypatch):
    for options in ({"workers": 0}, {"pipelines": 0}, {"run_pixels": 0}):
        with pytest.raises(InputError, match="must be at least 1, not 0"):
            DaliCpuDecoder(**options)
    with pytest.raises(InputError, match=r"a share, 0 to 1, not 1\.5"):
        DaliDecoder(hw_decoder_load=1.5)
    monkeypatch.setattr(sys.modules["nvidia.dali"].backend, "GetCUDADeviceCount", lambda: 2)
    assert DaliDecoder(1, index=1).name == "dali"
    assert make_decoder("dali", 1, gpu=1)._device == 1
    with pytest.raises(InputError, match="there is no GPU 2: this process sees 2"):
        DaliDecoder(1, index=2)


class Stops(FakeEngine):
    """Is interrupted at its third batch."""

    def run(self, pixels):
        if len(self.calls) == 2:
            raise KeyboardInterrupt
        return super().run(pixels)


def test_extract_resumes_with_it_and_never_mixes(tmp_path, engine, folder_of):
    folder, output, whole = folder_of(tmp_path / "in", 9), tmp_path / "out.h5", tmp_path / "whole.h5"
    options = {"batch_size": 2, "shard_size": 4}
    isc_fast.extract(folder, FakeEngine(), whole, decoder="dali-cpu", **options)
    with isc_fast.open_descriptors(whole) as found:
        assert found.meta["decoder"] == "dali-cpu"
    with pytest.raises(KeyboardInterrupt):
        isc_fast.extract(folder, Stops(), output, decoder="dali-cpu", **options)
    assert not decoding_threads()
    with pytest.raises(MismatchError, match=r"another decoder \(dali-cpu then, pillow now\)"):
        isc_fast.extract(folder, engine, output, decoder="pillow")
    assert isc_fast.extract(folder, engine, output).computed == 5
    assert output.read_bytes() == whole.read_bytes()


class Dali(OnDevice):
    """The decoder of the GPU, on the processor."""

    name = "dali"

    def __init__(self, workers: int | None = None, *, index: int = 0) -> None:
        super().__init__(workers)


def test_auto_is_dali_for_engines_that_take_pixels_there_alone(tmp_path, folder_of, monkeypatch):
    """And what it is stays written down: an output begun so goes on so, whatever the engine."""
    folder = folder_of(tmp_path / "in", 6)
    assert make_decoder().name in ("turbo", "pillow")
    if not _gpus():
        assert make_decoder(stays_there=True).name == make_decoder().name
        isc_fast.extract(folder, DeviceEngine(), tmp_path / "none.h5", batch_size=2)
    monkeypatch.setattr(dali, "DaliDecoder", Dali)
    there, here = DeviceEngine(), FakeEngine()
    isc_fast.extract(folder, there, tmp_path / "there.h5", batch_size=2)
    assert there.from_device == 3
    isc_fast.extract(folder, here, tmp_path / "here.h5", batch_size=2)
    for name, decoder in (("none", make_decoder().name), ("there", "dali"), ("here", make_decoder().name)):
        if (tmp_path / f"{name}.h5").exists():
            with isc_fast.open_descriptors(tmp_path / f"{name}.h5") as found:
                assert found.meta["decoder"] == decoder
    assert isc_fast.extract(folder, DeviceEngine(), tmp_path / "here.h5", batch_size=2).computed == 0


def test_a_search_between_decoders_is_noted(tmp_path, folder_of, capsys):
    folder = folder_of(tmp_path / "in", 3)
    for name in ("dali-cpu", "pillow", "turbo"):
        isc_fast.extract(folder, FakeEngine(), tmp_path / f"{name}.h5", decoder=name)
    for one, two, noted in (("dali-cpu", "turbo", True), ("dali-cpu", "dali-cpu", False), ("pillow", "turbo", False)):
        files = [str(tmp_path / f"{name}.h5") for name in (one, two)]
        assert main(["search", *files, "-o", str(tmp_path / "m.csv")]) == 0
        assert (f"decoded by {one} and references by {two}" in capsys.readouterr().err) == noted


def test_descriptors_of_photos_are_near_those_of_pillow(photos):
    pytest.importorskip("onnxruntime")
    engine = isc_fast.load_engine("demo")
    rows = []
    for name in ("pillow", "dali-cpu"):
        (batch,) = make_decoder(name, 2).batches([[os.fspath(photo) for photo in photos[:24]]], Preprocessing(224, 224))
        rows.append(engine.run(batch.pixels))
    assert (rows[0] * rows[1]).sum(1).min() > 0.998


# --- on a GPU ---

gpu = [pytest.mark.gpu, pytest.mark.skipif(_gpus() == 0, reason="needs an NVIDIA GPU")]


def on_gpu(test):
    for mark in gpu:
        test = mark(test)
    return test


@on_gpu
def test_gpu_photos_are_near_pillow(photos):
    """nvJPEG's transform and upsampling: the bound is a guess until it has been measured."""
    paths = [str(photo) for photo in photos]
    (expected,) = CpuDecoder().batches([paths], Preprocessing(224, 224))
    (made,) = DaliDecoder().batches([paths], Preprocessing(224, 224))
    assert made.problems == expected.problems
    assert difference(expected.pixels, made.pixels)[1] < 1
    engine = isc_fast.load_engine("demo")
    rows = [engine.run(pixels) for pixels in (expected.pixels, made.pixels)]
    assert (rows[0] * rows[1]).sum(1).min() > 0.999


@on_gpu
@pytest.mark.parametrize("tag", STORED_AS)
def test_gpu_orientations(tmp_path, tag):
    stored = np.ascontiguousarray(STORED_AS[tag](blocks(320, 240)))
    path = written(tmp_path / "x.jpg", with_exif(encode(stored, "JPEG", subsampling="4:4:4"), orientation(tag)))
    one, two = outcome(CpuDecoder(1), path, 48, 64), outcome(DaliDecoder(1), path, 48, 64)
    assert difference(one, two)[1] < 2


@on_gpu
def test_gpu_zoo_has_the_problems_of_pillow(tmp_path):
    paths = [str(tmp_path / name) for name in make_zoo(tmp_path)]
    (expected,) = CpuDecoder().batches([paths], Preprocessing(20, 28))
    (made,) = DaliDecoder().batches([paths], Preprocessing(20, 28))
    assert made.problems == expected.problems


@on_gpu
@pytest.mark.parametrize("size", [1, 5, 12])
def test_gpu_bad_files_cost_nothing_but_themselves(poisoned, size):
    alone = [outcome(DaliDecoder(1), path, 32, 32) for path in poisoned]
    slots = itertools.chain.from_iterable(
        zip(batch.pixels, batch.problems, strict=True)
        for batch in DaliDecoder().batches(batched(poisoned, size), Preprocessing(32, 32))
    )
    for (pixels, problem), expected in zip(slots, alone, strict=True):
        if isinstance(expected, Problem):
            assert problem == expected
        else:
            np.testing.assert_array_equal(pixels, expected)


@on_gpu
def test_gpu_neighbours_change_nothing(photos):
    paths = [str(photo) for photo in photos]
    alone = {path: outcome(DaliDecoder(1), path, 64, 64) for path in paths[:8]}
    for size in (3, 8, len(paths)):
        random.Random(size).shuffle(paths)
        jobs = batched(paths, size)
        for job, batch in zip(jobs, DaliDecoder().batches(jobs, Preprocessing(64, 64)), strict=True):
            for path, pixels in zip(job, batch.pixels, strict=True):
                if path in alone:
                    np.testing.assert_array_equal(pixels, alone[path])


@on_gpu
def test_gpu_batches_that_stay_are_the_same(photos):
    """Read back through CUDA, while later ones are made."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    jobs = batched([str(photo) for photo in photos], 8)
    made = list(DaliDecoder().device_batches(jobs, Preprocessing(64, 64)))
    for one, two in zip(DaliDecoder().batches(jobs, Preprocessing(64, 64)), made, strict=True):
        assert isinstance(two, DeviceBatch)
        host = np.zeros_like(one.pixels)
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        (code,) = runtime.cudaMemcpy(host.ctypes.data, two.pointer, host.nbytes, kind)
        assert int(code) == 0
        np.testing.assert_array_equal(host, one.pixels)
