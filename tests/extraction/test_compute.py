"""Overlap of decoder, engine and host: with an engine that works in a thread of its own, as a GPU would."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeEngine

from isc_fast.decoders.base import Batch, DeviceBatch, one_colour
from isc_fast.descriptors.store import load_descriptors
from isc_fast.engines.base import AsyncEngine, DeviceEngine, Engine
from isc_fast.errors import EngineError, InputError
from isc_fast.extraction.compute import Equipment, compute_shards
from isc_fast.extraction.pipeline import extract
from isc_fast.extraction.plan import Shard
from isc_fast.items import NOTED, Failure, Item, Problem

Vectors = npt.NDArray[np.float32]


class Working:
    """Descriptors that another thread computes."""

    def __init__(self, engine: AsyncFake, number: int, future: Future[Vectors]) -> None:
        self._engine, self._number, self._future = engine, number, future

    def result(self) -> Vectors:
        self._engine.log.append(f"ask {self._number}")
        try:
            return self._future.result(timeout=20)
        finally:
            self._engine.in_flight.discard(self._number)


class AsyncFake(FakeEngine):
    """Computes in a thread, one batch after the other, from a copy of the pixels.

    Attributes:
        log: ``start N``, ``ask N``, in the order of the calls.
        most: batches that were begun and not asked for, at most.
        held: while it is set to an event, nothing is computed until that is set.
        fails: numbers of batches, from 1, whose result is an error.
        refuses: numbers of batches that are not even begun.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.log: list[str] = []
        self.in_flight: set[int] = set()
        self.most = 0
        self.held: threading.Event | None = None
        self.fails: set[int] = set()
        self.refuses: set[int] = set()
        self.started = 0
        self._thread = ThreadPoolExecutor(1)

    def start(self, pixels: npt.NDArray[np.uint8]) -> Working:
        self.started += 1
        number = self.started
        self.log.append(f"start {number}")
        if number in self.refuses:
            raise EngineError(f"batch {number} was not begun")
        mine = pixels.copy()
        pixels[:] = 99  # by the contract it may be changed now, so nobody may look at it any more

        def work() -> Vectors:
            if self.held:
                assert self.held.wait(20)
            if number in self.fails:
                raise EngineError(f"batch {number} failed")
            return FakeEngine.run(self, mine)

        self.in_flight.add(number)
        self.most = max(self.most, len(self.in_flight))
        return Working(self, number, self._thread.submit(work))

    def run(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        raise AssertionError("an engine that can begin a batch is not made to wait for it")


class OnDevice(AsyncFake):
    """Takes addresses, which are the host's here."""

    def start_device(self, pointer: int, count: int, *, stream: int | None = None, event: int | None = None) -> Working:
        size = self.spec.height
        raw = (ctypes.c_ubyte * (count * size * size * 3)).from_address(pointer)
        return self.start(np.frombuffer(raw, np.uint8).reshape(count, size, size, 3).copy())

    def run_device(self, pointer: int, count: int, *, stream: int | None = None, event: int | None = None) -> Vectors:
        raise AssertionError("waits")


class Pool:
    """A decoder with one piece of memory for all its batches, as a GPU's has: what is read late is something else.

    A path is a number, and its pixels are that grey; ``"x"`` fails.
    """

    name = "pool"

    def __init__(self, breaks_after: int | None = None) -> None:
        self.breaks_after = breaks_after
        self.closed = False

    def batches(self, jobs, preprocessing) -> Iterator[Batch]:
        return self._made(jobs, preprocessing, device=False)

    def device_batches(self, jobs, preprocessing) -> Iterator[Batch | DeviceBatch]:
        return self._made(jobs, preprocessing, device=True)

    def _made(self, jobs, preprocessing, *, device):
        memory = np.zeros((8, preprocessing.height, preprocessing.width, 3), np.uint8)
        try:
            for number, job in enumerate(jobs):
                if number == self.breaks_after:
                    raise InputError("the decoder broke")
                memory[:] = 0
                for slot, path in enumerate(job):
                    memory[slot] = 0 if path == "x" else int(path)
                problems = [Problem("decode", "is an x") if path == "x" else None for path in job]
                if device and not any(problems):
                    yield DeviceBatch(memory.ctypes.data, problems, memory, one_colour(memory[: len(job)]))
                else:
                    yield Batch(memory[: len(job)], problems)
                memory[:] = 77
        finally:
            self.closed = True


class Result:
    """What was stored and counted."""

    def __init__(self) -> None:
        self.shards: dict[int, tuple[Vectors, list[Failure]]] = {}
        self.log: list[tuple[int, int, int]] = []
        self.noted: list[str] = []

    def store(self, shard: Shard, vectors: Vectors, ledger: Sequence[Failure]) -> None:
        assert shard.index not in self.shards
        self.shards[shard.index] = vectors, [row for row in ledger if row.stage != NOTED]
        self.noted += [row.id for row in ledger if row.stage == NOTED]

    def count(self, shard: Shard, images: int, failed: int) -> None:
        self.log.append((shard.index, images, failed))


def shards_of(*texts: str) -> list[Shard]:
    return [Shard(i, [Item(f"{i}-{path}", path) for path in text.split()]) for i, text in enumerate(texts)]


SHARDS = shards_of("10 20 x 40 50", "x x", "60 70 80", "90")


def computed(engine: Engine, decoder: Pool | None = None, shards: Sequence[Shard] = SHARDS) -> Result:
    result = Result()
    compute_shards(shards, Equipment(engine, decoder or Pool(), 2), result)
    return result


def test_the_fakes_are_what_the_protocols_say():
    assert not isinstance(FakeEngine(), AsyncEngine)
    assert isinstance(AsyncFake(), AsyncEngine)
    assert not isinstance(AsyncFake(), DeviceEngine)
    assert isinstance(OnDevice(), DeviceEngine)


@pytest.mark.parametrize("make", [AsyncFake, OnDevice])
def test_overlapped_is_what_one_after_the_other_is(make):
    plain, overlapped = computed(FakeEngine()), computed(make())
    assert plain.log == overlapped.log == [(0, 2, 0), (0, 2, 1), (0, 1, 0), (1, 2, 2), (2, 2, 0), (2, 1, 0), (3, 1, 0)]
    assert list(plain.shards) == list(overlapped.shards) == [0, 1, 2, 3]
    for index, (vectors, failures) in plain.shards.items():
        np.testing.assert_array_equal(overlapped.shards[index][0], vectors)
        assert overlapped.shards[index][1] == failures
    assert [len(vectors) for vectors, _ in plain.shards.values()] == [4, 0, 3, 1]
    assert [failure.path for _, failures in plain.shards.values() for failure in failures] == ["x"] * 3


@pytest.mark.parametrize("make", [AsyncFake, OnDevice])
def test_the_next_batch_is_begun_before_the_last_is_asked_for(make):
    engine = make()
    computed(engine, shards=shards_of("1 2 3 4", "5 6 7"))
    assert engine.log == ["start 1", "start 2", "ask 1", "start 3", "ask 2", "start 4", "ask 3", "ask 4"]
    assert engine.most == 2


def test_two_are_really_in_flight():
    """The engine computes nothing until it has been given two batches: who waits for the first would wait for ever."""
    engine = AsyncFake()
    engine.held = threading.Event()
    real = engine.start

    def start(pixels):
        working = real(pixels)
        if len(engine.in_flight) == 2:
            engine.held.set()
        return working

    engine.start = start  # type: ignore[method-assign]
    assert len(computed(engine).shards) == 4


def test_an_engine_that_waits_is_given_nothing_ahead():
    """What it has described is stored before it gets the next batch."""
    result, seen = Result(), []

    class Watched(FakeEngine):
        def run(self, pixels):
            seen.append(sorted(result.shards))
            return super().run(pixels)

    compute_shards(shards_of("1 2", "3 4", "5"), Equipment(Watched(), Pool(), 2), result)
    assert seen == [[], [0], [0, 1]]


def test_not_finite_descriptors_stay_with_their_batch():
    class Broken(AsyncFake):
        def start(self, pixels):
            grey = int(pixels[0, 0, 0, 0])
            working = super().start(pixels)
            if grey == 30:
                working.result()[1] = np.nan
            return working

    result = computed(Broken(), shards=shards_of("10 20 30 40 50 60"))
    assert [failure.id for failure in result.shards[0][1]] == ["0-40"]
    assert result.log == [(0, 2, 0), (0, 2, 1), (0, 2, 0)]


# Batches: 1, 2 are shard 0; 3, 4 are shard 1; 5 is shard 2.
THREE = shards_of("1 2 3 4", "5 6 7 8", "9")


@pytest.mark.parametrize(
    ("fails", "refuses", "breaks", "stored", "words"),
    [
        ({1}, set(), None, [], "batch 1 failed"),
        ({2}, set(), None, [], "batch 2 failed"),  # batch 3 is in flight and good: its shard lacks nothing, but it is not whole
        ({3}, set(), None, [0], "batch 3 failed"),
        ({5}, set(), None, [0, 1], "batch 5 failed"),
        (set(), {1}, None, [], "batch 1 was not begun"),
        (set(), {3}, None, [0], "batch 3 was not begun"),  # while batch 2, which ends shard 0, was in flight
        (set(), {5}, None, [0, 1], "batch 5 was not begun"),
        (set(), set(), 2, [0], "the decoder broke"),  # likewise
        (set(), set(), 3, [0], "the decoder broke"),
        ({2}, {3}, None, [], "batch 3 was not begun"),  # and the one in flight fails too: the first error is told
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [AsyncFake, OnDevice])
def test_a_failure_keeps_what_was_complete(make, fails, refuses, breaks, stored, words):
    engine, decoder, result = make(), Pool(breaks), Result()
    engine.fails, engine.refuses = fails, refuses
    with pytest.raises((EngineError, InputError), match=words):
        compute_shards(THREE, Equipment(engine, decoder, 2), result)
    assert sorted(result.shards) == stored
    assert decoder.closed
    expected = computed(FakeEngine(), shards=THREE).shards
    for index in stored:
        np.testing.assert_array_equal(result.shards[index][0], expected[index][0])


def test_what_cannot_be_stored_ends_it_and_nothing_with_a_gap_is_stored():
    engine, stored = AsyncFake(), []

    class Full(Result):
        def store(self, shard, vectors, failures):
            stored.append((shard.index, len(vectors)))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        compute_shards(THREE, Equipment(engine, Pool(), 2), Full())
    assert stored == [(0, 4)]


def test_ctrl_c_waits_for_nothing():
    engine, result = AsyncFake(), Result()
    engine.held = threading.Event()  # never set: waiting would take 20 s and fail
    real, begun = engine.start, []

    def start(pixels):
        if len(begun) == 1:
            raise KeyboardInterrupt
        begun.append(1)
        return real(pixels)

    engine.start = start  # type: ignore[method-assign]
    decoder = Pool()
    with pytest.raises(KeyboardInterrupt):
        compute_shards(THREE, Equipment(engine, decoder, 2), result)
    assert engine.log == ["start 1"]
    assert decoder.closed
    engine.held.set()


# --- through extract, with real photos


@pytest.mark.parametrize("shard_size", [2, 4, 100])
def test_extract_gives_the_same_bytes(tmp_path, folder_of, shard_size):
    folder = folder_of(tmp_path / "in", 11)
    (folder / "bad.jpg").write_text("no picture")
    steps: list[tuple[int, int, int]] = []
    engine = AsyncFake()
    extract(folder, FakeEngine(), tmp_path / "plain.h5", batch_size=2, shard_size=shard_size)
    extract(
        folder, engine, tmp_path / "ahead.h5", batch_size=2, shard_size=shard_size, progress=lambda *s: steps.append(s)
    )
    assert engine.most == 2
    assert (tmp_path / "ahead.h5").read_bytes() == (tmp_path / "plain.h5").read_bytes()
    assert [done for done, _, _ in steps] == [0, 2, 4, 6, 8, 10, 12]
    assert steps[-1] == (12, 12, 1)


@pytest.mark.parametrize("fails", [1, 3, 4, 6])
def test_extract_goes_on_after_a_failure(tmp_path, folder_of, fails):
    folder = folder_of(tmp_path / "in", 12)
    whole, output = tmp_path / "whole.h5", tmp_path / "out.h5"
    extract(folder, FakeEngine(), whole, batch_size=2, shard_size=4)
    engine = AsyncFake()
    engine.fails = {fails}
    with pytest.raises(EngineError, match=f"batch {fails} failed"):
        extract(folder, engine, output, batch_size=2, shard_size=4)
    complete = (fails - 1) // 2
    parts = tmp_path / "out.h5.parts"
    assert len(list(parts.glob("part-*")) if parts.exists() else []) == complete
    assert extract(folder, AsyncFake(), output, batch_size=2, shard_size=4).computed == 12 - 4 * complete
    assert output.read_bytes() == whole.read_bytes()
    assert load_descriptors(output).ids == load_descriptors(whole).ids


def test_a_real_plan_engine_is_given_batches_ahead(tmp_path: Path, folder_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's engine against the imitation of the GPU, from files to descriptors."""
    pytest.importorskip("onnx")
    import sys

    from fake_gpu import FakeCuda, FakeTensorRT
    from helpers_plans import describe, make_plan

    from isc_fast.decoders.rules import load_input
    from isc_fast.engines.base import load_engine

    fake = FakeCuda(late=True)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    trt = FakeTensorRT(fake)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    folder = folder_of(tmp_path / "in", 11)
    (folder / "zz.jpg").write_text("no picture")
    engine = load_engine(make_plan(trt, tmp_path))
    assert isinstance(engine, DeviceEngine)
    waiting = []
    finish = engine.finish  # type: ignore[attr-defined]

    def watched(pending):
        waiting.append(len({id(entry[1]) for entry in engine._waiting}))  # type: ignore[attr-defined]
        finish(pending)

    monkeypatch.setattr(engine, "finish", watched)
    made = extract(folder, engine, tmp_path / "out.h5", batch_size=4, shard_size=4, decoder="pillow")
    assert waiting == [2, 2, 1], "each is asked for while the next is on the GPU"
    names = sorted(os.listdir(folder))[:-1]
    pixels = np.stack([load_input(str(folder / name), 8, 8) for name in names])
    np.testing.assert_allclose(load_descriptors(made.path).vectors, describe(pixels), atol=1e-5)
    engine.close()  # type: ignore[attr-defined]
