"""What checksums cost a reader and a writer of descriptors, and what processes of their own cost a decoder.

    python bench/sums.py            300,000 × 256, and the package's photos at 1024 × 768; about a minute
    python bench/sums.py --smoke    takes seconds and shows only that it runs

Times are of the processor, all processes together, since that is what a busy machine leaves comparable. A file without checksums
is the same file read by h5py alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from measuring import cpu_s
from PIL import Image

import isc_fast
from isc_fast.assets import demo_photos
from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.descriptors.store import BLOCK_ROWS, Descriptors
from isc_fast.descriptors.texts import ids_at


def processor_s(work: Callable[[], object], rounds: int) -> float:
    """The least processor time of some rounds, children that ended included."""
    times = []
    for _ in range(rounds):
        before = cpu_s()
        work()
        times.append(cpu_s() - before)
    return min(times)


def of_files(folder: Path, rows: int, rounds: int) -> dict[str, float]:
    """Reading one file with and without looking at its checksums."""
    file = folder / "rows.h5"
    vectors = np.random.default_rng(0).standard_normal((rows, 256), dtype=np.float32)
    isc_fast.write_descriptors(file, Descriptors(vectors, [f"photos/{row:09d}" for row in range(rows)]))
    some = np.sort(np.random.default_rng(1).integers(0, rows, rows // 30))

    def verified() -> None:
        with isc_fast.open_descriptors(file) as found:
            for _ in found.blocks():
                pass

    def plain() -> None:
        with h5py.File(file) as found:
            for start in range(0, rows, BLOCK_ROWS):
                found["vectors"][start : start + BLOCK_ROWS]

    def verified_ids() -> None:
        with isc_fast.open_descriptors(file) as found:
            ids_at(found.ids, some)

    def plain_ids() -> None:
        with h5py.File(file) as found:
            found["ids"][np.unique(some)]

    works = {
        "vectors": verified,
        "vectors, h5py alone": plain,
        "some ids": verified_ids,
        "some ids, h5py alone": plain_ids,
    }
    return {name: processor_s(work, rounds) for name, work in works.items()}


def of_decoders(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds a photo with threads and with processes; these are started once in each round."""
    paths = []
    for photo in demo_photos()[:count]:
        with Image.open(photo) as image:
            image.convert("RGB").resize((1024, 768)).save(folder / photo.name, quality=90)
        paths.append(str(folder / photo.name))
    jobs = [paths] * max(1, 600 // count if count > 9 else 1)

    def decode(isolated: bool) -> None:
        for _ in make_decoder("auto", isolated=isolated).batches(jobs, Preprocessing(512, 512)):
            pass

    images = len(jobs) * len(paths)
    ways = {"threads, ms a photo": False, "processes, ms a photo": True}
    return {name: 1000 * processor_s(lambda way=way: decode(way), rounds) / images for name, way in ways.items()}  # type: ignore[misc]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="few rows and photos, one round")
    given = parser.parse_args(arguments)
    rows, photos, rounds = (3000, 4, 1) if given.smoke else (300_000, 60, given.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        found = {**of_files(Path(scratch), rows, rounds), **of_decoders(Path(scratch), photos, rounds)}
    for name, value in found.items():
        print(f"{name:<24} {value:8.3f}{' s' if 'ms' not in name else ''}")
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
