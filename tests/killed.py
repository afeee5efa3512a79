"""A program that extracts with the fake engine and kills itself with SIGKILL at a chosen point.

    python killed.py PHOTOS OUT.h5 POINT NUMBER [VIEWS]

POINT says when it dies. ``engine``: before the NUMBER-th call of the engine; ``before`` or ``after``: before or after
the NUMBER-th rename of a finished file; ``fsync``: before the NUMBER-th file sync; ``none``: never.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warm
from fakes import FakeEngine

from isc_fast.extraction.pipeline import extract


def run_killed(
    photos: Path, output: Path, point: str, number: int, views: str = "whole"
) -> subprocess.CompletedProcess[str]:
    """Run this program."""
    words = [__file__, str(photos), str(output), point, str(number), views]
    return warm.run(words, timeout=60, imported=warm.EXTRACTION)


def die_at(number: int, function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """Wrap a function so that its call of this number, counted from 1, kills the process before or after the work."""
    left = number

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


def main() -> None:
    photos, output, point, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    engine = FakeEngine()
    if point == "engine":
        engine.run = die_at(number, engine.run)  # type: ignore[method-assign]
    elif point in ("before", "after"):
        os.replace = die_at(number, os.replace, after=point == "after")
    elif point == "fsync":
        os.fsync = die_at(number, os.fsync)
    made = extract(photos, engine, output, batch_size=2, shard_size=4, views=sys.argv[5])
    print(f"computed {made.computed} count {made.count}")


if __name__ == "__main__":
    main()
