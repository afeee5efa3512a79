"""The processor time and the most memory that a process takes, this one or another with all that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_START = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
figures = {"seconds": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
with open(sys.argv[1], "w") as out:
    json.dump({**figures, "code": code}, out)
"""


def cpu_s() -> float:
    """Return the processor time of this process and of those that it started and that have ended, in seconds."""
    return sum(os.times()[:4])


def peak_bytes() -> int:
    """Return the most memory that this process has taken, in bytes.

    Linux counts to what `resource.getrusage` tells what the parent of a process had taken when it was started.

    Raises:
        OSError: the system does not tell.
    """
    with open("/proc/self/status") as status:
        peak = next((line.split()[1] for line in status if line.startswith("VmHWM")), None)
    if peak is None:
        raise OSError("the system does not tell how much memory a process has taken")
    return int(peak) * 1024


def measured(command: Sequence[str], out: Path) -> dict[str, float]:
    """Run a command line, and return its time by the clock, the processor time and the memory of it and of what it started.

    A small process starts it, of some 10 MB, and less than that is not told of the command's memory.

    Args:
        command: the program and its arguments.
        out: a folder, which gets ``stdout`` and ``stderr``.

    Returns:
        ``seconds``, ``cpu_s`` and ``peak_mb``, the memory of the largest process.

    Raises:
        ChildProcessError: it failed; with the last line that it said.
    """
    figures = out / "figures.json"
    with open(out / "stdout", "wb") as stdout, open(out / "stderr", "wb") as stderr:
        starter = [sys.executable, "-I", "-S", "-c", _START, str(figures)]
        code = subprocess.run([*starter, *command], stdout=stdout, stderr=stderr).returncode
    found: dict[str, float] = {"code": code} if code else json.loads(figures.read_text())
    figures.unlink(missing_ok=True)
    if code := found.pop("code"):
        said = (out / "stderr").read_text("utf-8", "replace").splitlines() or [f"status {code}"]
        raise ChildProcessError(said[-1])
    return found
