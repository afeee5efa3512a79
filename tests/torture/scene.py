"""What every injury starts from: photos, one uninjured run of each verb, and the questions asked after an injury.

The real command line runs in processes of its own. Nothing here is imitated.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from isc_fast import read_descriptors
from isc_fast.assets import demo_photos

PHOTOS = 24
DAMAGED = 2
OPTIONS = ("--engine", "demo", "--batch-size", "2", "--shard-size", "4")
PATIENCE_S = 120.0  # a run that takes longer hangs


class Failed(AssertionError):
    """What an injury did to a run."""


@dataclass
class Ended:
    """A run that has ended."""

    status: int
    words: str

    def check_words(self) -> None:
        """A run that refuses or fails says so in one line; one that a signal ends may say nothing.

        Raises:
            Failed: it prints a traceback, or fails without a line of its own.
        """
        if "Traceback" in self.words:
            raise Failed(f"a traceback:\n{self.words}")
        if (
            self.status > 0
            and self.status not in (130, 143)
            and not any(line.startswith(("error: ", "usage: ")) for line in self.words.splitlines())
        ):
            raise Failed(f"status {self.status} without a reason:\n{self.words}")


@dataclass
class Scene:
    """A folder with photos, and the files that uninjured runs make of them.

    Attributes:
        home: the folder; ``photos`` lies in it.
        expected: the bytes of each uninjured result, by name.
        seconds: how long the uninjured runs took, by name.
    """

    home: Path
    expected: dict[str, bytes] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def make(home: Path) -> Scene:
        """Make photos, and run every verb that an injury can meet."""
        scene = Scene(home)
        scene.photos.mkdir(parents=True)
        for photo in demo_photos()[:PHOTOS]:
            with Image.open(photo) as image:
                image.resize((160, 120)).save(scene.photos / photo.name, quality=90)
        for number in range(DAMAGED):
            (scene.photos / f"damaged{number}.jpg").write_bytes(b"\xff\xd8 no more")
        for name in VERBS:
            start = time.monotonic()
            ended = scene.run(*scene.command(name, scene.home / name))
            if ended.status:
                raise Failed(f"{name}: {ended.words}")
            scene.seconds[name] = time.monotonic() - start
            scene.expected[name] = (scene.home / name).read_bytes()
        return scene

    @property
    def photos(self) -> Path:
        return self.home / "photos"

    def command(self, name: str, output: Path, *more: str) -> list[str]:
        """The arguments that make a result."""
        verb, *rest = VERBS[name]
        known = {
            "PHOTOS": str(self.photos),
            "DESCRIPTORS": str(self.home / "out.h5"),
            "NEGATIVES": str(self.home / "neg.h5"),
        }
        return [verb, *(known.get(word, word) for word in rest), "-o", str(output), *more]

    def start(self, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        """Start isc-fast.

        Args:
            arguments: a verb and its flags.
            before: a program that starts it, such as ``unshare``.
            environment: variables beside those of this process.
        """
        return subprocess.Popen(
            [*before, sys.executable, "-m", "isc_fast", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str], patience: float = PATIENCE_S) -> Ended:
        """Wait for a run.

        Raises:
            Failed: it hangs, or says what no user should read.
        """
        try:
            words, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            words, _ = process.communicate()
            raise Failed(f"hung for {patience:.0f} s:\n{words}") from None
        ended = Ended(process.returncode, words)
        ended.check_words()
        return ended

    def run(self, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> Ended:
        """Start isc-fast and wait for it."""
        return self.end(self.start(*arguments, before=before, **environment))

    def finish(self, name: str, output: Path) -> None:
        """Run the command again, as a user would, and compare what it leaves with the uninjured run's.

        Raises:
            Failed: it fails, other bytes came out, or something is left beside them.
        """
        ended = self.run(*self.command(name, output))
        if ended.status:
            raise Failed(f"run again: {ended.words}")
        self.compare(name, output)

    def compare(self, name: str, output: Path) -> None:
        """Compare a result with the uninjured run's.

        Raises:
            Failed: other bytes, or something is left beside them.
        """
        if output.read_bytes() != self.expected[name]:
            raise Failed(f"other bytes than without the injury: {self._difference(output)}")
        left = sorted(set(os.listdir(output.parent)) - {output.name})
        if left:
            raise Failed(f"left behind: {', '.join(left)}")

    def check_accounts(self, output: Path, photos: int) -> None:
        """Check that each photo has a row or an entry in the ledger, and none has two.

        Raises:
            Failed: one is lost or doubled.
        """
        found = read_descriptors(output)
        names = [*found.ids, *(failure.id for failure in found.failures)]
        if len(names) != photos or len(set(names)) != photos:
            raise Failed(f"{photos} photos, {len(found.ids)} rows and {len(found.failures)} entries in the ledger")

    def _difference(self, output: Path) -> str:
        try:
            found = read_descriptors(output)
        except Exception as error:
            return f"it cannot be read ({error})"
        return json.dumps({"rows": len(found.ids), "ledger": [failure.id for failure in found.failures]})

    def fresh(self) -> Path:
        """An empty folder for the results of one injury."""
        folder = self.home / "results"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


VERBS = {
    "out.h5": ("extract", "PHOTOS", *OPTIONS),
    "neg.h5": ("negatives", "DESCRIPTORS", "-k", "3"),
    "norm.h5": ("normalize", "DESCRIPTORS", "--negatives", "NEGATIVES", "-k", "3"),
    "matches.csv": ("search", "DESCRIPTORS", "DESCRIPTORS"),
}
"""What is injured: the name of each result, and the command that makes it."""
