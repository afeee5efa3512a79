"""Plans: the precision in the graph, measured on the processor; real builds by TensorRT-RTX, where it is installed; and the
way from an engine to a published plan, with an imitation of the GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fake_gpu import FakeCuda, FakeTensorRT
from helpers_graphs import first_blocks
from onnx import TensorProto, numpy_helper

from isc_fast.assets import DEMO_ENGINE
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.engines.base import file_sha256, load_engine
from isc_fast.engines.trt.sidecar import network_name, read_sidecar, sidecar_path
from isc_fast.errors import EngineError, InputError, MissingExtraError, OutputError, ParityError
from isc_fast.export import export_engine
from isc_fast.export.photos import load_photos
from isc_fast.export.precision.layers import Layer, find_layers, load_graph, surroundings
from isc_fast.export.precision.plan_precision import PlanPrecision, describe_graph
from isc_fast.export.precision.precision_graph import (
    bears_scaling,
    halved_constant,
    imitated,
    input_scale,
    to_fp8,
    to_half,
    with_fixed_batch,
)
from isc_fast.export.publishing import replacing_together
from isc_fast.export.targets.plan_options import PlanOptions
from isc_fast.export.targets.tensorrt_plan import PlanTarget
from isc_fast.export.targets.to_tensorrt import build_plan, cache_file, check_batch, find_flavour
from isc_fast.machine.cuda import Device

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
H100 = Device(0, "NVIDIA H100 80GB HBM3", "9.0", 80 << 30)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_graph(DEMO_ENGINE)


@pytest.fixture(scope="module")
def pixels(photos: Sequence[Path]) -> np.ndarray:
    return load_photos(photos[1:24:2], Preprocessing(224, 224))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network in fp32: the first 21 of the 48 layers of the demo's, because each is measured."""
    return first_blocks(tmp_path_factory.mktemp("short") / "short.onnx")


@pytest.fixture(scope="module")
def expected(short: Path, pixels: np.ndarray) -> np.ndarray:
    return describe_graph(load_graph(short), pixels)


@pytest.fixture(scope="module")
def graphs(short: Path, photos: Sequence[Path]) -> dict[str, tuple[Any, dict[str, float]]]:
    """A trained network in every precision, layers chosen by measuring on six photos."""
    calibration = load_photos(photos[:12:2], Preprocessing(224, 224))
    return {name: PlanPrecision(short, name, calibration, lambda line: None).write() for name in PRECISIONS}


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray((left.astype(np.float64) * right).sum(axis=1))


def run(model: Any, precision: str, pixels: np.ndarray) -> np.ndarray:
    return describe_graph(imitated(model) if precision == "bf16" else model, pixels)


# --- the precision in the graph


@pytest.mark.parametrize(
    ("precision", "worst"), [("fp32", 0.999999), ("fp16", 0.9995), ("bf16", 0.995), ("int8", 0.997), ("fp8", 0.997)]
)
def test_what_each_precision_loses(
    graphs: Any, pixels: np.ndarray, expected: np.ndarray, precision: str, worst: float
) -> None:
    """On photos that calibration never saw. The layers were chosen for a mean loss of 0.0004."""
    found = cosines(run(graphs[precision][0], precision, pixels), expected)
    assert found.min() > worst
    assert found.mean() > 1 - 2 * (1 - worst) / 3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_graph_is_valid_and_takes_and_gives_what_an_engine_does(graphs: Any, precision: str) -> None:
    graph = graphs[precision][0]
    onnx.checker.check_model(graph, full_check=precision != "bf16")  # ONNX takes convolutions in bf16 from opset 22 on
    (given,), (made,) = graph.graph.input, graph.graph.output
    assert given.type.tensor_type.elem_type == TensorProto.UINT8
    assert made.type.tensor_type.elem_type == TensorProto.FLOAT
    first = next(node for node in graph.graph.node if given.name in node.input)
    assert first.op_type == "Cast"  # TensorRT takes uint8 into nothing else
    used = {name for node in graph.graph.node for name in node.input}
    assert {tensor.name for tensor in graph.graph.initializer} <= used


