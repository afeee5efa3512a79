"""The copies in one folder, by `isc-fast dedup` and by the tools that people install for it: time, memory, what is found.

    python bench/dedup.py                      the 60 photos of the package, and six edited copies each of 30 of them
    python bench/dedup.py --smoke              takes seconds with few photos
    python bench/dedup.py --photos POOL MORE --trained DATA/training_images --rounds 1
                                               10,000 files, 6,000 of them copies with one or two edits. The commands at
                                               the top of isc_fast.training.tiny.photo_pool make POOL, MORE and DATA

A pair is right if it is of a photo and its copy, or of two copies of one photo: "recall" counts both. "Copies" is the share of
copies that are in a pair with their original. Each way is a process of its own, from image files to pairs, as a user starts it.
The processor time is that of all its processes, the memory that of its largest one. Where a tool gives groups, each two photos
of a group are a pair. A way that is not installed is left out.

There are two lines for each way. The first is at the threshold that it comes with: ours at what the engine carries, the hashes
at what their documents advise. The second is at the lowest threshold at which 90 % of its pairs are right, so that no default
decides. The truth is needed to find that one, and no user has it. Ours has further lines with other options.

The engine in the package was trained on three quarters of POOL, and on nothing of MORE, which are mostly no photos but clip art
and pictures of the sky. What is named in --trained stays in the folder without copies. A second table has the pairs within the
first of several folders.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dedup_set import found_in, make_large, make_small, origin
from dedup_ways import OURS, WAYS, Pair, Way
from harness import finish
from measuring import measured

from isc_fast.assets import demo_photos

EVERY = 2  # every second photo of the package gets copies
AT_PRECISION = 0.9
FIRST = "0-"  # what begins the names of files from the first folder


def run(way: Way, folder: Path, out: Path, rounds: int) -> dict[str, float]:
    """Return the medians of rounds of a way, whose pairs then lie in a folder."""
    turns = []
    for number in range(rounds):
        place = out if number == rounds - 1 else out.with_name(f"{out.name}.{number}")
        place.mkdir(parents=True)
        turns.append(measured(way.command(folder, place), place))
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def at_precision(names: Sequence[str], pairs: Sequence[Pair], least: float) -> dict[str, float]:
    """Say what the pairs at and above a threshold are worth: the lowest one at which so many of them are right.

    Returns:
        what `found_in` does, ``pairs`` and ``threshold``, which is NaN where there is none.
    """
    ordered = sorted(pairs, key=lambda pair: -pair[2])
    right, best = 0, 0
    for number, (first, second, likeness) in enumerate(ordered, 1):
        right += origin(first) == origin(second)
        last = number == len(ordered) or ordered[number][2] < likeness
        if last and right >= least * number:
            best = number
    said = found_in(names, [(first, second) for first, second, _ in ordered[:best]])
    return {"threshold": ordered[best - 1][2] if best else math.nan, "pairs": best, **said}


def of_folder(names: Sequence[str], pairs: Sequence[Pair], folder: str) -> tuple[list[str], list[Pair]]:
    """Return the files that come from a folder of photos, and the pairs of two of them."""
    return [name for name in names if name.startswith(folder)], [
        pair for pair in pairs if pair[0].startswith(folder) and pair[1].startswith(folder)
    ]


def worth(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Say what pairs are worth, all of them and those of the first folder alone; see `found_in`."""
    first = of_folder(names, pairs, FIRST)
    return {
        "pairs": len(pairs),
        **found_in(names, [pair[:2] for pair in pairs]),
        "first folder": {"pairs": len(first[1]), **found_in(first[0], [pair[:2] for pair in first[1]])},
    }


