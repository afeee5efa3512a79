"""ONNX Runtime on a GPU: with an imitation that keeps the real one's rules, and for real where there is a GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from isc_fast.assets import DEMO_ENGINE
from isc_fast.decoders.rules import load_input
from isc_fast.engines import ort, ort_gpu
from isc_fast.engines.base import gpu_of, load_engine
from isc_fast.engines.ort_gpu import LARGEST_BATCH, cache_folder, cuda_options, tensorrt_options
from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import EngineError

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


class DeviceArray:
    """An OrtValue on the GPU: only its own calls see what is in it."""

    made: list[DeviceArray]

    def __init__(self, shape: tuple[int, ...], kind: type) -> None:
        self._content = np.full(shape, 7, kind)

    def update_inplace(self, data: np.ndarray) -> None:
        # As the real one: the same number of values, and no stride.
        assert data.shape == self._content.shape
        assert data.dtype == self._content.dtype
        assert data.flags.c_contiguous
        self._content[...] = data

    def numpy(self) -> np.ndarray:
        return self._content.copy()


class Binding:
    def __init__(self, log: list[str]) -> None:
        self.log, self.inputs, self.outputs = log, {}, {}

    def bind_ortvalue_input(self, name: str, value: DeviceArray) -> None:
        self.log.append(f"bind input {value._content.shape[0]}")
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: DeviceArray) -> None:
        self.outputs[name] = value

    def synchronize_inputs(self) -> None:
        self.log.append("synchronize inputs")

    def synchronize_outputs(self) -> None:
        self.log.append("synchronize outputs")


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class Part:
    def __init__(self, ep_name: str) -> None:
        self.ep_name = ep_name


class Machine:
    """The module onnxruntime on a machine with a GPU; what it computes, the real one computes on the processor.

    Args:
        offers: providers that this build has.
        takes: providers that a session ends up with; by default those asked for.
        assigns: providers that parts of the graph go to; by default the first.
        fails: what making a session raises.
    """

    __version__ = "9.9.9"
    SessionOptions = Options

    def __init__(
        self,
        offers: tuple[str, ...] = (TENSORRT, CUDA, CPU),
        takes: list[str] | None = None,
        assigns: list[str] | None = None,
        fails: Exception | None = None,
    ) -> None:
        self.offers, self.takes, self.assigns, self.fails = offers, takes, assigns, fails
        self.log: list[str] = []
        self.arrays: list[DeviceArray] = []
        self.options: Options | None = None
        self.providers: list[tuple[str, dict[str, str]]] = []
        self.keywords: dict[str, Any] = {}
        machine = self

        class OrtValue:
            @staticmethod
            def ortvalue_from_shape_and_type(shape: Any, kind: Any, device: str, index: int) -> DeviceArray:
                assert (device, index) == ("cuda", int(machine.providers[0][1]["device_id"]))
                machine.arrays.append(DeviceArray(tuple(shape), kind))
                return machine.arrays[-1]

        self.OrtValue = OrtValue

    def get_available_providers(self) -> list[str]:
        return list(self.offers)

    def preload_dlls(self) -> None:
        self.log.append("preload")

    def InferenceSession(self, path: str, options: Options, **keywords: Any) -> Session:
        self.log.append("session")
        self.options, self.providers, self.keywords = options, keywords.pop("providers"), keywords
        if self.fails:
            raise self.fails
        return Session(self, path)


class Session:
    def __init__(self, machine: Machine, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        self._machine = machine
        self.get_inputs, self.get_outputs = self._real.get_inputs, self._real.get_outputs
        self.largest = 0
        self.broken = False

    def get_providers(self) -> list[str]:
        asked = [name for name, _ in self._machine.providers] + [CPU]
        return asked if self._machine.takes is None else self._machine.takes

    def get_provider_graph_assignment_info(self) -> list[Part]:
        names = [self._machine.providers[0][0]] if self._machine.assigns is None else self._machine.assigns
        return [Part(name) for name in names]

    def io_binding(self) -> Binding:
        return Binding(self._machine.log)

    def run_with_iobinding(self, binding: Binding) -> None:
        if self.broken:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered\nat line 12")
        self._machine.log.append("run")
        ((name, pixels),) = binding.inputs.items()
        ((out, vectors),) = binding.outputs.items()
        self.largest = max(self.largest, len(pixels._content))
        (found,) = self._real.run([out], {name: pixels._content})
        vectors._content[...] = found


@pytest.fixture
def on(monkeypatch):
    """Load the demo's engine on an imitated machine."""

    def load(machine: Machine, path: Path | str = "demo", **options: Any) -> Any:
        monkeypatch.setattr(ort, "require", lambda module, extra: machine)
        return load_engine(path, **{"device": "cuda", **options})

    return load


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def test_the_gpu_gives_what_the_processor_gives(on):
    expected = load_engine("demo", threads=1).run(noise(3))
    engine = on(Machine())
    np.testing.assert_allclose(engine.run(noise(3)), expected, atol=1e-6)
    assert (engine.device, engine.default_batch_size) == (CUDA, 32)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_another_gpu_than_the_first(on, provider):
    """All that is asked of ONNX Runtime is about that one; the imitation refuses buffers elsewhere."""
    expected = load_engine("demo", threads=1).run(noise(2))
    machine = Machine()
    engine = on(machine, device="cuda:3", provider=provider)
    assert {options["device_id"] for _, options in machine.providers} == {"3"}
    assert gpu_of(engine) == 3
    np.testing.assert_allclose(engine.run(noise(2)), expected, atol=1e-6)


