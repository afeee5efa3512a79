"""What a result in parts costs beside one file: to make it, to find it complete, to read it, and to assemble it.

    python bench/parts.py --images 1000000    a list of a million images, without network and decoder; some minutes, 5 GB of disk
    python bench/parts.py --smoke             takes seconds and shows only that it runs

Times are of the processor, and seconds of the clock behind them. "file: driver" is what is left of "file: extract" without the
work that other processes or machines can share: listing, planning and assembling. "complete: list" is the part of a complete run
that lists the photos, which no run is spared. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import cpu_s
from stand_in import Dark, Network, decode_with, name_of

import isc_fast
from isc_fast.extraction.job import Request
from isc_fast.extraction.pipeline import extract_with
from isc_fast.extraction.runners.base import Runner, Work
from isc_fast.extraction.runners.choose import opened_runner
from isc_fast.progress import Tally
from isc_fast.sources.listing import list_images


def clocks() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the processor time of this process and its children until now, and the time by the clock."""
    return np.array([cpu_s(), time.monotonic()])


def timed(found: dict[str, tuple[float, float]], name: str, work: Callable[[], object]) -> None:
    """Note the processor time and the time of some work."""
    began = clocks()
    work()
    busy, clock = clocks() - began
    found[name] = float(busy), float(clock)
    print(f"{name:<28} {found[name][0]:8.2f} s {found[name][1]:8.2f} s of the clock", flush=True)


FILES = 1000
DRIVER = "file: driver"


def write_photos(folder: Path, count: int) -> Path:
    """Write a list of so many photos, of which a thousand files are there, and return it."""
    (folder / "photos").mkdir()
    for number in range(FILES):
        (folder / "photos" / f"{number}.jpg").write_bytes(b"no photo")
    with open(folder / "list.txt", "w", encoding="utf-8") as out:
        out.writelines(f"{name_of(row)}\tphotos/{row % FILES}.jpg\n" for row in range(count))
    return folder / "list.txt"


class Timed:
    """Another runner, whose work is timed."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.facts, self.spent = runner, runner.facts, np.zeros(2)

    def run(self, work: Work, tally: Tally) -> None:
        """See `Runner`."""
        began = clocks()
        self._runner.run(work, tally)
        self.spent += clocks() - began


def driver(photos: Path, engine: Network, output: Path) -> tuple[float, float]:
    """Return what an extraction takes without computing its parts: time of the processor and by the clock."""
    with opened_runner(engine) as runner:
        shared, began = Timed(runner), clocks()
        extract_with(shared, photos, output, Request())
        busy, clock = clocks() - began - shared.spent
    return float(busy), float(clock)


def read(path: Path) -> None:
    """Go through all rows, and through all ids."""
    with isc_fast.open_descriptors(path) as descriptors:
        for _ in descriptors.blocks():
            pass


def read_ids(path: Path) -> None:
    """Go through all ids."""
    with isc_fast.open_descriptors(path) as descriptors:
        for _ in descriptors.ids:
            pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--smoke", action="store_true", help="few images")
    given = parser.parse_args(arguments)
    count = 2000 if given.smoke else given.images
    decode_with(Dark())
    engine = Network(given.dim)
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos, parts, file = write_photos(folder, count), folder / "parts", folder / "whole.h5"
        timed(found, "parts: extract", lambda: isc_fast.extract(photos, engine, f"{parts}/"))
        timed(found, "file: extract", lambda: isc_fast.extract(photos, engine, file))
        found[DRIVER] = driver(photos, engine, folder / "again.h5")
        print(f"{DRIVER:<28} {found[DRIVER][0]:8.2f} s {found[DRIVER][0] / count * 1e6:8.1f} µs an image", flush=True)
        timed(found, "complete: list", lambda: len(list_images(photos).found))
        timed(found, "complete: parts", lambda: isc_fast.extract(photos, engine, parts))
        timed(found, "parts: read rows", lambda: read(parts))
        timed(found, "file: read rows", lambda: read(file))
        timed(found, "parts: read ids", lambda: read_ids(parts))
        timed(found, "file: read ids", lambda: read_ids(file))
        timed(found, "assemble", lambda: isc_fast.assemble(parts, folder / "assembled.h5"))
        equal = (folder / "assembled.h5").read_bytes() == file.read_bytes() if count < 10**7 else None
    print(json.dumps({"images": count, "equal_bytes": equal} | {k: [round(t, 2) for t in v] for k, v in found.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
