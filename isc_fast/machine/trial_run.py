"""Trying something out in a process of its own, which may crash or hang without harm to this one.

What is tried is a function. The other process imports it by its name (`isc_fast.machine.trial_child`), so its module has to
be light: the function itself imports what it tries.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from .child import child_command, signal_name

WORKS, ABSENT, BROKEN = "works", "absent", "broken"
"""States: tried out; not installed, which may be on purpose; installed and does not work."""

TIMEOUT_S = 90.0
_CHILD = "isc_fast.machine.trial_child"


@dataclass(frozen=True)
class Answer:
    """What a trial in another process came to.

    Attributes:
        state: `WORKS`, `ABSENT` or `BROKEN`.
        detail: what the trial saw, or why it failed.
        repair: the line that repairs it, where the error named one.
    """

    state: str
    detail: str
    repair: str | None = None


@dataclass(frozen=True)
class Trial:
    """One row of ``isc-fast doctor``: a function that does a tiny piece of the real work, and what it stands for.

    Attributes:
        group: ``"decoders"``, ``"engines"`` or ``"search"``.
        name: of the row.
        function: does the work and returns one line about what it saw.
        repair: the line that installs what is tried.
        arguments: of the function.
        needs_gpu: whether it is tried only where there is a GPU.
        shares: the folder that several packages may fight for (`isc_fast.runs.checks.doctor`), or "".
    """

    group: str
    name: str
    function: Callable[..., str]
    repair: str
    arguments: tuple[str, ...] = ()
    needs_gpu: bool = False
    shares: str = ""


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def run_trial(function: Callable[..., str], *arguments: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """Call a function in another process and say how that ended; never raises, whatever the function does.

    Args:
        function: stands at the top level of a module that can be imported. It returns the detail, of which the last line
            counts. An exception makes the trial `BROKEN`, one that says that a module is missing `ABSENT`.
        arguments: of the function.
        timeout_s: then the process is killed.
    """
    command, environment = child_command(_CHILD, function.__module__, function.__name__, *arguments)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Answer(BROKEN, f"gave no answer within {timeout_s:.0f} s and was ended")
    except OSError as error:
        return Answer(BROKEN, f"could not be tried: {error.strerror or error}")
    if done.returncode == 0:
        return Answer(WORKS, _one_line(done.stdout))
    if done.returncode < 0:
        said = _one_line(done.stderr)
        return Answer(
            BROKEN, f"ended the whole process ({signal_name(done.returncode)})" + (f": {said}" if said else "")
        )
    reason = re.sub(r"^[\w.]+: ", "", _one_line(done.stderr)) or f"exit status {done.returncode}"
    gone = re.search(r"No module named '([\w.]+)'|this needs ([\w.]+), which is not installed", reason)
    if gone:
        return Answer(ABSENT, f"{gone[1] or gone[2]} is not installed")
    message, _, repair = reason.partition("; run: ")
    return Answer(BROKEN, message, repair or None)