def test_buffers_are_made_once_for_each_size(on):
    machine = Machine()
    engine = on(machine)
    found = [engine.run(noise(n)) for n in (2, 1, 2, 1, 2)]
    assert len(machine.arrays) == 4  # pixels and vectors, for two sizes
    assert machine.log.count("bind input 2") == 1
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0] is not found[2]
    steps = machine.log[machine.log.index("bind input 2") + 1 :][:3]
    assert steps == ["synchronize inputs", "run", "synchronize outputs"]
    for n in (3, 4, 5, 1):
        engine.run(noise(n))
    assert len(engine._on_gpu._bound) == 4  # the oldest size was given up, so memory is bounded
    np.testing.assert_array_equal(engine.run(noise(2)), found[0])


def test_the_callers_array_is_not_kept_or_changed(on):
    engine = on(Machine())
    batch = noise(2)
    expected = engine.run(batch)
    batch[:] = 0
    np.testing.assert_array_equal(engine.run(noise(2)[::-1])[::-1], engine.run(noise(2)))
    np.testing.assert_array_equal(engine.run(noise(2)), expected)
    assert engine.run(noise(2)[:0]).shape == (0, 256)


def test_a_large_batch_is_cut(on, monkeypatch):
    monkeypatch.setattr(ort_gpu, "LARGEST_BATCH", 4)
    machine = Machine()
    engine = on(machine)
    np.testing.assert_allclose(
        engine.run(noise(9)), np.concatenate([engine.run(row[None]) for row in noise(9)]), atol=1e-5
    )
    assert engine._session.largest == 4


def test_other_pixels_are_refused(on):
    engine = on(Machine())
    with pytest.raises(EngineError, match="takes uint8"):
        engine.run(noise(1).astype(np.float32))


def test_an_error_while_running_is_one_line(on):
    engine = on(Machine())
    engine._session.broken = True
    with pytest.raises(
        EngineError, match=r"failed on a batch of 2: CUDA failure 700: an illegal memory access was"
    ) as raised:
        engine.run(noise(2))
    assert "\n" not in str(raised.value)


# --- what is asked for


def test_the_options_of_cuda(on):
    machine = Machine()
    on(machine)
    ((name, options),) = machine.providers
    assert name == CUDA
    assert options == cuda_options()
    assert (options["use_tf32"], options["cudnn_conv_algo_search"]) == ("0", "HEURISTIC")
    assert machine.keywords == {"enable_fallback": 0}
    assert machine.options.entries["session.disable_cpu_ep_fallback"] == "1"
    assert machine.log[:2] == ["preload", "session"]  # the libraries have to be there before the session


def test_the_options_of_tensorrt(on, tmp_path):
    path = tmp_path / "v107.onnx"
    path.write_bytes(DEMO_ENGINE.read_bytes())
    machine = Machine()
    engine = on(machine, path, provider="tensorrt")
    assert engine.device == TENSORRT
    (first, options), (second, _) = machine.providers
    assert (first, second) == (TENSORRT, CUDA)
    assert options["trt_profile_min_shapes"] == "pixels:1x224x224x3"
    assert options["trt_profile_opt_shapes"] == "pixels:32x224x224x3"
    assert options["trt_profile_max_shapes"] == f"pixels:{LARGEST_BATCH}x224x224x3"
    assert (options["trt_fp16_enable"], options["trt_bf16_enable"]) == ("0", "0")
    folder = Path(options["trt_engine_cache_path"])
    assert folder == cache_folder(path, engine.id, "9.9.9")
    assert folder.parent == tmp_path / "v107.onnx.trt-cache"
    assert folder.name.startswith(f"{engine.id[:16]}-onnxruntime-9.9.9-tensorrt-")
    assert folder.is_dir()
    assert Path(options["trt_timing_cache_path"]) == folder.parent
    assert {options["trt_engine_cache_enable"], options["trt_timing_cache_enable"]} == {"1"}


def test_other_weights_have_another_cache():
    """ONNX Runtime looks at the name and the graph alone, and would go on with the old weights."""
    folders = {cache_folder(Path("v107.onnx"), ident * 64, "1.31") for ident in "ab"}
    assert len(folders) == 2


def test_the_precision_follows_the_engine():
    spec = EngineSpec(name="x", arch="x", height=8, width=8, dim=4, gem_p=1.0, precision="fp16")
    assert tensorrt_options(spec, "pixels", None)["trt_fp16_enable"] == "1"
    assert not [key for key in tensorrt_options(spec, "pixels", None) if "cache" in key]


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(on, tmp_path):
    path = tmp_path / "v107.onnx"
    path.write_bytes(DEMO_ENGINE.read_bytes())
    (tmp_path / "v107.onnx.trt-cache").write_text("a file in its place")
    machine = Machine()
    on(machine, path, provider="tensorrt")
    assert "trt_engine_cache_enable" not in machine.providers[0][1]


