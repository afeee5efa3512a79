"""All pairs of one collection above a score, by size: ours beside what others do; then groups and leaders of many pairs.

    python bench/self_join.py                                20,000 and 60,000 rows of 256 numbers; 10 million pairs
    python bench/self_join.py --rows 300000 1000000 --only isc_fast      ours alone; faiss' takes hours
    python bench/self_join.py --smoke                        takes seconds and shows only that it runs

Rows have unit length, and one in a hundred is a near copy of another one. faiss' flat range search, which most scripts for
de-duplication end in, compares each two rows twice, finds each row to be like itself, and keeps everything in memory; the second
half is dropped here. Where they are installed, scikit-learn is measured as FiftyOne's de-duplication asks it, and `imagededup`,
which makes a matrix of all scores and is left out beyond 30,000 rows.

Each figure is of a process of its own, which also measures how much memory it takes beyond the rows. The ways run in turn. Ours
reads the rows from a descriptor file, as `isc-fast dedup` does, and writes pairs to files.

The graph of the second part is random: a million photos, each pair with a near number. `scipy`'s components are measured beside
ours, which find each group's weakest link too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from measuring import cpu_s, peak_bytes
from rows import make_rows

THRESHOLD = 0.5
OURS, FAISS, SKLEARN, IMAGEDEDUP = "isc_fast", "faiss range_search", "scikit-learn radius", "imagededup"


def ours(file: Path) -> Iterator[Any]:
    """Yield the pairs of a descriptor file, from files of pairs."""
    from isc_fast.descriptors.store import open_descriptors
    from isc_fast.matching.pairs.pair_files import PairFiles
    from isc_fast.matching.pairs.self_join import SelfJoin

    with open_descriptors(file) as descriptors, tempfile.TemporaryDirectory() as folder:
        join = SelfJoin(descriptors, THRESHOLD)
        files = PairFiles(folder, join.blocks)
        for piece in files.missing():
            files.write(piece, join.pairs(piece))
        yield from files


def by_faiss(file: Path) -> Iterator[Any]:
    """Yield the pairs of a descriptor file, found by faiss in one call."""
    import faiss

    from isc_fast.descriptors.store import load_descriptors
    from isc_fast.machine.cores import available_cores

    faiss.omp_set_num_threads(available_cores())
    rows = load_descriptors(file).vectors
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    limits, scores, labels = index.range_search(rows, THRESHOLD)
    first = np.repeat(np.arange(len(rows)), np.diff(limits.astype(np.int64)))
    once = labels > first
    yield first[once], labels[once], scores[once]


def by_sklearn(file: Path) -> Iterator[Any]:
    """Yield the pairs found by scikit-learn as FiftyOne asks it: all rows within a Euclidean distance of each row."""
    from sklearn.neighbors import NearestNeighbors

    from isc_fast.descriptors.store import load_descriptors

    rows = load_descriptors(file).vectors
    distances, near = NearestNeighbors(metric="euclidean").fit(rows).radius_neighbors(rows, np.sqrt(2 - 2 * THRESHOLD))
    first = np.repeat(np.arange(len(rows)), [len(found) for found in near])
    second = np.concatenate(near)
    once = second > first
    yield first[once], second[once], 1 - np.concatenate(distances)[once] ** 2 / 2


def by_imagededup(file: Path) -> Iterator[Any]:
    """Yield the pairs of `imagededup`'s function for encodings: a matrix of scores in half precision, and a loop over rows."""
    import logging

    from imagededup.methods.cnn import CNN

    from isc_fast.descriptors.store import load_descriptors

    rows = load_descriptors(file).vectors
    finder = object.__new__(CNN)  # its constructor loads a network, which finding the pairs does not need
    finder.logger, finder.verbose = logging.getLogger(__name__), False
    found = finder.find_duplicates(encoding_map=dict(enumerate(rows)), min_similarity_threshold=THRESHOLD)
    first = np.repeat(np.arange(len(rows)), [len(found[row]) for row in range(len(rows))])
    second = np.array([other for row in range(len(rows)) for other in found[row]], np.int64)
    once = second > first
    first, second = first[once], second[once]
    yield first, second, finder.cosine_scores[first, second].astype(np.float32)


WAYS = {OURS: ours, FAISS: by_faiss, SKLEARN: by_sklearn, IMAGEDEDUP: by_imagededup}
MOST_ROWS = {IMAGEDEDUP: 30_000}
MODULES = {OURS: "isc_fast", FAISS: "faiss", SKLEARN: "sklearn.neighbors", IMAGEDEDUP: "imagededup.methods.cnn"}


def one(way: str, file: Path) -> None:
    """Measure a way in this process, and print the figures as JSON."""
    from isc_fast.matching.searchers.searcher import open_searcher

    open_searcher().knn(np.eye(64, dtype=np.float32), [np.eye(64, dtype=np.float32)], 1)  # loads the libraries
    importlib.import_module(MODULES[way])
    before, began, used = peak_bytes() / 2**20, time.perf_counter(), cpu_s()
    parts = [[np.asarray(side) for side in pairs] for pairs in WAYS[way](file)]
    seconds, busy = time.perf_counter() - began, cpu_s() - used
    first, second, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
    order = np.lexsort((second, first))
    np.save(file.with_suffix(f".{way}.npy"), np.stack([first[order], second[order], scores[order]]).astype(np.float64))
    print(
        json.dumps({"seconds": seconds, "cpu_s": busy, "beyond_mb": peak_bytes() / 2**20 - before, "pairs": len(first)})
    )


