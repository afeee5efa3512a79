"""Any mix of executors on one output: a seed decides which run, in which order, how many at once, and what is killed.

    python mixes.py PHOTOS OUT/ EXECUTOR [ADDRESS]

is one run of a mix. EXECUTOR is ``here`` (one process), ``processes`` (two workers), ``ray`` (workers of the cluster at ADDRESS),
or a share of a job array such as ``1/3``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

SIZES = {"batch_size": 4, "shard_size": 8}
RUN_S = 600.0
_GAVE_UP = "run the same command again, which goes on where it was"
"""A line that ends a run which meets three faults of the network before any answer."""
_TRIES = 4


def start(
    photos: Path, output: str, executor: str, address: str, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start a run."""
    command = [sys.executable, __file__, str(photos), output, executor, address]
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(run: subprocess.Popen[str]) -> list[int]:
    """The processes that a run started on this machine."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [pid for pid, parent in rows if parent == run.pid]


def kill(pid: int) -> None:
    """Kill a process, if it lives; 0 is none."""
    if pid == 0:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def play(
    seed: int,
    photos: Path,
    output: str,
    *,
    address: str = "",
    actors: Callable[[], Sequence[int]] = lambda: (),
    parts: Callable[[], int] = lambda: 0,
    environment: Mapping[str, str] = os.environ,
    pause_s: float = 2.0,
) -> Counter[str]:
    """Let some runs work on one output, kill some of them or of their workers, and end the work.

    Args:
        seed: decides everything but the moments at which the system does what it is asked to.
        photos, output: of all runs.
        address: of a Ray cluster; without one nobody uses Ray.
        actors: the processes of its workers that live.
        parts: how many parts are there.
        environment: of the runs.
        pause_s: kills come within so many seconds, or when there are more parts.

    Returns:
        what was done: executors that were started, and kills.

    Raises:
        RuntimeError: a run failed that was not killed itself, and did not say that the same command goes on.
    """
    chance, done = Random(seed), Counter[str]()
    shares = chance.randint(2, 4)
    executors = ["here", "processes", *(["ray", "ray"] if address else []), *(f"{n}/{shares}" for n in range(shares))]

    def begin(executor: str) -> subprocess.Popen[str]:
        done["share" if "/" in executor else executor] += 1
        return start(photos, output, executor, address, environment)

    def end(run: subprocess.Popen[str], *, killed: bool = False) -> bool:
        _, errors = run.communicate(timeout=RUN_S)
        if run.returncode == 1 and _GAVE_UP in errors:
            done["gave up"] += 1
        elif run.returncode != 0 and not killed:
            raise RuntimeError(f"seed {seed}: a run ended with {run.returncode}: {errors}")
        return run.returncode == 0

    for _ in range(chance.randint(1, 2)):
        chosen = chance.choices(executors, k=chance.randint(1, 3))
        runs = [begin(executor) for executor in chosen]
        killed = set[int]()
        for number, (executor, run) in enumerate(zip(chosen, runs, strict=True)):
            inside = {"ray": actors, "processes": partial(workers_of, run)}.get(executor)
            what = chance.choice(["nothing", "run", "run", *(["worker"] * 3 if inside else [])])
            more = chance.choice([0, 0, 1, 2])  # parts that are there before something is killed
            before = parts()
            time.sleep(chance.uniform(0.0, pause_s))
            while run.poll() is None and (parts() - before < more or (what == "worker" and inside and not inside())):
                time.sleep(0.1)
            if run.poll() is not None or what == "nothing":
                continue
            if what == "run":
                kill(run.pid)
                killed.add(number)
            elif inside:
                kill(chance.choice([*inside()] or [0]))
            done[f"{what} killed" + (" between parts" if more else "")] += 1
        for number, run in enumerate(runs):
            end(run, killed=number in killed)
    last = chance.choice([["here"], ["processes"], *([["ray"]] if address else []), executors[-shares:]])
    for executor in chance.sample(last, len(last)):
        if not any(end(begin(executor)) for _ in range(_TRIES)):
            raise RuntimeError(f"seed {seed}: {_TRIES} runs in turn gave up")
    return done


def main() -> None:
    """One run."""
    from isc_fast.errors import IscFastError
    from isc_fast.extraction.pipeline import extract
    from isc_fast.extraction.runners.cluster import Cluster
    from isc_fast.extraction.share import Share

    photos, output, executor, address = sys.argv[1:5]
    how: dict[str, Any] = {}
    if executor == "processes":
        how["devices"] = "cpu,cpu"
    elif executor == "ray":
        how["cluster"] = Cluster(address, workers=(1, 2), patience_s=120)
    elif "/" in executor:
        how["share"] = Share(*map(int, executor.split("/")))
    try:
        made = extract(photos, "demo", output, **SIZES, **how)
    except IscFastError as error:
        sys.exit(f"error: {error}")
    print(f"computed {made.computed} complete {made.complete}")


if __name__ == "__main__":
    main()