# --- what is asked for and is not there


@pytest.mark.parametrize(
    ("machine", "provider", "words"),
    [
        (Machine(offers=("AzureExecutionProvider", CPU)), None, r"CUDAExecutionProvider.* offers only Azure.*isc-fast\[gpu\]"),
        (Machine(offers=(CUDA, CPU)), "tensorrt", r"TensorrtExecutionProvider, and .* offers only CUDA.*isc-fast\[gpu\]"),
        (Machine(takes=[CPU]), None, r"did not take CUDA.*chose CPUExecutionProvider: .*CUDA 13 and cuDNN 9.*doctor"),
        (Machine(takes=[CUDA, CPU]), "tensorrt", r"did not take Tensorrt.*TensorRT 10 \(libnvinfer.so.10\).*doctor"),
        (Machine(assigns=[CUDA]), "tensorrt", r"TensorRT took no part of the graph .* use the provider cuda"),
        (Machine(fails=RuntimeError("nodes go to the CPU\nmore")), None, "cannot run .* on the GPU: nodes go to"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error(on, tmp_path, machine, provider, words):
    path = tmp_path / "v107.onnx"
    path.write_bytes(DEMO_ENGINE.read_bytes())
    with pytest.raises(EngineError, match=words) as raised:
        on(machine, path, provider=provider)
    assert "\n" not in str(raised.value)


def test_recorded_assignments_may_be_empty(on):
    machine = Machine(assigns=[])
    assert on(machine, provider="tensorrt").device == TENSORRT
    assert "trt_engine_cache_enable" not in machine.providers[0][1]  # nothing is written into the package
    assert not list(DEMO_ENGINE.parent.glob("*.trt-cache"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "cuda"}, "the provider cuda is ONNX Runtime's on the device cuda"),
        ({"provider": "rocm", "device": "cuda"}, "there is no provider 'rocm'; choose one of cuda, tensorrt"),
        ({"provider": "cuda", "device": "cuda", "runtime": "openvino"}, "leave it out"),
    ],
)
def test_a_provider_in_the_wrong_place(options, words):
    with pytest.raises(EngineError, match=words):
        load_engine("demo", **options)


# --- the imitation against the real module, and the real thing


def test_the_real_module_has_what_is_used():
    """On the processor: the same calls with the real OrtValue and binding."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(DEMO_ENGINE), options, providers=[CPU], enable_fallback=0)
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {CPU}

    class OnProcessor:
        class OrtValue:
            @staticmethod
            def ortvalue_from_shape_and_type(shape: Any, kind: Any, device: str, index: int) -> Any:
                return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cpu", index)

    engine = load_engine("demo", threads=1)
    names = session.get_inputs()[0].name, session.get_outputs()[0].name
    runner = ort_gpu.DeviceRunner(OnProcessor, session, engine.spec, *names)
    for n in (2, 1, 2):
        np.testing.assert_allclose(runner.run(noise(n)), engine.run(noise(n)), atol=1e-6)
    assert callable(onnxruntime.preload_dlls)
    assert names[0] == ort.INPUT


def test_the_demo_graph_needs_nothing_of_the_processor():
    """Where shapes are computed, ONNX Runtime wants the processor for them, and that is forbidden on a GPU."""
    onnx = pytest.importorskip("onnx")
    kinds = {node.op_type for node in onnx.load(DEMO_ENGINE).graph.node}
    assert not kinds & {"Shape", "Size", "NonZero", "ConstantOfShape", "Range"}


# The package for GPUs offers its providers on every machine.
HAS_DRIVER = any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))
OFFERED = onnxruntime.get_available_providers() if HAS_DRIVER else []
GPU_PROVIDERS = [
    pytest.param(name, marks=pytest.mark.skipif(provider not in OFFERED, reason=f"needs a GPU and {provider}"))
    for name, provider in (("cuda", CUDA), ("tensorrt", TENSORRT))
]


@pytest.mark.gpu
@pytest.mark.parametrize("provider", GPU_PROVIDERS)
def test_on_a_gpu(provider, photos, tmp_path):
    path = tmp_path / "demo.onnx"
    path.write_bytes(DEMO_ENGINE.read_bytes())
    pixels = np.stack([load_input(str(photo), 224, 224) for photo in photos[:40]])
    expected = load_engine("demo").run(pixels)
    engine = load_engine(path, device="cuda", provider=provider)
    found = engine.run(pixels)
    # CUDA computes in full fp32; TensorRT in TF32, which its provider cannot turn off.
    assert (found * expected).sum(axis=1).min() > (0.99999 if provider == "cuda" else 0.999)
    np.testing.assert_array_equal(engine.run(pixels), found)
    np.testing.assert_allclose(engine.run(pixels[:1]), found[:1], atol=1e-3)
    if provider == "tensorrt":
        assert list(tmp_path.glob("demo.onnx.trt-cache/*/*.engine"))
    assert re.match(provider, engine.device, re.IGNORECASE)
