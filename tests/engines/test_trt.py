"""The TensorRT engine against an imitation of the GPU (`fake_gpu`): contract, slots, order, padding, errors, leaks."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fake_gpu import MAGIC, Code, FakeCuda, FakeTensorRT
from helpers_plans import DIM, SIZE, describe, images, make_plan, nothing_held

import isc_fast
from isc_fast.engines.base import gpu_of, load_engine
from isc_fast.engines.trt.engine import TrtEngine
from isc_fast.engines.trt.sidecar import read_sidecar, sidecar_path, sidecar_text
from isc_fast.errors import EngineError, MissingExtraError
from isc_fast.machine import cuda


@pytest.fixture(params=["late", "at once"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda(late=request.param == "late")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    return fake


@pytest.fixture
def trt(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT(gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


@pytest.fixture
def plan(trt: FakeTensorRT, tmp_path: Path) -> Path:
    return make_plan(trt, tmp_path)


# --- the contract


def test_unit_float32_rows_in_order(trt: FakeTensorRT, plan: Path) -> None:
    """More images than the slots hold, and every number around a full execution."""
    with load_engine(plan) as engine:  # type: ignore[attr-defined]
        for count in (0, 1, 2, 3, 4, 5, 8, 12, 13, 30):
            pixels = images(count, count)
            vectors = engine.run(pixels)
            assert vectors.shape == (count, DIM)
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(vectors, describe(pixels), atol=1e-5)
    nothing_held(trt)


def test_a_row_does_not_depend_on_the_others_nor_on_their_number(plan: Path) -> None:
    with TrtEngine(plan) as engine:
        pixels = images(9)
        together = engine.run(pixels)
        for row in range(9):
            np.testing.assert_array_equal(engine.run(pixels[row : row + 1])[0], together[row])
        np.testing.assert_array_equal(engine.run(pixels[:5]), together[:5])


def test_other_pixels_are_refused(plan: Path) -> None:
    with TrtEngine(plan) as engine:
        for bad in (images(1).astype(np.float32), images(1)[0], images(1)[:, :-1]):
            with pytest.raises(EngineError, match=r"takes uint8 .n, 8, 8, 3."):
                engine.run(bad)  # type: ignore[arg-type]


def test_it_says_what_it_is(plan: Path) -> None:
    with TrtEngine(plan) as engine:
        assert engine.id == hashlib.sha256(plan.read_bytes()).hexdigest()
        assert engine.spec.precision == "fp16"
        assert engine.default_batch_size == 12  # three slots of what the plan is tuned for
        assert engine.device == "tensorrt 11.4.0.12 on Fake H100, 3 × 4 images"
        assert engine.path == plan


def test_the_pixels_may_be_changed_once_they_were_taken(plan: Path) -> None:
    with TrtEngine(plan) as engine:
        pixels = images(11)
        expected = describe(pixels)
        pending = engine.start(pixels)
        pixels[:] = 0
        np.testing.assert_allclose(pending.result(), expected, atol=1e-5)
        np.testing.assert_allclose(pending.result(), expected, atol=1e-5)  # and may be asked for again


def test_several_batches_are_in_flight(plan: Path) -> None:
    with TrtEngine(plan) as engine:
        batches = [images(count, count) for count in (3, 9, 1, 20, 4)]
        waiting = [engine.start(batch) for batch in batches]
        for pending, batch in reversed(list(zip(waiting, batches, strict=True))):
            np.testing.assert_allclose(pending.result(), describe(batch), atol=1e-5)


def test_threads_share_an_engine(plan: Path) -> None:
    wrong: list[int] = []
    with TrtEngine(plan) as engine:

        def work(seed: int) -> None:
            for turn in range(5):
                pixels = images(1 + (seed + turn) % 7, seed * 100 + turn)
                if not np.allclose(engine.run(pixels), describe(pixels), atol=1e-5):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# --- how it runs


def test_every_execution_is_a_graph_that_was_recorded_once(gpu: FakeCuda, plan: Path) -> None:
    with TrtEngine(plan) as engine:
        assert engine.recorded
        executed = gpu.calls["execute_async_v3"]
        assert executed == 6  # for each of three slots once to warm up and once to record
        engine.run(images(30))
        assert gpu.calls["cudaGraphLaunch"] == 8
        assert gpu.calls["execute_async_v3"] == executed


@pytest.mark.parametrize("step", ["cudaStreamEndCapture", "cudaGraphInstantiate", "execution"])
def test_what_cannot_be_recorded_runs_all_the_same(gpu: FakeCuda, trt: FakeTensorRT, plan: Path, step: str) -> None:
    if step == "execution":
        trt.recordable = False
    else:
        gpu.fail[step] = (Code.CAPTURE_INVALIDATED, 0)
    with TrtEngine(plan) as engine:
        assert not engine.recorded
        assert "not recorded" in engine.device
        np.testing.assert_allclose(engine.run(images(13)), describe(images(13)), atol=1e-5)
    nothing_held(trt)


def test_a_static_plan(trt: FakeTensorRT, tmp_path: Path) -> None:
    with TrtEngine(make_plan(trt, tmp_path, batch=(3, 3, 3))) as engine:
        assert engine.default_batch_size == 9
        np.testing.assert_allclose(engine.run(images(7)), describe(images(7)), atol=1e-5)


def test_another_number_of_slots_and_images(plan: Path) -> None:
    for slots, size in ((1, 1), (1, 6), (2, 3), (4, 2)):
        with TrtEngine(plan, slots=slots, size=size) as engine:
            assert engine.default_batch_size == slots * size
            np.testing.assert_allclose(engine.run(images(9)), describe(images(9)), atol=1e-5)
    with pytest.raises(EngineError, match="executes 1 to 6 images at once, not 7"):
        TrtEngine(plan, size=7)
    with pytest.raises(EngineError, match="at least one slot, not 0"):
        TrtEngine(plan, slots=0)


def test_fewer_slots_where_memory_ends(trt: FakeTensorRT, plan: Path) -> None:
    trt.contexts_fit = 2
    with TrtEngine(plan) as engine:
        assert engine.default_batch_size == 8
        np.testing.assert_allclose(engine.run(images(13)), describe(images(13)), atol=1e-5)
    nothing_held(trt)
    trt.contexts_fit = 0
    with pytest.raises(EngineError, match=r"cannot be run here: TensorRT made no execution context: .*OutOfMemory"):
        TrtEngine(plan)
    nothing_held(trt)


def test_what_fills_up_an_execution_is_black(gpu: FakeCuda, trt: FakeTensorRT, plan: Path) -> None:
    """Whatever was there before: images from the host, or from the GPU."""
    bright = np.full((4, SIZE, SIZE, 3), 255, np.uint8)
    pointer = gpu.put(bright)
    with TrtEngine(plan, slots=1) as engine:
        for count in (4, 1, 3, 2):
            for from_gpu in (False, True):
                for again in (False, True):
                    (engine.run_device(pointer, 4) if again else engine.run(bright))  # full
                    if from_gpu:
                        engine.run_device(pointer, count)
                    else:
                        engine.run(bright[:count])
                    assert trt.seen[-1][:count].min() == 255
                    assert not trt.seen[-1][count:].any()
    gpu.cudaFree(pointer)


# --- images that are on the GPU already


@pytest.mark.parametrize("how", ["nothing", "stream", "event"])
def test_images_on_the_gpu_are_described_without_leaving_it(gpu: FakeCuda, plan: Path, how: str) -> None:
    """The decoder's memory is filled late, by its own stream: whoever does not wait reads what was there before."""
    pixels = images(11, 7)
    with TrtEngine(plan) as engine:
        engine.run(255 - pixels)  # the slots hold other images from now on
        uploads = gpu.calls["cudaMemcpyAsync"]
        pointer = gpu.put(pixels if how == "nothing" else images(11, 8))
        source = gpu.put(pixels)
        maker, made = cuda.Stream(), cuda.Event()
        if how != "nothing":
            cuda.copy(pointer, source, pixels.nbytes, "on device", maker)
            made.record(maker)
        order = {"nothing": {}, "stream": {"stream": maker.handle}, "event": {"event": made.handle}}[how]
        vectors = engine.run_device(pointer, 11, **order)
        np.testing.assert_allclose(vectors, describe(pixels), atol=1e-5)
        assert gpu.calls["cudaMemcpyAsync"] - uploads <= 4  # three executions, and the one above
        for resource in (maker, made):
            resource.close()
        for address in (pointer, source):
            gpu.cudaFree(address)
        np.testing.assert_allclose(engine.run(pixels[:2]), describe(pixels[:2]), atol=1e-5)


