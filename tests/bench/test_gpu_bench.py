"""The GPU rows of the benchmarks: arithmetic on known numbers, and what needs CUDA against the imitation of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import gpu
import gpu_engine
import gpu_engines
import gpu_pipeline
import gpu_search
from fake_gpu import FakeCuda, FakeTensorRT
from gpu import Settings, on_gpu, rate_of
from gpu_limits import ceiling, network_work
from helpers_plans import SIZE, describe, images, make_plan, nothing_held
from rows import by_numpy, by_torch, make_rows
from steps import NotHere

from isc_fast.assets import DEMO_ENGINE
from isc_fast.engines.base import load_engine
from isc_fast.engines.trt.engine import TrtEngine
from isc_fast.export.targets import to_plan
from isc_fast.networks.model import DescriptorNet

WORK = {"operations": 2e9, "moved": 1e8, "weights": 1e7}
LIMITS = {"peaks": {"fp32": 1e13, "fp16": 8e13}, "bandwidth": 1e12}


# --- arithmetic


def test_what_v107_costs() -> None:
    """55.6 GFLOP and 409 MB in fp16, as counted by hand elsewhere; nothing is computed for it."""
    net = DescriptorNet("tf_efficientnetv2_m").eval()
    found = network_work(net, 512)
    assert found["operations"] / 1e9 == pytest.approx(55.6, abs=0.05)
    assert found["moved"] * 2 / 1e6 == pytest.approx(409, abs=1)
    assert found["weights"] == pytest.approx(52.2e6, rel=0.01)
    assert next(net.parameters()).device.type == "cpu"


def test_the_ceiling_is_the_lower_of_two() -> None:
    slow = ceiling(WORK, LIMITS, "fp32", 1)
    assert slow["by_matrix_peak"] == pytest.approx(5000)
    assert slow["by_bandwidth"] == pytest.approx(1e12 / (4 * 1.1e8))
    assert slow["images_per_s"] == slow["by_bandwidth"]
    many = ceiling(WORK, LIMITS, "fp16", 1000)
    assert many["by_matrix_peak"] == pytest.approx(40_000)
    assert many["by_bandwidth"] == pytest.approx(1e12 / (2 * 1.0001e8))
    compute = ceiling({**WORK, "operations": 2e11}, LIMITS, "fp16", 1)
    assert compute["images_per_s"] == compute["by_matrix_peak"] == 400


def test_settings_travel() -> None:
    made = Settings("/somewhere", "cpu").small()
    assert Settings.from_json(made.to_json()) == made
    assert Settings("x", "cuda").half == "fp16"
    assert made.half == "fp32"


def test_a_rate_is_of_finished_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that is only queued is quick; the clock stops when the device has done it."""
    queued = 0

    def work() -> None:
        nonlocal queued
        queued += 1

    def wait() -> None:
        nonlocal queued
        time.sleep(0.01 * queued)
        queued = 0

    monkeypatch.setattr(gpu, "wait_for", lambda device: wait)
    found = rate_of(work, 5, Settings("", seconds=0.1, rounds=3))
    assert 250 < found["images_per_s"] < 500
    assert found["min"] <= found["images_per_s"] <= found["max"]


def test_a_fast_way_is_repeated_until_a_turn_is_long_enough() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.005)

    rate_of(work, 1, Settings("", "cpu", seconds=0.1, rounds=2))
    assert 20 < calls <= 50


# --- the network, by TensorRT


