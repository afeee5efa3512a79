"""What an image costs outside decoding and the network, measured, and what 10⁹ of them would cost, computed from that.

    python bench/scale.py                         10⁴ to 10⁶ images; some minutes, 3 GB of disk
    python bench/scale.py --gpu-price 2.5 --gpus 64 --images-per-s 3000 --photo-kb 250
    python bench/scale.py --smoke                 takes seconds and shows only that it runs

The images are members of tars without content, planned by container; decoder and network are stand-ins. Measured are: listing
and planning of containers in the driver, extraction by one job and by two at once, a bucket (moto, on this machine) with and
without a quarter of all requests spoilt, and a search over parts in tasks by this process, by one worker and by two, all of which
must give the same bytes. Times are of the processor, which other programs disturb least. The table is arithmetic:
its formulas are in `estimate`. Prices are of no provider: give your own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common.local_s3 import at, client_of, served_by_moto
from common.part_sets import in_parts
from common.spoiling_proxy import at_random, proxy_to
from harness import machine_card
from stand_in import Dark, Network, decode_with

import isc_fast
from isc_fast.extraction.plan import BY_CONTAINER, Plan, container_shard_size
from isc_fast.extraction.share import Share
from isc_fast.sources.whole_containers import Containers

BLOCK_BYTES = 1 << 22  # of one request for a container's bytes
TABLE = (10**6, 10**7, 10**8, 10**9)


def write_tars(folder: Path, count: int, members: int) -> Path:
    """Write so many tars of members without content."""
    folder.mkdir()
    first = folder / "00000000.tar"
    with tarfile.open(first, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(members):
            tar.addfile(tarfile.TarInfo(f"{number:06d}.jpg"))
    for number in range(1, count):  # no links: a container that is given twice is refused
        (folder / f"{number:08d}.tar").write_bytes(first.read_bytes())
    return folder


def busy_s(work: Callable[[], object]) -> float:
    """Processor time of some work, in seconds."""
    before = sum(os.times()[:4])
    work()
    return sum(os.times()[:4]) - before


def planned(folder: Path, output: Path) -> Plan:
    """List and write a plan of containers."""
    source = Containers(folder)
    found = source.list().found
    plan = Plan([*source.inputs, BY_CONTAINER], found, "e" * 64, "none", 64, container_shard_size(len(found), 1))
    plan.write(output)
    return plan


def plan_cost(scratch: Path, containers: int) -> dict[str, float]:
    """What a container costs the driver, and how much memory came to it."""
    (scratch / "empty").mkdir()
    for number in range(containers):
        (scratch / "empty" / f"{number:08d}.tar").write_bytes(b"")
    planned(scratch / "empty", scratch / "warm.sqlite")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = busy_s(lambda: planned(scratch / "empty", scratch / "plan.sqlite"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = (scratch / "plan.sqlite").stat().st_size
    return {"us_per_container": 1e6 * seconds / containers, "bytes_per_container": size / containers, "grown_kb": grown}


def _job(folder: str, output: str, dim: int, index: int, count: int) -> None:
    decode_with(Dark())
    isc_fast.extract(folder, Network(dim), output, by_container=True, shard_size=1, share=Share(index, count))


def extraction_cost(folder: Path, output: str, dim: int, jobs: int) -> float:
    """Processor time of all jobs together that extract a folder of tars, in seconds."""

    def work() -> None:
        workers = [
            multiprocessing.get_context("spawn").Process(target=_job, args=(str(folder), output, dim, index, jobs))
            for index in range(jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise SystemExit("a job failed")
        _job(str(folder), output, dim, 0, 1)  # where the last two ended at once, nobody may have written the manifest

    return busy_s(work)


def bucket_cost(folder: Path, dim: int, faults: float, home: Path) -> dict[str, float] | None:
    """Requests for one part, of an extraction to a bucket; None where what serves one is not installed."""
    try:
        with served_by_moto() as port, proxy_to(port, at_random(faults, seed=1)) as proxy, at(home, proxy.url):
            client_of(port).create_bucket(Bucket="scale")
            _job(str(folder), "s3://scale/out/", dim, 0, 1)
            parts = len(os.listdir(folder))
            return {"requests_per_part": proxy.seen.total() / parts, "spoilt": proxy.seen.total() - proxy.seen[""]}
    except ImportError:
        return None


def search_cost(scratch: Path, queries: int, references: int, dim: int) -> dict[str, float]:
    """Processor time of a search over parts, in seconds, by workers: none, one and two, and how long it took.

    The matches are compared byte by byte with those of one search without tasks.
    """
    rng = np.random.default_rng(references)
    rows = rng.standard_normal((references, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = rows[rng.integers(0, references, queries)] + 0.05 * rng.standard_normal((queries, dim), np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    sides = scratch / f"queries-{references}", scratch / f"references-{references}"
    in_parts(sides[0], asked, [f"q{row}" for row in range(queries)], 10_000, {})
    in_parts(sides[1], rows, [f"r{row}" for row in range(references)], 10_000, {})
    del rows, asked
    with isc_fast.open_descriptors(sides[0]) as one, isc_fast.open_descriptors(sides[1]) as other:
        isc_fast.write_matches(scratch / "whole.csv", isc_fast.search(one, other, k=10))
    made: dict[str, float] = {}
    for workers in (None, 1, 2):
        out, began = scratch / f"found-{references}-{workers}", time.monotonic()
        work = partial(isc_fast.search_to_folder, *sides, out, k=10, workers=workers)
        name = "here" if workers is None else f"{workers} workers"
        made[f"{name}, core s"] = busy_s(work)
        made[f"{name}, s"] = time.monotonic() - began
        if (out / "matches.csv").read_bytes() != (scratch / "whole.csv").read_bytes():
            raise SystemExit(f"the matches of {references} references, {name}, are not those of one search")
    return made


def estimate(images: int, us_per_image: float, us_per_container: float, given: argparse.Namespace) -> dict[str, Any]:
    """What so many images cost.

    GPU-h = N / (rate · 3600); bytes of vectors = 4 · N · d; a tar is read twice in blocks of 4 MB; a part is one create, and one
    read for the manifest; a listing gives 1,000 names a request.
    """
    containers = -(-images // given.per_container)
    input_bytes = images * given.photo_kb * 1000
    parts = -(-containers // container_shard_size(containers, input_bytes))
    gpu_h = images / given.images_per_s / 3600
    gets = 2 * input_bytes / BLOCK_BYTES + parts
    puts = parts + 3 + (parts + containers) / 1000  # listings cost what a create costs
    vectors = images * given.dim * 4
    money = gpu_h * given.gpu_price + gets / 1000 * given.get_price + puts / 1000 * given.put_price
    return {
        "images": images,
        "parts": parts,
        "gpu_h": gpu_h,
        "hours": gpu_h / given.gpus,
        "gbit_per_s": given.gpus * given.images_per_s * given.photo_kb * 8e-6,
        "input_tb": input_bytes / 1e12,
        "vectors_gb": vectors / 1e9,
        "driver_s": containers * us_per_container / 1e6,
        "core_h": images * us_per_image / 3.6e9,
        "requests": gets + puts,
        "money": money,
        "money_a_month": vectors / 1e9 * given.storage_price,
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
    for row in rows:
        print(
            "| "
            + " | ".join(f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" for value in row.values())
            + " |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value, words in (
        ("dim", 256, "numbers of a descriptor"),
        ("images-per-s", 3000.0, "of one GPU; not measured here"),
        ("gpus", 64, "beside each other"),
        ("photo-kb", 250.0, "of one photo"),
        ("per-container", 10_000, "photos in a tar"),
        ("gpu-price", 2.0, "of an hour"),
        ("get-price", 0.0004, "of 1,000 reads"),
        ("put-price", 0.005, "of 1,000 creates or listings"),
        ("storage-price", 0.023, "of a GB for a month"),
    ):
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{words} (default: {value})")
    parser.add_argument("--queries", type=int, default=2_000, help="of the search (default: 2000)")
    parser.add_argument("--images", type=int, default=1_000_000, help="the largest number that is measured")
    parser.add_argument("--smoke", action="store_true", help="few images")
    given = parser.parse_args(arguments)
    members, containers = (500, 200) if given.smoke else (10_000, 10_000)
    sizes = (500, 2_000) if given.smoke else tuple(sorted({10_000, given.images // 10, given.images}))
    references = (2_000, 5_000) if given.smoke else (10_000, 100_000, 1_000_000)
    measured: dict[str, Any] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        measured["plan"] = plan_cost(folder, containers)
        print(f"plan: {measured['plan']}", flush=True)
        seconds_of: dict[int, float] = {}
        for images in sizes:
            tars = write_tars(folder / f"tars-{images}", images // members, members)
            for jobs in (1, 2) if images > members else (1,):
                seconds = extraction_cost(tars, f"{folder}/out-{images}-{jobs}/", given.dim, jobs)
                measured[f"{images} images, {jobs} jobs"] = {"seconds": seconds}
                print(f"{images:>9} images, {jobs} jobs: {seconds:.1f} s of the processor", flush=True)
                seconds_of.setdefault(images, seconds)
        *_, one, two = sizes  # starting a job takes a second, whatever it has to do
        slope = measured["us_per_image"] = 1e6 * (seconds_of[two] - seconds_of[one]) / (two - one)
        print(f"{slope:.1f} µs an image between {one} and {two} images", flush=True)
        few = write_tars(folder / "few", 20, 50)
        for faults in (0.0, 0.25):
            measured[f"bucket, {faults:.0%} spoilt"] = found = bucket_cost(few, given.dim, faults, folder)
            print(f"bucket, {faults:.0%} of requests spoilt: {found}", flush=True)
        for count in references:
            cost = measured[f"search of {count} references"] = search_cost(folder, given.queries, count, given.dim)
            print(f"{given.queries} queries in {count} references: {cost}", flush=True)
    rows = [estimate(count, slope, measured["plan"]["us_per_container"], given) for count in TABLE]
    show(rows)
    result = {"measured": measured, "table": rows, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps({**result, "options": vars(given), "machine": machine_card()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
