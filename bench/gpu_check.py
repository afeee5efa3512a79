"""Check everything on a machine with an NVIDIA GPU, in under ten minutes. Prints one JSON on stdout, progress on stderr.

    bench/gpu_check.sh                       does the same, and finds Python and the package by itself
    python bench/gpu_check.py -o bench/results/
    python bench/gpu_check.py --dry-run      shows the steps, their order and their limits, and runs none
    python bench/gpu_check.py --device cpu --smoke      runs all of it on a processor, small, to show that it runs

Each step runs in a process of its own with a time limit, one after the other, the most telling first: the machine; the tests
that need a GPU; the machine's ceilings; then network, decoding, pipeline and search, as `gpu_engine.py`, `gpu_decode.py`,
`gpu_pipeline.py` and `gpu_search.py` measure them; and at the end ``isc-fast doctor``. A step that crashes, aborts or hangs
loses only its own row. A row says so if a library is not installed, or if the time did not suffice for its step; run such
steps again with ``--only`` and ``--budget``.

Exit status: 0 everything that can run here works, 1 a row failed, 2 wrong usage, 3 there is no GPU. docs/gpu.md says what has
run on a GPU so far.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gpu_decode
import gpu_engine
import gpu_engines
import gpu_pipeline
import gpu_search
from gpu import BENCH, MACHINE, REFERENCE, Check, Settings, parser, run_check, table
from harness import machine_card
from steps import FAILED, LIMIT, OK, SKIPPED, NotHere, Result, Row, Step, say, serve, with_needs

SCRIPT = str(BENCH / "gpu_check.py")
ROOT = BENCH.parent
BUDGET_S = 570.0
TESTS = "check/tests"
_TESTS_S, _TESTS_END_S = 130.0, 15.0
_LEAST_SHARE, _LEAST_RATIO = 0.9, 5.0
_OUTCOMES = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")
_TEST_LINE = re.compile(rf"^(\S+\.py::.*?)(?: ({'|'.join(_OUTCOMES)})\b.*)?$")
_REASON_LINE = re.compile(r"^(?:FAILED|ERROR) (\S+\.py::.*?) - (.*)$")


def steps() -> list[Step]:
    """Return all steps."""
    return [
        MACHINE,
        Step(TESTS, SCRIPT, _TESTS_S + _TESTS_END_S, order=0),
        *gpu_engines.steps(),
        *gpu_engine.steps(),
        *gpu_decode.steps(),
        *gpu_pipeline.steps(),
        *gpu_search.steps(),
        Step("check/doctor", SCRIPT, 60, order=10),
    ]


def read_tests(text: str) -> dict[str, Any]:
    """Read pytest's ``-v`` output: counts, reasons, and the test in which it ended, if it ended in the middle."""
    outcomes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    running = None
    for line in text.splitlines():
        reason = _REASON_LINE.match(line)
        if reason:
            reasons[reason[1]] = reason[2][:300]
            continue
        found = _TEST_LINE.match(line)
        if found and found[2]:
            outcomes[found[1]], running = found[2], None
        elif found:
            running = found[1].partition(" Fatal Python error")[0].strip()
    counts = {word.lower(): list(outcomes.values()).count(word) for word in _OUTCOMES if word in outcomes.values()}
    bad = [name for name, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")]
    return {"counts": counts, "failures": {name: reasons.get(name, "") for name in bad}, "ended_in": running}


def tests(settings: Settings) -> Result:
    """Run ``pytest -m gpu``. It is interrupted before its time is up, so that its results up to then are known."""
    if settings.device != "cuda":
        raise NotHere("tests marked gpu need a GPU")
    import pytest  # noqa: F401  # if it is missing, the row says so

    command = [sys.executable, "-P", "-m", "pytest", "-m", "gpu", "-v", "--color=no", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "tests"]  # without addopts' --strict-config, which needs pytest-timeout
    # The tests must not import the folder isc_fast beside tests/: in a bare checkout it lacks training and export.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    seconds = min(_TESTS_S, float(os.environ.get(LIMIT, "inf")) - _TESTS_END_S)
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
        ended = ""
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            ended = f"were ended after {seconds:.0f} s"
            process.send_signal(signal.SIGINT)  # pytest then prints its summary
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        out.seek(0)
        text = out.read()
    found = read_tests(text)
    result: Result = {**found, "complete": process.returncode in (0, 1, 5) and not ended}
    if found["failures"]:
        names = ", ".join(sorted(found["failures"]))
        result |= {"state": FAILED, "reason": f"{len(found['failures'])} tests failed: {names[:300]}"}
    elif ended:
        result |= {"state": SKIPPED, "reason": f"the tests {ended}, in {found['ended_in'] or 'between two'}"}
    elif not result["complete"]:
        last = text.strip().splitlines()[-1:] or [""]
        where = f" in {found['ended_in']}" if found["ended_in"] else ""
        result |= {"state": FAILED, "reason": f"pytest ended with status {process.returncode}{where}: {last[0][:200]}"}
    return result


def doctor(settings: Settings) -> Result:
    """Run ``isc-fast doctor`` and return what it found."""
    from isc_fast.runs.checks.doctor import diagnose

    found = diagnose()
    broken = [f"{row.name}: {row.detail}" for row in found.findings if row.state == "broken"]
    return {"broken": broken, **found.to_dict()}


ROWS: dict[str, Row] = {"tests": tests, "doctor": doctor}


def goals(rows: Mapping[str, Result]) -> dict[str, Any]:
    """Return how far the pipeline's best way reaches its two goals, or None for what was not measured."""
    ours = {name: row for name, row in rows.items()
            if name.startswith("pipeline/") and row["state"] == OK and "ratio_to_reference" in row
            and name != f"pipeline/{REFERENCE}"}  # fmt: skip
    best = max(ours, key=lambda name: ours[name]["images_per_s"], default=None)
    wanted = {"share_of_slower_part": _LEAST_SHARE, "ratio_to_reference": _LEAST_RATIO}
    found: dict[str, Any] = {"best": best}
    for key, least in wanted.items():
        value = ours[best][key] if best else None
        found[key] = {"wanted": least, "found": value, "met": None if value is None else value >= least}
    return found


def summary(check: Check, budget_s: float) -> dict[str, Any]:
    """Return the content of the JSON."""
    rows = check.rows
    state = {0: "ok", 1: "failed", 3: "no GPU"}[check.status]
    by_state: dict[str, list[str]] = {}
    for name, row in rows.items():
        by_state.setdefault(row["state"], []).append(name)
    return {
        "bench": "gpu_check",
        "state": state,
        "gpu": check.gpu,
        "why": check.why,
        "device": check.device,
        "commit": _commit(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(check.seconds, 1),
        "budget_s": budget_s,
        "settings": check.settings,
        "goals": goals(rows),
        "states": by_state,
        "rows": rows,
        "machine": machine_card(),
    }


def _commit() -> str | None:
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def write(result: Mapping[str, Any], output: Path) -> Path:
    """Write the JSON to a file, or into a folder under the name of the graphics card."""
    if output.is_dir():
        name = re.sub(r"[^A-Za-z0-9]+", "-", str(result["gpu"] or result["machine"]["processor"])).strip("-")
        output = output / f"{name}.json"
    output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps and print one JSON."""
    options = parser(__doc__)
    options.add_argument("--dry-run", action="store_true", help="print the steps and run none")
    options.add_argument(
        "--budget", type=float, default=BUDGET_S, metavar="S", help="seconds for all steps together (%(default)s)"
    )
    options.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the JSON to this file too; in a folder, to CARD.json"
    )
    given = options.parse_args(arguments)
    if given.row:
        return serve(ROWS, given.row, Settings.from_json(given.settings))
    words = given.only or [""]
    chosen = with_needs(steps(), lambda step: any(word in step.name for word in words))
    if given.dry_run:
        for step in chosen:
            needs = f", needs {', '.join(step.needs)}" if step.needs else ""
            print(f"{step.name:<26} {step.limit_s:4.0f} s at most{needs}")
        print(f"all within {given.budget:.0f} s: what no longer fits is left out")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the step in progress ends too
    check = run_check(chosen, given, given.budget)
    result = summary(check, given.budget)
    if check.status != 3:
        say(table(check.rows))
    if given.output:
        say(f"written to {write(result, given.output)}")
    print(json.dumps(result))
    if check.status == 3:
        say(f"no GPU: {check.why}")
    return check.status


if __name__ == "__main__":
    sys.exit(main())
