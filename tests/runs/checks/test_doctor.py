"""The diagnosis of this machine, of imitated ones, and of libraries that crash or hang."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import misbehaving
import pytest
from fake_gpu import FakeCuda
from toy_engine import TOY

from isc_fast.cli.main import main
from isc_fast.engines.kinds import KINDS
from isc_fast.machine.gpus import describe_gpus
from isc_fast.machine.trial_run import ABSENT, BROKEN, WORKS, Answer, Trial, run_trial
from isc_fast.runs.checks import doctor
from isc_fast.runs.checks.doctor import NO_GPU, Diagnosis, Finding, diagnose
from isc_fast.runs.checks.trials import all_trials

ONE_GPU = Answer(WORKS, json.dumps({"driver": "580.65, up to CUDA 13.0", "gpus": ["NVIDIA H100, 79 of 80 GiB free"]}))
VERSIONS = {"numpy": "2.4.6", "onnxruntime": "1.31.0", "faiss-cpu": "1.13.0"}


@pytest.fixture(scope="module")
def here() -> Diagnosis:
    return diagnose()


@pytest.fixture
def no_driver(monkeypatch, tmp_path):
    """A machine without an NVIDIA card, whatever this one has."""
    monkeypatch.setattr(doctor, "_DRIVER", tmp_path / "none")
    monkeypatch.setattr(doctor, "_PCI", tmp_path / "none")


def by_name(found: Diagnosis) -> dict[str, Finding]:
    names = [row.name for row in found.findings]
    assert len(set(names)) == len(names)
    return {row.name: row for row in found.findings}


def machine(gpu: Answer, otherwise: Answer | None = None, **special: Answer):
    """A probe that answers for each trial by its name, and for the GPUs."""
    by_call = {
        (trial.function, *trial.arguments): special.get(trial.name.replace(" ", "_"), otherwise)
        for trial in all_trials()
    }
    by_call[(describe_gpus,)] = gpu
    return lambda *call: by_call[call] or Answer(WORKS, "1.0, tried")


# --- this machine


def test_what_is_installed_here_works(here):
    rows = by_name(here)
    for name in ("pillow", "ONNX Runtime", "faiss"):  # the extra `cpu` is what the tests need at least
        assert rows[name].state == WORKS, rows[name]
        assert rows[name].repair is None
    assert "demo's engine run" in rows["ONNX Runtime"].detail
    assert rows["pillow"].detail.endswith("by 0 at most")
    assert here.can_run
    assert sys.version.split()[0] in rows["Python"].detail
    assert "core" in rows["processor"].detail
    assert {"numpy", "h5py", "pillow", "onnxruntime", "faiss-cpu"} <= set(here.versions)


def test_it_agrees_with_an_import(here):
    rows = by_name(here)
    for module, name in (("openvino", "OpenVINO"), ("torch", "torch (.pt2)"), ("simplejpeg, cykooz_resizer", "turbo")):
        found = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False)
        assert rows[name].state == (ABSENT if found.returncode else WORKS), rows[name]


def test_every_row_is_a_line_and_says_what_to_do(here):
    for row in here.findings:
        assert row.state in (WORKS, ABSENT, BROKEN, NO_GPU)
        assert row.detail
        assert "\n" not in row.detail + (row.repair or "")
        assert (row.repair is None) == (row.state in (WORKS, NO_GPU)), row
    text = str(here)
    assert text.splitlines()[0] == "machine"
    assert [line for line in text.splitlines() if line and not line.startswith(" ")][:-1] == [
        *("machine", "libraries", "decoders", "engines", "search")
    ]
    assert text.splitlines()[-1].startswith("engines run here")


def test_the_verb(capsys, monkeypatch, here):
    monkeypatch.setattr(doctor, "diagnose", lambda: here)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == f"{here}\n"
    assert main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert out.count("\n") == 1
    assert found["can_run"] is True
    assert found["versions"] == dict(here.versions)
    assert {row["name"] for row in found["findings"]} >= {"pillow", "ONNX Runtime", "faiss"}
    assert all(set(row) == {"group", "name", "state", "detail", "repair"} for row in found["findings"])


def test_importing_it_is_light():
    code = "import isc_fast.runs.checks.doctor, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "onnxruntime", "faiss", "numpy", "h5py", "PIL", "openvino", "nvidia"}
    assert not heavy & {name.split(".")[0] for name in done.stdout.split()}


# --- libraries that misbehave, in a process of their own


def test_a_library_that_ends_the_process_is_a_row():
    found = run_trial(misbehaving.segfault)
    assert (found.state, found.detail) == (BROKEN, "ended the whole process (SIGSEGV)")
    found = run_trial(misbehaving.abort)
    assert (found.state, found.detail) == (BROKEN, "ended the whole process (SIGABRT)")
    found = run_trial(misbehaving.abort_with_a_reason)
    assert (found.state, found.detail) == (BROKEN, "ended the whole process (SIGABRT): no kernel image is available")


def test_a_library_that_hangs_is_a_row():
    began = time.monotonic()
    found = run_trial(misbehaving.hang, timeout_s=1)
    assert (found.state, found.detail) == (BROKEN, "gave no answer within 1 s and was ended")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (misbehaving.noise_first, Answer(WORKS, "x 1.0, done")),
        (misbehaving.import_nothing, Answer(ABSENT, "nothing_like_this is not installed")),
        (misbehaving.require_nothing, Answer(ABSENT, "none_such is not installed")),
        (misbehaving.broken_import, Answer(BROKEN, "libcudnn.so.9: cannot open")),
        (misbehaving.too_old, Answer(BROKEN, "too old", "pip install new")),
        (misbehaving.exit_3, Answer(BROKEN, "exit status 3")),
        (misbehaving.odd_bytes, Answer(WORKS, "\ufffd")),
    ],
)
def test_how_a_trial_ended(function, expected):
    assert run_trial(function) == expected


def test_a_trial_gets_its_arguments_as_they_are():
    words = ("'quoted'", "two words", "-x", "$HOME;")
    assert run_trial(misbehaving.say, *words) == Answer(WORKS, " ".join(words))


def test_a_file_in_the_users_folder_is_not_the_library(tmp_path, monkeypatch):
    (tmp_path / "faiss.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert run_trial(misbehaving.import_faiss).state == WORKS


# --- imitated machines


def test_two_packages_in_one_folder(no_driver):
    both = {**VERSIONS, "onnxruntime-gpu": "1.31.0", "faiss-gpu-cuvs": "1.13.0"}
    broken = Answer(BROKEN, "does not import")
    on_cpu = by_name(diagnose(versions=both, probe=machine(Answer(ABSENT, ""), ONNX_Runtime=broken)))
    assert on_cpu["onnxruntime files"].state == BROKEN
    assert "onnxruntime and onnxruntime-gpu are both installed" in on_cpu["onnxruntime files"].detail
    line = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'isc-fast[cpu]'"
    assert on_cpu["onnxruntime files"].repair == line
    assert on_cpu["faiss files"].state == BROKEN
    assert on_cpu["faiss"].state == WORKS  # it was tried, and it runs
    assert on_cpu["ONNX Runtime"].repair == "first the repair of onnxruntime files above"
    on_gpu = diagnose(versions=both, probe=machine(ONE_GPU))
    repairs = [row.repair for row in on_gpu.findings if row.state == BROKEN]
    assert repairs == [
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'isc-fast[gpu]'",
        "pip uninstall -y faiss-cpu faiss-gpu-cuvs && pip install 'isc-fast[gpu]'",
    ]
    assert "installed and broken: onnxruntime files, faiss files" in str(on_gpu)


def test_the_packages_are_asked_for_by_their_metadata(monkeypatch):
    known = {"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.30.0"}

    def version(name):
        if name not in known:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor.installed_versions() == known


def test_a_machine_with_a_gpu(no_driver):
    found = diagnose(versions=VERSIONS, probe=machine(ONE_GPU))
    rows = by_name(found)
    assert rows["NVIDIA driver"].detail == "580.65, up to CUDA 13.0"
    assert rows["GPU 0"].detail == "NVIDIA H100, 79 of 80 GiB free"
    assert all(row.state == WORKS for row in found.findings)
    assert str(found).endswith("engines run here; whatever is installed works")


def test_a_gpu_library_that_fails_beside_a_gpu_is_broken():
    wheel = Answer(
        BROKEN, "offers only CPUExecutionProvider", "pip uninstall -y onnxruntime && pip install 'isc-fast[gpu]'"
    )
    crash = Answer(BROKEN, "ended the whole process (SIGSEGV)")
    gone = Answer(ABSENT, "nvidia.dali is not installed")
    probe = machine(ONE_GPU, **{"ONNX_Runtime,_CUDA": wheel, "TensorRT_(.plan)": crash, "DALI,_GPU": gone})
    rows = by_name(diagnose(versions=VERSIONS, probe=probe))
    assert rows["ONNX Runtime, CUDA"].repair == wheel.repair
    assert rows["TensorRT (.plan)"].repair == "pip install 'isc-fast[gpu]' --force-reinstall"
    assert (rows["DALI, GPU"].state, rows["DALI, GPU"].repair) == (ABSENT, "pip install 'isc-fast[gpu]'")


def test_gpu_trials_are_not_run_without_a_gpu(no_driver):
    tried = []

    def probe(*call):
        tried.append(call)
        return Answer(ABSENT, "pynvml is not installed")

    rows = by_name(diagnose(versions={}, probe=probe))
    assert rows["NVIDIA GPU"].state == NO_GPU
    assert rows["ONNX Runtime, CUDA"] == Finding("engines", "ONNX Runtime, CUDA", NO_GPU, "needs an NVIDIA GPU")
    assert not {(trial.function, *trial.arguments) for trial in all_trials() if trial.needs_gpu} & set(tried)


@pytest.mark.parametrize(
    ("driver", "card", "answer", "words"),
    [
        (False, True, Answer(ABSENT, "pynvml is not installed"), "a card is here and no driver"),
        (True, True, Answer(ABSENT, "cuda is not installed"), "nothing installed can ask it"),
        (True, True, Answer(BROKEN, "CUDA finds no GPU: cudaErrorInsufficientDriver"), "InsufficientDriver"),
        (True, True, Answer(WORKS, '{"driver": "580", "gpus": []}'), "shows no GPU"),
        (True, True, Answer(WORKS, "garbage"), "cannot be read"),
    ],
)
def test_a_gpu_that_cannot_be_used(monkeypatch, tmp_path, driver, card, answer, words):
    device = tmp_path / "pci" / "0000:00:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n" if card else "0x020000\n")
    (tmp_path / "version").write_text("NVRM")
    monkeypatch.setattr(doctor, "_PCI", tmp_path / "pci")
    monkeypatch.setattr(doctor, "_DRIVER", tmp_path / ("version" if driver else "none"))
    rows = by_name(diagnose(versions=VERSIONS, probe=machine(answer)))
    assert rows["NVIDIA driver"].state == BROKEN
    assert words in rows["NVIDIA driver"].detail
    assert rows["ONNX Runtime, CUDA"].state == NO_GPU


def test_nothing_that_runs_an_engine(no_driver, capsys, monkeypatch):
    nothing = diagnose(versions={}, probe=machine(Answer(ABSENT, ""), Answer(ABSENT, "x is not installed")))
    assert not nothing.can_run
    assert str(nothing).endswith("no engine runs here; begin with: pip install 'isc-fast[cpu]'")
    monkeypatch.setattr(doctor, "diagnose", lambda: nothing)
    assert main(["doctor"]) == 1
    assert json.loads(json.dumps(nothing.to_dict()))["can_run"] is False
    capsys.readouterr()


def test_every_trial_is_found_by_its_name_and_every_line_installs_an_extra_there_is():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    for trial in (*all_trials(), Trial("machine", "GPUs", describe_gpus, "")):
        module = importlib.import_module(trial.function.__module__)
        assert getattr(module, trial.function.__name__) is trial.function, trial.name
        inspect.signature(trial.function).bind(*trial.arguments)
        if "isc-fast[" in trial.repair:
            assert trial.repair.partition("[")[2].partition("]")[0] in extras


# --- another kind of engine


def test_a_new_kind_of_engine_shows(monkeypatch, no_driver):
    monkeypatch.setitem(KINDS, TOY.suffix, TOY)
    (row,) = TOY.trials
    assert row in all_trials()
    found = diagnose(versions={}, trials=TOY.trials)
    assert by_name(found)["toy"] == Finding("engines", "toy", WORKS, "toy 1.0, a row described")
    assert found.can_run


def test_what_the_driver_says_of_its_gpus(monkeypatch):
    """By NVML; where that is not installed, by CUDA."""
    gpu = types.SimpleNamespace(free=79 << 30, total=80 << 30)
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: gpu,
        nvmlDeviceGetMemoryInfo=lambda handle: handle,
        nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0),
        nvmlDeviceGetName=lambda handle: b"NVIDIA H100",
        nvmlSystemGetDriverVersion=lambda: "580.65",
        nvmlSystemGetCudaDriverVersion=lambda: 13010,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert json.loads(describe_gpus()) == {
        "driver": "580.65, up to CUDA 13.1",
        "gpus": ["NVIDIA H100, compute capability 9.0, 79 of 80 GiB free"],
    }
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", FakeCuda())
    found = json.loads(describe_gpus())
    assert found["driver"].startswith("up to CUDA ")
    assert len(found["gpus"]) == FakeCuda().cudaGetDeviceCount()[1]
    assert "compute capability" in found["gpus"][0]
