"""Exact search for the best 10: ours, faiss, numpy, torch and usearch side by side in one run.

    python bench/search.py                                1,000 queries, 300,000 references, 256 dimensions: a minute
    python bench/search.py --queries 10000 --references 1000000
    python bench/search.py --smoke                        takes seconds and shows only that it runs

Every way finds the 10 references with the highest inner product. All rows have unit length, and one reference in a hundred
is a near copy of a query. Exact search is one matrix product and a selection. If everything is compared in single precision,
its ceiling is the machine's rate for such products, which the same rounds measure (the better of numpy's and torch's,
2048 × 2048 × 2048). Ours can be faster, because products of bytes and a bound on the error of rounding exclude most pairs (see
`isc_fast/matching/searchers/first_pass.py`). Double precision decides what counts as exact, for some of the queries.

Ours is measured twice: `isc_fast.search` as a user calls it, with ids and with references in a file, and the searcher's `knn`
alone, on arrays. An index is filled before the clock starts. The slowest ways get fewer queries, and their rate is for those.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # otherwise the threads of one library spin while another one works

import faiss
import numpy as np
import torch
from harness import finish, interleaved
from rows import BLOCK, Array, Found, blocks_of, by_numpy, by_torch, make_rows, same_ids

import isc_fast
from isc_fast.descriptors.store import BLOCK_ROWS, Descriptors
from isc_fast.machine.cores import available_cores
from isc_fast.matching.searchers.searcher import open_searcher

_SIDE = 2048  # side of the square product that measures the ceiling


def quantized(xb: Array, kind: int) -> faiss.Index:
    """Return an index of faiss that keeps rounded numbers."""
    index = faiss.IndexScalarQuantizer(xb.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(xb[:BLOCK])
    index.add(xb)
    return index


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--references", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="ways whose name holds one of these words")
    parser.add_argument("--smoke", action="store_true", help="few rows, one round")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.queries, given.references, given.dim, given.rounds = 60, 3000, 64, 1
    torch.set_num_threads(available_cores())
    faiss.omp_set_num_threads(available_cores())
    nq, k = given.queries, given.k
    xq, xb = make_rows(nq, given.references, given.dim)
    square = np.random.default_rng(1).standard_normal((_SIDE, _SIDE), dtype=np.float32)
    found: dict[str, Found] = {}
    ways: dict[str, Callable[[], int]] = {}

    def way(name: str, search: Callable[[Array], Found], share: int = 1) -> None:
        def run() -> int:
            some = xq[: max(1, nq // share)]
            found[name] = search(some)
            return len(some) * given.references * given.dim * 2

        if not given.only or any(word in name for word in given.only):
            ways[name] = run

    def ceiling(product: Callable[[], object]) -> Callable[[], int]:
        return lambda: (product(), 2 * _SIDE**3)[1]

    tensor = torch.from_numpy(square)
    ceilings = {"sgemm, numpy": ceiling(lambda: square @ square), "sgemm, torch": ceiling(lambda: tensor @ tensor)}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "references.h5"
        isc_fast.write_descriptors(path, Descriptors(xb, [f"photos/{row:012d}" for row in range(len(xb))]))
        queries = Descriptors(xq, [str(row) for row in range(nq)])

        def ours(some: Array) -> Found:
            with isc_fast.open_descriptors(path) as references:
                matches = isc_fast.search(queries, references, k=k)
            rows = np.array([int(id_[7:]) for id_ in matches.reference_ids])
            return matches.scores.reshape(len(some), -1), rows.reshape(len(some), -1)

        way("isc_fast.search, from a file", ours)
        way("isc_fast searcher", lambda some: open_searcher().knn(some, blocks_of(xb, BLOCK_ROWS), k))
        flat = faiss.IndexFlatIP(given.dim)
        flat.add(xb)
        way("faiss IndexFlatIP", lambda some: flat.search(some, k))
        way("torch matmul and topk", lambda some: by_torch(torch.from_numpy(some), torch.from_numpy(xb), k))
        way("numpy, in blocks", lambda some: by_numpy(some, xb, k), 2)
        halves, bytes_ = (
            quantized(xb, kind) for kind in (faiss.ScalarQuantizer.QT_fp16, faiss.ScalarQuantizer.QT_8bit)
        )
        way("faiss fp16", lambda some: halves.search(some, k), 4)
        way("faiss SQ8", lambda some: bytes_.search(some, k), 4)
        try:
            import usearch.index as usearch

            threads = available_cores()

            def by_usearch(some: Array) -> Found:
                best = usearch.search(xb, some, k, usearch.MetricKind.IP, exact=True, threads=threads)
                return 1 - best.distances.reshape(len(some), -1), best.keys.reshape(len(some), -1).astype(np.int64)

            way("usearch, exact", by_usearch, 10)
            without = None
        except ImportError as error:
            without = f"usearch: {error}"
        for run in ways.values():
            run()  # warm-up
        rates = interleaved({**ceilings, **ways}, given.rounds)

    checked = min(nq, 200)
    scores, indices = by_numpy(xq[:checked].astype(np.float64), xb, k)
    top = max(rates[name]["images_per_s"] for name in ceilings)
    flat_rate = rates.get("faiss IndexFlatIP", {}).get("images_per_s", np.nan)
    rows = {}
    print(f"{'':<30} GFLOP/s (range)        of the ceiling  × faiss  same ids  largest difference of a score")
    for name, rate in rates.items():
        row = {
            "gflop_per_s": rate["images_per_s"] / 1e9,
            "min": rate["min"] / 1e9,
            "max": rate["max"] / 1e9,
            "share_of_ceiling": rate["images_per_s"] / top,
        }
        line = f"{name:<30} {row['gflop_per_s']:7.1f} ({row['min']:.0f} to {row['max']:.0f})".ljust(54)
        line += f"{row['share_of_ceiling']:8.0%}"
        if name in found:
            by, ids = (part[:checked] for part in found[name])
            row |= {
                "ratio_to_faiss": rate["images_per_s"] / flat_rate,
                "same_ids": same_ids(ids, indices),
                "largest_score_difference": float(np.abs(by - scores[: len(by)]).max()),
            }
            line += f"{row['ratio_to_faiss']:14.2f} {row['same_ids']:9.1%}  {row['largest_score_difference']:.1e}"
        rows[name] = row
        print(line)
    if without:
        print(f"left out: {without}")
    own, *others = ways
    best = max(others[1:] or others or [own], key=lambda name: rates[name]["images_per_s"])
    a, b = found[own][0][:checked].astype(np.float64), scores
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    finish(
        {
            "bench": "search",
            "shape": [nq, given.references, given.dim, k],
            "rounds": given.rounds,
            "rows": rows,
            "left_out": without,
            "ratio_to_best_reference": rates[own]["images_per_s"] / rates[best]["images_per_s"],
            "best_reference": best,
            "cosine_min": float(cosine.min()),  # compares the scores of each query's best with double precision
            "same_ids_min": rows[own]["same_ids"],
        }
    )
    return 0


if __name__ == "__main__":
    print(f"faiss {importlib.metadata.version('faiss-cpu')}, torch {torch.__version__}", file=sys.stderr)
    sys.exit(main())
