"""Subtracting and smoothing negatives: the published form and ours, side by side in one run.

    python bench/normalize.py            200,000 descriptors, 20,000 and 1,000,000 negatives, 256 dimensions: two minutes
    python bench/normalize.py --smoke    takes seconds and shows only that it runs

The published form (the reference solution's) gathers the k nearest negatives of every descriptor at once, an array
``(n, k, d)``, before it takes their mean. Both forms search for these k negatives, and the search costs far more than the
rest. The benchmark therefore measures two things: the calculation alone, with given neighbours (random ones, as random rows
have), and the whole with the search, for fewer descriptors. The ceiling of the calculation is the rate of fetching the
negatives' rows, once for each neighbour, and doing nothing with them. The memory is the most that a process of its own takes
beyond its input; it includes the result.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # otherwise the threads of faiss spin while numpy works

import faiss
import numpy as np
from harness import finish, interleaved
from measuring import peak_bytes

from isc_fast.descriptors.store import BLOCK_ROWS, Descriptors
from isc_fast.machine.cores import available_cores
from isc_fast.matching.normalizing.smoothing import SMOOTHING_K, SMOOTHING_POWER, NegativeSmoothing
from isc_fast.matching.normalizing.subtraction import NES_BETA, NES_K, NegativeSubtraction, subtract_negatives
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.exact import Metric

Array = np.ndarray[Any, Any]
_STEP = 2048  # rows that `fetched` copies at a time; they stay in a core's cache


def unit_rows(seed: int, count: int, dim: int) -> Array:
    """Make random rows of unit length, float32."""
    rows = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def searched(xq: Array, xb: Array, k: int) -> tuple[Array, Array]:
    """Return scores and indices ``(n, k)`` as the published form finds them: by one index of faiss, all at once."""
    index = faiss.IndexFlatIP(xb.shape[1])
    index.add(xb)
    scores, indices = index.search(xq, k)
    return scores, indices


def published_subtraction(rows: Array, negatives: Array, indices: Array) -> Array:
    """Subtract negatives from all rows in one expression."""
    made = rows - np.float32(NES_BETA) * negatives[indices].mean(axis=1)
    result: Array = made / np.linalg.norm(made, axis=1, keepdims=True)
    return result


def published_smoothing(negatives: Array, scores: Array, indices: Array) -> Array:
    """Smooth all negatives in one expression."""
    made = (negatives[indices] * (scores**SMOOTHING_POWER)[:, :, None]).sum(axis=1)
    result: Array = made / np.linalg.norm(made, axis=1, keepdims=True)
    return result


def named(rows: Array) -> Descriptors:
    """Return descriptors whose ids are numbers."""
    return Descriptors(rows, range(len(rows)))  # type: ignore[arg-type]  # a list of names would count as memory


class GivenNeighbours(CpuSearcher):
    """A searcher that does not search: it returns known neighbours, in the order of the queries."""

    def __init__(self, scores: Array, indices: Array) -> None:
        super().__init__()
        self._known, self._given = (scores, indices), 0

    def knn(self, xq: Array, blocks: Iterable[Array], k: int, metric: Metric = "ip") -> tuple[Array, Array]:
        """Return the neighbours of the next queries."""
        these = slice(self._given, self._given + len(xq))
        self._given += len(xq)
        return self._known[0][these], self._known[1][these]


def collected(blocks: Iterable[Array], count: int, dim: int) -> Array:
    """Copy blocks into one array. The array is allocated first, so that nothing is in memory twice."""
    rows, at = np.empty((count, dim), np.float32), 0
    for block in blocks:
        rows[at : at + len(block)] = block
        at += len(block)
    return rows


def fetched(table: Array, indices: Array) -> None:
    """Copy every neighbour's row into a small buffer, on all cores, and do nothing with it."""

    def some(start: int) -> None:
        near = indices[start : start + _STEP].T
        buffer = np.empty((near.shape[1], table.shape[1]), np.float32)
        for one in near:
            np.take(table, one, axis=0, out=buffer, mode="clip")

    with ThreadPoolExecutor(available_cores()) as threads:
        list(threads.map(some, range(0, len(indices), _STEP)))


def steps(count: int, negatives: int, dim: int) -> dict[str, Callable[[], Array]]:
    """Return each way, by name, to subtract negatives from ``count`` rows, or to smooth them if ``count`` is 0.

    The neighbours are given.
    """
    table, random = unit_rows(1, negatives, dim), np.random.default_rng(2)
    if count:
        rows, indices = unit_rows(0, count, dim), random.integers(0, negatives, (count, NES_K))
        blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, count, BLOCK_ROWS)]

        def theirs() -> Array:
            return published_subtraction(rows, table, indices)

        def ours() -> Array:
            searcher = GivenNeighbours(np.ones(indices.shape, np.float32), indices)
            return collected(NegativeSubtraction().blocks(blocks, named(table), searcher), count, dim)
    else:
        indices = random.integers(0, negatives, (negatives, SMOOTHING_K))
        scores = random.uniform(0.2, 1, indices.shape).astype(np.float32)

        def theirs() -> Array:
            return published_smoothing(table, scores, indices)

        def ours() -> Array:
            return collected(NegativeSmoothing().blocks(named(table), GivenNeighbours(scores, indices)), negatives, dim)

    def fetching() -> Array:
        fetched(table, indices)
        return table

    return {"published": theirs, "isc_fast": ours, "fetching": fetching}


