"""An index of a million rows: one query, adding, removing, and the recall that was promised; beside an exact search.

    python bench/index.py                      a million rows of 256 numbers, which take 1 GB on the disk and 1.5 GB of memory
    python bench/index.py --rows 200000
    python bench/index.py --smoke              takes seconds and shows only that it runs

Random directions are no descriptors: each row is equally far from all others, and lists gain nothing. So the rows are drawn
around descriptors that the engine in the package makes of crops of the photos in the package, with what these vary by, and one
row in a hundred is a near copy of a query. The answers are compared with those of `isc_fast.search`: recall of the ten best,
and whether scores of pairs that both find are equal to the bit. Times are those of an index that is open. A photo is
timed too, with decoding and network. The reference way is faiss' flat index on all cores, with all rows in memory.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from PIL import Image

K = 10
_BLOCK = 65_536


def described_crops(count: int) -> np.ndarray[Any, Any]:
    """Descriptors of random crops of the photos in the package."""
    from isc_fast.assets import demo_photos
    from isc_fast.engines.base import load_engine

    engine, random = load_engine("demo"), np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in demo_photos()]
    size, made = (engine.spec.width, engine.spec.height), []
    for start in range(0, count, 32):
        crops = []
        for _ in range(min(32, count - start)):
            photo = photos[random.integers(len(photos))]
            wide, high = (int(side * random.uniform(0.15, 0.7)) for side in photo.size)
            left, top = (
                int(random.uniform(0, side - part)) for side, part in zip(photo.size, (wide, high), strict=True)
            )
            crops.append(np.asarray(photo.crop((left, top, left + wide, top + high)).resize(size)))
        made.append(engine.run(np.stack(crops)))
    return np.concatenate(made)


def drawn(rows: int, described: np.ndarray[Any, Any], seed: int) -> Iterator[np.ndarray[Any, Any]]:
    """Unit rows in blocks: a described crop, plus something of the spread of all."""
    random = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(np.cov(described.T))
    spread = (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
    for start in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        block = described[random.integers(0, len(described), count)]
        block = block + random.standard_normal((count, len(spread)), dtype=np.float32) @ spread
        yield (block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float32)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what the work gave."""
    began = time.perf_counter()
    made = work()
    return (time.perf_counter() - began) * 1000, made