@pytest.mark.parametrize("how", ["stream", "event"])
def test_the_decoder_may_go_on_while_its_images_are_described(gpu: FakeCuda, plan: Path, how: str) -> None:
    pixels, later = images(6, 1), images(6, 2)
    with TrtEngine(plan) as engine:
        pointer, source = gpu.put(pixels), gpu.put(later)
        maker, made = cuda.Stream(), cuda.Event()
        made.record(maker)
        order = {"stream": maker.handle} if how == "stream" else {"event": made.handle}
        pending = engine.start_device(pointer, 6, **order)
        cuda.copy(pointer, source, later.nbytes, "on device", maker)  # the next batch, in the same memory
        maker.synchronize()
        np.testing.assert_allclose(pending.result(), describe(pixels), atol=1e-5)
        np.testing.assert_allclose(engine.run_device(pointer, 6), describe(later), atol=1e-5)
        maker.close()
        made.close()
        gpu.cudaFree(pointer)
        gpu.cudaFree(source)


def test_images_on_the_gpu_that_make_no_sense(plan: Path) -> None:
    with TrtEngine(plan) as engine:
        with pytest.raises(EngineError, match="not both"):
            engine.run_device(1, 1, stream=1, event=2)
        with pytest.raises(EngineError, match="no 3 images at the address 0"):
            engine.run_device(0, 3)
        assert engine.run_device(0, 0).shape == (0, DIM)


