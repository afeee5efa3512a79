"""What tests ask of processes that they have started: whether they live, stand still, or have come to something."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], seconds: float = 60, every: float = 0.02) -> None:
    """Wait for a condition, and fail where it never comes to that."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(every)


def lives(pid: int) -> bool:
    """Whether a process is there. One that has ended and that nobody has asked for is not."""
    try:
        return _state(Path(f"/proc/{pid}/stat")) not in "ZX"
    except OSError:
        return False


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped: one that is still on its way may see its parent end, and end the process."""
    return all(_state(stat) == "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]
