"""Steps of a long check, each in a process of its own with a time limit: what crashes or hangs in one costs only that one.

A step is a script that is given ``--row NAME`` and prints its result as a line of JSON, and before it, if it likes, what it
knows so far: of a step that is killed the last such line is kept. Light on purpose: whoever runs steps loads no library that
could crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

OK, ABSENT, FAILED, ABORTED, TIMEOUT, SKIPPED, NO_GPU = (
    "ok",
    "absent",
    "failed",
    "aborted",
    "timeout",
    "skipped",
    "no GPU",
)
"""States of a row: done; something is not installed, or not made for this device; ended with an error; ended the whole process
by a signal; was killed at its time limit; was not begun, for want of time or of what it needs; needs a GPU, and there is none."""
BAD = (FAILED, ABORTED, TIMEOUT)

LIMIT = "STEP_LIMIT_S"
_LEAST_S = 5.0  # a step that has less time than this is not begun

Result = dict[str, Any]
Row = Callable[[Any], Result]
"""A function that measures, given the settings."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: ``"group/row"``.
        script: that is run, with ``--row`` and the row's name.
        limit_s: after so many seconds it is killed.
        order: lower ones are begun first; of equal ones the one that was listed first.
        needs: names of steps without whose results it cannot run.
        needs_gpu: without a GPU it is not begun.
    """

    name: str
    script: str
    limit_s: float
    order: int = 0
    needs: tuple[str, ...] = ()
    needs_gpu: bool = True

    @property
    def row(self) -> str:
        """The name without its group."""
        return self.name.partition("/")[2]


class NotHere(Exception):
    """Raised by a row: it cannot be had on this machine or device, and that is no failure."""


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def so_far(result: Result) -> None:
    """Print what a row knows already, for the case that it is killed."""
    print(json.dumps(result), flush=True)


def serve(rows: Mapping[str, Row], name: str, settings: Any) -> int:
    """Compute one row and print it: the child's side. Errors come through, except that something is not installed."""
    try:
        result = {"state": OK, **rows[name](settings)}
    except NotHere as error:
        result = {"state": ABSENT, "reason": str(error)}
    except Exception as error:
        if not _says_not_installed(error):
            raise
        result = {"state": ABSENT, "reason": str(error)}
    so_far(result)
    return 0


def _says_not_installed(error: BaseException) -> bool:
    """Not one that is installed and does not load: that is a failure."""
    while type(error).__name__ == "MissingExtraError":
        if error.__cause__ is None:
            return True  # it was another process that did not find it
        error = error.__cause__
    return isinstance(error, ModuleNotFoundError)


def run_step(command: Sequence[str], limit_s: float) -> Result:
    """Run a command and say how it ended, whatever it does.

    Args:
        command: prints its result as the last line of JSON. It is told its limit in the environment, as `LIMIT`.
        limit_s: then it and all processes that it started are killed.

    Returns:
        what the command printed last, with ``state``, ``seconds`` and, unless all is well, ``reason``.
    """
    began = time.monotonic()
    environment = {**os.environ, LIMIT: str(limit_s)}
    # Files, not pipes: a process that the command left behind would keep a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, env=environment
        )
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)  # a driver that hangs keeps even a killed process
        found, said = _last_object(out), _last_line(err)
    seconds = round(time.monotonic() - began, 1)
    if code is None:
        ended = {"state": TIMEOUT, "reason": f"gave no answer within {limit_s:.0f} s and was killed"}
    elif code < 0:
        ended = {"state": ABORTED, "reason": f"ended the whole process ({_signal(-code)}){': ' * bool(said)}{said}"}
    elif code:
        ended = {"state": FAILED, "reason": said or f"exit status {code}"}
    elif not found:
        ended = {"state": FAILED, "reason": "printed no result"}
    else:
        ended = {"state": OK}
    return {**ended, **found, "seconds": seconds} if code == 0 else {**found, **ended, "seconds": seconds}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _lines(stream: IO[bytes]) -> list[str]:
    stream.seek(0)
    return [line for line in stream.read().decode(errors="replace").splitlines() if line.strip()]


def _last_line(stream: IO[bytes]) -> str:
    """The last line that is no frame of a traceback."""
    lines = [line for line in _lines(stream) if not line.startswith(("  File", "    ", "Extension modules"))]
    return lines[-1].strip()[:400] if lines else ""


def _last_object(stream: IO[bytes]) -> Result:
    for line in reversed(_lines(stream)):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                found: Result = json.loads(line)
                return found
    return {}


def with_needs(steps: Sequence[Step], wanted: Callable[[Step], bool]) -> list[Step]:
    """The wanted steps and those that they need, in the order in which they are begun."""
    by_name = {step.name: step for step in steps}
    chosen: set[str] = set()

    def choose(step: Step) -> None:
        chosen.add(step.name)
        for name in step.needs:
            choose(by_name[name])

    for step in steps:
        if wanted(step):
            choose(step)
    return sorted((step for step in steps if step.name in chosen), key=lambda step: step.order)


def run_steps(
    steps: Sequence[Step],
    settings_json: str,
    *,
    ends: float,
    gpu: bool,
    why_no_gpu: str = "needs an NVIDIA GPU",
    found: dict[str, Result] | None = None,
) -> dict[str, Result]:
    """Run steps one after the other until the time is used up; never raises for what a step does.

    Args:
        steps: in the order in which they are begun.
        settings_json: what each script is given as ``--settings``.
        ends: `time.monotonic` when all has to be over.
        gpu: whether steps that need a GPU can run.
        why_no_gpu: the reason of those that cannot.
        found: results of earlier steps; added to.

    Returns:
        ``found``, by the names of steps.
    """
    rows = {} if found is None else found
    for step in steps:
        left = ends - time.monotonic()
        missing = [name for name in step.needs if rows.get(name, {}).get("state") != OK]
        if step.needs_gpu and not gpu:
            rows[step.name] = {"state": NO_GPU, "reason": why_no_gpu}
        elif missing:
            why = rows.get(missing[0], {}).get("reason", "it did not run")
            absent = rows.get(missing[0], {}).get("state") == ABSENT
            rows[step.name] = {"state": ABSENT if absent else SKIPPED, "reason": f"needs {missing[0]}: {why}"}
        elif left < _LEAST_S:
            rows[step.name] = {"state": SKIPPED, "reason": "the time of the whole check is used up"}
        else:
            say(f"{step.name} … ({min(step.limit_s, left):.0f} s at most)")
            command = [sys.executable, step.script, "--row", step.row, "--settings", settings_json]
            rows[step.name] = run_step(command, min(step.limit_s, left))
        row = rows[step.name]
        if row["state"] != NO_GPU:
            say(f"{step.name}: {row['state']}{', ' + row['reason'] if row.get('reason') else ''}")
    return rows