# --- failures


@pytest.mark.parametrize(
    "call",
    "cudaMalloc cudaMallocHost cudaStreamCreateWithFlags cudaEventCreateWithFlags cudaMemcpyAsync cudaStreamBeginCapture "
    "cudaStreamSynchronize execute_async_v3 cudaSetDevice".split(),
)
@pytest.mark.parametrize("after", [0, 1])
def test_what_fails_while_loading_is_one_error_and_leaves_nothing(
    gpu: FakeCuda, trt: FakeTensorRT, plan: Path, call: str, after: int
) -> None:
    gpu.fail[call] = (Code.OUT_OF_MEMORY, after)
    # What goes well the first time is not asked for again by one slot, or only makes recording impossible.
    again = {"cudaMalloc", "cudaMallocHost", "cudaEventCreateWithFlags", "cudaMemcpyAsync"}
    survives = after and call not in again
    with contextlib.nullcontext() if survives else pytest.raises(EngineError) as caught:
        TrtEngine(plan, slots=1).close()
    if caught:
        assert "\n" not in str(caught.value)
    del caught
    nothing_held(trt)


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaEventSynchronize", "cudaEventRecord"])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_what_fails_while_running(gpu: FakeCuda, trt: FakeTensorRT, plan: Path, call: str, after: int) -> None:
    """The call fails, whoever still waits is told, the engine can go on, and nothing leaks."""
    engine = TrtEngine(plan)
    earlier = engine.start(images(2, 1))
    gpu.fail[call] = (Code.INVALID_VALUE, gpu.calls[call] + after)
    with pytest.raises(EngineError, match=r"tiny\.plan failed on a batch of 30: CUDA failed to"):
        engine.run(images(30))
    gpu.fail.clear()
    if earlier.problem:
        with pytest.raises(EngineError, match="failed on a batch of 30"):
            earlier.result()
    else:
        np.testing.assert_allclose(earlier.result(), describe(images(2, 1)), atol=1e-5)
    np.testing.assert_allclose(engine.run(images(9)), describe(images(9)), atol=1e-5)
    engine.close()
    nothing_held(trt)


def test_a_lost_gpu_says_so_and_closing_still_frees(gpu: FakeCuda, trt: FakeTensorRT, plan: Path) -> None:
    with TrtEngine(plan) as engine:
        gpu.sticky = Code.ILLEGAL_ADDRESS
        for _ in range(2):
            with pytest.raises(EngineError, match=r"illegal address .error 700.; the GPU is lost to this process"):
                engine.run(images(5))
    gpu.sticky = Code.SUCCESS
    nothing_held(trt)