def compare(folder: Path, work: Path, ways: Sequence[str], rounds: int) -> tuple[dict[str, Any], list[str]]:
    """Run ways one after another; returns their figures, and what was left out and why."""
    rows: dict[str, Any] = {}
    left_out = []
    for name in ways:
        if importlib.util.find_spec(WAYS[name].module) is None:
            left_out.append(f"{name}: {WAYS[name].module} is not installed")
            continue
        try:
            rows[name] = run(WAYS[name], folder, work / str(len(rows)), rounds)
        except ChildProcessError as error:
            if name == OURS:
                raise  # it is never absent
            left_out.append(f"{name}: {error}")
        print(f"{name}: {json.dumps(rows.get(name))}", file=sys.stderr)
    names = sorted(path.name for path in folder.iterdir())
    for number, (name, row) in enumerate(rows.items()):
        way, out = WAYS[name], work / str(number)
        row |= worth(names, [*way.read(out)])
        if way.loose is not None:
            place = out.with_name(f"{number}.loose")
            place.mkdir()
            measured(way.loose(folder, out, place), place)
            pairs = [*way.read(place)]
            row["at_precision"] = at_precision(names, pairs, AT_PRECISION)
            row["at_precision"]["first folder"] = at_precision(*of_folder(names, pairs, FIRST), AT_PRECISION)
        for words, command in way.again.items():
            place = out.with_name(f"{number}{words.replace(' ', '')}")
            place.mkdir()
            measured(command(folder, out, place), place)
            row.setdefault("again", {})[words] = worth(names, [*way.read(place)])
    return rows, left_out


def tell(rows: dict[str, Any], several: bool) -> None:
    """Print the table, one line for each way and threshold; where there are several folders, a second one of the first alone."""
    keys = next(iter(rows.values()), {})
    parts = [key.removeprefix("copies: ") for key in keys if key.startswith("copies: ")]
    for words in ("", "first folder")[: 1 + several]:
        print(
            f"{words:<34}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}{'threshold':>11}{'pairs':>8}"
            f"{'precision':>11}{'recall':>8}{'copies':>8}" + "".join(f"{part:>12}" for part in parts)
        )
        for way, row in rows.items():
            cost = f"{row['seconds']:>9.1f}{row['cpu_s']:>8.1f}{row['peak_mb']:>9.0f}"
            others = {"at 90 %": row.get("at_precision"), **row.get("again", {})}
            lines = {f"{way:<34}{cost}": row} | {f"  {name:<58}": found for name, found in others.items()}
            for start, found in lines.items():
                if found is not None:
                    shown = found[words] if words else found
                    threshold = (
                        format(shown["threshold"], ".3f") if "threshold" in shown else "default" if found is row else ""
                    )
                    print(
                        f"{start}{threshold:>11}{shown['pairs']:>8}"
                        f"{shown['precision']:>11.1%}{shown['recall']:>8.1%}{shown['copies_found']:>8.1%}"
                        + "".join(f"{shown[f'copies: {part}']:>12.1%}" for part in parts)
                    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="of unrelated photos; copies are made of those of the first folder first (default: those of the package)",
    )
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="photos of these names get no copies")
    parser.add_argument(
        "--files", type=int, default=10_000, metavar="N", help="with --photos: photos and copies together"
    )
    parser.add_argument(
        "--every", type=int, default=EVERY, metavar="N", help="without: every N-th photo gets six copies"
    )
    parser.add_argument(
        "--made", type=Path, metavar="FOLDER", help="where the files are made, or lie since an earlier run"
    )
    parser.add_argument("--found", type=Path, metavar="FOLDER", help="a new folder for what the ways write, to keep it")
    parser.add_argument("--only", metavar="WORD", help="the way of this name, or those whose names hold this word")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="few photos, one round")
    given = parser.parse_args(arguments)
    photos = [*demo_photos()]
    if given.smoke:
        photos, given.rounds = photos[:6], 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.made or Path(scratch) / "photos"
        if not folder.exists():
            if given.photos:
                make_large(folder, given.photos, given.files, given.trained)
            else:
                make_small(folder, photos, given.every)
        ways = [given.only] if given.only in WAYS else [way for way in WAYS if given.only is None or given.only in way]
        rows, left_out = compare(folder, given.found or Path(scratch) / "found", ways, given.rounds)
        files = [path.name for path in folder.iterdir()]
    copies = sum(name.count(".") > 1 for name in files)
    print(f"{len(files)} photos, {copies} of them copies")
    tell(rows, len({name.partition("-")[0] for name in files}) > 1)
    for reason in left_out:
        print(f"left out: {reason}")
    others = [row["cpu_s"] for way, row in rows.items() if not way.startswith(OURS)]
    finish(
        {
            "bench": "dedup",
            "photos": len(files),
            "copies": copies,
            "rounds": given.rounds,
            "rows": rows,
            "left_out": left_out,
            "ratio_to_best_reference": min(others) / rows[OURS]["cpu_s"] if others and OURS in rows else None,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
