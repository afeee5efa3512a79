"""TensorRT plans on a real GPU: ``pytest -m gpu tests/engines/test_gpu_trt.py``. Skipped where there is none.

None of these has run yet: they were written on a machine without a GPU. Each says what it is that only hardware can tell.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isc_fast.assets import DEMO_ENGINE
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.engines.base import load_engine
from isc_fast.engines.trt.engine import TrtEngine
from isc_fast.engines.trt.sidecar import read_sidecar, sidecar_path
from isc_fast.errors import EngineError, IscFastError
from isc_fast.machine import cuda

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from isc_fast.export import export_engine
from isc_fast.export.photos import load_photos


def _device() -> cuda.Device | None:
    try:
        return cuda.find_device()
    except IscFastError:
        return None


_HERE = _device()
_FLAVOURS = [name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name)]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(_HERE is None or not _FLAVOURS, reason="needs an NVIDIA GPU and TensorRT or TensorRT-RTX"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def plan(folder: Path, photos: Sequence[Path]) -> Path:
    """The demo's engine as a plan in fp16: building and verifying it is the first test."""
    return export_engine(DEMO_ENGINE, folder / "demo.plan", photos=photos[:24], batch=(1, 8, 16)).path


@pytest.fixture(scope="module")
def pixels(photos: Sequence[Path]) -> np.ndarray:
    return load_photos(photos[:40], Preprocessing(224, 224))


@pytest.fixture(scope="module")
def expected(pixels: np.ndarray) -> np.ndarray:
    return load_engine("demo").run(pixels)


@pytest.fixture
def engine(plan: Path) -> Iterator[TrtEngine]:
    with TrtEngine(plan) as loaded:
        yield loaded


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray((left.astype(np.float64) * right).sum(axis=1))


def free_bytes() -> int:
    from cuda.bindings import runtime

    code, free, _ = runtime.cudaMemGetInfo()
    assert not int(code)
    return int(free)


def test_it_agrees_with_the_processor(engine: TrtEngine, pixels: np.ndarray, expected: np.ndarray) -> None:
    found = engine.run(pixels)
    assert cosines(found, expected).min() > 0.9995
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(("precision", "worst"), [("fp32", 0.9999), ("bf16", 0.99), ("int8", 0.99), ("fp8", 0.99)])
def test_every_precision_is_published(
    folder: Path, photos: Sequence[Path], pixels: np.ndarray, expected: np.ndarray, precision: str, worst: float
) -> None:
    """Whether this GPU and this TensorRT have kernels for it: fp8 needs compute capability 8.9."""
    made = export_engine(DEMO_ENGINE, folder / f"{precision}.plan", photos=photos, precision=precision, batch=(8,))
    with TrtEngine(made.path) as loaded:
        assert cosines(loaded.run(pixels), expected).min() > worst


def test_executions_are_recorded_as_graphs(engine: TrtEngine) -> None:
    """Whether TensorRT lets itself be recorded after one execution."""
    assert engine.recorded, engine.device


def test_rows_are_the_same_bits_however_many_come_together(engine: TrtEngine, pixels: np.ndarray) -> None:
    together = engine.run(pixels)
    np.testing.assert_array_equal(engine.run(pixels), together)  # the same in every slot, again and again
    for count in (1, 3, 8, 9, 25):
        np.testing.assert_array_equal(engine.run(pixels[:count]), together[:count])


def test_slots_do_not_disturb_each_other(plan: Path, pixels: np.ndarray) -> None:
    with TrtEngine(plan, slots=1) as alone, TrtEngine(plan, slots=3) as three:
        expected = alone.run(pixels)
        many = np.concatenate([pixels] * 8)
        waiting = [three.start(many) for _ in range(4)]
        for pending in waiting:
            np.testing.assert_array_equal(pending.result(), np.concatenate([expected] * 8))


def test_recorded_and_plain_executions_agree(engine: TrtEngine, pixels: np.ndarray) -> None:
    recorded, graphs = engine.run(pixels), [slot.graph for slot in engine._slots]
    for slot in engine._slots:
        slot.graph = None
    plain = engine.run(pixels)
    for slot, graph in zip(engine._slots, graphs, strict=True):
        slot.graph = graph
    np.testing.assert_array_equal(plain, recorded)