def test_a_closed_engine(trt: FakeTensorRT, plan: Path) -> None:
    engine = TrtEngine(plan)
    pending = engine.start(images(2))
    engine.close()
    engine.close()
    nothing_held(trt)
    for use in (lambda: engine.run(images(1)), pending.result):
        with pytest.raises(EngineError, match="was closed"):
            use()


def test_an_engine_thrown_away_frees_all(trt: FakeTensorRT, plan: Path) -> None:
    load_engine(plan).run(images(5))
    nothing_held(trt)


# --- what a user may hand in


def replace_facts(plan: Path, **changes: Any) -> None:
    content = json.loads(sidecar_path(plan).read_text())
    content["plan"].update(changes)
    sidecar_path(plan).write_text(json.dumps(content))


def test_no_driver_is_found_before_any_library_is_touched(
    gpu: FakeCuda, trt: FakeTensorRT, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it would be an error now
    gpu.driver = 0
    with pytest.raises(EngineError, match=r"no NVIDIA driver on this machine; .* use the \.onnx engine"):
        load_engine(plan)
    gpu.driver = 12020
    with pytest.raises(EngineError, match=r"driver is too old: it brings CUDA 12\.2 and isc-fast needs 13\.0"):
        load_engine(plan)
    gpu.driver, gpu.devices = 13000, []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match=r"shows no GPU to this process .CUDA_VISIBLE_DEVICES is ''"):
        load_engine(plan)
    gpu.devices = [("Fake H100", 9, 0)]
    with pytest.raises(EngineError, match="no GPU 1: this process sees 1"):
        TrtEngine(plan, index=1)
    with pytest.raises(MissingExtraError, match=r"isc-fast\[gpu\]"):
        load_engine(plan)


def test_missing_bindings_say_the_line_that_installs_them(trt: FakeTensorRT, plan: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'isc-fast\[gpu\]'"):
        load_engine(plan)


def test_a_sidecar_that_is_missing_damaged_or_foreign(plan: Path) -> None:
    beside = sidecar_path(plan)
    whole = beside.read_text()
    changed = json.loads(whole)
    changed["plan"]["batch"] = [4, 1, 6]
    newer = json.loads(whole)
    newer["isc_fast_plan"] = 9
    for text, words in (
        (None, r"has no tiny\.plan\.json beside it"),
        ("", "is damaged"),
        (whole[:100], "is damaged"),
        ("[1, 2]", "not written by isc-fast export"),
        ('{"build": 7}', "not written by isc-fast export"),
        (json.dumps(newer), "has version 9 and this isc-fast reads version 1"),
        (json.dumps({**json.loads(whole), "plan": {}}), "flavour is None"),
        (json.dumps({**json.loads(whole), "spec": {}}), "specification is damaged"),
        (json.dumps(changed), r"batch is \[4, 1, 6\]"),
    ):
        beside.unlink() if text is None else beside.write_text(text)
        with pytest.raises(EngineError, match=words) as caught:
            load_engine(plan)
        assert "\n" not in str(caught.value)
    beside.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match="not JSON"):
        load_engine(plan)


def test_the_sidecar_of_another_plan(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"is not the plan that tiny\.plan\.json describes .*isc-fast export"):
        load_engine(plan)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole: whole[:-40], "it is cut short"),
        (lambda whole: b"note" + whole, "not a TensorRT plan, or something stands before it"),
        (lambda whole: b"", "not a TensorRT plan"),
    ],
)
def test_what_tensorrt_refuses_is_said_in_plain_words(trt: FakeTensorRT, plan: Path, content: Any, words: str) -> None:
    """Behind a sidecar that fits: the file was damaged before its sum was taken."""
    plan.write_bytes(content(plan.read_bytes()))
    replace_facts(plan, plan_sha256=hashlib.sha256(plan.read_bytes()).hexdigest())
    with pytest.raises(EngineError, match=f"cannot load .*{words}.*; build it again on this machine: isc-fast export"):
        load_engine(plan)
    nothing_held(trt)


