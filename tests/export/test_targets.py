"""The seam of the exporter: the table of targets, its loop, and what is left of an export that ends early."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from toy_target import ToyMaking, ToyTarget

from isc_fast.engines.kinds import KINDS
from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import EngineError, OutputError, ParityError
from isc_fast.export import export_engine
from isc_fast.export.publishing import scratch_folder
from isc_fast.export.request import Request
from isc_fast.export.targets import table
from isc_fast.export.targets.base import Draft, Making, Target, Verdict
from isc_fast.export.targets.table import TARGETS, TargetOptions, choose_target, option_names, options_for

PHOTO = ["a.jpg"]  # the toy looks at none


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyTarget:
    """The toy in one row of the table."""
    target = ToyTarget()
    monkeypatch.setattr(table, "TARGETS", (*TARGETS, target))
    return target


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output's folder. The current folder holds a file that stands for a checkpoint; toys do not read it."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as file:
        file.writestr("c/data.pkl", b"")
    return folder


def export(output: Path, **options: Any) -> Any:
    return export_engine("c.pth", output, photos=PHOTO, **options)


# --- the loop


def test_a_toy_target_is_chosen_built_gated_and_published(toy: ToyTarget, scratch: Path, out: Path) -> None:
    said: list[str] = []
    report = export(out / "x.TOY", sparkle=3, log=said.append)
    # The budget of the second attempt is three quarters of the first one's, as for every target.
    assert said == ["choose 4.0e-04", "build 2", "gate 2", "choose 3.0e-04", "build 3", "gate 3", "closed"]
    assert EngineSpec.from_json((out / "x.TOY").read_text()) == report.spec
    assert report.spec.parity == {"found": 3}
    assert report.size_bytes == (out / "x.TOY").stat().st_size
    assert os.listdir(out) == ["x.TOY"]
    assert os.listdir(scratch) == []


def test_a_gate_that_fails_publishes_nothing(toy: ToyTarget, scratch: Path, out: Path) -> None:
    said: list[str] = []
    (out / "x.toy").write_text("older")
    with pytest.raises(ParityError, match="2 sparks, expected at least 3; nothing was published"):
        export(out / "x.toy", sparkle=2, log=said.append)
    assert sum(line.startswith("build") for line in said) == 6
    assert os.listdir(out) == ["x.toy"]
    assert (out / "x.toy").read_text() == "older"
    assert os.listdir(scratch) == []


def test_where_there_was_nothing_to_choose_there_is_one_attempt(
    toy: ToyTarget, scratch: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(ToyMaking, "choose", lambda self, budget: Draft(1))
    with pytest.raises(ParityError, match="1 sparks"):
        export(out / "x.toy", log=said.append)
    assert said == ["build 1", "gate 1"]


def test_where_nothing_can_be_chosen_nothing_is_built(
    toy: ToyTarget, scratch: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(ToyMaking, "choose", lambda self, budget: None)
    with pytest.raises(ParityError, match="nothing was published"):
        export(out / "x.toy", log=said.append)
    assert (said, os.listdir(out)) == ([], [])


def test_the_output_is_tried_before_the_work(toy: ToyTarget, scratch: Path, out: Path) -> None:
    said: list[str] = []
    (out / "x.toy").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        export(out / "x.toy", log=said.append)
    assert said == []
    assert os.listdir(out) == ["x.toy"]


def test_a_target_that_starts_from_an_engine_gets_one(
    toy: ToyTarget, scratch: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkpoint two engines are made by the same loop, the first in fp32; only the second is published."""
    opened: list[Request] = []

    class FromEngine(ToyTarget):
        suffix = ".next"
        from_engine = True

        @contextlib.contextmanager
        def open(self, request: Request, path: Path) -> Iterator[Making]:
            opened.append(request)
            assert Path(request.ckpt).read_text() == "an engine"
            yield ToyMaking(request, path)

    class Plain(Making):
        def __init__(self, path: Path) -> None:
            self.path = path

        def build(self, draft: Draft) -> None:
            self.path.write_text("an engine")

        def gate(self, draft: Draft) -> Verdict:
            return Verdict({})

        def stamp(self, verdict: Verdict) -> EngineSpec:
            return EngineSpec("plain", "none", 8, 8, 4, 1.0)

    @contextlib.contextmanager
    def plain(request: Request, path: Path) -> Iterator[Making]:
        opened.append(request)
        yield Plain(path)

    monkeypatch.setattr(table.FP32, "open", plain, raising=False)
    monkeypatch.setattr(table.FP32, "check", lambda request: request, raising=False)
    monkeypatch.setattr(table, "TARGETS", (*TARGETS, FromEngine()))
    report = export(out / "x.next", precision="fp16", name="mine", size=64)
    first, second = opened
    assert (first.ckpt, first.precision, first.name, first.size) == ("c.pth", "fp32", "mine", 64)
    assert (second.precision, second.name) == ("fp16", "mine")
    assert report.spec.precision == "fp16"
    assert os.listdir(out) == ["x.next"]
    assert os.listdir(scratch) == []


