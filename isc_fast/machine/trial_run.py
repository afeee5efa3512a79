"""Trying something out in a process of its own, which may crash or hang without harm to this one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

WORKS, ABSENT, BROKEN = "works", "absent", "broken"
"""States: tried out; not installed, which may be on purpose; installed and does not work."""

TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Answer:
    """What a trial in another process came to.

    Attributes:
        state: `WORKS`, `ABSENT` or `BROKEN`.
        detail: its last line, or why it failed.
        repair: the line that repairs it, where the error named one.
    """

    state: str
    detail: str
    repair: str | None = None


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def run_trial(code: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """Run a small program in another process and say how it ended; never raises, whatever the program does.

    Args:
        code: Python; its last line of output is the detail. An exception makes the trial `BROKEN`, one that says that a
            module is missing `ABSENT`.
        timeout_s: then the process is killed.
    """
    # Not from the folder the user happens to be in: a file torch.py there would be imported instead of torch.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", code]
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
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = f"signal {-done.returncode}"
        said = _one_line(done.stderr)
        return Answer(BROKEN, f"ended the whole process ({name})" + (f": {said}" if said else ""))
    reason = re.sub(r"^[\w.]+: ", "", _one_line(done.stderr)) or f"exit status {done.returncode}"
    gone = re.search(r"No module named '([\w.]+)'|this needs ([\w.]+), which is not installed", reason)
    if gone:
        return Answer(ABSENT, f"{gone[1] or gone[2]} is not installed")
    message, _, repair = reason.partition("; run: ")
    return Answer(BROKEN, message, repair or None)
