"""`bench/gpu_check.sh` on a machine without a GPU, and that nothing a step does can spoil the check."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import gpu_check
from gpu import Check, Settings, add_ratios, table
from steps import (
    ABORTED,
    ABSENT,
    FAILED,
    NO_GPU,
    OK,
    SKIPPED,
    TIMEOUT,
    Step,
    import_ahead,
    run_step,
    run_steps,
    with_needs,
)

ORDER = [step.name for step in with_needs(gpu_check.steps(), lambda step: True)]


def has_gpu() -> bool:
    torch = pytest.importorskip("torch")
    return bool(torch.cuda.is_available())


def shell(*arguments: str, script: Path = BENCH / "gpu_check.sh", **environment: str) -> Any:
    """The script with this very Python."""
    known = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, timeout=500, check=False, env=known
    )


# --- the script


def test_without_a_gpu_it_says_so_in_its_status_and_in_one_json(tmp_path: Path) -> None:
    if has_gpu():
        pytest.skip("there is a GPU")
    done = shell("-o", str(tmp_path))
    assert done.returncode == 3, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert (result["state"], result["gpu"], result["device"]) == ("no GPU", None, "cuda")
    assert "sees no NVIDIA GPU" in result["why"]
    rows = result["rows"]
    assert sorted(rows) == sorted(ORDER)
    assert rows.pop("prepare/machine")["state"] == OK
    assert {row["state"] for row in rows.values()} == {NO_GPU}
    assert all("sees no NVIDIA GPU" in row["reason"] for row in rows.values())
    assert result["goals"]["ratio_to_reference"] == {"wanted": 5.0, "found": None, "met": None}
    assert done.stderr.splitlines()[-1].startswith("no GPU: ")
    (written,) = tmp_path.iterdir()
    assert json.loads(written.read_text()) == json.loads(line)


def test_the_plan_of_steps(tmp_path: Path) -> None:
    done = shell("--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition("  ")[0] for line in lines[:-1]] == ORDER
    assert lines[-1].startswith("all within 570 s")
    for step in gpu_check.steps():
        assert all(ORDER.index(need) < ORDER.index(step.name) for need in step.needs), step
        assert Path(step.script).is_file()
    groups = {name.partition("/")[0] for name in ORDER}
    assert {f"{group}/reference" for group in groups - {"check", "prepare"}} <= set(ORDER)


def test_every_step_has_a_function_behind_it() -> None:
    import gpu_decode
    import gpu_engine
    import gpu_engines
    import gpu_pipeline
    import gpu_search

    behind = {
        "check": gpu_check.ROWS,
        "prepare": gpu_engines._ROWS,
        "engine": gpu_engine.ROWS,
        "decode": gpu_decode.ROWS,
        "pipeline": gpu_pipeline.ROWS,
        "search": gpu_search._ROWS,
    }
    for group, rows in behind.items():
        assert sorted(rows) == sorted(s.row for s in gpu_check.steps() if s.name.startswith(group + "/")), group


def test_only_some_rows_and_what_they_need() -> None:
    done = shell("--dry-run", "--only", "engine/plan", "search/faiss")
    names = [line.partition("  ")[0] for line in done.stdout.splitlines()[:-1]]
    assert names == ["prepare/ceilings", "prepare/network", "prepare/onnx", "prepare/plan", "engine/plan", "prepare/rows",
                     "search/faiss"]  # fmt: skip


def test_wrong_usage() -> None:
    assert shell("--device", "tpu").returncode == 2


def test_an_old_python_is_told_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\necho "isc-fast needs Python 3.11 or newer" >&2; exit 1\n')
    old.chmod(0o755)
    done = shell("--dry-run", PYTHON=str(old))
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.slow
def test_a_bare_checkout_on_a_machine_that_has_torch_and_timm_alone(tmp_path: Path) -> None:
    """The reference rows are measured, everything else says what is missing, and nothing fails."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("isc_fast", "training", "export", "bench", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    site = tmp_path / "site"
    site.mkdir()
    blocked = "onnx onnxruntime onnxscript openvino faiss simplejpeg cykooz nvidia.dali tensorrt tensorrt_rtx pytest"
    site.joinpath("sitecustomize.py").write_text(
        f"from importlib.machinery import PathFinder\nBLOCKED, real = set({blocked.split()!r}), PathFinder.find_spec\n"
        "def find_spec(name, path=None, target=None):\n"
        "    return None if {name, name.split('.')[0]} & BLOCKED else real(name, path, target)\n"
        "PathFinder.find_spec = staticmethod(find_spec)\n"
    )
    only = ["engine/reference", "engine/onnx", "decode/", "pipeline/reference", "search/reference", "search/faiss"]
    words = ["--device", "cpu", "--smoke", "--only", *only]
    done = shell(*words, script=copy / "bench" / "gpu_check.sh", PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    states = {name: row["state"] for name, row in result["rows"].items()}
    missing = {name for name, state in states.items() if state == ABSENT}
    assert missing == {
        *("prepare/onnx", "engine/onnx", "engine/onnx tensorrt"),
        *("decode/turbo", "decode/dali", "decode/dali, hardware", "search/faiss"),
    }
    assert {state for name, state in states.items() if name not in missing} == {OK}
    assert "simplejpeg" in result["rows"]["decode/turbo"]["reason"]
    for name in ("engine", "decode", "pipeline", "search"):
        assert result["rows"][f"{name}/reference"]["ratio_to_reference"] == 1
    assert result["rows"]["decode/reference"]["largest_difference"] == 0
    assert result["commit"] is None


# --- a step may do what it likes


@pytest.fixture(params=["process", "fork"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, float], Any]:
    """Run Python code as a step: in a new process, or in a fork of this one, as small checks do."""
    file = tmp_path / "step.py"

    def run(code: str, limit_s: float) -> Any:
        file.write_text(code)
        return run_step([sys.executable, str(file)], limit_s, fork=request.param == "fork")

    return run


def test_a_step_that_hangs_is_killed_with_all_that_it_started_and_keeps_what_it_said(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "print('{\"images_per_s\": 5}', flush=True); time.sleep(600)"
    )
    began = time.monotonic()
    row = run(code, 2)
    assert time.monotonic() - began < 8
    assert (row["state"], row["images_per_s"]) == (TIMEOUT, 5)
    assert row["reason"] == "gave no answer within 2 s and was killed"
    stat = Path(f"/proc/{mark.read_text()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_step_that_ends_well_leaves_nothing_behind_and_is_not_waited_for(run: Callable[..., Any]) -> None:
    """A process that it left would hold its output open."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('{\"pid\": %d}' % child.pid)"
    )
    began = time.monotonic()
    row = run(code, 60)
    assert row["state"] == OK
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("import os, sys; print('no kernel image', file=sys.stderr, flush=True); os.abort()", ABORTED,
         "ended the whole process (SIGABRT): no kernel image"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", ABORTED, "ended the whole process (SIGSEGV)"),
        ("print('{\"a\": 1}'); raise ValueError('this and that')", FAILED, "ValueError: this and that"),
        ("import sys; sys.exit(7)", FAILED, "exit status 7"),
        ("print('no JSON')", FAILED, "printed no result"),
        ("print('{broken')", FAILED, "printed no result"),
    ],
)  # fmt: skip
def test_how_a_step_ended(run: Callable[..., Any], code: str, state: str, reason: str) -> None:
    row = run(code, 60)
    assert (row["state"], row["reason"]) == (state, reason)


def test_what_was_imported_ahead_is_there_in_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "costly.py").write_text("import os\nmade_in = os.getpid()")
    (tmp_path / "damaged.py").write_text("raise OSError('libcudart.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_ahead(("costly", "damaged", "not_installed"))
    file = tmp_path / "step.py"
    file.write_text(
        "import costly, json, os, sys\n"
        "print(json.dumps({'told': [costly.made_in, os.getpid(), sys.argv[1:], os.environ['STEP_LIMIT_S']]}))"
    )
    found = run_step([sys.executable, str(file), "--row", "a b"], 30, fork=True)["told"]
    assert found[0] == os.getpid() != found[1]
    assert found[2:] == [["--row", "a b"], "30"]


def script(folder: Path, rows: str) -> str:
    """A script with rows, as the benchmarks are."""
    file = folder / "rows.py"
    file.write_text(
        f"import json, os, sys, time\nsys.path.insert(0, {str(BENCH)!r})\n"
        "from steps import LIMIT, NotHere, serve\nfrom isc_fast.errors import require\n"
        f"{rows}\nrows = {{name: value for name, value in dict(globals()).items() if callable(value)}}\n"
        "sys.exit(serve(rows, sys.argv[2], json.loads(sys.argv[4])))\n"
    )
    return str(file)


ROWS = """
def good(settings): return {"value": settings["value"], "limit": float(os.environ[LIMIT])}
def elsewhere(settings): raise NotHere("made for another device")
def missing(settings): import a_library_that_is_not_installed
def extra(settings): require("another_library", "gpu")
def wrapped(settings):
    from isc_fast.errors import MissingExtraError
    try: require("another_library", "gpu")
    except MissingExtraError as error: raise MissingExtraError("DALI is not installed") from error
def elsewhere_missing(settings):
    from isc_fast.errors import MissingExtraError
    raise MissingExtraError("another process did not find faiss")
def broken(settings): require("broken_library", "gpu")
def hangs(settings): time.sleep(600)
def aborts(settings): os.abort()
"""


def test_one_row_never_costs_another(tmp_path: Path) -> None:
    file = script(tmp_path, ROWS)
    (tmp_path / "broken_library.py").write_text("raise OSError('libcudart.so: cannot open shared object file')")
    plan = [
        Step("x/aborts", file, 30),
        Step("x/hangs", file, 3, needs_gpu=False),
        Step("x/good", file, 30),
        Step("x/elsewhere", file, 30),
        Step("x/missing", file, 30),
        Step("x/extra", file, 30),
        Step("x/wrapped", file, 30),
        Step("x/elsewhere_missing", file, 30),
        Step("x/broken", file, 30),
        Step("x/after good", file, 30, needs=("x/good",)),
        Step("x/after aborts", file, 30, needs=("x/good", "x/aborts")),
        Step("x/after missing", file, 30, needs=("x/missing",)),
    ]
    found = run_steps(plan[:-3], '{"value": 3}', ends=time.monotonic() + 300, gpu=True)
    run_steps(plan[-2:], "{}", ends=time.monotonic() + 300, gpu=True, found=found)
    assert {name.partition("/")[2]: row["state"] for name, row in found.items()} == {
        "aborts": ABORTED,
        "hangs": TIMEOUT,
        "good": OK,
        "elsewhere": ABSENT,
        "missing": ABSENT,
        "extra": ABSENT,
        "wrapped": ABSENT,
        "elsewhere_missing": ABSENT,
        "broken": FAILED,
        "after aborts": SKIPPED,
        "after missing": ABSENT,
    }
    assert (found["x/good"]["value"], found["x/good"]["limit"]) == (3, 30)
    assert found["x/elsewhere"]["reason"] == "made for another device"
    assert found["x/extra"]["reason"].endswith("run: pip install 'isc-fast[gpu]'")
    assert "libcudart.so" in found["x/broken"]["reason"]
    assert found["x/after missing"]["reason"].startswith("needs x/missing: No module named")
    check = Check("Card", "", "cuda", {}, found, 1.0)
    assert check.status == 1


def test_the_budget_ends_the_step_in_progress_and_all_after_it(tmp_path: Path) -> None:
    file = script(tmp_path, ROWS)
    began = time.monotonic()
    plan = [Step("x/hangs", file, 300), Step("x/good", file, 30), Step("x/aborts", file, 30)]
    found = run_steps(plan, "{}", ends=began + 6, gpu=True)
    assert time.monotonic() - began < 15
    assert found["x/hangs"]["state"] == TIMEOUT
    assert {found[name]["state"] for name in ("x/good", "x/aborts")} == {SKIPPED}
    assert found["x/good"]["reason"] == "the time of the whole check is used up"


def test_without_a_gpu_only_steps_that_need_none(tmp_path: Path) -> None:
    file = script(tmp_path, ROWS)
    plan = [Step("x/aborts", file, 30), Step("x/good", file, 30, needs_gpu=False)]
    found = run_steps(plan, '{"value": 1}', ends=time.monotonic() + 60, gpu=False, why_no_gpu="none is here")
    assert found["x/aborts"] == {"state": NO_GPU, "reason": "none is here"}
    assert found["x/good"]["state"] == OK


# --- the tests that need a GPU, run as a row

SOME_TESTS = """
import os, time, pytest
pytestmark = pytest.mark.gpu
def test_good(): pass
@pytest.mark.parametrize("word", ["a b", "c - d"])
def test_words(word): pass
def test_bad(): assert 1 == 2, "one is not two"
@pytest.mark.skip(reason="not today")
def test_skipped(): pass
"""
ENDS = {
    "aborts": "def test_last(): os.abort()",
    "hangs": "def test_last(): time.sleep(600)",
    "deaf": ("import signal\ndef test_last():\n    signal.signal(signal.SIGINT, signal.SIG_IGN)\n    time.sleep(600)"),
    "well": "",
}


@pytest.mark.parametrize("end", ENDS)
def test_what_the_tests_found_is_known_however_they_end(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["gpu: x"]\naddopts = "--strict-config"\n'
                                             'no_such_plugin_timeout = 600\n')  # fmt: skip
    (tmp_path / "tests" / "test_some.py").write_text(SOME_TESTS.replace("assert 1 == 2", "assert 1 == 1") + ENDS[end])
    (tmp_path / "tests" / "test_more.py").write_text("def test_without_mark(): assert False")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    seconds = 12 if end in ("hangs", "deaf") else 120  # pytest has to reach the last test on a busy machine too
    monkeypatch.setenv("STEP_LIMIT_S", str(gpu_check._TESTS_END_S + seconds))
    row = gpu_check.tests(Settings(str(tmp_path)))
    counts = {"passed": 4, "skipped": 1}
    last = None if end == "well" else "tests/test_some.py::test_last"
    assert {**row["counts"]}.items() >= counts.items()
    assert row["complete"] == (end == "well")
    if end == "aborts":
        assert row["state"] == FAILED
        assert row["ended_in"] == last
        assert "status -6" in row["reason"]
    elif end != "well":
        assert row["state"] == SKIPPED
        assert f"were ended after {seconds} s" in row["reason"]


def test_a_test_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(SOME_TESTS)
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    row = gpu_check.tests(Settings(str(tmp_path)))
    assert row["state"] == FAILED
    assert row["counts"] == {"passed": 3, "failed": 1, "skipped": 1}
    assert list(row["failures"]) == ["tests/test_some.py::test_bad"]
    assert "one is not two" in row["failures"]["tests/test_some.py::test_bad"]


# --- what is made of the rows


def some_rows() -> dict[str, Any]:
    rows = {
        "engine/reference": {"state": OK, "images_per_s": 1000.0},
        "engine/plan": {"state": OK, "images_per_s": 3000.0},
        "engine/pt2": {"state": ABSENT, "reason": "no compiler"},
        "pipeline/reference": {"state": OK, "images_per_s": 500.0, "share_of_slower_part": 0.99},
        "pipeline/plan + dali": {"state": OK, "images_per_s": 2600.0, "share_of_slower_part": 0.85},
        "pipeline/onnx + turbo": {"state": OK, "images_per_s": 700.0, "share_of_slower_part": 0.95},
        "pipeline/pt2 + turbo": {"state": TIMEOUT, "images_per_s": 9000.0, "share_of_slower_part": 0.95},
    }
    add_ratios(rows)
    return rows


def test_goals_are_those_of_the_fastest_way_that_came_to_its_end() -> None:
    assert gpu_check.goals(some_rows()) == {
        "best": "pipeline/plan + dali",
        "share_of_slower_part": {"wanted": 0.9, "found": 0.85, "met": False},
        "ratio_to_reference": {"wanted": 5.0, "found": 5.2, "met": True},
    }


def test_the_summary_and_its_file(tmp_path: Path) -> None:
    check = Check("NVIDIA H100 80GB HBM3", "", "cuda", {}, some_rows(), 12.34)
    result = gpu_check.summary(check, 570)
    assert (result["state"], result["seconds"]) == ("failed", 12.3)
    assert result["states"][TIMEOUT] == ["pipeline/pt2 + turbo"]
    assert result["rows"]["engine/plan"]["ratio_to_reference"] == 3
    written = gpu_check.write(result, tmp_path)
    assert written.name == "NVIDIA-H100-80GB-HBM3.json"
    assert gpu_check.write(result, tmp_path / "x.json") == tmp_path / "x.json"
    assert "3.00 × reference" in table(check.rows)
    good = {name: row for name, row in check.rows.items() if row["state"] != TIMEOUT}
    assert Check("Card", "", "cuda", {}, good, 1.0).status == 0  # what is absent is no failure
    assert Check(None, "none", "cuda", {}, {}, 1.0).status == 3
    assert Check(None, "none", "cpu", {}, good, 1.0).status == 0
