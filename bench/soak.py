"""Hours in minutes: whether memory, open files, threads or speed drift while images are extracted and searches are repeated.

    python bench/soak.py --minutes 10 --images 2000000 --rounds 300

Images from a list go through `isc_fast.extract`, again and again until the time is over, with an engine and a decoder that cost
nothing (`stand_in.py`); one image in 100 fails, and one in 50 is noted. A thread looks at the process every quarter of a second.
The slope is a straight line by least squares through what it saw after the first fifth. Then a search is read, searched and
dropped in a loop. `cosine_min` compares the scores of its first round and its last with numpy's. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from memory import vectors
from stand_in import Dark, Network, decode_with, write_list

EVERY_S = 0.25
WARM_UP = 0.2
"""Share of the run that slopes leave out: libraries fill their caches in it."""


@dataclass(frozen=True)
class Sample:
    """The process at one moment: images done, MB resident, open files, threads."""

    done: int
    seconds: float
    mb: float
    files: int
    threads: int


def look(done: int, began: float) -> Sample:
    """Look at this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    mb = int(status["VmRSS"].split()[0]) * 1024 / 1e6
    return Sample(done, time.monotonic() - began, mb, len(os.listdir("/proc/self/fd")), int(status["Threads"]))


def slope(xs: list[float], ys: list[float]) -> float:
    """The slope of a straight line by least squares."""
    return float(np.polyfit(xs, ys, 1)[0]) if len(set(xs)) > 1 else 0.0


class TimeIsOver(KeyboardInterrupt):
    """Ends an extraction as Ctrl-C does."""


def extract_for(seconds: float, images: int, dim: int, folder: Path) -> list[Sample]:
    """Extract lists of so many images until the time is over; return what was seen."""
    from isc_fast.extraction.pipeline import extract

    write_list(folder / "list.txt", images)
    began, before, done = time.monotonic(), 0, 0
    samples: list[Sample] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_S):
            samples.append(look(before + done, began))

    def progress(now: int, _total: int, _failed: int) -> None:
        nonlocal done
        done = now
        if time.monotonic() - began > seconds:
            raise TimeIsOver

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        while time.monotonic() - began < seconds:
            decode_with(Dark(failing=100, blank=50))
            made = extract(folder / "list.txt", Network(dim), folder / "out.h5", overwrite=True, progress=progress)  # type: ignore[arg-type]
            assert (made.count, len(made.failures)) == (images - images // 100, images // 100)
            before, done = before + images, 0
    except TimeIsOver:
        pass
    finally:
        ended.set()
        watcher.join()
    return samples


def drift_of(samples: list[Sample]) -> dict[str, Any]:
    """What changes with the number of images: memory, open files, threads, rate."""
    total = samples[-1].done
    warm = [sample for sample in samples if sample.done >= WARM_UP * total] or samples
    millions = [sample.done / 1e6 for sample in warm]
    thirds = np.interp([total / 3, 2 * total / 3], [sample.done for sample in samples], [s.seconds for s in samples])
    first, last = float(thirds[0]) - samples[0].seconds, samples[-1].seconds - float(thirds[1])
    return {
        "images": total,
        "seconds": round(samples[-1].seconds, 1),
        "mb_least": round(min(sample.mb for sample in warm), 1),
        "mb_most": round(max(sample.mb for sample in warm), 1),
        "mb_per_million": round(slope(millions, [sample.mb for sample in warm]), 3),
        "files_most": max(sample.files for sample in warm),
        "files_per_million": round(slope(millions, [sample.files for sample in warm]), 4),
        "threads_most": max(sample.threads for sample in warm),
        "threads_per_million": round(slope(millions, [sample.threads for sample in warm]), 4),
        "images_per_s_first_third": round((total / 3 - samples[0].done) / max(first, 1e-9)),
        "images_per_s_last_third": round(total / 3 / max(last, 1e-9)),
    }


def search_again(rounds: int, rows: int, dim: int, folder: Path) -> dict[str, Any]:
    """Read two files, search, and drop everything, so many times; return what drifts, and the worst agreement with numpy."""
    import isc_fast
    from isc_fast.descriptors.store import Descriptors
    from isc_fast.descriptors.writing import write_descriptors

    references = np.concatenate([*vectors(rows, dim, 0)])
    queries = next(vectors(200, dim, 1))[:200]
    for name, some in (("references", references), ("queries", queries)):
        write_descriptors(folder / f"{name}.h5", Descriptors(some, [f"{name}{row}" for row in range(len(some))]))
    expected = np.sort((queries @ references.T).ravel())[-len(queries) :]
    began, seen, worst = time.monotonic(), [], 1.0
    for number in range(rounds):
        sides = [isc_fast.read_descriptors(folder / f"{name}.h5") for name in ("queries", "references")]
        scores = np.sort(isc_fast.search(*sides, k=10).scores)[-len(queries) :]
        if number in (0, rounds - 1):
            worst = min(worst, float(scores @ expected / np.linalg.norm(scores) / np.linalg.norm(expected)))
        del sides, scores
        seen.append(look(number, began))
    warm = seen[int(WARM_UP * rounds) :]
    numbers = [float(sample.done) for sample in warm]
    return {
        "rounds": rounds,
        "seconds": round(seen[-1].seconds, 1),
        "mb_least": round(min(sample.mb for sample in warm), 1),
        "mb_most": round(max(sample.mb for sample in warm), 1),
        "mb_per_hundred_rounds": round(100 * slope(numbers, [sample.mb for sample in warm]), 3),
        "files_most": max(sample.files for sample in warm),
        "threads_most": max(sample.threads for sample in warm),
        "cosine": worst,
    }


def show(title: str, figures: dict[str, Any]) -> None:
    """Print the figures of a part as soon as it is done."""
    print(title)
    for name, figure in figures.items():
        print(f"  {name.replace('_', ' '):<28}{figure:>14,}", flush=True)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of extracting (default: 5)")
    parser.add_argument("--images", type=int, default=1_000_000, help="of one extraction (default: 1,000,000)")
    parser.add_argument("--rounds", type=int, default=200, help="of searching (default: 200)")
    parser.add_argument("--rows", type=int, default=50_000, help="references of a search (default: 50,000)")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="folder for the files; by default the system's temporary folder")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to show that it runs")
    given = parser.parse_args()
    if given.smoke:
        given.minutes, given.images, given.rounds, given.rows = 0.1, 5000, 10, 2000
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        extracting = drift_of(extract_for(60 * given.minutes, given.images, given.dim, Path(folder)))
    show("extract", extracting)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        searching = search_again(given.rounds, given.rows, given.dim, Path(folder))
    show("search", searching)
    finish(
        {
            "bench": "soak",
            "extract": extracting,
            "search": searching,
            "ratio_to_best_reference": extracting["images_per_s_last_third"]
            / max(1, extracting["images_per_s_first_third"]),
            "best_reference": "the rate of the first third",
            "cosine_min": searching["cosine"],
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
