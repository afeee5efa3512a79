"""Nothing leaves the machine, and nothing is written beside the output: verbs run with an empty home and no network."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from without_extras import ROOT

ROOM = Path(__file__).resolve().parents[1] / "quiet_room.py"
TIMEOUT_S = 400


class Room:
    """A place to run commands in, with a home, a cache and a temporary folder of its own, all of them empty."""

    def __init__(self, folder: Path) -> None:
        self.work, self.home = folder / "work", folder / "home"
        self.work.mkdir()
        for name in ("cache", "config", "data", "state", "tmp"):
            (self.home / name).mkdir(parents=True)
        xdg = {f"XDG_{name.upper()}_HOME": str(self.home / name) for name in ("cache", "config", "data", "state")}
        # Nothing else is inherited: variables of a CI service alone keep some libraries from reporting.
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        self.environment = {**kept, **xdg, "HOME": str(self.home), "TMPDIR": str(self.home / "tmp")}
        self.environment["RES_OPTIONS"] = "timeout:1 attempts:1"  # where somebody asks for a name, nobody answers

    def left_behind(self) -> list[str]:
        """The files below the home."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if not path.is_dir())

    def made(self) -> set[str]:
        """The names in the folder that commands run in."""
        return {path.name for path in self.work.iterdir()}

    def run(self, *command: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run a Python program; returns how it ended, and where its packets wanted to go."""
        report = self.work.parent / "report.json"
        enter = ["unshare", "--map-root-user", "--net", sys.executable, str(ROOM), str(report)]
        done = subprocess.run(
            [*enter, sys.executable, *command],
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done, json.loads(report.read_text())

    def isc_fast(self, *arguments: str, status: int = 0) -> str:
        """Run a verb, check that it works, reports nothing and leaves nothing behind, and return what it printed."""
        done, packets = self.run("-m", "isc_fast", *arguments)
        assert done.returncode == status, done.stderr
        assert packets == []
        assert self.left_behind() == []
        return done.stdout


@pytest.fixture
def room() -> Iterator[Room]:
    if shutil.which("unshare") is None:
        pytest.skip("there is no program unshare to make a network namespace with")
    # pytest's own folder has a long path, longer beneath xdist, and training's loaders need a socket in the temporary folder.
    with tempfile.TemporaryDirectory(prefix="isc-fast-room-") as folder:
        yield room_in(Path(folder))


def room_in(folder: Path) -> Room:
    """Make a room where something that wants to leave is known to be seen."""
    made = Room(folder)
    try:
        done, packets = made.run("-c", "import socket\ntry: socket.getaddrinfo('a.example', 80)\nexcept OSError: pass")
    except FileNotFoundError:
        pytest.skip("this system lets nobody make a network namespace")
    assert done.returncode == 0, done.stderr
    assert packets, "a question for a name was not seen"
    return made


def test_the_room_sees_what_wants_to_leave(room):
    done, packets = room.run(
        "-c", "import socket; s = socket.socket(); s.settimeout(0.5); s.connect(('192.0.2.1', 443))"
    )
    assert done.returncode == 1
    assert packets == ["192.0.2.1:443"]


def test_extract_and_search_report_nothing(room, folder_of):
    pytest.importorskip("onnxruntime")
    folder_of(room.work / "photos", 6)
    shutil.copy(ROOT / "isc_fast" / "data" / "demo.onnx", room.work / "engine.onnx")
    room.isc_fast("extract", "photos", "--engine", "engine.onnx", "-o", "one.h5")
    room.isc_fast(
        "extract", "photos", "--engine", "engine.onnx", "-o", "two.h5", "--device", "cpu,cpu", "--shard-size", "4"
    )
    room.isc_fast("search", "one.h5", "two.h5", "-o", "matches.csv")
    assert room.made() == {"photos", "engine.onnx", "one.h5", "two.h5", "matches.csv"}


@pytest.mark.slow
def test_a_ray_cluster_reports_nothing(room, folder_of):
    """Ray keeps the token of the cluster in the home."""
    pytest.importorskip("ray")
    folder_of(room.work / "photos", 6)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as short:  # names of sockets are
        room.environment["RAY_TMPDIR"] = short
        command = ["extract", "photos", "--engine", "demo", "-o", "one.h5", "--ray", "--workers", "1:1"]
        done, packets = room.run("-m", "isc_fast", *command)
    assert done.returncode == 0, done.stderr
    assert packets == []
    assert room.left_behind() == [".ray/auth_token"]
    assert room.made() == {"photos", "one.h5"}


@pytest.mark.slow
def test_tune_and_the_demo_report_nothing(room):
    pytest.importorskip("onnxruntime")
    shutil.copy(ROOT / "isc_fast" / "data" / "demo.onnx", room.work / "engine.onnx")
    room.isc_fast("demo", "-o", "demo")
    room.isc_fast("tune", "--engine", "engine.onnx", "--seconds", "3")
    assert room.made() == {"demo", "engine.onnx", "engine.onnx.tune.json"}


@pytest.mark.slow
def test_the_doctor_reports_nothing(room):
    pytest.importorskip("onnxruntime")
    assert "ONNX Runtime" in room.isc_fast("doctor")


@pytest.mark.slow
def test_export_reports_nothing(room, photos, folder_of):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from helpers_export import calibrated, published

    net = calibrated("test_efficientnet", photos[:8], 64)
    torch.save(published(net, "test_efficientnet", 64), room.work / "toy.pth.tar")
    folder_of(room.work / "photos", 16)  # fewer would be too few for an operating point
    room.isc_fast("export", "--ckpt", "toy.pth.tar", "--photos", "photos", "-o", "toy.onnx")
    assert room.made() == {"photos", "toy.pth.tar", "toy.onnx"}


@pytest.mark.slow
def test_training_reports_nothing(room, photos):
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from helpers_training import ARCH, backbone_file, make_collection

    make_collection(room.work / "data", photos)
    backbone_file(room.work / "start.pth")
    small = [f"arch={ARCH}", "input_size=64", "dim=16", "batch_size=8", "memory_size=60", "sample_size=40"]
    changes = [word for change in small for word in ("--set", change)]
    limits = ["--max-steps", "2", "--workers", "1", "--device", "cpu"]
    room.isc_fast("train", "--stage", "v83", "--data", "data", "--init", "start.pth", "-o", "out", *changes, *limits)
    assert (room.work / "out").is_dir()


def test_importing_openvino_reports_nothing(room):
    """By itself, OpenVINO sends an event when it is imported."""
    pytest.importorskip("openvino")
    done, packets = room.run("-c", "import isc_fast, openvino; print(openvino.__version__)")
    assert done.returncode == 0, done.stderr
    assert packets == []
    assert room.left_behind() == []


def test_onnx_runtime_that_came_first_is_told_to_stop():
    """A stand-in for the library, since nothing tells from outside whether it listens."""
    code = (
        "import sys, types, os; told = []; ort = types.ModuleType('onnxruntime')\n"
        "ort.disable_telemetry_events = lambda: told.append('stop'); sys.modules['onnxruntime'] = ort\n"
        "import isc_fast; print(told, os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[0] == "['stop'] 1"


@pytest.mark.parametrize(
    "module", ["isc_fast.extraction.runners.worker", "isc_fast.machine.trial_child", "isc_fast.export"]
)
def test_every_process_is_silent_before_it_imports_anything(module):
    if importlib.util.find_spec("torch") is None and module == "isc_fast.export":
        pytest.skip("torch is not installed")
    code = f"import {module}, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout == "1 1\n"


def _programs() -> Sequence[Path]:
    return sorted(path for folder in ("bench", "examples", "docs") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("program", _programs(), ids=lambda path: path.name)
def test_programs_beside_the_package_import_onnx_runtime_through_it(program):
    assert not re.search(r"^\s*(import|from) onnxruntime", program.read_text("utf-8"), re.MULTILINE)