# --- which target, and which options


@pytest.mark.parametrize(
    ("name", "precision", "chosen"),
    [
        ("x.onnx", None, ("OnnxTarget", "fp32")),
        ("x.ONNX", "fp32", ("OnnxTarget", "fp32")),
        ("x.onnx", "int8-bf16", ("ReducedTarget", "int8-bf16")),
        ("x.pt2", None, ("AotiTarget", "fp32")),
        ("x.pt2", "bf16", ("AotiTarget", "bf16")),
        ("x.plan", None, ("PlanTarget", "fp16")),
        ("x.Plan", "fp8", ("PlanTarget", "fp8")),
    ],
)
def test_the_suffix_and_the_precision_choose(name: str, precision: str | None, chosen: tuple[str, str]) -> None:
    target, resolved = choose_target(Path(name), precision)
    assert (type(target).__name__, resolved) == chosen


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        ("x.onnx", {"batch": (4,)}, r"--batch is for TensorRT plans only; leave out --batch, .* a \.plan, .*-o x\.plan"),
        ("x.pt2", {"timing_cache": "t"}, r"--timing-cache is for TensorRT plans only; .*-o x\.plan"),
        ("x.pt2", {"tta": True}, r"leave out --tta, .*-o x\.onnx"),
        ("x.onnx", {"precision": "bf16", "tta": True}, r"leave out --tta, .*--precision fp32"),
        ("x.pt2", {"weights_as": "fp16"}, r"as it computes, not as fp16; leave out --weights-as, .*-o x\.onnx"),
        ("x.plan", {"weights_as": "fp16"}, r"stored as fp16 in fp32 engines only; leave out --weights-as, .*-o x\.onnx"),
        ("x.onnx", {"precision": "int8", "weights_as": "fp16"}, r"in fp32 engines only; leave out .*--precision fp32"),
        ("x.onnx", {"runtime": "openvino"}, r"by any of onnxruntime, openvino; .*--runtime, .*--precision bf16$"),
        ("x.pt2", {"runtime": "openvino"}, r"run by torch, not by openvino; .*-o x\.onnx --precision bf16$"),
        ("x.onnx", {"device": "cuda"}, r"made for any device.*; leave out --device, .* a \.pt2 engine, .*-o x\.pt2"),
        ("x.plan", {"device": "cpu"}, r"NVIDIA GPU only, not on cpu; leave out --device"),
        ("x.onnx", {"sparkle": 1}, r"an \.onnx engine in fp32 takes no --sparkle; leave out --sparkle, .* a \.toy, .*x\.toy"),
        ("x.toy", {"version_compatible": True}, r"--version-compatible is for TensorRT plans only; "),
        ("x.toy", {"precision": "int8"}, r"a \.toy computes in fp32, fp16, not in int8; choose .*-o x\.onnx or -o x\.plan"),
        ("x.onnx", {"precision": "fp8"}, r"not made in fp8, in which no processor computes; .* again with -o x\.plan$"),
    ],
)  # fmt: skip
def test_what_belongs_to_another_target_is_refused_with_its_flag_and_its_owner(
    toy: ToyTarget, output: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        export(Path(output), **options)


def test_an_option_of_nobody_is_a_mistake_in_the_call() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'shine'"):
        export(Path("x.onnx"), shine=1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_what_changes_nothing_is_taken(target: Target) -> None:
    """None, False and what the target does anyway; so scripts may pass every option to every target."""
    nothing = {name: None for row in TARGETS for name in option_names(row)}
    nothing |= {"version_compatible": False, "hardware_compatible": False, "weights_as": "fp32"}
    assert options_for(target, nothing, Path("x")) == target.options()
    implied = {name: value for name, value in target.implied.items() if name not in option_names(target)}
    assert implied == dict(target.implied)
    assert options_for(target, implied, Path("x")) == target.options()


def test_the_table_makes_what_the_kinds_of_engine_promise() -> None:
    for suffix, kind in KINDS.items():
        rows = [target for target in TARGETS if target.suffix == suffix]
        assert sorted(name for target in rows for name in target.precisions) == sorted(kind.precisions)
        assert choose_target(Path("x" + suffix), None)[1] == kind.default_precision
    assert {target.suffix for target in TARGETS} == set(KINDS)


def test_the_options_for_type_checkers_are_those_of_the_table() -> None:
    assert set(TargetOptions.__annotations__) == {name for target in TARGETS for name in option_names(target)}


def test_the_command_has_a_flag_for_every_option_and_says_its_default() -> None:
    command = [sys.executable, "-m", "isc_fast", "export", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "1000"})
    entries = re.split(r"\n  (?=-)", told.stdout)
    lines = {entry.split()[0]: " ".join(entry.split()) for entry in entries}
    for target in TARGETS:
        for entry in fields(target.options):
            line = lines[f"--{entry.name.replace('_', '-')}"]
            if entry.default not in (None, False):
                default = entry.default if isinstance(entry.default, str) else ",".join(map(str, entry.default))
                assert f"default: {default}" in line
    precisions = lines["--precision"].partition("{")[2].partition("}")[0]
    assert set(precisions.split(",")) == {name for target in TARGETS for name in target.precisions}


# --- what is left behind


def test_a_killed_export_is_cleaned_up_by_the_next_one(toy: ToyTarget, scratch: Path, out: Path) -> None:
    """Nothing stands beside the output, and the folder for temporary files goes with the next export."""
    code = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from toy_target import ToyTarget\n"
        "from isc_fast.export import export_engine\n"
        "from isc_fast.export.targets import table\n"
        "table.TARGETS += (ToyTarget(),)\n"
        "def log(line):\n"
        "    if line == 'gate 3': os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_engine('c.pth', sys.argv[2], photos=['a.jpg'], log=log)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(out / "x.toy")]
    killed = subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert os.listdir(out) == []
    (left,) = scratch.iterdir()
    assert os.listdir(left) == ["1-fp32.toy"]
    export(out / "x.toy")
    assert list(scratch.iterdir()) == [left]  # it is so young that another export may have made it just now
    os.utime(left, (0, 0))
    export(out / "x.toy")
    assert list(scratch.iterdir()) == []


def test_a_folder_in_use_is_left_alone(scratch: Path) -> None:
    with scratch_folder() as mine:
        os.utime(mine, (0, 0))
        with scratch_folder() as other:
            assert mine.is_dir()
            assert sorted(scratch.iterdir()) == sorted([mine, other])
    assert list(scratch.iterdir()) == []


def test_another_program_s_lock_counts(scratch: Path) -> None:
    theirs = scratch / "isc-fast-export-theirs"
    theirs.mkdir()
    os.utime(theirs, (0, 0))
    lock = os.open(theirs, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with scratch_folder():
            assert theirs.is_dir()
    finally:
        os.close(lock)
    with scratch_folder():
        assert not theirs.exists()


def test_no_room_for_temporary_files_is_said(toy: ToyTarget, scratch: Path, out: Path, monkeypatch: Any) -> None:
    def full(self: ToyMaking, draft: Draft) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ToyMaking, "build", full)
    with pytest.raises(OutputError, match=r"the export needs temporary files, .*No space left.* TMPDIR"):
        export(out / "x.toy")
    assert os.listdir(out) == os.listdir(scratch) == []


def test_a_request_is_plain_data() -> None:
    request = Request("c.onnx", Path("x.onnx"))
    assert request.given_engine == ".onnx"
    assert replace(request, ckpt="c.pth.tar").given_engine == ""
