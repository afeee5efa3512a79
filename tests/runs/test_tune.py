"""What is found by trying is kept beside the engine, and used for this engine on such a machine only."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import isc_fast
from isc_fast.assets import DEMO_ENGINE
from isc_fast.cli.main import main
from isc_fast.engines import tuning
from isc_fast.engines.base import file_sha256, load_engine
from isc_fast.engines.header import read_spec
from isc_fast.engines.ort import OrtEngine
from isc_fast.engines.spec import EngineSpec
from isc_fast.engines.tuning import Setting, save_setting, saved_setting, tuning_path
from isc_fast.errors import EngineError, MissingExtraError, OutputError
from isc_fast.machine import cores
from isc_fast.runs import tuner

BY_ORT = Setting("onnxruntime", 1, 1, 1, 7)
BY_OPENVINO = Setting("openvino", 2, 1, 3, 6)
SPEC = EngineSpec("x", "a", 8, 8, 4, 1.0)


@pytest.fixture
def openvino():
    pytest.importorskip("openvino")


@pytest.fixture
def engine_path(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "available_cores", lambda: 2)
    shutil.copy(DEMO_ENGINE, tmp_path / "x.onnx")
    return tmp_path / "x.onnx"


def keep(path, setting):
    save_setting(path, file_sha256(path), setting, 12.3456)


# --- the file beside the engine


def test_a_setting_is_kept_beside_the_engine_and_read_back(engine_path):
    id_ = file_sha256(engine_path)
    assert saved_setting(engine_path, id_) is None
    assert save_setting(engine_path, id_, BY_ORT, 12.3456) == Path(f"{engine_path}.tune.json")
    assert saved_setting(engine_path, id_) == BY_ORT
    assert json.loads(tuning_path(engine_path).read_text()) == {
        "version": 1,
        "engine_id": id_,
        "processor": cores.processor(),
        "cores": 2,
        "setting": {"runtime": "onnxruntime", "threads": 1, "streams": 1, "request_size": 1, "batch_size": 7},
        "images_per_s": 12.346,
    }
    save_setting(engine_path, id_, BY_OPENVINO, 1)
    assert saved_setting(engine_path, id_) == BY_OPENVINO
    assert sorted(os.listdir(engine_path.parent)) == ["x.onnx", "x.onnx.tune.json"]


def test_it_holds_for_this_engine_on_such_a_machine_only(engine_path, monkeypatch):
    id_ = file_sha256(engine_path)
    keep(engine_path, BY_ORT)
    assert saved_setting(engine_path, "0" * 64) is None
    with monkeypatch.context() as other:
        other.setattr(tuning, "available_cores", lambda: 3)
        assert saved_setting(engine_path, id_) is None
    with monkeypatch.context() as other:
        other.setattr(tuning, "processor", lambda: "another one")
        assert saved_setting(engine_path, id_) is None
    with monkeypatch.context() as other:
        other.setattr(tuning, "_VERSION", 2)
        assert saved_setting(engine_path, id_) is None
    assert saved_setting(engine_path, id_) == BY_ORT


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: "\xff\xfe",
        lambda text: text.replace('"threads": 1', '"threads": 0'),
        lambda text: text.replace('"threads": 1', '"threads": -1'),
        lambda text: text.replace('"threads": 1', '"threads": 1.5'),
        lambda text: text.replace('"threads": 1', '"threads": "1"'),
        lambda text: text.replace('"threads": 1', '"threads": null'),
        lambda text: text.replace('"threads": 1', '"threads": 100000'),
        lambda text: text.replace('"threads": 1', '"threads": ' + "9" * 30),
        lambda text: text.replace('"threads": 1', '"threads": true'),
        lambda text: text.replace('"threads": 1', '"threads": ' + "[" * 100_000),
        lambda text: text.replace('"threads": 1', '"fibres": 1'),
        lambda text: text.replace('"threads": 1', '"threads": 1, "more": 1'),
        lambda text: text.replace('"onnxruntime"', '"tensorflow"'),
        lambda text: text.replace('"onnxruntime"', '["onnxruntime"]'),
        lambda text: json.dumps({**json.loads(text), "setting": [1, 2]}),
        lambda text: json.dumps({**json.loads(text), "setting": "x"}),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "cores"}),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "setting"}),
    ],
)
def test_a_damaged_file_counts_as_none(engine_path, damage):
    keep(engine_path, BY_ORT)
    path = tuning_path(engine_path)
    path.write_text(damage(path.read_text()), "latin-1")
    assert saved_setting(engine_path, file_sha256(engine_path)) is None
    assert load_engine(engine_path).default_batch_size == 4


# --- loading


def test_an_engine_is_loaded_as_it_was_tuned(engine_path, monkeypatch):
    assert load_engine(engine_path).default_batch_size == 4
    keep(engine_path, BY_ORT)
    asked = []
    honest = OrtEngine.__init__

    def init(self, path, *, threads=None, **options):
        asked.append(threads)
        honest(self, path, threads=threads, **options)

    monkeypatch.setattr(OrtEngine, "__init__", init)
    assert load_engine(engine_path).default_batch_size == 7
    assert load_engine(engine_path, threads=1, runtime="onnxruntime").default_batch_size == 7
    assert load_engine(engine_path, threads=2).default_batch_size == 4
    assert load_engine("demo").default_batch_size == 4
    with open(engine_path, "ab") as stream:  # another engine under the same name
        stream.write(b"\x22\x01x")
    assert load_engine(engine_path).default_batch_size == 4
    assert asked == [1, 1, 2, None, None]


def test_tuned_for_the_other_runtime(engine_path, openvino, monkeypatch):
    keep(engine_path, BY_OPENVINO)
    tuned = load_engine(engine_path)
    assert (tuned.device, tuned.default_batch_size, tuned._streams, tuned._size) == ("OpenVINO CPU", 6, 1, 3)
    # What is asked for comes first, and takes nothing from a setting that was found for something else.
    assert load_engine(engine_path, runtime="onnxruntime").default_batch_size == 4
    other = load_engine(engine_path, runtime="openvino", threads=1)
    assert (other._streams, other._size, other.default_batch_size) == (1, 1, 4)
    assert (load_engine(engine_path, threads=1).device, load_engine(engine_path, threads=2).device) == (
        "CPUExecutionProvider",
        "OpenVINO CPU",
    )
    # It is about speed only: without that runtime, or where it fails, the engine opens as ever.
    save_setting(engine_path, file_sha256(engine_path), replace(BY_OPENVINO, request_size=999), 1)
    assert load_engine(engine_path).device == "CPUExecutionProvider"
    keep(engine_path, BY_OPENVINO)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert load_engine(engine_path).device == "CPUExecutionProvider"
    with pytest.raises(MissingExtraError, match=r"isc-fast\[openvino\]"):
        load_engine(engine_path, runtime="openvino")


def test_a_reduced_engine_is_never_run_by_another_runtime_than_its_own(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    from helpers_graphs import residual, save

    monkeypatch.setattr(tuning, "available_cores", lambda: 2)
    path = save(residual(), tmp_path / "x.onnx", precision="int8", runtime="onnxruntime")
    keep(path, BY_OPENVINO)
    assert (load_engine(path).device, load_engine(path).default_batch_size) == ("CPUExecutionProvider", 4)
    keep(path, BY_ORT)
    assert load_engine(path).default_batch_size == 7


def test_extraction_takes_the_batch_that_was_found(engine_path, folder_of, tmp_path):
    keep(engine_path, BY_ORT)
    isc_fast.extract(folder_of(tmp_path / "photos", 9), engine_path, tmp_path / "out.h5")
    with isc_fast.open_descriptors(tmp_path / "out.h5") as made:
        assert made.meta["plan"]["batch_size"] == 7
        assert len(made) == 9


# --- what is tried


@pytest.mark.parametrize("count", [1, 2, 3, 64])
@pytest.mark.parametrize(
    ("spec", "openvino", "runtimes"),
    [
        (SPEC, True, {"onnxruntime", "openvino"}),
        (SPEC, False, {"onnxruntime"}),
        (replace(SPEC, precision="int8"), True, {"onnxruntime"}),
        (replace(SPEC, precision="bf16", runtime="openvino"), True, {"openvino"}),
        (replace(SPEC, precision="int8-bf16", runtime="openvino"), False, {"openvino"}),
    ],
)
def test_candidates(count, spec, openvino, runtimes):
    found = tuner.candidates(spec, count, openvino=openvino)
    assert {setting.runtime for setting in found} == runtimes
    assert len(set(found)) == len(found)
    for setting in found:
        assert 1 <= setting.threads <= count
        assert 1 <= setting.streams <= setting.threads
        if setting.runtime == "openvino":
            assert setting.batch_size >= max(4, 2 * setting.streams * setting.request_size)
    assert {s.batch_size for s in found if s.runtime == "onnxruntime"} in ({1, 4, 16}, set())


def test_the_first_candidate_is_what_is_used_without_tuning(openvino):
    count = cores.available_cores()
    by_ort, by_openvino = load_engine("demo"), load_engine("demo", runtime="openvino")
    first = tuner.candidates(SPEC, count, openvino=True)[0]
    assert first == Setting("onnxruntime", count, 1, 1, by_ort.default_batch_size)
    first = tuner.candidates(replace(SPEC, precision="bf16", runtime="openvino"), count, openvino=True)[0]
    expected = (by_openvino._streams, by_openvino._size, by_openvino.default_batch_size)
    assert first == Setting("openvino", count, *expected)


# --- choosing


class Scripted:
    """An engine of which only the descriptors matter; rates are scripted."""

    def __init__(self, setting, vectors):
        self.id, self.setting, self.vectors, self.default_batch_size = "f" * 64, setting, vectors, 0

    def run(self, pixels):
        return self.vectors[: len(pixels)]


def tune_with(monkeypatch, engine_path, rates, vectors=None, fails=(), seconds=1000.0):
    """Tune with these settings, given the rates of each one round after the other: 0 if it may not be asked for."""
    good = np.eye(4, dtype=np.float32)
    left = {setting: list(values) for setting, values in rates.items()}

    def open_with(file, runtime, *, setting):
        if setting in fails:
            raise EngineError("does not run")
        return Scripted(setting, (vectors or {}).get(setting, good))

    def rate(engine, pixels, batch):
        setting = next(s for s in rates if s.batch_size == batch)
        value = left[setting].pop(0)
        assert value, "given up before"
        return value

    monkeypatch.setattr(tuner, "candidates", lambda *arguments, **options: list(rates))
    monkeypatch.setattr(tuner, "open_with", open_with)
    monkeypatch.setattr(tuner, "_rate", rate)
    lines = []
    return isc_fast.tune(engine_path, seconds=seconds, log=lines.append), lines, left


A, B, C = (Setting("onnxruntime", threads, 1, 1, threads) for threads in (1, 2, 3))


def test_the_best_median_wins(monkeypatch, engine_path):
    found, lines, left = tune_with(
        monkeypatch, engine_path, {A: [10, 10, 10, 10, 10], B: [19, 11, 11, 12, 11], C: [12, 12, 9, 30, 12]}
    )
    assert found.setting == C
    assert found.images_per_s == {C: 12, B: 11, A: 10}
    assert list(found.images_per_s) == [C, B, A]
    assert (found.default_rate, found.path) == (10, tuning_path(engine_path))
    assert len(lines) == 5
    assert not any(left.values())
    assert json.loads(found.path.read_text())["setting"] == asdict(C)
    assert str(found).splitlines()[0] == f"    12.00 images/s  {C}"
    assert "1.20 × the rate without tuning" in str(found)


def test_what_is_hopeless_is_given_up_but_never_the_default(monkeypatch, engine_path):
    rates = {A: [10, 10, 10, 10, 10], B: [100, 100, 100, 100, 100], C: [59, 0]}
    assert tune_with(monkeypatch, engine_path, rates)[0].setting == B
    rates = {A: [50, 1, 1, 1, 1], B: [100, 2, 2, 2, 2], C: [59, 0]}  # the machine got busy after the first round
    found = tune_with(monkeypatch, engine_path, rates)[0]
    assert found.setting == B
    assert list(found.images_per_s) == [B, A, C]


def test_time_is_kept(monkeypatch, engine_path):
    found, lines, _ = tune_with(monkeypatch, engine_path, {A: [10, 1], B: [11, 1]}, seconds=0)
    assert (found.setting, len(lines)) == (B, 1)


def test_what_describes_otherwise_or_does_not_open_is_left_out(monkeypatch, engine_path):
    good = np.eye(4, dtype=np.float32)
    for wrong in (good[::-1], good * 0.999, good * np.nan):
        found, lines, _ = tune_with(monkeypatch, engine_path, {A: [1] * 5, B: [9] * 5}, vectors={B: wrong})
        assert found.setting == A
        assert lines[0] == f"left out, since it describes otherwise: {B}"
    assert tune_with(monkeypatch, engine_path, {A: [9] * 5, B: [1] * 5}, fails=(A,))[0].setting == B
    with pytest.raises(EngineError, match="does not run"):
        tune_with(monkeypatch, engine_path, {A: [], B: []}, fails=(A, B))
    with pytest.raises(EngineError, match=r"not numbers \(NaN\); export it again"):
        tune_with(monkeypatch, engine_path, {A: []}, vectors={A: good * np.nan})


def test_what_cannot_be_tuned(tmp_path, monkeypatch):
    with pytest.raises(EngineError, match="there is no engine"):
        isc_fast.tune(tmp_path / "x.onnx")
    with pytest.raises(EngineError, match="inside the package stays as it is"):
        isc_fast.tune("demo")
    (tmp_path / "x.pt2").write_bytes(b"")
    with pytest.raises(EngineError, match=r"expected an \.onnx engine"):
        isc_fast.tune(tmp_path / "x.pt2")
    assert os.listdir(tmp_path) == ["x.pt2"]


# --- for real


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_verb(engine_path, capsys, monkeypatch):
    monkeypatch.setattr(tuner, "_TURN_S", 0.02)
    status, out, err = run(capsys, "tune", "--engine", engine_path, "--seconds", 1, "--json")
    assert status == 0
    told = json.loads(out)
    assert told["path"] == str(tuning_path(engine_path))
    names = {"runtime", "threads", "streams", "request_size", "batch_size", "images_per_s"}
    assert all(set(tried) == names and tried["images_per_s"] > 0 for tried in told["tried"])
    kept = json.loads(Path(told["path"]).read_text())
    best = {key: value for key, value in told["tried"][0].items() if key != "images_per_s"}
    assert kept["setting"] == best
    assert "round 1: best so far" in err
    assert load_engine(engine_path).default_batch_size == best["batch_size"]
    status, out, err = run(capsys, "tune", "--engine", engine_path, "--seconds", 0)
    assert status == 0
    rows = out.splitlines()
    assert all("images/s  " in row for row in rows[:-1])
    assert rows[-1].endswith(f"kept in {tuning_path(engine_path)}")


def test_a_place_that_cannot_be_written_is_one_line(engine_path, capsys, monkeypatch):
    monkeypatch.setattr(tuner, "_TURN_S", 0.0)
    tuning_path(engine_path).mkdir()
    status, out, err = run(capsys, "tune", "--engine", engine_path, "--seconds", 0)
    assert (status, out) == (1, "")
    (line,) = [line for line in err.splitlines() if not line.startswith(("round", "left out"))]
    assert line == f"error: cannot write {tuning_path(engine_path)}: it is a folder"
    assert load_engine(engine_path).default_batch_size == 4
    tuning_path(engine_path).rmdir()

    def refuse(path, *arguments, **options):
        if str(path).endswith(".tmp"):
            raise PermissionError(13, "Permission denied")
        return honest(path, *arguments, **options)

    honest = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*x\.onnx\.tune\.json: no permission to write there"):
        save_setting(engine_path, "0" * 64, BY_ORT, 1.0)


def test_every_setting_describes_alike(engine_path, photos):
    """Of all candidates, opened as they are kept."""
    pixels = tuner._pixels(read_spec(engine_path))
    try:
        import openvino  # noqa: F401

        installed = True
    except ImportError:
        installed = False
    expected = load_engine("demo").run(pixels)
    for setting in tuner.candidates(read_spec(engine_path), 2, openvino=installed):
        keep(engine_path, setting)
        tuned = load_engine(engine_path)
        assert tuned.default_batch_size == setting.batch_size
        assert (tuned.run(pixels) * expected).sum(axis=1).min() > 0.99999