@pytest.fixture(params=["late", "at once"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda(late=request.param == "late")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    for module in (gpu, gpu_pipeline):
        monkeypatch.setattr(module, "wait_for", lambda device: lambda: None)  # torch's, which is not imitated
    return fake


@pytest.fixture
def trt(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT(cuda)
    fake.__spec__ = ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


@pytest.fixture
def work(trt: FakeTensorRT, tmp_path: Path) -> Settings:
    """A folder as the preparing steps leave it, with a tiny plan."""
    plan = make_plan(trt, tmp_path)
    for file in (plan, plan.with_name(plan.name + ".json")):
        file.rename(file.with_name(file.name.replace("tiny", "v107")))
    pixels = images(7)
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "expected.npy", describe(pixels))
    (tmp_path / "ceilings.json").write_text(json.dumps(LIMITS))
    (tmp_path / "network.json").write_text(json.dumps({**WORK, "size": SIZE}))
    return Settings(str(tmp_path), seconds=0.0, rounds=2, files=9, photos=7)


def test_an_array_on_the_gpu(cuda: FakeCuda) -> None:
    pixels = images(5)
    with on_gpu(pixels) as there:
        np.testing.assert_array_equal(cuda._bytes(there, pixels.nbytes, "device"), pixels.reshape(-1))
    assert cuda.held == {}


def test_the_row_of_a_plan(work: Settings, trt: FakeTensorRT) -> None:
    row = gpu_engine.ROWS["plan"](work)
    assert row["precision"] == "fp16"
    assert row["cosine_min"] > 0.99999
    assert sorted(row["by_batch"]) == [12, 48]  # three slots of four, and four times that
    assert row["batch"] in row["by_batch"]
    best = row["by_batch"][row["batch"]]
    assert row["images_per_s"] == best["images_per_s"] == max(r["images_per_s"] for r in row["by_batch"].values())
    limit = ceiling(WORK, LIMITS, "fp16", row["batch"])["images_per_s"]
    assert row["share_of_ceiling"] == pytest.approx(row["on_device"]["images_per_s"] / limit)
    nothing_held(trt)


def test_a_plan_that_is_wrong_is_seen_in_its_row(work: Settings, trt: FakeTensorRT) -> None:
    trt.spoil = lambda rows: np.roll(rows, 1, axis=1)
    assert gpu_engine.ROWS["plan"](work)["cosine_min"] < 0.9


@pytest.mark.parametrize("where", ["host", "gpu"])
@pytest.mark.parametrize("count", [1, 12, 29])
def test_the_engine_alone_describes_every_image(work: Settings, trt: FakeTensorRT, where: str, count: int) -> None:
    batch = images(12, 3)
    with TrtEngine(gpu_engines.engine_of(work, gpu_engines.PLAN)) as engine:
        trt.seen.clear()
        with on_gpu(batch) if where == "gpu" else contextlib.nullcontext() as there:
            gpu_pipeline.engine_alone(engine, count, batch, there)()
        assert len(trt.seen) == {1: 1, 12: 3, 29: 3 + 3 + 2}[count]  # four images each
        np.testing.assert_array_equal(trt.seen[0][: min(count, 4)], batch[: min(count, 4)])
    nothing_held(trt)


class OneByOne:
    """An engine that can only run."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self.counts.append(len(pixels))
        return pixels


def test_an_engine_that_cannot_begin_ahead() -> None:
    engine = OneByOne()
    gpu_pipeline.engine_alone(engine, 29, images(12), None)()
    assert engine.counts == [12, 12, 5]


def test_the_row_of_an_extraction_by_a_plan(work: Settings, trt: FakeTensorRT, folder_of: Callable[..., Path]) -> None:
    """Listing, turbo, the plan, parts and all; the photos' own pixels are what the descriptors are of."""
    pytest.importorskip("simplejpeg")
    from isc_fast.decoders.rules import load_input

    folder = folder_of(work.folder / "photos", work.files)
    pixels = np.stack([load_input(str(path), SIZE, SIZE) for path in sorted(folder.iterdir())[:7]])
    np.save(work.folder / "pixels.npy", pixels)
    np.save(work.folder / "expected.npy", describe(pixels))
    row = gpu_pipeline.ROWS["plan + turbo"](work)
    assert row["cosine_min"] > 0.999
    assert (row["decoder"], row["precision"], row["pixels_stay_on_gpu"]) == ("turbo", "fp16", False)
    slower = row[f"{row['slower_part']}_alone"]["images_per_s"]
    assert slower == min(row[f"{part}_alone"]["images_per_s"] for part in ("decode", "model"))
    assert row["share_of_slower_part"] == pytest.approx(row["images_per_s"] / slower)
    nothing_held(trt)


def test_a_plan_on_a_processor_is_left_out(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path), "cpu")
    for row in (gpu_pipeline.ROWS["plan + dali"], gpu_engines._ROWS["plan"], gpu_engine.ROWS["onnx tensorrt"]):
        with pytest.raises(NotHere, match="GPU"):
            row(settings)


@pytest.mark.slow
def test_a_plan_is_built_from_the_engine_that_was_made_before(
    trt: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not trt.cuda.late:
        pytest.skip("once is enough")
    monkeypatch.setitem(to_plan.MIN_COSINE, "fp16", to_plan.MIN_COSINE["fp16"])
    shutil.copy(DEMO_ENGINE, tmp_path / "v107.onnx")
    row = gpu_engines._ROWS["plan"](Settings(str(tmp_path)))
    assert row["precision"] == "fp16"
    assert row["parity"]["cosine_min"] > 0.999
    with load_engine(tmp_path / "v107.plan") as engine:  # type: ignore[attr-defined]
        assert engine.facts.batch == (1, 64, 64)


# --- the search


@pytest.fixture
def searched(tmp_path: Path) -> Settings:
    settings = Settings(str(tmp_path), "cpu").small()
    gpu_engines._ROWS["rows"](settings)
    (tmp_path / "ceilings.json").write_text(json.dumps(LIMITS))
    return settings


def test_torch_and_numpy_find_the_same() -> None:
    xq, xb = make_rows(40, 150_000, 32)  # more than one block, and a last one that is not full
    scores, rows = by_torch(torch.from_numpy(xq), torch.from_numpy(xb), 10)
    exact, expected = by_numpy(xq.astype(np.float64), xb, 10)
    np.testing.assert_array_equal(np.sort(rows, 1), np.sort(expected, 1))
    np.testing.assert_allclose(scores, exact, atol=1e-5)


def test_wrong_ids_are_seen(searched: Settings) -> None:
    xq, xb = gpu_search.rows_of(searched)
    good = by_numpy(xq, xb, searched.k)
    assert gpu_search.measure(searched, "fp32", lambda: good)["same_ids"] == 1
    bad = good[1].copy()
    bad[:30, 0] = 2999 - bad[:30, 0]
    assert gpu_search.measure(searched, "fp32", lambda: (good[0], bad))["same_ids"] == pytest.approx(0.5, abs=0.02)


class FaissOnGpu:
    """What is asked of faiss' GPU index, on the processor."""

    added = 0

    def __init__(self, resources: Any, dim: int) -> None:
        import faiss

        assert resources == "resources"
        self.index = faiss.IndexFlatIP(dim)

    def add(self, rows: np.ndarray) -> None:
        FaissOnGpu.added += len(rows)
        self.index.add(rows)

    def search(self, rows: np.ndarray, k: int) -> Any:
        return self.index.search(rows, k)


def test_faiss_on_a_gpu(searched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = pytest.importorskip("faiss")
    on_cuda = Settings.from_json(searched.to_json().replace('"cpu"', '"cuda"'))
    monkeypatch.setattr(gpu, "wait_for", lambda device: lambda: None)
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(NotHere, match="built without GPU support"):
        gpu_search._ROWS["faiss"](on_cuda)

    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatIP", FaissOnGpu, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(RuntimeError, match="sees no GPU"):
        gpu_search._ROWS["faiss"](on_cuda)
    assert FaissOnGpu.added == 0

    def knn_gpu(resources: Any, xq: np.ndarray, xb: np.ndarray, k: int, *, metric: int) -> Any:
        assert (resources, metric) == ("resources", faiss.METRIC_INNER_PRODUCT)
        return faiss.knn(xq, xb, k, metric=metric)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    row = gpu_search._ROWS["faiss"](on_cuda)
    assert (row["same_ids"], FaissOnGpu.added) == (1, on_cuda.references)
    assert row["from_host"]["images_per_s"] > 0


def test_our_search_is_told_the_device_where_it_can_be(searched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import isc_fast

    real, devices = isc_fast.search, []

    def with_device(queries: Any, references: Any, *, k: int, device: str = "cpu") -> Any:
        devices.append(device)
        return real(queries, references, k=k)

    def without(queries: Any, references: Any, *, k: int) -> Any:
        return real(queries, references, k=k)

    on_cuda = Settings.from_json(searched.to_json().replace('"cpu"', '"cuda"'))
    monkeypatch.setattr(gpu, "wait_for", lambda device: lambda: None)
    faiss = pytest.importorskip("faiss")
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(NotHere, match="built without GPU support"):
        gpu_search._ROWS["isc_fast"](on_cuda)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(isc_fast, "search", without, raising=False)
    assert gpu_search._ROWS["isc_fast"](searched)["same_ids"] == 1
    with pytest.raises(NotHere, match="no parameter device"):
        gpu_search._ROWS["isc_fast"](on_cuda)
    monkeypatch.setattr(isc_fast, "search", with_device, raising=False)
    assert gpu_search._ROWS["isc_fast"](on_cuda)["same_ids"] == 1
    assert set(devices) == {"cuda"}
