"""The table of engine kinds: every row keeps the contract, and a kind of our own is one file and one row."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from toy_engine import TOY, write_toy
from without_extras import BLOCK, run_python

import isc_fast
from isc_fast.assets import DEMO_ENGINE
from isc_fast.cli.main import main
from isc_fast.engines.base import AsyncEngine, DeviceEngine, abilities, describe_engine, gpu_of, load_engine
from isc_fast.engines.kinds import KINDS, kind_of
from isc_fast.engines.spec import METADATA_KEY, PRECISIONS
from isc_fast.engines.trt.sidecar import PlanFacts, sidecar_path, sidecar_text
from isc_fast.errors import EngineError
from isc_fast.machine.devices import split_device
from isc_fast.machine.trial_run import Trial

RUNTIMES = (
    "BLOCKED = {'onnxruntime', 'openvino', 'torch', 'tensorrt', 'tensorrt_rtx', 'cuda', 'pynvml', 'onnx', 'faiss'}"
)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_row_is_whole(suffix):
    kind = KINDS[suffix]
    assert kind.suffix == suffix == suffix.lower()
    assert suffix.startswith(".")
    assert kind.default_precision in kind.precisions
    assert set(kind.precisions) <= set(PRECISIONS)
    assert split_device(kind.default_device)
    assert kind.trials
    assert all(isinstance(trial, Trial) and trial.group == "engines" for trial in kind.trials)


def test_the_suffix_counts_in_any_case():
    for name in ("v107.onnx", "V107.ONNX", "v107.Onnx", Path("folder.pt2/x.oNNx")):
        assert kind_of(name) is KINDS[".onnx"]
    assert kind_of("x.Plan") is KINDS[".plan"]
    assert kind_of("X.PT2") is KINDS[".pt2"]
    for name in ("onnx", "x.onnx.tmp", "x", "", "x.trt"):
        assert kind_of(name) is None


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_engine_in_capitals_runs(tmp_path, runtime):
    pytest.importorskip(runtime)
    path = tmp_path / "DEMO.ONNX"
    shutil.copy(DEMO_ENGINE, path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    engine = load_engine(path, runtime=runtime)
    np.testing.assert_array_equal(engine.run(pixels), load_engine("demo", runtime=runtime).run(pixels))
    assert describe_engine(path).id == engine.id


def test_describing_says_what_loading_says(tmp_path):
    engine = load_engine("demo")
    found = describe_engine("demo")
    assert (found.path, found.id, found.spec) == (engine.path, engine.id, engine.spec)
    write_toy(tmp_path / "x.toy")
    for name, words in (("x.toy", "cannot tell what kind"), ("none.onnx", "there is no engine"), ("", "is not a file")):
        with pytest.raises(EngineError, match=words):
            describe_engine(tmp_path / name)


def bf16_engine(folder: Path) -> Path:
    """The demo's graph, which says that it is in bf16 and run by OpenVINO."""
    import onnx

    model = onnx.load(DEMO_ENGINE)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = json.dumps({**json.loads(entry.value), "precision": "bf16", "runtime": "openvino"})
    onnx.save(model, folder / "bf16.onnx")
    return folder / "bf16.onnx"


def plan(folder: Path) -> Path:
    """A plan that no TensorRT would load, with a sidecar."""
    path = folder / "x.Plan"
    path.write_bytes(b"a plan")
    facts = PlanFacts(
        "tensorrt", "10.13.2", "H100", "9.0", (1, 16, 64), False, False, "n", "1" * 64, "2" * 64, "3" * 64
    )
    spec = dataclasses.replace(load_engine("demo").spec, precision="fp16", runtime="tensorrt")
    sidecar_path(path).write_text(sidecar_text(spec, facts))
    return path