def measured(way: str, file: Path) -> dict[str, float]:
    """Measure a way in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, str(file)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def join_row(rows: int, dim: int, rounds: int, ways: Sequence[str], folder: Path) -> dict[str, Any]:
    """Measure all ways at one size."""
    from isc_fast.descriptors.store import Descriptors
    from isc_fast.descriptors.writing import write_descriptors

    file = folder / f"{rows}.h5"
    write_descriptors(file, Descriptors(make_rows(max(1, rows // 50), rows, dim)[1], [str(row) for row in range(rows)]))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(measured(way, file))
    row: dict[str, Any] = {
        way: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]} for way, turns in found.items()
    }
    for way in ways:
        row[way]["beyond_the_rows_mb"] = row[way].pop("beyond_mb") - (rows * dim * 4 / 2**20 if way != OURS else 0)
    if OURS in ways:
        own = np.load(file.with_suffix(f".{OURS}.npy"))
        for way in ways:
            row[way] |= compared(own, np.load(file.with_suffix(f".{way}.npy")), rows)
            row[way]["ratio"] = row[way]["seconds"] / row[OURS]["seconds"]
    return row


def compared(own: np.ndarray[Any, Any], other: np.ndarray[Any, Any], rows: int) -> dict[str, float]:
    """Compare two lists of pairs: the share of all their pairs that both have, and how their scores of these agree."""
    _, mine, theirs = np.intersect1d(*(one[0] * rows + one[1] for one in (own, other)), return_indices=True)
    first, second = own[2][mine], other[2][theirs]
    return {
        "common": len(mine) / max(1, own.shape[1] + other.shape[1] - len(mine)),
        "cosine": float(first @ second / np.linalg.norm(first) / np.linalg.norm(second)) if len(mine) else 0.0,
    }


def groups_row(photos: int, pairs: int) -> dict[str, Any]:
    """Measure groups and leaders of a random graph."""
    from isc_fast.matching.groups.components import find_components
    from isc_fast.matching.groups.leaders import choose_leaders

    rng = np.random.default_rng(0)
    first = rng.integers(0, photos - 50, pairs)
    second = first + rng.integers(1, 50, pairs)
    scores = (THRESHOLD + (1 - THRESHOLD) * rng.random(pairs, np.float32)).astype(np.float32)
    blocks = [
        (first[at : at + 2**20], second[at : at + 2**20], scores[at : at + 2**20]) for at in range(0, pairs, 2**20)
    ]
    before, row = peak_bytes() / 2**20, dict[str, Any](photos=photos, pairs=pairs)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began, used = time.perf_counter(), time.process_time()
        made = work()
        row[f"{name}_s"], row[f"{name}_cpu_s"] = time.perf_counter() - began, time.process_time() - used
        return made

    order = rng.permutation(photos)
    leaders = timed("leaders", lambda: choose_leaders(blocks, order))
    label = timed("components", lambda: find_components(blocks, photos)).label
    row["beyond_the_pairs_mb"] = peak_bytes() / 2**20 - before
    row["kept"], row["groups"] = int(leaders.kept.sum()), len(np.unique(label))
    if importlib.util.find_spec("scipy") is not None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        links = coo_array((np.ones(pairs, bool), (first, second)), (photos, photos))
        count, theirs = timed("scipy_components", lambda: connected_components(links, directed=False))
        row["same_groups"] = count == row["groups"] == len(np.unique(label * photos + theirs))
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 60_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=10_000_000, help="of the graph; a tenth as many photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", metavar="WORD", help="ways whose name holds this word")
    parser.add_argument("--smoke", action="store_true", help="few rows, one round")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        one(given.one[0], Path(given.one[1]))
        return 0
    if given.smoke:
        given.rows, given.dim, given.pairs, given.rounds = [3000], 64, 20_000, 1
    there = [way for way in WAYS if importlib.util.find_spec(MODULES[way].partition(".")[0]) is not None]
    ways = [way for way in there if given.only is None or given.only in way]
    joins = {}
    print(
        f"{'rows':>9}  {'way':<20}{'seconds':>9}{'CPU s':>9}{'MB beyond the rows':>20}{'pairs':>10}{'× ours':>9}{'common':>10}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for rows in given.rows:
            able = [way for way in ways if rows <= MOST_ROWS.get(way, rows)]
            row = joins[str(rows)] = join_row(rows, given.dim, given.rounds, able, Path(scratch))
            for way in able:
                told = row[way]
                line = f"{rows:>9}  {way:<20}{told['seconds']:>9.2f}{told['cpu_s']:>9.2f}{told['beyond_the_rows_mb']:>20.0f}"
                last = f"{told['ratio']:>9.2f}{told['common']:>10.3%}" if "ratio" in told else ""
                print(f"{line}{told['pairs']:>10.0f}{last}", flush=True)
    groups = groups_row(max(100, given.pairs // 10), given.pairs)
    print(f"\n{groups['pairs']} pairs of {groups['photos']} photos")
    for name, words in (
        ("leaders", "leaders"),
        ("components", "components with their weakest links"),
        ("scipy_components", "scipy's components"),
    ):
        if f"{name}_s" in groups:
            print(f"{words:<36}{groups[f'{name}_s']:>9.2f} s{groups[f'{name}_cpu_s']:>9.2f} CPU s")
    beside = [row[FAISS] for row in joins.values() if "ratio" in row.get(FAISS, ())]
    finish(
        {
            "bench": "self_join",
            "threshold": THRESHOLD,
            "dim": given.dim,
            "rounds": given.rounds,
            "joins": joins,
            "groups": groups,
            "ratio_to_best_reference": beside[-1]["ratio"] if beside else None,
            "cosine_min": min((row["cosine"] for row in beside), default=None),  # of the scores of both ways' pairs
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
