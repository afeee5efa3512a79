"""Whether the precision that a calibration states is the precision that is found on other photos, by true labels.

    python bench/calibration.py                   the package's 60 photos, twenty edited copies of each
    python bench/calibration.py --photos POOL     a folder of photos; 600 of them are drawn, ten copies of each
    python bench/calibration.py --smoke           takes seconds with few photos

The photos are described once. In each draw a third of them, drawn at random, is calibrated; the others are searched, with true
labels, at the threshold that the calibration gives for a precision. A draw is right if the precision that is found there lies in
the stated interval. Other photos have a chance of their own, by which what is found varies too; so less than 95 % may be inside.
What is counted as a wrong pair may be none: nobody has looked through a pool's photos for copies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from random import Random

import numpy as np

from isc_fast.assets import demo_photos
from isc_fast.engines.base import load_engine
from isc_fast.errors import InputError
from isc_fast.evaluation.calibration import Calibration, Task
from isc_fast.evaluation.copies import SEED, Trial, describe_copies, open_shrunk
from isc_fast.sources.listing import list_files

PRECISIONS = (0.8, 0.9, 0.95)


def part_of(trial: Trial, photos: np.ndarray) -> Trial:
    """The trial of some photos, by their numbers; the strangers are in all of them."""
    number = np.full(int(trial.originals.max()) + 1, -1)
    number[photos] = np.arange(len(photos))
    strangers = np.arange(len(trial.photos), len(number))
    number[strangers] = len(photos) + np.arange(len(strangers))
    rows = np.flatnonzero(number[trial.originals] >= 0)
    return Trial(
        trial.photos[photos],
        trial.copies[rows],
        number[trial.originals[rows]],
        [trial.kinds[row] for row in rows],
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder (default: the package's)")
    parser.add_argument("--engine", default="demo")
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--copies", type=int)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="few copies and draws")
    given = parser.parse_args()
    paths = list_files(str(given.photos)) if given.photos else list(demo_photos())
    Random(SEED).shuffle(paths)
    paths = paths[: given.sample]
    copies = given.copies or (10 if given.photos else 20)
    draws = given.draws
    if given.smoke:
        copies, draws = 2, 5

    strangers = max(4, len(paths) // 10)
    trial = describe_copies(
        load_engine(given.engine),
        [path.name for path in paths],
        lambda number: open_shrunk(str(paths[number])),
        strangers=strangers,
        copies=copies,
    )
    known = len(trial.photos)
    rng = np.random.default_rng(SEED)
    found: dict[float, list[tuple[float, float, float, float, bool]]] = {precision: [] for precision in PRECISIONS}
    for _ in range(draws):
        order = rng.permutation(known)
        calibration = Calibration.of(part_of(trial, order[: known // 3]), {})
        other = part_of(trial, order[known // 3 :])
        scores, true = other.copies @ other.photos.T, other.is_true
        task = Task(float((~true).sum()), float(true.sum()))
        for precision in PRECISIONS:
            try:
                threshold = calibration.threshold(precision, task)
            except InputError:
                continue
            at = calibration.expected(threshold, task)
            reached = scores >= threshold
            count = int(reached.sum())
            real = float((reached & true).sum() / count) if count else float("nan")
            inside = at.lowest <= real <= at.highest
            found[precision].append((threshold, at.precision, real, at.highest - at.lowest, inside))
    print(f"{len(paths)} photos, {copies} copies of each, {draws} draws")
    print(f"{'wanted':>7}{'draws':>7}{'threshold':>11}{'stated':>9}{'found':>9}{'width':>8}{'inside':>9}")
    rows = {}
    for precision, several in found.items():
        if not several:
            continue
        threshold, stated, real, width = (statistics.median(row[k] for row in several) for k in range(4))
        inside = sum(row[4] for row in several) / len(several)
        rows[f"{precision:g}"] = {"threshold": threshold, "stated": stated, "found": real, "inside": inside}
        print(
            f"{precision:>7g}{len(several):>7}{threshold:>11.2f}{stated:>9.3f}{real:>9.3f}{width:>8.3f}{inside:>9.0%}"
        )
    print(json.dumps({"bench": "calibration", "photos": len(paths), "copies": copies, "draws": draws, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