def extra_memory(way: str, count: int, negatives: int, dim: int) -> int | None:
    """Measure, in a process of its own, the bytes that one way takes beyond its input; None if the system does not tell."""
    if not os.path.exists("/proc/self/status"):
        return None
    shape = [str(number) for number in (count, negatives, dim)]
    command = [sys.executable, __file__, "--only-memory-of", way, *shape]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def measure_memory(way: str, count: int, negatives: int, dim: int) -> int:
    """Measure the memory of one way in this process. `extra_memory` calls it in another process and reads the result."""
    run = steps(count, negatives, dim)[way]
    steps(10 if count else 0, 20, dim)[way]()  # so that what the first call loads and caches is not counted
    gc.collect()
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # resets the peak
    before = peak_bytes()
    run()
    return peak_bytes() - before


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="descriptors for the calculation alone")
    parser.add_argument("--negatives", type=int, nargs="+", default=[20_000, 1_000_000])
    parser.add_argument("--smoothed", type=int, default=200_000, help="negatives to smooth, for the calculation alone")
    parser.add_argument("--whole", type=int, default=32_768, help="descriptors for the whole, with the search")
    parser.add_argument("--whole-negatives", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="few rows, one round")
    parser.add_argument("--only-memory-of", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.only_memory_of:
        way, *shape = given.only_memory_of
        print(measure_memory(way, *map(int, shape)))
        return 0
    if given.smoke:
        given.rows, given.negatives, given.smoothed, given.whole, given.whole_negatives = 3000, [500], 2000, 1000, 500
        given.dim, given.rounds = 64, 1
    faiss.omp_set_num_threads(available_cores())
    dim = given.dim
    cases: dict[str, tuple[int, dict[str, Callable[[], Array]], tuple[int, int] | None]] = {}
    for count in given.negatives:
        name = f"subtract, {given.rows:,} rows, {count:,} negatives"
        cases[name] = given.rows, steps(given.rows, count, dim), (given.rows, count)
    name = f"smooth, {given.smoothed:,} negatives"
    cases[name] = given.smoothed, steps(0, given.smoothed, dim), (0, given.smoothed)
    rows, table = unit_rows(4, given.whole, dim), unit_rows(5, given.whole_negatives, dim)
    whole = {
        "published": lambda: published_subtraction(rows, table, searched(rows, table, NES_K)[1]),
        "isc_fast": lambda: subtract_negatives(named(rows), named(table)).vectors,
    }
    cases[f"with the search, {given.whole:,} rows, {given.whole_negatives:,} negatives"] = given.whole, whole, None

    result: dict[str, Any] = {}
    print(f"{'':<50} rows/s (range)                  ratio ceiling   extra memory  largest difference")
    for name, (count, ways, memory) in cases.items():
        made: dict[str, Array] = {}

        def timed(
            way: str, run: Callable[[], Array], made: dict[str, Array] = made, count: int = count
        ) -> Callable[[], int]:
            def once() -> int:
                made[way] = run()
                return count

            return once

        runs = {way: timed(way, run) for way, run in ways.items()}
        for run in runs.values():
            run()  # warm-up
        rates = interleaved(runs, given.rounds)
        a, b = made["published"].astype(np.float64), made["isc_fast"].astype(np.float64)
        found = {
            "ratio": rates["isc_fast"]["images_per_s"] / rates["published"]["images_per_s"],
            "largest_difference": float(np.abs(a - b).max()),
            "equal_rows": float((a == b).all(axis=1).mean()),
            "cosine_min": float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()),
        }
        if "fetching" in rates:
            limit = rates.pop("fetching")["images_per_s"]
            found |= {"ceiling_rows_per_s": limit, "share_of_ceiling": rates["isc_fast"]["images_per_s"] / limit}
        for way, rate in rates.items():
            extra = extra_memory(way, *memory, dim) if memory else None
            found[way] = {
                "rows_per_s": rate["images_per_s"],
                "min": rate["min"],
                "max": rate["max"],
                "extra_bytes": extra,
            }
            line = f"{name + ', ' + way:<62}"[:62]
            line += f" {rate['images_per_s']:10,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})"
            of_limit = f"{found['share_of_ceiling']:.0%}" if "share_of_ceiling" in found else "–"
            line = line.ljust(100) + (f" {found['ratio']:6.2f} {of_limit:>7}" if way == "isc_fast" else " " * 15)
            line += f"  {extra / 1e6:8,.0f} MB" if extra is not None else " " * 13
            print(line + (f"  {found['largest_difference']:.1e}" if way == "isc_fast" else ""))
        result[name] = found
        made.clear()
    first = next(iter(result.values()))
    finish(
        {
            "bench": "normalize",
            "dim": dim,
            "k": NES_K,
            "rounds": given.rounds,
            "cases": result,
            "ratio_to_best_reference": first["ratio"],
            "best_reference": "published",
            "cosine_min": min(case["cosine_min"] for case in result.values()),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