@pytest.mark.parametrize("how", ["nothing", "stream", "event"])
def test_images_on_the_gpu(engine: TrtEngine, pixels: np.ndarray, how: str) -> None:
    """The order of streams: the images are copied there by a stream of their own, and 200 times, so that it takes a while."""
    expected = engine.run(pixels)
    maker, made = cuda.Stream(), cuda.Event()
    host, device = cuda.PinnedBuffer(pixels.nbytes), cuda.DeviceBuffer(pixels.nbytes)
    host.array(pixels.shape, np.uint8)[:] = pixels
    cuda.zero(device.pointer, pixels.nbytes, maker)
    for _ in range(200):
        cuda.copy(device.pointer, host.pointer, pixels.nbytes, "to device", maker)
    made.record(maker)
    if how == "nothing":
        maker.synchronize()
    order: dict[str, int] = {"nothing": {}, "stream": {"stream": maker.handle}, "event": {"event": made.handle}}[how]
    pending = engine.start_device(device.pointer, len(pixels), **order)
    if how == "stream":
        cuda.zero(device.pointer, pixels.nbytes, maker)  # waits for the copies by itself
    np.testing.assert_array_equal(pending.result(), expected)
    for resource in (maker, made, host, device):
        resource.close()


def test_closing_gives_the_memory_back(plan: Path, pixels: np.ndarray) -> None:
    TrtEngine(plan).close()  # what CUDA and TensorRT keep for good is there from now on
    before = free_bytes()
    for _ in range(5):
        with TrtEngine(plan) as loaded:
            loaded.run(pixels)
    assert before - free_bytes() < 32e6


def test_a_damaged_plan_is_an_error_and_no_crash(plan: Path, tmp_path: Path) -> None:
    """TensorRT's own words for it, from the table in `isc_fast.engines.trt.log`."""
    import dataclasses
    import hashlib

    from isc_fast.engines.trt.sidecar import sidecar_text

    spec, facts = read_sidecar(plan)
    whole = plan.read_bytes()
    for content in (whole[: len(whole) // 2], b"note" + whole, b"", bytes(1000)):
        bad = tmp_path / "bad.plan"
        bad.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        sidecar_path(bad).write_text(sidecar_text(spec, dataclasses.replace(facts, plan_sha256=digest)))
        with pytest.raises(EngineError, match=r"cannot load .*bad\.plan: it is") as caught:
            load_engine(bad)
        assert "\n" not in str(caught.value)


def test_a_static_plan(folder: Path, photos: Sequence[Path], pixels: np.ndarray, expected: np.ndarray) -> None:
    made = export_engine(DEMO_ENGINE, folder / "static.plan", photos=photos[:8], batch=(4,))
    with TrtEngine(made.path) as loaded:
        assert cosines(loaded.run(pixels[:11]), expected[:11]).min() > 0.9995


@pytest.mark.skipif(_FLAVOURS[:1] != ["tensorrt"], reason="TensorRT-RTX keeps no times and compiles when it loads")
def test_the_timing_cache_makes_the_second_build_faster(folder: Path, photos: Sequence[Path]) -> None:
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        export_engine(
            DEMO_ENGINE, folder / "t.plan", photos=photos[:2], batch=(8,), timing_cache=folder / "times.cache"
        )
        seconds.append(time.monotonic() - began)
    assert len(list(folder.glob("times.*.cache"))) == 1
    assert seconds[1] < seconds[0]


@pytest.mark.skipif(_FLAVOURS[:1] != ["tensorrt"], reason="of TensorRT")
@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_compatible_plans(folder: Path, photos: Sequence[Path], pixels: Any, expected: Any, option: str) -> None:
    made: Any = export_engine(DEMO_ENGINE, folder / f"{option}.plan", photos=photos[:4], batch=(8,), **{option: True})
    found = load_engine(made.path, trust_plan=True).run(pixels)
    assert cosines(found, expected).min() > 0.9995


def test_the_command_line(plan: Path, photos: Sequence[Path], tmp_path: Path) -> None:
    from isc_fast.cli.main import main

    images = tmp_path / "images"
    images.mkdir()
    for photo in photos[:20]:
        shutil.copy(photo, images)
    assert main(["extract", str(images), "--engine", str(plan), "-o", str(tmp_path / "out.h5")]) == 0