def test_another_gpu_and_another_tensorrt(gpu: FakeCuda, trt: FakeTensorRT, plan: Path, tmp_path: Path) -> None:
    gpu.devices = [("Fake A100", 8, 0)]
    with pytest.raises(
        EngineError, match=r"built for Fake H100 .*9\.0.* and this GPU is Fake A100 .*8\.0.*isc-fast export"
    ):
        load_engine(plan)
    gpu.devices = [("Fake H100", 9, 0)]
    trt.__version__ = "10.14.1.3"
    with pytest.raises(
        EngineError, match=r"built with tensorrt 11\.4\.0\.12 and 10\.14\.1\.3 is .*tensorrt-cu13==11\.4\.0\.12"
    ):
        load_engine(plan)
    # What the sidecar does not know, TensorRT still notices.
    replace_facts(plan, tensorrt="10.14.1.3")
    with pytest.raises(EngineError, match="built with another version of TensorRT"):
        load_engine(plan)
    nothing_held(trt)


def test_a_hardware_compatible_plan_runs_elsewhere(gpu: FakeCuda, trt: FakeTensorRT, tmp_path: Path) -> None:
    plan = make_plan(trt, tmp_path, hardware_compatible=True)
    gpu.devices = [("Fake B200", 10, 0)]
    np.testing.assert_allclose(load_engine(plan).run(images(3)), describe(images(3)), atol=1e-5)


def test_a_version_compatible_plan_holds_code_and_has_to_be_trusted(trt: FakeTensorRT, tmp_path: Path) -> None:
    plan = make_plan(trt, tmp_path, code=True)
    with pytest.raises(EngineError, match=r"holds program code .*--trust-plan"):
        load_engine(plan)
    trt.__version__ = "11.5.0.1"
    np.testing.assert_allclose(load_engine(plan, trust_plan=True).run(images(3)), describe(images(3)), atol=1e-5)
    trt.__version__ = "11.3.9.9"
    with pytest.raises(EngineError, match=r"built with tensorrt 11\.4\.0\.12"):
        load_engine(plan, trust_plan=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec, facts: spec.update(height=16), "its sidecar says"),
        (lambda spec, facts: spec.update(dim=8), "its sidecar says"),
        (lambda spec, facts: facts.update(network="isc-fast 1 other"), "calls its network"),
        (lambda spec, facts: facts.update(batch=[1, 2, 6]), r"executes \[1, 4, 6\] images"),
        (lambda spec, facts: facts.update(flavour="tensorrt_x"), "no TensorRT called 'tensorrt_x'"),
    ],
)
def test_a_plan_that_is_not_what_its_sidecar_says(trt: FakeTensorRT, plan: Path, change: Any, words: str) -> None:
    content = json.loads(sidecar_path(plan).read_text())
    change(content["spec"], content["plan"])
    sidecar_path(plan).write_text(json.dumps(content))
    with pytest.raises(EngineError, match=words):
        load_engine(plan)
    nothing_held(trt)


def test_a_plan_runs_on_the_gpu_only(plan: Path) -> None:
    with pytest.raises(EngineError, match="NVIDIA GPU only, not on the cpu"):
        load_engine(plan, device="cpu")
    for options in ({"threads": 2}, {"runtime": "openvino"}, {"provider": "cuda"}):
        with pytest.raises(EngineError, match=f"leave out the {next(iter(options))}"):
            load_engine(plan, **options)  # type: ignore[arg-type]


