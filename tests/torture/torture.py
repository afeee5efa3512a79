"""Injure real runs at random moments and count what was lost.

    python tests/torture/torture.py --rounds 20 --seed 1

A round is one of each injury of `injuries.py`. The same seed gives the same injuries, though not the same moments: the machine
decides where a run is after so many milliseconds. The last line is JSON; the exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

from injuries import INJURIES, NEEDS_NAMESPACES, has_namespaces
from scene import Failed, Scene


def main() -> int:
    """Run the rounds and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="injuries whose name contains one of these words")
    given = parser.parse_args()
    names = [
        name
        for name in INJURIES
        if (not given.only or any(word in name for word in given.only))
        and (name not in NEEDS_NAMESPACES or has_namespaces())
    ]
    survived: Counter[str] = Counter()
    failures: list[str] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene.make(Path(folder) / "scene")
        for number in range(given.rounds):
            for name in names:
                try:
                    INJURIES[name](scene, Random(f"{given.seed} {number} {name}"))
                    survived[name] += 1
                except Failed as error:
                    failures.append(f"{name}, round {number}: {error}")
                    print(failures[-1], file=sys.stderr, flush=True)
            print(
                f"round {number + 1} of {given.rounds}: {sum(survived.values())} survived, {len(failures)} failed",
                flush=True,
            )
    for name in names:
        print(f"{name:<40} {survived[name]} of {given.rounds}")
    result = {
        "bench": "torture", "seed": given.seed, "injuries": given.rounds * len(names), "survived": sum(survived.values()),
        "failed": [failure.splitlines()[0] for failure in failures], "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    print(json.dumps(result))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
