"""Engines run by OpenVINO: the same descriptors as ONNX Runtime gives, bit for bit whatever is in the batch; bf16."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from helpers_graphs import noise, residual, save
from onnx import numpy_helper

from isc_fast.assets import DEMO_ENGINE
from isc_fast.decoders.rules import load_input
from isc_fast.engines import ov
from isc_fast.engines.base import load_engine
from isc_fast.engines.header import read_spec
from isc_fast.engines.ov import OvEngine
from isc_fast.errors import EngineError
from isc_fast.export.precision.calibration import layer_inputs
from isc_fast.export.precision.layers import (
    constants_of,
    find_layers,
    followers,
    load_graph,
    skips_places,
    surroundings,
)
from isc_fast.export.precision.quantize import lower_to_bf16, lower_to_int8, with_lowered
from isc_fast.export.targets.model_file import write_engine
from isc_fast.machine import cores
from isc_fast.machine.cores import has_bf16
from isc_fast.runs.tuner import REQUEST_SIZES as TUNED_SIZES

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor does not compute in bf16")
BF16 = {"precision": "bf16", "runtime": "openvino"}


@pytest.fixture(scope="module")
def pixels(photos):
    return np.stack([load_input(str(photo), 224, 224) for photo in photos[:13]])


@pytest.fixture(scope="module")
def expected(pixels):
    return OvEngine(DEMO_ENGINE).run(pixels)


def losses(found, exact):
    return 1 - (found.astype(np.float64) * exact).sum(axis=1)


def test_it_describes_as_onnx_runtime_does(pixels, expected):
    exact = load_engine("demo", runtime="onnxruntime").run(pixels)
    assert losses(expected, exact).max() < 1e-5
    assert np.abs(expected - exact).max() < 1e-4
    assert losses(expected[1:], exact[:-1]).min() > 0.1  # else anything would agree


@pytest.mark.parametrize(
    ("threads", "streams", "size"), [(1, 1, 1), (2, 1, 1), (2, 2, 3), (2, 1, 4), (1, 4, 2), (2, 2, 13)]
)
def test_bits_depend_on_the_image_alone(pixels, expected, threads, streams, size):
    """Not on its neighbours, its place, the number of images or how they are shared out among requests."""
    engine = OvEngine(DEMO_ENGINE, threads=threads, streams=streams, request_size=size)
    if size > max(TUNED_SIZES):
        # A processor without AVX-512 computes large requests by other kernels, so there the size itself is in the last bits.
        one_by_one = OvEngine(DEMO_ENGINE, threads=1, streams=1, request_size=size).run(pixels)
        np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=1e-6)
        expected = one_by_one
    np.testing.assert_array_equal(engine.run(pixels), expected)
    np.testing.assert_array_equal(engine.run(pixels[::-1]), expected[::-1])
    for count in (1, 2, 5):
        np.testing.assert_array_equal(engine.run(pixels[:count]), expected[:count])
    mixed = np.stack([pixels[7], 255 - pixels[3], pixels[7], np.zeros_like(pixels[0]), pixels[2]])
    np.testing.assert_array_equal(engine.run(mixed)[[0, 2, 4]], expected[[7, 7, 2]])
    assert engine.run(pixels[:0]).shape == (0, 256)


def test_what_it_says_of_itself():
    engine = OvEngine(DEMO_ENGINE, threads=2, streams=8, request_size=3)
    assert (engine.device, engine.path, engine.spec) == ("OpenVINO CPU", DEMO_ENGINE, read_spec(DEMO_ENGINE))
    assert engine.default_batch_size == 12  # two streams, as there are two threads, of three images, twice
    for size in (-1, 65):
        with pytest.raises(EngineError, match=f"a request takes 1 to 64 images, not {size}"):
            OvEngine(DEMO_ENGINE, request_size=size)


# --- refusals


TWO_ENGINES_THEN_CTRL_C = """
import signal, sys
from pathlib import Path
from isc_fast.engines.ov import OvEngine
engines = [OvEngine(Path(sys.argv[1])) for _ in range(2)]
del engines[0]
del engines[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_signals_are_handled_after_engines_have_come_and_gone():
    """With a core for each engine, the signal found a stack whose memory was gone, and the process died without a word."""
    command = [sys.executable, "-c", TWO_ENGINES_THEN_CTRL_C, str(DEMO_ENGINE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_bf16_is_refused_on_a_processor_without_it(tmp_path, monkeypatch):
    path = save(residual(), tmp_path / "x.onnx", **BF16)
    told = tmp_path / "cpuinfo"
    told.write_text("model name\t: Slow Processor 1\nflags\t\t: fpu sse2 avx512f avx512_bf16_imitated\n")
    monkeypatch.setattr(cores, "_CPUINFO", told)
    with pytest.raises(EngineError) as caught:
        load_engine(path)
    for part in ("x.onnx computes in bf16", "Slow Processor 1", "--precision fp32, or int8"):
        assert part in str(caught.value)
    save(residual(), tmp_path / "plain.onnx")
    load_engine(tmp_path / "plain.onnx", runtime="openvino")  # fp32 runs there


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("flags : fpu avx512_bf16\n", True),
        ("flags\t\t: amx_bf16 fpu\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("model name : bf16\nflags : fpu xavx512_bf16\n", False),
        ("", False),
        (None, False),
    ],
)
def test_which_processor_computes_in_bf16(tmp_path, monkeypatch, text, yes):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cores, "_CPUINFO", tmp_path / "cpuinfo")
    assert has_bf16() is yes
    assert cores.processor()


def test_a_reduced_engine_runs_only_as_it_was_verified(tmp_path):
    low = save(residual(), tmp_path / "low.onnx", **BF16)
    with pytest.raises(EngineError, match=r"verified with openvino; run by onnxruntime it would be another.*leave out"):
        load_engine(low, runtime="onnxruntime")
    int8 = save(residual(), tmp_path / "int8.onnx", precision="int8", runtime="onnxruntime")
    with pytest.raises(EngineError, match="verified with onnxruntime; run by openvino"):
        load_engine(int8, runtime="openvino")
    for path in (low, int8):
        with pytest.raises(EngineError, match="made for the processor; use the device cpu"):
            load_engine(path, device="cuda")
    with pytest.raises(EngineError, match="on the processor here, not on cuda; leave out the runtime"):
        load_engine("demo", device="cuda", runtime="openvino")
    with pytest.raises(EngineError, match="no runtime 'tensorflow'; choose one of onnxruntime, openvino"):
        load_engine("demo", runtime="tensorflow")


def test_a_layer_that_is_lost_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(ov, "has_bf16", lambda: True)
    names = ("conv4", "nothing", "conv", "conv4.bias")
    save(residual(), tmp_path / "x.onnx", **BF16, fp32_layers=names)
    with pytest.raises(EngineError, match=r"lost 3 layers of .*x\.onnx .* \(conv, conv4\.bias, nothing\); install"):
        load_engine(tmp_path / "x.onnx")


def broken(kind):
    model = residual()
    if kind == "edge":
        model.graph.node[5].input[0] = "nowhere"
    elif kind == "weights":
        model.graph.initializer[2].raw_data = b"1234"
    elif kind == "inputs":
        model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    elif kind == "type":
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


@pytest.mark.parametrize("kind", ["edge", "weights", "inputs", "type"])
def test_a_graph_that_does_not_run_is_one_line_and_says_what_to_do(tmp_path, kind):
    path = save(broken(kind), tmp_path / "x.onnx")
    with pytest.raises(EngineError, match="export") as caught:
        OvEngine(path)
    assert "x.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


def test_another_dimension_than_promised_is_refused(tmp_path):
    model = onnx.load(DEMO_ENGINE)
    write_engine(model, replace(read_spec(DEMO_ENGINE), dim=128), tmp_path / "x.onnx")
    with pytest.raises(EngineError, match=r"is .*256.* and its specification says .*128.*; export it again"):
        OvEngine(tmp_path / "x.onnx")


class Failing:
    """A request that fails once."""

    def __init__(self, request, call, error):
        self.request, self.call, self.error = request, call, error

    def __getattr__(self, name):
        if name == self.call and self.error is not None:
            error, self.error = self.error, None
            raise error
        return getattr(self.request, name)


@pytest.mark.parametrize("call", ["start_async", "wait"])
@pytest.mark.parametrize("slot", [0, 1])
def test_after_a_failure_the_next_batch_is_as_ever(pixels, expected, call, slot):
    """Nothing of the failed batch is left running, or arrives in the next one."""
    engine = OvEngine(DEMO_ENGINE, threads=2, streams=2, request_size=3)
    honest = engine._requests[slot]
    for error in (RuntimeError("Exception from src/x.cpp:1:\nno memory\n\n"), KeyboardInterrupt()):
        engine._requests[slot] = Failing(honest, call, error)
        with pytest.raises((EngineError, KeyboardInterrupt)) as caught:
            engine.run(255 - pixels)
        if isinstance(error, RuntimeError):
            assert str(caught.value) == f"{DEMO_ENGINE} failed on a batch of 13: no memory"
        np.testing.assert_array_equal(engine.run(pixels), expected)


# --- bf16


def bf16_engine(path: Path, source: Path, low: set[str]) -> OvEngine:
    """As `isc_fast.export.precision.reduce` does it, with weights as they are: these layers in bf16, the others kept in fp32."""
    model = load_graph(source)
    layers = find_layers(model)
    behind = followers(model, layers)
    kept = [name for layer in layers if layer.name not in low for name in (layer.name, *behind[layer.name])]
    names = tuple(dict.fromkeys((*surroundings(model, layers), *kept)))
    write_engine(model, replace(read_spec(source), **BF16, fp32_layers=names), path)
    return OvEngine(path)


@needs_bf16
def test_what_is_kept_in_fp32_is_computed_in_fp32(tmp_path, pixels, expected):
    """All layers kept: next to nothing is lost (the head's product, see `surroundings`). Each that is not costs more."""
    names = [layer.name for layer in find_layers(load_graph(DEMO_ENGINE))]

    def lost(low):
        return losses(bf16_engine(tmp_path / "x.onnx", DEMO_ENGINE, set(low)).run(pixels), expected).mean()

    nothing, second, all_of_them = lost(()), lost(names[1:2]), lost(names)
    assert nothing < 4e-5
    assert second > 3e-4  # the most sensitive layer of this network
    assert all_of_them > second
    assert lost(set(names) - {names[1]}) < 0.7 * all_of_them


@needs_bf16
def test_every_choice_of_layers_compiles(tmp_path):
    """Residual sums, gates and bounds at once: OpenVINO refuses some mixtures of precisions in them."""
    source = save(residual(), tmp_path / "fp32.onnx")
    names = [layer.name for layer in find_layers(load_graph(source))]
    exact = load_engine(source, runtime="onnxruntime").run(noise(4))
    assert len(names) == 7
    for chosen in itertools.product((False, True), repeat=len(names)):
        low = set(itertools.compress(names, chosen))
        lost = losses(bf16_engine(tmp_path / "x.onnx", source, low).run(noise(4)), exact).max()
        assert lost < (1e-2 if low else 1e-4), low


@needs_bf16
def test_bits_depend_on_the_image_alone_in_bf16_too(tmp_path, pixels):
    names = {layer.name for layer in find_layers(load_graph(DEMO_ENGINE))}
    bf16_engine(tmp_path / "x.onnx", DEMO_ENGINE, set(list(names)[::2]))
    one, many = (OvEngine(tmp_path / "x.onnx", threads=2, streams=s, request_size=n) for s, n in ((1, 1), (2, 3)))
    np.testing.assert_array_equal(one.run(pixels), many.run(pixels[::-1])[::-1])


# --- int8


def lowered_in(model, to, count=6):
    """Every layer in a lower precision."""
    how = {"bf16": lower_to_bf16, "int8": lower_to_int8}[to]
    constants = constants_of(model)
    return {
        layer.name: how(*(numpy_helper.to_array(constants[x]) for x in (layer.weight, layer.bias)), inputs)
        for layer, inputs in layer_inputs(model, find_layers(model), noise(count, seed=9))
    }


def test_int8_of_a_strided_pointwise_convolution_is_refused_since_it_comes_out_wrong_at_times(tmp_path):
    """The flaw of OpenVINO that this is about, `skips_places`; the other layers in int8 are fine."""
    model = load_graph(save(residual(), tmp_path / "x.onnx"))
    layers = {layer.name: layer for layer in find_layers(model)}
    tables = lowered_in(model, "int8")
    assert [name for name, layer in layers.items() if skips_places(layer)] == ["conv9"]
    spec = replace(read_spec(tmp_path / "x.onnx"), precision="int8", runtime="openvino")
    write_engine(with_lowered(model, layers, tables), spec, tmp_path / "x.onnx")
    with pytest.raises(EngineError, match=r"does not compute .*x\.onnx in int8 as it was made to; install .* export"):
        OvEngine(tmp_path / "x.onnx")
    del tables["conv9"]
    write_engine(with_lowered(model, layers, tables), spec, tmp_path / "x.onnx")
    bits = {OvEngine(tmp_path / "x.onnx", threads=2, streams=2).run(noise(4)).tobytes() for _ in range(30)}
    assert len(bits) == 1


@needs_bf16
@pytest.mark.parametrize("seed", range(3))
def test_every_mixture_of_three_precisions_runs_and_describes_alike(tmp_path, seed):
    model = load_graph(save(residual(seed), tmp_path / "x.onnx"))
    layers = {layer.name: layer for layer in find_layers(model)}
    tables = {to: lowered_in(model, to) for to in ("bf16", "int8")}
    behind, around = followers(model, list(layers.values())), surroundings(model, list(layers.values()))
    exact = load_engine(tmp_path / "x.onnx", runtime="onnxruntime").run(noise(4))
    random = np.random.default_rng(seed)
    for _ in range(25):
        choice = {name: str(random.choice(["fp32", "bf16", "int8"])) for name in layers}
        low = {
            name: tables[to][name]
            for name, to in choice.items()
            if to != "fp32" and not (to == "int8" and skips_places(layers[name]))
        }
        kept = [name for layer in layers if layer not in low for name in (layer, *behind[layer])]
        names = tuple(dict.fromkeys((*around, *kept)))
        spec = replace(read_spec(tmp_path / "x.onnx"), precision="int8-bf16", runtime="openvino", fp32_layers=names)
        write_engine(with_lowered(model, layers, low), spec, tmp_path / "y.onnx")
        found = OvEngine(tmp_path / "y.onnx").run(noise(4))
        assert losses(found, exact).max() < 2e-3, choice
