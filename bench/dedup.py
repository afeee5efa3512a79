"""The copies in one folder, by `isc-fast dedup` and by the hashes that people install for it: time, memory, what is found.

    python bench/dedup.py                      the 60 photos of the package, and six edited copies each of 30 of them
    python bench/dedup.py --photos POOL        a folder of unrelated photos, such as isc_fast.training.tiny.photo_pool makes
    python bench/dedup.py --smoke              takes seconds with few photos

A pair is right if it is of a photo and its copy, or of two copies of one photo: "recall" counts both. "Copies" is the share of
copies that are in a pair with their original. Each way is a process of its own, from image
files to pairs, at the threshold that it comes with: ours at what the engine carries, the hashes at what their documents advise.
Hashes are compared exactly, all with all. A way that is not installed is left out.

The engine in the package was trained on other photos than these, and on edits of which five of the six kinds have a counterpart
here. Photos of a pool that it was trained on would flatter it: see the model card for which ones were held out.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from harness import finish
from PIL import Image

from isc_fast.assets import demo_photos
from isc_fast.evaluation.edits.demo import EDITS

OURS = "isc-fast dedup"
EVERY = 2  # every second photo gets copies


def make_folder(folder: Path, photos: Sequence[Path], every: int) -> tuple[int, int]:
    """Copy photos, and add a copy by each edit to some of them; returns how many photos and how many copies there are."""
    folder.mkdir()
    copies = 0
    for number, path in enumerate(photos):
        name = f"{number:06d}"
        shutil.copy(path, folder / f"{name}{path.suffix}")
        if number % every == 0:
            with Image.open(path) as opened, Image.open(photos[number - 1]) as beside:
                image, other = opened.convert("RGB"), beside.convert("RGB")
            for kind, edit in EDITS.items():
                edit(image, other, Random(f"{number} {kind}")).save(folder / f"{name}.{kind}.jpg", quality=85)
                copies += 1
    return len(photos) + copies, copies


def origin(name: str) -> str:
    """Return the photo that a file is, or is a copy of."""
    return name.partition(".")[0]


def by_dedup(folder: Path) -> list[tuple[str, str]]:
    """Find pairs as a user does, with the engine inside the package and everything else by default."""
    from isc_fast.cli.main import main as isc_fast

    with tempfile.TemporaryDirectory() as out:
        if isc_fast(["dedup", str(folder), "--ids", "path", "-o", out, "--json"]):
            raise SystemExit("isc-fast dedup failed")
        with open(Path(out) / "pairs.csv", newline="") as file:
            return [(row["id"], row["other_id"]) for row in csv.DictReader(file)]


def by_hash(hashed: Callable[[Path], Any], most: int) -> Callable[[Path], list[tuple[str, str]]]:
    """Make a way of a hash: all pairs of which at most so many bits differ."""

    def find(folder: Path) -> list[tuple[str, str]]:
        paths = sorted(folder.iterdir())
        bits = np.stack([np.asarray(hashed(path), bool).ravel() for path in paths]).astype(np.float32) * 2 - 1
        differ = (bits.shape[1] - bits @ bits.T) / 2
        return [(paths[a].name, paths[b].name) for a, b in np.argwhere(np.triu(differ <= most, 1))]

    return find


def _imagehash() -> Callable[[Path], list[tuple[str, str]]]:
    import imagehash

    return by_hash(lambda path: imagehash.phash(Image.open(path)).hash, 10)


def _imagededup() -> Callable[[Path], list[tuple[str, str]]]:
    from imagededup.methods import PHash

    def find(folder: Path) -> list[tuple[str, str]]:
        found = PHash(verbose=False).find_duplicates(image_dir=folder, max_distance_threshold=10)
        return sorted({tuple(sorted((name, other))) for name, others in found.items() for other in others})

    return find


def _pdq() -> Callable[[Path], list[tuple[str, str]]]:
    import pdqhash

    return by_hash(lambda path: pdqhash.compute(np.asarray(Image.open(path).convert("RGB")))[0], 31)


WAYS: dict[str, Callable[[], Callable[[Path], list[tuple[str, str]]]]] = {
    OURS: lambda: by_dedup,
    "imagehash phash, 10 of 64 bits": _imagehash,
    "imagededup PHash, 10 of 64 bits": _imagededup,
    "pdqhash, 31 of 256 bits": _pdq,
}


def one(way: str, folder: Path) -> None:
    """Measure a way in this process, and print the figures as JSON."""
    try:
        find = WAYS[way]()
    except ImportError as error:
        print(json.dumps({"left_out": f"{way}: {error}"}))
        return
    began = time.perf_counter()
    pairs = find(folder)
    seconds = time.perf_counter() - began
    names = [path.name for path in folder.iterdir()]
    many: dict[str, int] = {}
    for name in names:
        many[origin(name)] = many.get(origin(name), 0) + 1
    true = sum(count * (count - 1) // 2 for count in many.values())
    right = sum(origin(first) == origin(second) for first, second in pairs)
    copies = {name for name in names if name.count(".") > 1}
    found = {
        name for pair in pairs for name in pair if origin(pair[0]) == origin(pair[1]) and not copies.issuperset(pair)
    }
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "pairs": len(pairs),
                "precision": right / max(1, len(pairs)),
                "recall": right / true,
                "copies_found": len(found & copies) / len(copies),
            }
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="of unrelated photos (default: those of the package)"
    )
    parser.add_argument("--every", type=int, default=EVERY, metavar="N", help="every N-th photo gets six copies")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="few photos, one round")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        one(given.one[0], Path(given.one[1]))
        return 0
    photos = sorted(given.photos.iterdir()) if given.photos else [*demo_photos()]
    if given.smoke:
        photos, given.rounds = photos[:6], 1
    turns: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        count, copies = make_folder(folder, photos, given.every)
        for _ in range(given.rounds):
            for way, found in turns.items():
                command = [sys.executable, __file__, "--one", way, str(folder)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    left_out = [found[0]["left_out"] for found in turns.values() if "left_out" in found[0]]
    rows = {
        way: {**found[0], "seconds": statistics.median(turn["seconds"] for turn in found)}
        for way, found in turns.items()
        if "left_out" not in found[0]
    }
    print(f"{count} photos, {copies} of them copies")
    print(f"{'':<34}{'seconds':>9}{'peak MB':>9}{'pairs':>8}{'precision':>11}{'recall':>8}{'copies':>8}")
    for way, row in rows.items():
        print(
            f"{way:<34}{row['seconds']:>9.1f}{row['peak_mb']:>9.0f}{row['pairs']:>8}{row['precision']:>11.1%}"
            f"{row['recall']:>8.1%}{row['copies_found']:>8.1%}"
        )
    for reason in left_out:
        print(f"left out: {reason}")
    others = [row["seconds"] for way, row in rows.items() if way != OURS]
    finish(
        {
            "bench": "dedup",
            "photos": count,
            "copies": copies,
            "rounds": given.rounds,
            "rows": rows,
            "left_out": left_out,
            "ratio_to_best_reference": min(others) / rows[OURS]["seconds"],
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
