"""The most memory that a run takes, by the number of images: with `isc_fast`, and as the published scripts do it, which hold
everything in memory.

    python bench/memory.py --counts 10000 1000000 10000000

A process of its own measures each figure. The extraction runs without its network and decoder, whose memory does not depend on
the number of images. It measures the listing, the plan, the parts and the file. The benchmark needs Linux, which reports the
memory of a process, and room on the disk for twice the descriptors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from measuring import peak_bytes
from rows import blocks_of
from stand_in import Dark, Network, decode_with, name_of, write_list

BLOCK = 8192
ROWS = ("extract", "search", "normalize", "search, all in memory")
OWN, REFERENCE = ROWS[1], ROWS[3]
QUERIES = 1000


def vectors(count: int, dim: int, seed: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Yield unit rows in blocks. A larger count begins with the same rows."""
    rng = np.random.default_rng(seed)
    for part in blocks_of(np.arange(count), BLOCK):
        rows = rng.standard_normal((BLOCK, dim), dtype=np.float32)[: len(part)]
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_rows(path: Path, count: int, dim: int) -> None:
    """Write a descriptor file, with ids that take no memory."""
    from isc_fast.descriptors.writing import write_blocks
    from isc_fast.files.lazy import Lazy

    class Names(Lazy[str]):
        def __len__(self) -> int:
            return count

        def read(self, start: int, stop: int) -> list[str]:
            return [name_of(row) for row in range(start, stop)]

    write_blocks(path, vectors(count, dim, 0), ids=Names(), dim=dim, meta={"engine_id": "e"})


def extract_list(folder: Path, count: int, dim: int) -> None:
    """Run an extraction from a list file to the descriptor file."""
    from isc_fast.extraction.pipeline import extract

    decode_with(Dark())
    write_list(folder / "list.txt", count)
    made = extract(folder / "list.txt", Network(dim), folder / "out.h5")  # type: ignore[arg-type]
    assert made.count == count


def search(folder: Path, dim: int) -> list[float]:
    """Search the ten best references of each query, from the file."""
    import isc_fast
    from isc_fast.descriptors.store import Descriptors, open_descriptors

    queries = Descriptors(next(vectors(QUERIES, dim, 1)), [f"q{row}" for row in range(QUERIES)], {"engine_id": "e"})
    with open_descriptors(folder / "rows.h5") as references:
        return np.sort(isc_fast.search(queries, references, k=10).scores)[-QUERIES:].tolist()


def normalize(folder: Path, dim: int) -> None:
    """Subtract a thousand negatives, from file to file."""
    from isc_fast.descriptors.store import Descriptors, open_descriptors
    from isc_fast.matching.normalizing.methods import normalize_to_file

    negatives = Descriptors(next(vectors(QUERIES, dim, 2)), [f"n{row}" for row in range(QUERIES)], {"engine_id": "e"})
    with open_descriptors(folder / "rows.h5") as rows:
        normalize_to_file(rows, negatives, folder / "out.h5")


def search_in_memory(folder: Path, dim: int) -> list[float]:
    """Search in the published way: read all vectors and names, and hold the vectors a second time in a flat faiss index."""
    import faiss
    import h5py

    with h5py.File(folder / "rows.h5", "r") as file:
        references, names = file["vectors"][:], file["ids"].asstr()[:].tolist()
    index = faiss.IndexFlatIP(dim)
    index.add(references)
    scores, rows = index.search(next(vectors(QUERIES, dim, 1)), 10)
    pairs = [(names[row], float(score)) for row, score in zip(rows.ravel(), scores.ravel(), strict=True)]
    return sorted(score for _, score in pairs)[-QUERIES:]


def fits(count: int, dim: int) -> bool:
    """Return whether the vectors, held twice, and the names as objects leave a fifth of the machine's memory free."""
    [free] = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvail")]
    return 2 * count * dim * 4 + 300 * count < 0.8 * int(free) * 1024


def measured(row: str, count: int, dim: int, folder: Path) -> dict[str, Any]:
    """Compute one row in this process. Return the most memory that it took in MB, its seconds by the clock and of the
    processor, and its scores, if any.
    """
    began, scores = time.monotonic(), None
    if row == "extract":
        extract_list(folder, count, dim)
    elif row == "rows":
        write_rows(folder / "rows.h5", count, dim)
    elif row == "normalize":
        normalize(folder, dim)
    else:
        scores = (search_in_memory if row == REFERENCE else search)(folder, dim)
    seconds, cpu_s = time.monotonic() - began, time.process_time()
    return {"mb": peak_bytes() / 1e6, "seconds": seconds, "cpu_s": cpu_s, "scores": scores}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000], help="numbers of images")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="folder for the files; by default the system's temporary folder")
    parser.add_argument(
        "--smoke", action="store_true", help="a thousand and five thousand images, to show that it runs"
    )
    parser.add_argument("--row", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        print(json.dumps(measured(given.row, given.counts[0], given.dim, given.folder)))
        return 0
    counts = [1000, 5000] if given.smoke else given.counts

    def of_a_process(row: str, count: int, folder: Path) -> dict[str, Any]:
        command = [sys.executable, __file__, "--row", row, "--counts", str(count), "--dim", str(given.dim)]
        done = subprocess.run([*command, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    found: dict[str, dict[int, dict[str, Any]]] = {row: {} for row in ROWS}
    for count in counts:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            found["extract"][count] = of_a_process("extract", count, Path(folder))
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            of_a_process("rows", count, Path(folder))
            for row in ROWS[1:]:
                if row != REFERENCE or count == counts[0] or fits(count, given.dim):
                    found[row][count] = of_a_process(row, count, Path(folder))
    print(f"{'MB (and seconds) by images':<28}" + "".join(f"{count:>22,}" for count in counts))
    for row, cells in found.items():
        shown = (f"{cell['mb']:>14.0f} {cell['seconds']:>6.0f}s" for cell in cells.values())
        print(f"{row:<28}" + "".join(shown) + "  does not fit" * (len(cells) < len(counts)))
    both = list(found[REFERENCE])[-1]
    mine, theirs = (np.array(found[row][both]["scores"]) for row in (OWN, REFERENCE))
    finish(
        {
            "bench": "memory",
            "dim": given.dim,
            "rows": {
                row: {
                    str(count): {name: value for name, value in cell.items() if name != "scores"}
                    for count, cell in cells.items()
                }
                for row, cells in found.items()
            },
            "growth": {row: list(cells.values())[-1]["mb"] / cells[counts[0]]["mb"] for row, cells in found.items()},
            "ratio_to_best_reference": found[REFERENCE][both]["mb"] / found[OWN][both]["mb"],
            "best_reference": REFERENCE,
            "cosine_min": float(
                mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
            ),  # compares the best scores
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
