"""What can happen to a run on a cluster. Each scene begins a run, does it, and ends the run; the caller compares the bytes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ray_room import Room, lives, until

import isc_fast

DRIVER = Path(__file__).with_name("driver.py")
PATIENCE_S = 20.0
RUN_S = 600.0


@dataclass
class Scene:
    """A run.

    Attributes:
        room: the cluster: a head without cores and two nodes with two.
        photos, output: of the run.
        notes: what the scene found out.
    """

    room: Room
    photos: Path
    output: Path
    notes: dict[str, float] = field(default_factory=dict)

    def begin(self, least: int = 2, most: int = 3, output: str = "") -> subprocess.Popen[str]:
        """Start the driver."""
        words = [self.photos, output or self.output, self.room.address, least, most, PATIENCE_S]
        command = [sys.executable, str(DRIVER), *map(str, words)]
        return subprocess.Popen(
            command, env=self.room.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def parts(self) -> int:
        """How many shards are done."""
        return len(list(Path(f"{self.output}.parts").glob("part-*.h5")))

    def reach(self, driver: subprocess.Popen[str], parts: int) -> None:
        """Wait until so many shards are done."""
        until(lambda: self.parts() >= parts or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()

    def end(self, driver: subprocess.Popen[str]) -> None:
        """Wait for the end of the run, which has to be good."""
        (self.room.control / "slow").unlink(missing_ok=True)
        out, err = driver.communicate(timeout=RUN_S)
        assert driver.returncode == 0, err
        assert out.count("\n") == 1, out
        self.notes |= {"stored": len(self.room.noted("part")), "batches": len(self.room.noted("run"))}


def nothing(scene: Scene) -> None:
    """Nobody does anything."""
    began = time.monotonic()
    driver = scene.begin()
    until(lambda: scene.parts() or driver.poll() is not None, every=0.02)
    scene.notes["first_shard_s"] = round(time.monotonic() - began, 2)
    scene.end(driver)


def actors_killed(scene: Scene) -> None:
    """Three workers are killed, one after the other."""
    driver = scene.begin()
    for parts in (1, 3, 5):
        scene.reach(driver, parts)
        until(scene.room.pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(scene.room.pids()[0], signal.SIGKILL)
    scene.end(driver)


def node_killed(scene: Scene) -> None:
    """A node is gone, and another one joins."""
    driver = scene.begin()
    scene.reach(driver, 2)
    scene.room.nodes[1].kill()
    del scene.room.nodes[1]
    scene.room.join()
    scene.end(driver)


def driver_killed(scene: Scene) -> None:
    """The driver is killed twice, and the same command comes again at once."""
    for parts in (2, 4):
        driver = scene.begin(1)
        scene.reach(driver, parts)
        driver.kill()
        driver.communicate()
    scene.end(scene.begin(1))


def actor_stopped(scene: Scene) -> None:
    """A worker hangs."""
    driver = scene.begin()
    scene.reach(driver, 2)
    stopped = scene.room.pids()[0]
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: not lives(stopped) or driver.poll() is not None)
    scene.notes["hung_s"] = round(time.monotonic() - began, 1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
    scene.end(driver)


def raylet_stopped(scene: Scene) -> None:
    """A node is cut off; it comes back when all is over, and its worker with it."""
    driver = scene.begin()
    scene.reach(driver, 2)
    raylet = scene.room.nodes[1].raylet()
    os.kill(raylet, signal.SIGSTOP)
    try:
        scene.end(driver)
    finally:
        os.kill(raylet, signal.SIGCONT)
        scene.room.nodes[1].kill()
        del scene.room.nodes[1]
        scene.room.join()


def more_workers(scene: Scene) -> None:
    """One worker, two and four, whose batches wait for 1.5 s each: as on idle cores, of which this machine has too few."""
    for count in (1, 2, 4):
        folder = Path(f"{scene.output}-by-{count}")
        scene.room.be_slow(1.5)
        driver = scene.begin(count, count, f"{folder}/")
        until(lambda folder=folder, driver=driver: (folder / "manifest.json").exists() or driver.poll() is not None)
        scene.end(driver)
        done = sorted(part.stat().st_mtime for part in folder.glob("*/part-*.h5"))
        scene.notes[f"shards_per_s_by_{count}"] = round((len(done) - count) / (done[-1] - done[0]), 3)
        scene.notes[f"workers_worth_{count}"] = round(
            scene.notes[f"shards_per_s_by_{count}"] / scene.notes["shards_per_s_by_1"], 2
        )
    isc_fast.assemble(folder, scene.output)


SCENES: dict[str, Callable[[Scene], None]] = {
    "nothing": nothing,
    "actors killed": actors_killed,
    "node killed": node_killed,
    "driver killed": driver_killed,
    "actor stopped": actor_stopped,
    "raylet stopped": raylet_stopped,
    "more workers": more_workers,
    "poison": nothing,
}
"""In the photos of the last one is one that ends whatever decodes it; see `ray_room`."""