def test_another_gpu_than_the_first(trt: FakeTensorRT, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread that touches the engine is told which GPU it is on."""
    trt.cuda.devices *= 2
    used: list[int] = []
    real = cuda.use_device

    def watched(index: int) -> None:
        used.append(index)
        real(index)

    monkeypatch.setattr(cuda, "use_device", watched)
    with load_engine(plan, device="cuda:1") as engine:  # type: ignore[attr-defined]
        assert gpu_of(engine) == 1
        np.testing.assert_allclose(engine.run(images(9)), describe(images(9)), atol=1e-5)
    assert set(used) == {1}
    assert len(used) >= 4  # to load, to begin, to ask, to close
    with pytest.raises(EngineError, match="there is no GPU 2: this process sees 2"):
        load_engine(plan, device="cuda:2")


def test_info_needs_no_gpu(gpu: FakeCuda, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from isc_fast.cli.main import main

    gpu.driver = 0
    assert main(["info", str(plan), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["plan"]["gpu"] == "Fake H100"
    assert about["id"] == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert (about["name"], about["precision"]) == ("tiny", "fp16")


def test_the_sidecar_reads_back(plan: Path) -> None:
    spec, facts = read_sidecar(plan)
    assert facts.batch == (1, 4, 6)
    assert sidecar_text(spec, facts) == sidecar_path(plan).read_text()


def test_extraction_by_a_plan(plan: Path, photos: Any, tmp_path: Path) -> None:
    made = isc_fast.extract(photos[0].parent, plan, tmp_path / "out.h5", limit=9)
    assert made.count == 9
    with isc_fast.open_descriptors(made.path) as found:
        assert found.meta["engine"]["runtime"] == "tensorrt"


# --- is the imitation like the real thing?


def test_the_imitation_has_the_parameters_of_the_real_cuda() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    for name, function in inspect.getmembers(FakeCuda, inspect.isfunction):
        if name.startswith("cuda"):
            ours = [key for key in inspect.signature(function).parameters if key != "self"]
            assert ours == list(inspect.signature(getattr(real, name)).parameters), name
    fake = FakeCuda()
    for name in ("cudaStreamNonBlocking", "cudaEventDisableTiming", "cudaEventBlockingSync"):
        assert getattr(fake, name) == getattr(real, name)
    for kind, number in vars(fake.cudaMemcpyKind).items():
        assert int(getattr(real.cudaMemcpyKind, kind)) == number
    assert int(real.cudaError_t.cudaErrorInsufficientDriver) == Code.INSUFFICIENT_DRIVER
    assert int(real.cudaError_t.cudaErrorNoDevice) == Code.NO_DEVICE
    assert int(real.cudaError_t.cudaErrorMemoryAllocation) == Code.OUT_OF_MEMORY
    assert hasattr(real.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


def test_everything_of_cuda_that_is_called_exists_and_is_imitated() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    source = Path(cuda.__file__).read_text("utf-8")
    called = set(re.findall(r"\bcuda[A-Z]\w+", source))
    assert len(called) > 20
    fake = FakeCuda()
    for name in called - {"cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice"}:
        if name != "cudaStreamCaptureModeThreadLocal":
            assert hasattr(real, name), name
            assert hasattr(fake, name), name


def test_the_real_bindings_raise_nothing_without_a_driver() -> None:
    """What `cuda.find_device` stands on: codes, no exceptions and no crash."""
    real = pytest.importorskip("cuda.bindings.runtime")
    code, count = real.cudaGetDeviceCount()
    if not int(code) and count:
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match="NVIDIA driver"):
        cuda.find_device()


def test_the_imitation_has_what_the_real_tensorrt_has() -> None:
    real = pytest.importorskip("tensorrt_rtx")
    fake = FakeTensorRT(FakeCuda())
    for name in ("ILogger", "Builder", "OnnxParser", "Runtime"):
        assert hasattr(real, name)
    import fake_gpu

    for ours, theirs in {
        "_Config": "IBuilderConfig",
        "_Profile": "IOptimizationProfile",
        "_Network": "INetworkDefinition",
        "_Builder": "Builder",
        "_Parser": "OnnxParser",
        "_Runtime": "Runtime",
        "_Engine": "ICudaEngine",
        "_Context": "IExecutionContext",
    }.items():
        for name, function in inspect.getmembers(getattr(fake_gpu, ours), inspect.isfunction):
            if name.startswith("_"):
                continue
            documented = getattr(getattr(real, theirs), name).__doc__ or ""
            for parameter in list(inspect.signature(function).parameters)[1:]:
                assert re.search(rf"\b{parameter}: ", documented), f"{theirs}.{name} has no {parameter}"
    for enum in ("BuilderFlag", "HardwareCompatibilityLevel"):
        assert set(getattr(fake, enum).__members__) <= set(getattr(real, enum).__members__)
    assert int(real.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0
    assert {"UINT8", "FLOAT"} <= set(real.DataType.__members__)
    assert {"active_optimization_profile", "is_stream_capturable"} <= set(dir(real.IExecutionContext))
    assert "engine_host_code_allowed" in dir(real.Runtime)
    assert MAGIC  # our imitation's own