def types_of(graph: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_backbone_is_halved_and_what_stands_around_it_is_not(model: Any, precision: str) -> None:
    half = to_half(model, precision)
    types = types_of(half)
    lowest = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    around = {*surroundings(model, find_layers(model))}
    for node in half.graph.node:
        if node.op_type != "Cast":
            assert types[node.output[0]] == (TensorProto.FLOAT if node.name in around else lowest), node.name
    assert Counter(node.op_type for node in half.graph.node)["Cast"] <= 5
    weights = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert {weights[node.input[1]] for node in half.graph.node if node.op_type == "Conv"} == {lowest}


def test_layers_that_are_kept_are_in_fp32(model: Any) -> None:
    kept = find_layers(model)[5].name
    types = types_of(to_half(model, "fp16", kept=[kept]))
    assert types[kept] == TensorProto.FLOAT
    assert TensorProto.FLOAT16 in types.values()


@pytest.mark.parametrize(("precision", "number"), [("int8", TensorProto.INT8), ("fp8", TensorProto.FLOAT8E4M3FN)])
def test_quantised_layers_are_symmetric_and_the_rest_is_fp16(graphs: Any, precision: str, number: int) -> None:
    graph, shares = graphs[precision]
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    pairs = [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    layers = {node.name for node in graph.graph.node if node.op_type == "Conv" and node.input[0].endswith(".seen")}
    assert len(pairs) == 3 * len(layers) > 0
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.data_type == number
        assert not any(zero.raw_data)
        assert constants[node.input[1]].data_type == TensorProto.FLOAT16
    types = types_of(graph)
    assert {types[name] for name in layers} == {TensorProto.FLOAT16}
    assert 0 < shares[f"{precision}_share"] < 1
    assert sum(shares.values()) == pytest.approx(1)


def test_depthwise_and_odd_layers_are_not_quantised(model: Any) -> None:
    def layer(shape: tuple[int, ...], groups: int = 1) -> Layer:
        return Layer("x", "i", "w", "b", shape, groups, (1, 1), (0, 0, 0, 0), 1.0)

    assert bears_scaling("int8", layer((32, 16, 1, 1)))
    assert bears_scaling("fp8", layer((32, 16, 1, 1)))
    assert not bears_scaling("fp8", layer((32, 24, 1, 1)))
    assert not bears_scaling("int8", layer((32, 3, 3, 3)))
    assert not bears_scaling("int8", layer((32, 1, 3, 3), groups=32))


def test_fp8_is_rounded_as_its_type_rounds() -> None:
    import ml_dtypes

    values = np.concatenate([np.random.default_rng(0).normal(size=4000) * 10.0**k for k in range(-4, 3)])
    values = np.concatenate([values, [0.0, 448.0, -448.0, 2.0**-9, 2.0**-10, 3 * 2.0**-10, 464.0 - 1e-6]])
    np.testing.assert_array_equal(
        to_fp8(values), np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
    )
    assert to_fp8(np.array([1e9, -1e9])).tolist() == [448.0, -448.0]  # TensorRT saturates


def test_scales_fit_into_fp16_and_hold_the_values() -> None:
    sample = np.random.default_rng(0).normal(size=(1, 2000, 4)).astype(np.float32)
    for kind, largest in (("int8", 127), ("fp8", 448)):
        scale = input_scale(kind, sample)
        assert scale == float(np.float16(scale))
        assert 0.3 * np.abs(sample).max() < scale * largest < 1.01 * np.abs(sample).max()
    assert input_scale("int8", np.zeros((1, 5, 1), np.float32)) > 0


def test_weights_beyond_fp16_are_refused_and_bf16_takes_them(model: Any) -> None:
    values = np.array([[1e5, 1.0]], np.float32)
    with pytest.raises(EngineError, match=r"w holds values beyond the range of float16; export with --precision bf16"):
        halved_constant("w", values, "fp16", exact=True)
    assert numpy_helper.to_array(halved_constant("w", values, "bf16")).astype(np.float32)[0, 0] == pytest.approx(
        1e5, rel=0.01
    )
    assert numpy_helper.to_array(halved_constant("limit", values, "fp16"))[0, 0] == 65504


def test_a_fixed_batch_stands_in_the_graph(model: Any) -> None:
    fixed = with_fixed_batch(model, 8)
    for value in (*fixed.graph.input, *fixed.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 8
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_other_networks_in_fp16(arch: str, photos: Sequence[Path], tmp_path: Path) -> None:
    """Residual sums, gates, layer normalisation. Random weights turn rounding into noise: the median is what counts."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from helpers_export import calibrated, published

    torch.save(published(calibrated(arch, photos[:8], 96), arch, 96), tmp_path / "c.pth")
    export_engine(tmp_path / "c.pth", tmp_path / "c.onnx", photos=photos[:4])
    model = load_graph(tmp_path / "c.onnx")
    half = to_half(model, "fp16")
    onnx.checker.check_model(half, full_check=True)
    pixels = load_photos(photos[:8], Preprocessing(96, 96))
    assert np.median(cosines(describe_graph(half, pixels), describe_graph(model, pixels))) > 0.9995


# --- building, for real


@pytest.fixture
def rtx() -> str:
    pytest.importorskip("tensorrt_rtx")
    return "tensorrt_rtx"


@pytest.mark.parametrize("batch", [(1, 4, 8), (4, 4, 4)], ids=["profile", "static"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensorrt_builds_every_precision(rtx: str, graphs: Any, precision: str, batch: tuple[int, int, int]) -> None:
    graph = graphs[precision][0]
    options = PlanOptions(batch)
    if options.static:
        graph = with_fixed_batch(graph, batch[0])
    name = network_name("5" * 64)
    plan = build_plan(graph.SerializeToString(), name, options, flavour=rtx, device=None)
    assert name.encode() in plan
    weights = sum(tensor.ByteSize() for tensor in graph.graph.initializer)
    assert weights < len(plan) < weights + 6e6  # kernels for no known GPU; how many differs by the processor


def test_what_tensorrt_cannot_read_is_said_in_one_line(rtx: str, model: Any) -> None:
    def build(graph: bytes, **options: Any) -> bytes:
        return build_plan(graph, "x", PlanOptions(**options), flavour=rtx, device=None)

    with pytest.raises(EngineError, match=r"tensorrt_rtx 1\.\S+ cannot read the graph: .*Failed to parse"):
        build(b"no graph")
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    wrong.graph.node[0].op_type = "Unheard"
    with pytest.raises(EngineError, match=r"cannot read the graph: .*Unheard.*try another version") as caught:
        build(wrong.SerializeToString())
    assert "\n" not in str(caught.value)
    # Types that do not fit are found when it is built, not when it is read.
    mixed = to_half(model, "bf16")
    for tensor in mixed.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16 and len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
            break
    with pytest.raises(EngineError, match="tensorrt_rtx 1"):
        build(mixed.SerializeToString())


def test_what_only_a_gpu_can_build_is_refused_with_the_reason(rtx: str, model: Any) -> None:
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match=r"cannot build the plan: .+; try a smaller --batch"):
        build_plan(
            model.SerializeToString(), "x", PlanOptions((1, 2, 4), version_compatible=True), flavour=rtx, device=None
        )


def test_the_timing_cache_is_left_alone_by_rtx(rtx: str, graphs: Any, tmp_path: Path) -> None:
    said: list[str] = []
    options = PlanOptions((1, 2, 4), timing_cache=tmp_path / "t.cache")
    build_plan(graphs["fp16"][0].SerializeToString(), "x", options, flavour=rtx, device=None, say=said.append)
    assert said == ["tensorrt_rtx measures no kernels while it builds; the timing cache is left alone"]
    assert os.listdir(tmp_path) == []


def test_tensorrt_itself_is_not_touched_without_a_gpu(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="on the GPU that they are made for, and there is none here"):
        build_plan(model.SerializeToString(), "x", PlanOptions(), flavour="tensorrt", device=None)


@pytest.mark.parametrize("batch", [(), (1, 2), (2, 1, 4), (1, 4, 2), (0, 1, 1), (-1,), (1, 1, 5000), (1, 1, 1, 1)])
def test_a_batch_that_makes_no_sense_is_refused_before_tensorrt_sees_it(batch: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the batch .* cannot be used; expected .*such as 1,16,64"):
        check_batch(batch, 224, 224)


def test_batches() -> None:
    assert check_batch((8,), 512, 512) == (8, 8, 8)
    assert check_batch((1, 16, 64), 512, 512) == (1, 16, 64)
    with pytest.raises(InputError, match=r"4096 .* more than 2³¹ numbers; expected at most 341 images"):
        check_batch((1, 16, 4096), 512, 512)


def test_a_timing_cache_is_one_gpu_s_and_one_version_s() -> None:
    first = cache_file(Path("a/t.cache"), "11.4.0.12", H100)
    assert first == Path("a/t.NVIDIA-H100-80GB-HBM3-9.0-trt11.4.0.12.cache")
    others = [
        cache_file(Path("a/t.cache"), "11.5.0.1", H100),
        cache_file(Path("a/t.cache"), "11.4.0.12", dataclasses.replace(H100, name="NVIDIA H200")),
        cache_file(Path("a/t.cache"), "11.4.0.12", dataclasses.replace(H100, capability="10.0")),
    ]
    assert len({first, *others}) == 4


# --- from an engine to a published plan, with an imitation of the GPU


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    return fake


@pytest.fixture
def trt(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT(gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(
        "isc_fast.export.targets.to_tensorrt.importlib.util.find_spec", lambda name: name == "tensorrt" or None
    )
    return fake


def nothing_in(folder: Path) -> None:
    assert os.listdir(folder) == []


def test_a_plan_is_built_verified_and_published(trt: FakeTensorRT, photos: Sequence[Path], tmp_path: Path) -> None:
    lines: list[str] = []
    report = export_engine(DEMO_ENGINE, tmp_path / "x.plan", photos=photos[:9], batch=(1, 2, 4), log=lines.append)
    assert sorted(os.listdir(tmp_path)) == ["x.plan", "x.plan.json"]
    with load_engine(report.path) as engine:  # type: ignore[attr-defined]
        assert engine.spec == report.spec
        assert (engine.spec.precision, engine.spec.runtime, engine.spec.weights_as) == ("fp16", "tensorrt", "fp32")
        pixels = load_photos(photos[:5], Preprocessing(224, 224))
        assert cosines(engine.run(pixels), load_engine("demo").run(pixels)).min() > 0.9995
    _, facts = read_sidecar(report.path)
    assert (facts.batch, facts.gpu, facts.flavour, facts.tensorrt) == ((1, 2, 4), "Fake H100", "tensorrt", "11.4.0.12")
    assert facts.source_sha256 == file_sha256(DEMO_ENGINE)
    assert facts.network.endswith(facts.source_sha256)
    assert report.spec.tools["tensorrt"] == "11.4.0.12"
    assert report.parity["photos"] == 9
    assert 0.9995 < report.parity["cosine_min"] < 1
    assert report.parity["batch_max_abs_difference"] == 0
    for part in ("9 photos against the fp32 engine, bound 0.9995", str(report.path)):
        assert part in str(report)
    json.dumps(report.to_dict())
    assert lines[0].startswith("building the plan for Fake H100")
    assert trt.cuda.held == {}


def test_what_is_asked_of_the_builder(trt: FakeTensorRT, photos: Sequence[Path], tmp_path: Path) -> None:
    cache = tmp_path / "t.cache"
    options: dict[str, Any] = {"photos": photos[:2], "timing_cache": cache, "batch": (2,), "precision": "fp32"}
    export_engine(DEMO_ENGINE, tmp_path / "x.plan", hardware_compatible=True, **options)
    config = trt.configs[-1]
    assert trt.BuilderFlag.TF32 not in config.flags
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config.profiles[0].shapes == tuple((2, 224, 224, 3) for _ in range(3))
    kept = tmp_path / "t.Fake-H100-9.0-trt11.4.0.12.cache"
    assert kept.read_bytes() == b"times of Fake H100"
    export_engine(DEMO_ENGINE, tmp_path / "x.plan", version_compatible=True, **options)
    assert trt.configs[-1].cache.content == b"times of Fake H100"
    assert trt.BuilderFlag.VERSION_COMPATIBLE in trt.configs[-1].flags
    kept.write_bytes(b"times of something else")
    lines: list[str] = []
    export_engine(DEMO_ENGINE, tmp_path / "x.plan", log=lines.append, **options)
    assert any("is no timing cache of this TensorRT and GPU" in line for line in lines)
    assert kept.read_bytes() == b"times of Fake H100"


@pytest.mark.slow
def test_int8_passes_the_gate(trt: FakeTensorRT, short: Path, photos: Sequence[Path], tmp_path: Path) -> None:
    """What the gate measures is the plan itself, on edited copies of photos that calibration never saw."""
    lines: list[str] = []
    options: dict[str, Any] = {"photos": photos[:16], "precision": "int8", "batch": (8,), "log": lines.append}
    report = export_engine(short, tmp_path / "x.plan", **options)
    accuracy = report.spec.accuracy
    assert accuracy["cosine_p01"] >= 0.999
    assert accuracy["calibration_photos"] == 8
    assert accuracy["fp32_engine"] == file_sha256(short)
    assert accuracy["int8_share"] + accuracy["fp16_share"] == pytest.approx(1)
    assert "of the arithmetic in int8" in str(report)
    assert load_engine(report.path).spec == report.spec


def test_a_plan_that_disagrees_is_not_published(trt: FakeTensorRT, photos: Sequence[Path], tmp_path: Path) -> None:
    trt.spoil = lambda rows: np.roll(rows, 1, axis=1)
    (tmp_path / "x.plan").write_text("older")
    (tmp_path / "x.plan.json").write_text("older too")
    with pytest.raises(
        ParityError, match=r"fp32 engine it came from.*expected at least 0\.9995.*--precision bf16"
    ) as caught:
        export_engine(DEMO_ENGINE, tmp_path / "x.plan", photos=photos[:4], batch=(4,))
    assert any(photo.name in str(caught.value) for photo in photos[:4])
    assert (tmp_path / "x.plan").read_text() == "older"
    assert (tmp_path / "x.plan.json").read_text() == "older too"
    assert len(os.listdir(tmp_path)) == 2
    assert trt.cuda.held == {}


def test_overflow_is_not_published(trt: FakeTensorRT, photos: Sequence[Path], tmp_path: Path) -> None:
    trt.spoil = lambda rows: rows * np.float32("nan")
    with pytest.raises(ParityError, match=r"not finite, for 3 of 3 photos.*or export with --precision bf16"):
        export_engine(DEMO_ENGINE, tmp_path / "x.plan", photos=photos[:3], batch=(4,))
    nothing_in(tmp_path)


def test_what_the_builder_says(trt: FakeTensorRT, photos: Sequence[Path], tmp_path: Path) -> None:
    trt.refuse = "Error Code 10: Could not find any implementation for node conv_7. In computeCosts at /src/opt.cpp:99"
    with pytest.raises(EngineError, match=r"cannot build the plan: .*implementation for node conv_7\.; try") as caught:
        export_engine(DEMO_ENGINE, tmp_path / "x.plan", photos=photos[:2])
    assert "opt.cpp" not in str(caught.value)
    nothing_in(tmp_path)


def test_refusals_come_before_any_work(
    gpu: FakeCuda, trt: FakeTensorRT, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(error: type[Exception], words: str, output: str = "x.plan", **options: Any) -> None:
        with pytest.raises(error, match=words):
            export_engine(DEMO_ENGINE, tmp_path / output, photos=photos[:2], **options)
        nothing_in(tmp_path)

    refused(InputError, "the batch 8,4,2 cannot be used", batch=(8, 4, 2))
    refused(EngineError, r"a \.plan computes in fp32, fp16, bf16, int8, fp8, not in int8-bf16", precision="int8-bf16")
    refused(EngineError, "run by TensorRT, not by openvino", runtime="openvino")
    refused(EngineError, "NVIDIA GPU only", device="cpu")
    refused(EngineError, "stored as fp16 in fp32 engines only", weights_as="fp16")
    refused(EngineError, "its size and pooling are in it", size=96)
    refused(InputError, "2 photos are too few", precision="int8")
    refused(OutputError, "does not exist", output="no/x.plan")
    for options in (
        {"batch": (4,)},
        {"timing_cache": "t"},
        {"version_compatible": True},
        {"hardware_compatible": True},
    ):
        refused(EngineError, r"for TensorRT plans only; .*-o .*x\.plan", output="x.onnx", **options)
    for precision in ("fp16", "fp8"):
        refused(EngineError, rf"not made in {precision}.*-o .*x\.plan", output="x.onnx", precision=precision)
    gpu.driver = 0
    refused(EngineError, "no NVIDIA driver")
    monkeypatch.setattr("isc_fast.export.targets.to_tensorrt.importlib.util.find_spec", lambda name: None)
    refused(MissingExtraError, r"pip install 'isc-fast\[gpu,export\]'")


def test_the_plan_and_its_sidecar_appear_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.plan"
    files = PlanTarget().files(target)
    with replacing_together(files) as (plan, sidecar):
        plan.write_text("plan 1")
        sidecar.write_text("sidecar 1")
        nothing = [name for name in os.listdir(tmp_path) if not name.endswith(".tmp")]
        assert nothing == []
    assert (target.read_text(), sidecar_path(target).read_text()) == ("plan 1", "sidecar 1")
    with pytest.raises(KeyboardInterrupt), replacing_together(files):
        raise KeyboardInterrupt
    assert (target.read_text(), sidecar_path(target).read_text()) == ("plan 1", "sidecar 1")

    def full(source: Any, destination: Any) -> None:
        if str(destination) == str(target):
            raise OSError(28, "No space left on device")
        real(source, destination)

    real = os.replace
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="disk is full"), replacing_together(files) as (plan, _):
        plan.write_text("plan 3")
    assert (target.read_text(), sidecar_path(target).read_text()) == ("plan 1", "sidecar 1")
    target.unlink()
    sidecar_path(target).unlink()
    with pytest.raises(OutputError, match="disk is full"), replacing_together(files) as (plan, _):
        plan.write_text("plan 3")
    nothing_in(tmp_path)


def test_rtx_stands_in_where_tensorrt_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "isc_fast.export.targets.to_tensorrt.importlib.util.find_spec"
    monkeypatch.setattr(where, lambda name: name)
    assert find_flavour() == "tensorrt"
    monkeypatch.setattr(where, lambda name: name if name == "tensorrt_rtx" else None)
    assert find_flavour() == "tensorrt_rtx"


def test_a_plan_is_made_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'timm', 'torchvision'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from fake_gpu import FakeCuda, FakeTensorRT\n"
        "from importlib.machinery import ModuleSpec\n"
        "gpu = FakeCuda(); trt = FakeTensorRT(gpu); trt.__spec__ = ModuleSpec('tensorrt', None)\n"
        "sys.modules['cuda.bindings.runtime'], sys.modules['tensorrt'] = gpu, trt\n"
        "from isc_fast.cli.main import main\n"
        "sys.exit(main(['export', '--ckpt', sys.argv[2], '-o', sys.argv[3], '--batch', '1,2,4']))\n"
    )
    target = tmp_path / "x.plan"
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(DEMO_ENGINE), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.exists()
    assert "against the fp32 engine" in done.stdout