def tell(step: str) -> None:
    """Print a step of the building, with the time, to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {step}", file=sys.stderr, flush=True)


def measure(rows: int, queries: int, described: np.ndarray[Any, Any], recall: float, folder: Path) -> dict[str, Any]:
    """Build an index, ask it, and change it."""
    import faiss

    from isc_fast.assets import demo_photos
    from isc_fast.descriptors.store import Descriptors, open_descriptors
    from isc_fast.descriptors.writing import write_blocks
    from isc_fast.engines.base import load_engine
    from isc_fast.machine.cores import available_cores
    from isc_fast.matching.index.changes import FLAT_BELOW, add_to_index, build_index, compact_index, remove_from_index
    from isc_fast.matching.two_sides import search
    from isc_fast.runs.asking import Index
    from isc_fast.runs.sides.describing import Describing

    engine, random = load_engine("demo"), np.random.default_rng(2)
    dim = described.shape[1]
    meta = {"engine_id": engine.id, "engine": engine.spec.to_dict(), "decoder": "pillow"}
    xq = np.concatenate(list(drawn(queries, described, 1)))
    asked = Descriptors(xq, [f"q{row}" for row in range(queries)], meta)

    def with_copies() -> Iterator[np.ndarray[Any, Any]]:
        for block in drawn(rows, described, 0):
            copies = xq[random.integers(0, queries, len(block[::100]))] + 0.3 * block[::100]
            block[::100] = copies / np.linalg.norm(copies, axis=1, keepdims=True)
            yield block

    file = folder / "rows.h5"
    write_blocks(file, with_copies(), ids=[f"r{row}" for row in range(rows)], dim=dim, meta=meta)
    row: dict[str, Any] = {"rows": rows, "dim": dim, "promised": recall}
    flat_below = min(FLAT_BELOW, max(2, rows // 2))
    with open_descriptors(file) as stored:
        ms, made = timed(partial(build_index, stored, folder / "index", recall=recall, flat_below=flat_below, say=tell))
        row["build_s"] = ms / 1000
        exact = search(asked, stored, k=K)
        flat_rows = np.asarray(stored.vectors[:], np.float32)
    lists = made.segments[0].lists
    row |= {"lists": lists.factory, "nprobe": lists.nprobe, "measured_recall": vars(lists.recall)}
    true = {(query, reference): score for query, reference, score in exact}
    ms, index = timed(lambda: Index(folder / "index", describing=Describing(engine)))
    load_ms, _ = timed(index.load)
    row["open_ms"] = ms + load_ms
    found: dict[tuple[str, str], float] = {}
    times = []
    for number in range(queries):
        one = Descriptors(xq[number : number + 1], [f"q{number}"], meta)
        ms, answer = timed(partial(index.query, one, k=K))
        times.append(ms)
        found |= {(query, reference): score for query, reference, score in answer.matches}
    row["query_ms"], row["query_ms_p95"] = statistics.median(times), float(np.quantile(times, 0.95))
    both = true.keys() & found.keys()
    row["recall"] = len(both) / len(true)
    row["same_scores"] = all(np.float32(true[pair]) == np.float32(found[pair]) for pair in both)
    one, other = (np.array([side[pair] for pair in sorted(both)]) for side in (true, found))
    row["cosine_min"] = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    photos = [str(path) for path in demo_photos()][:10]
    index.query(photos[0])
    row["photo_ms"] = statistics.median(timed(partial(index.query, photo))[0] for photo in photos)
    index.close()
    faiss.omp_set_num_threads(available_cores())
    flat = faiss.IndexFlatIP(dim)
    flat.add(flat_rows)
    flat_times = [timed(partial(flat.search, xq[number : number + 1], K))[0] for number in range(min(20, queries))]
    row["flat_ms"] = statistics.median(flat_times)
    flat.reset()
    new_rows = next(drawn(10, described, 3))
    more = [Descriptors(new_rows[number : number + 1], [f"n{number}"], meta) for number in range(10)]
    changed = folder / "index"
    row["add_one_ms"] = statistics.median(timed(partial(add_to_index, changed, new))[0] for new in more)
    gone = [[f"r{number}"] for number in range(10)]
    row["remove_one_ms"] = statistics.median(timed(partial(remove_from_index, changed, ids))[0] for ids in gone)
    with Index(folder / "index", describing=Describing(engine)) as index:
        index.load()
        again = [timed(partial(index.query, xq[number], k=K))[0] for number in range(queries)]
        row["query_ms_after_changes"] = statistics.median(again)
    row["compact_s"] = timed(partial(compact_index, changed))[0] / 1000
    row["ratio"] = row["flat_ms"] / row["query_ms"]
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--crops", type=int, default=2000, help="described photos that the rows are drawn around")
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--smoke", action="store_true", help="few rows and queries")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.rows, given.queries, given.crops = 3000, 20, 64
    described = described_crops(given.crops)
    with tempfile.TemporaryDirectory() as scratch:
        row = measure(given.rows, given.queries, described, given.recall, Path(scratch))
    recall = row["measured_recall"]
    print(f"{row['rows']} rows of {row['dim']} numbers, {row['lists']}, {row['nprobe']} lists looked into")
    print(
        f"recall promised {row['promised']}, at build {recall['mean']:.4f} ({recall['low']:.4f} to {recall['high']:.4f})"
    )
    print(f"recall of new queries {row['recall']:.4f}; equal scores: {row['same_scores']}")
    for name, words in (
        ("query_ms", "one query"),
        ("query_ms_p95", "95 of 100 queries are faster than"),
        ("flat_ms", "one query, faiss' flat index"),
        ("photo_ms", "one photo, decoding and network included"),
        ("add_one_ms", "add one row"),
        ("remove_one_ms", "remove one row"),
        ("query_ms_after_changes", "one query after ten of each"),
        ("open_ms", "open and load"),
    ):
        print(f"{words:<44}{row[name]:>10.1f} ms")
    print(f"{'build':<44}{row['build_s']:>10.1f} s\n{'compact':<44}{row['compact_s']:>10.1f} s")
    finish({"bench": "index", **row, "ratio_to_best_reference": row["ratio"]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