def package(folder: Path) -> Path:
    """A package without code, with what isc-fast writes into one."""
    import zipfile

    from isc_fast.engines.aoti_file import MadeFor, write_package

    with zipfile.ZipFile(folder / "compiled.pt2", "w") as compiled:
        compiled.writestr("model/data.txt", "nothing")
    made_for = MadeFor("cuda", "2.14.1+cu130", "x86_64", ("avx2",), "13.0", "H100", "9.0", 64)
    spec = dataclasses.replace(load_engine("demo").spec, runtime="aoti")
    write_package(folder / "compiled.pt2", spec, made_for, folder / "X.PT2")
    return folder / "X.PT2"


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (lambda folder: DEMO_ENGINE, {}),
        (bf16_engine, {"precision": "bf16", "runtime": "openvino"}),
        (plan, {"precision": "fp16", "runtime": "tensorrt", "id": "1" * 64}),
        (package, {"runtime": "aoti"}),
    ],
    ids=["demo", "bf16", "plan", "pt2"],
)
def test_any_engine_is_described_where_no_runtime_is_installed(tmp_path, make, facts):
    pytest.importorskip("onnx")
    path = make(tmp_path)
    code = (
        RUNTIMES + BLOCK + "import sys, isc_fast.cli.main as cli; sys.exit(cli.main(['info', sys.argv[1], '--json']))"
    )
    about = json.loads(run_python(code, str(path)))
    assert about["kind"] == "engine"
    assert about["path"] == str(path)
    assert about["arch"] == "tf_efficientnet_lite0"
    assert {key: about[key] for key in facts} == facts
    loading = RUNTIMES + BLOCK + "import sys, isc_fast\ntry: isc_fast.load_engine(sys.argv[1])\n"
    loading += "except isc_fast.IscFastError as error: print(error)"
    assert run_python(loading, str(path)).strip(), "it is not loaded where nothing can run it"


def test_what_an_engine_can_do_is_read_from_its_members():
    class Starts(FakeEngine):
        gpu = 2

        def start(self, pixels): ...

    class OnDevice(Starts):
        def start_device(self, pointer, count, *, stream=None, event=None): ...

        def run_device(self, pointer, count, *, stream=None, event=None): ...

    for engine in (FakeEngine(), Starts(), OnDevice(), load_engine("demo")):
        found = abilities(engine)
        assert found.is_async == isinstance(engine, AsyncEngine)
        assert found.takes_gpu_pixels == isinstance(engine, DeviceEngine)
        assert found.gpu == gpu_of(engine)
    assert abilities(OnDevice()).gpu == 2
    assert abilities(load_engine("demo")).takes_gpu_pixels == KINDS[".onnx"].takes_gpu_pixels


# --- a kind of our own


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, TOY.suffix, TOY)
    return write_toy(tmp_path / "one.Toy", seed=3)


def test_a_toy_loads_describes_and_extracts(toy, tmp_path, folder_of):
    engine = isc_fast.load_engine(toy)
    assert engine.device == "toy"
    assert describe_engine(toy).spec == engine.spec
    inputs = folder_of(tmp_path / "in", 3)
    made = isc_fast.extract(inputs, toy, tmp_path / "by_path.h5")
    assert made.count == 3
    isc_fast.extract(inputs, engine, tmp_path / "by_engine.h5")
    by_path, by_engine = (isc_fast.read_descriptors(tmp_path / f"{name}.h5") for name in ("by_path", "by_engine"))
    np.testing.assert_array_equal(by_path.vectors, by_engine.vectors)
    assert by_path.meta["engine"] == by_engine.meta["engine"]
    with pytest.raises(EngineError, match="runs on the processor only"):
        isc_fast.load_engine(toy, device="cuda")


def test_a_toy_shows_in_info_and_is_not_tuned(toy, capsys, tmp_path):
    assert main(["info", str(toy), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["kind"], about["name"], about["toy"]) == ("engine", "fake3", {"seed": 3})
    with pytest.raises(EngineError, match=r"expected an \.onnx engine"):
        isc_fast.tune(toy)
    (tmp_path / "bad.toy").write_text("[]")
    assert main(["info", str(tmp_path / "bad.toy")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    (tmp_path / "model.trt").write_bytes(b"")
    with pytest.raises(EngineError, match=r"ends in \.onnx or \.pt2 or \.plan or \.toy"):
        load_engine(tmp_path / "model.trt")
