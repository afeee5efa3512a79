"""Steps of a long check. Each runs in a process of its own with a time limit, so that a crash or a hang costs only one step.

A step is a script that takes ``--row NAME`` and prints its result as a line of JSON. Before that it may print what it knows so
far in the same form: if the step is killed, the last such line counts. This module is light on purpose: the process that runs
the steps loads no library that could crash.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

OK, ABSENT, FAILED, ABORTED, TIMEOUT, SKIPPED, NO_GPU = (
    "ok",
    "absent",
    "failed",
    "aborted",
    "timeout",
    "skipped",
    "no GPU",
)
"""The states of a row, in this order: it is done; a library is not installed, or does not support this device; it ended with
an error; a signal ended its whole process; it was killed at its time limit; it was not begun, because time was short or a step
that it needs has no result; it needs a GPU and there is none."""
BAD = (FAILED, ABORTED, TIMEOUT)

LIMIT = "STEP_LIMIT_S"
_LEAST_S = 5.0  # a step is not begun if less time than this is left

Result = dict[str, Any]
Row = Callable[[Any], Result]
"""A function that takes the settings and measures one row."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: ``"group/row"``.
        script: path of the script; it is run with ``--row`` and the row's name.
        limit_s: the step is killed after this many seconds.
        order: steps with lower numbers begin first. Steps with equal numbers begin in the order of the list.
        needs: names of the steps whose results it needs.
        needs_gpu: whether it is begun only if there is a GPU.
    """

    name: str
    script: str
    limit_s: float
    order: int = 0
    needs: tuple[str, ...] = ()
    needs_gpu: bool = True

    @property
    def row(self) -> str:
        """Return the name without its group."""
        return self.name.partition("/")[2]


class NotHere(Exception):
    """A row raises this if it cannot be measured on this machine or device. It does not count as a failure."""


def say(line: str) -> None:
    """Print a line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def so_far(result: Result) -> None:
    """Print what a row knows already, in case it is killed."""
    print(json.dumps(result), flush=True)


def serve(rows: Mapping[str, Row], name: str, settings: Any) -> int:
    """Compute one row in this process, a child, and print it. Errors come through, except for a missing library."""
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
    """Return whether an error means that a library is not installed. One that is installed and does not load is a failure."""
    while type(error).__name__ == "MissingExtraError":
        if error.__cause__ is None:
            return True  # another process did not find the library
        error = error.__cause__
    return isinstance(error, ModuleNotFoundError)


class _Running(Protocol):
    """A process that works on a step, alone in a session of its own."""

    pid: int

    def wait(self, timeout: float | None) -> int | None:
        """Return the exit status, negative after a signal; None or `subprocess.TimeoutExpired` if it still runs."""


class _Fork:
    """A step in a fork of this process. It runs a Python script as `subprocess.Popen` would, with what is imported already."""

    def __init__(self, command: Sequence[str], out: IO[bytes], err: IO[bytes], environment: Mapping[str, str]) -> None:
        self._process = multiprocessing.get_context("fork").Process(
            target=_become, args=(command[1:], out.fileno(), err.fileno(), environment)
        )
        self._process.start()
        self.pid = int(self._process.pid or 0)

    def wait(self, timeout: float | None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode


def _become(arguments: Sequence[str], out: int, err: int, environment: Mapping[str, str]) -> None:
    """Run a script in this process, a fork, as if Python had been started with these arguments."""
    faulthandler.disable()  # pytest has switched it on, and it would tell pytest
    os.setsid()
    with open(os.devnull, "rb") as nothing:
        for stream, place in ((nothing.fileno(), 0), (out, 1), (err, 2)):
            os.dup2(stream, place)
    sys.stdout, sys.stderr = (open(place, "w", buffering=1, closefd=False) for place in (1, 2))  # noqa: SIM115
    os.environ.update(environment)
    sys.argv = list(arguments)
    runpy.run_path(arguments[0], run_name="__main__")


def import_ahead(names: Sequence[str]) -> None:
    """Import libraries that forks of this process need. Those that are not installed are left out; their rows say so."""
    for name in names:
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module(name)


def run_step(command: Sequence[str], limit_s: float, *, fork: bool = False) -> Result:
    """Run a command and return how it ended, whatever it does.

    Args:
        command: a command that prints its result as the last line of JSON. The environment variable `LIMIT` gives its limit.
        limit_s: after this many seconds, the command and all processes that it started are killed.
        fork: run the command, which has to be this Python with a script, in a fork of this process.

    Returns:
        the last result that the command printed, with ``state``, ``seconds`` and, unless it is done, ``reason``.
    """
    began = time.monotonic()
    environment = {**os.environ, LIMIT: str(limit_s)}
    # The output goes into files and not into pipes, because a process that the command left behind keeps a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process: _Running = (
            _Fork(command, out, err, environment)
            if fork
            else subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, env=environment
            )
        )
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)  # a driver that hangs keeps even a killed process alive
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
    """Return the last line that does not belong to the frames of a traceback."""
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
    """Return the wanted steps and those that they need, in the order in which they begin."""
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
    fork: bool = False,
) -> dict[str, Result]:
    """Run steps one after the other until the time is used up. Whatever a step does, this raises nothing.

    Args:
        steps: the steps, in the order in which they begin.
        settings_json: the settings that each script gets as ``--settings``.
        ends: the value of `time.monotonic` at which everything must be over.
        gpu: whether steps that need a GPU can run.
        why_no_gpu: the reason for steps that cannot run without one.
        found: results of earlier steps; the new ones are added to it.
        fork: run them in forks of this process; see `import_ahead`.

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
            rows[step.name] = run_step(command, min(step.limit_s, left), fork=fork)
        row = rows[step.name]
        if row["state"] != NO_GPU:
            say(f"{step.name}: {row['state']}{', ' + row['reason'] if row.get('reason') else ''}")
    return rows
