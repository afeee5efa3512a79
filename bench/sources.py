"""Photos in a folder against the same photos in a tar, a zip, a Parquet and an Arrow file.

    python bench/sources.py            two thousand JPEGs of 1024 × 768, and two hundred thousand members to list
    python bench/sources.py --smoke    takes seconds and shows only that it runs

Three costs stand beside each other: JPEG files to descriptors with the demo's engine, as a user calls it, by the clock and in
processor time, which others on the machine disturb less; opening and reading a photo without decoding it, in microseconds of
processor time; and listing a member, likewise. The accuracy is the cosine with the folder's descriptors, which is 1 where every
source gives the same bytes.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import PHOTO_SIZE, finish, interleaved, make_photos

import isc_fast
from isc_fast.decoders.opening import open_photo
from isc_fast.errors import require
from isc_fast.sources.listing import open_item

Contents = Iterable[tuple[str, bytes]]


def _tar(file: Path, contents: Contents) -> None:
    with tarfile.open(file, "w") as tar:
        for name, data in contents:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


def _zip(file: Path, contents: Contents) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents:
            archive.writestr(name, data)


def _table(contents: Contents) -> Any:
    return require("pyarrow", "parquet").table({"image": [{"bytes": data, "path": name} for name, data in contents]})


def _parquet(file: Path, contents: Contents) -> None:
    require("pyarrow.parquet", "parquet").write_table(_table(contents), file, row_group_size=100)


def _arrow(file: Path, contents: Contents) -> None:
    table = _table(contents)
    with open(file, "wb") as sink, require("pyarrow", "parquet").ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


def _folder(folder: Path, contents: Contents) -> None:
    folder.mkdir()
    for name, data in contents:
        (folder / name).write_bytes(data)


WRITERS: dict[str, Callable[[Path, Contents], None]] = {
    "folder": _folder,
    "x.tar": _tar,
    "x.zip": _zip,
    "x.parquet": _parquet,
    "x.arrow": _arrow,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--members", type=int, default=200_000, help="small members to list")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="few images and members, one round")
    given = parser.parse_args(arguments)
    photo_size = PHOTO_SIZE
    if given.smoke:
        given.images, given.members, given.rounds, photo_size = 8, 200, 1, (160, 120)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        paths = [Path(path) for path in make_photos(work / "made", given.images, photo_size)]
        places = {name: work / "photos" / name for name in WRITERS}
        (work / "photos").mkdir()
        for name, write in WRITERS.items():
            write(places[name], ((path.name, path.read_bytes()) for path in paths))
        engine = isc_fast.load_engine("demo")
        vectors: dict[str, np.ndarray[Any, Any]] = {}
        spent: dict[str, list[float]] = {name: [] for name in WRITERS}

        def describing(name: str) -> Callable[[], int]:
            def run() -> int:
                shutil.rmtree(work / "out", ignore_errors=True)
                (work / "out").mkdir()
                began = time.process_time()
                made = isc_fast.extract(places[name], engine, work / "out" / "out.h5")
                spent[name].append((time.process_time() - began) / made.computed)
                vectors[name] = isc_fast.read_descriptors(made.path).vectors
                return made.computed

            return run

        def reading(name: str) -> Callable[[], int]:
            items = isc_fast.list_images(places[name]).list().items

            def run() -> int:
                for item in items:
                    with open_photo(open_item(item)) as stream:
                        stream.read()
                return len(items)

            return run

        rates = _measured({name: describing(name) for name in WRITERS}, given.rounds)
        opened = {name: _processor_us(reading(name), given.rounds) for name in WRITERS}
        listed = _listing(work / "many", given.members, given.rounds)

    ratios = {name: rate["images_per_s"] / rates["folder"]["images_per_s"] for name, rate in rates.items()}
    cpu_ms = {name: 1e3 * float(np.median(times[1:])) for name, times in spent.items()}  # without the warm-up
    cpu_ratios = {name: cpu_ms["folder"] / each for name, each in cpu_ms.items()}
    for name in WRITERS:
        print(
            f"{name:<10} {rates[name]['images_per_s']:8.1f} images/s  {ratios[name]:.3f} × the folder's"
            f"   {cpu_ms[name]:6.2f} CPU ms a photo  {cpu_ratios[name]:.3f} ×"
            f"   open and read {opened[name]:7.1f} µs   list {listed[name]:6.1f} µs a photo"
        )
    cosines = {name: float((vectors["folder"] * found).sum(1).min()) for name, found in vectors.items()}
    finish(
        {
            "bench": "sources",
            "images": given.images,
            "members": given.members,
            "rates": rates,
            "ratios": ratios,
            "cpu_ms": cpu_ms,
            "cpu_ratios": cpu_ratios,
            "ratio_to_best_reference": min(ratios.values()),
            "open_us": opened,
            "list_us": listed,
            "cosine_min": min(cosines.values()),
        }
    )
    return 0


def _measured(ways: dict[str, Callable[[], int]], rounds: int) -> dict[str, dict[str, float]]:
    for run in ways.values():
        run()  # warm-up
    return interleaved(ways, rounds)


def _processor_us(run: Callable[[], int], rounds: int) -> float:
    """Median microseconds of processor time for each photo that a function goes through, after a warm-up."""
    run()
    times = []
    for _ in range(rounds):
        began = time.process_time()
        count = run()
        times.append((time.process_time() - began) / count)
    return 1e6 * float(np.median(times))


def _listing(folder: Path, members: int, rounds: int) -> dict[str, float]:
    """Median microseconds of processor time to list one of many small photos, by the name of the source."""
    folder.mkdir()
    costs = {}
    for name, write in WRITERS.items():
        write(folder / name, ((f"{number:09d}.jpg", b"x" * 100) for number in range(members)))
        costs[name] = _processor_us(lambda place=folder / name: len(isc_fast.list_images(place).found), rounds)
    return costs


if __name__ == "__main__":
    sys.exit(main())
