"""What an image costs outside decoding and the network, measured, and what 10⁹ of them would cost, computed from that.

    python bench/scale.py                         10⁴ to 10⁶ images; a quarter of an hour, 6 GB of disk
    python bench/scale.py --only extraction --images 10000000 --jobs 2                        16 GB of disk
    python bench/scale.py --only search --references 10000000 --dim 64 --queries 500          3 GB of disk
    python bench/scale.py --gpu-price 2.5 --gpus 64 --images-per-s 3000 --photo-kb 250
    python bench/scale.py --smoke                 takes seconds and shows only that it runs

The images are members of tars without content, planned by container; decoder and network are stand-ins. Measured are: listing
and planning in the driver, of containers and of files in folders; extraction by one job and by two at once, and the same again
when all is there; a bucket (moto, on this machine) with and without a quarter of all requests spoilt; and a search over parts in
tasks by this process, by one worker and by two. Whatever computes, manifests and matches must have the same bytes. Times of the
processor are what other programs disturb least. The table is arithmetic: its formulas are in `estimate`. Prices are of no
provider: give your own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.local_s3 import at, client_of, served_by_moto
from common.spoiling_proxy import at_random, proxy_to
from harness import machine_card
from measuring import cpu_s, peak_bytes
from scale_work import describe, extract_again, plan_of_containers, plan_of_files, search_sides, touch, write_tars

import isc_fast
from isc_fast.extraction.plan import container_shard_size

BLOCK_BYTES = 1 << 22  # of one request for a container's bytes
SIZES = (10**4, 10**5, 10**6)
TABLE = (10**6, 10**7, 10**8, 10**9)
STEPS = ("plan", "extraction", "bucket", "search")


def busy_s(work: Callable[[], object]) -> float:
    """Processor time of some work, in seconds."""
    before = cpu_s()
    work()
    return cpu_s() - before


def _told(queue: Any, work: Callable[..., object], arguments: Sequence[object]) -> None:
    began = time.process_time()
    work(*arguments)
    queue.put((time.process_time() - began, peak_bytes() / 1e6))


def _plans_told(queue: Any, plan: Callable[[str], object], places: Sequence[str]) -> None:
    for place in places:
        _told(queue, plan, (place,))


def in_processes(*works: tuple[Callable[..., object], Sequence[object]]) -> dict[str, float]:
    """Do some works, each in a new process, at once: processor time of all, the time, and the most memory of one.

    Processor times are without the start of a process, and with what the work imports.
    """
    context = multiprocessing.get_context("spawn")
    queue, began = context.Queue(), time.monotonic()
    workers = [context.Process(target=_told, args=(queue, *work)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a job failed")
    told = [queue.get() for _ in workers]
    return {
        "core_s": sum(core_s for core_s, _ in told),
        "s": time.monotonic() - began,
        "peak_mb": max(peak for _, peak in told),
    }


def plan_cost(scratch: Path, containers: int, files: int) -> dict[str, float]:
    """What a container, and a photo that is a file, cost the driver; and its memory, with what is imported.

    A tenth is planned first, so that all is imported.
    """
    made: dict[str, float] = {}
    context = multiprocessing.get_context("spawn")
    for what, suffix, plan, count in (
        ("container", ".tar", plan_of_containers, containers),
        ("file", ".jpg", plan_of_files, files),
    ):
        numbers = count // 10, count
        places = [scratch / f"{what}s-{number}" for number in numbers]
        for place, number in zip(places, numbers, strict=True):
            touch(place / "in", suffix, number)
        queue = context.Queue()
        planner = context.Process(target=_plans_told, args=(queue, plan, [*map(str, places)]))
        planner.start()
        planner.join()
        if planner.exitcode:
            raise SystemExit(f"no plan of {what}s")
        for number, (core_s, peak) in zip(numbers, [queue.get(), queue.get()], strict=True):
            made[f"us_per_{what}"] = 1e6 * core_s / number
            made[f"peak_mb of {number} {what}s"] = peak
        made[f"bytes_per_{what}"] = (places[1] / "plan.sqlite").stat().st_size / count
        for place in places:
            shutil.rmtree(place)
    return made


def extraction_cost(tars: Path, output: str, dim: int, jobs: int) -> dict[str, float]:
    """What jobs cost that extract a folder of tars, and then the same once more, when nothing is left to do."""
    made = in_processes(*((describe, (str(tars), output, dim, index, jobs)) for index in range(jobs)))
    extract_again(str(tars), output, dim)  # where the last two ended at once, nobody may have written the manifest
    began = time.monotonic()
    extract_again(str(tars), output, dim)
    return {**made, "again_s": time.monotonic() - began}


def extraction_costs(
    scratch: Path, sizes: Sequence[int], members: int, jobs: Sequence[int], dim: int
) -> dict[str, Any]:
    """The same by numbers of images and of jobs; all jobs together make one manifest."""
    made = dict[str, Any]()
    for images in sizes:
        tars = write_tars(scratch / "tars", images // members, members)
        manifests = set[bytes]()
        for count in jobs if images > members else jobs[:1]:
            output = scratch / "out"
            cost = made[f"{images} images, {count} jobs"] = extraction_cost(tars, f"{output}/", dim, count)
            manifests.add((output / "manifest.json").read_bytes())
            shutil.rmtree(output)
            print(f"{images:>9} images, {count} jobs: {shown(cost)}", flush=True)
        if len(manifests) > 1:
            raise SystemExit("the manifests differ by the number of jobs")
        shutil.rmtree(tars)
    return made


def bucket_cost(scratch: Path, parts: int, dim: int, faults: float) -> dict[str, float]:
    """Requests of an extraction to a bucket whose requests are spoilt, and the time. The manifest is that of a folder.

    Raises:
        ImportError: what serves a bucket is not installed.
    """
    tars = write_tars(scratch / "few", parts, 50)
    bucket = f"scale-{parts}-{100 * faults:.0f}"  # moto's buckets outlive their server
    extract_again(str(tars), f"{scratch}/wanted/", dim)
    with served_by_moto() as port, proxy_to(port, at_random(faults, seed=1)) as proxy, at(scratch, proxy.url):
        client = client_of(port)
        client.create_bucket(Bucket=bucket)
        began = time.monotonic()
        extract_again(str(tars), f"s3://{bucket}/out/", dim)
        seconds = time.monotonic() - began
        there = client.get_object(Bucket=bucket, Key="out/manifest.json")["Body"].read()
        if there != (scratch / "wanted" / "manifest.json").read_bytes():
            raise SystemExit("the manifest in the bucket is not that of the folder")
    shutil.rmtree(tars)
    shutil.rmtree(scratch / "wanted")
    return {"requests": proxy.seen.total(), "spoilt": proxy.seen.total() - proxy.seen[""], "s": seconds}


def bucket_costs(scratch: Path, sizes: Sequence[int], dim: int) -> dict[str, Any]:
    """The same by numbers of parts, and with no fault and a quarter of faults."""
    made = dict[str, Any]()
    for parts in sizes:
        for faults in (0.0, 0.25):
            cost = made[f"{parts} parts, {faults:.0%} spoilt"] = bucket_cost(scratch, parts, dim, faults)
            print(f"bucket, {parts} parts, {faults:.0%} of requests spoilt: {shown(cost)}", flush=True)
    few, many = sizes[0], sizes[-1]
    for faults in (0.0, 0.25):
        one, two = (made[f"{parts} parts, {faults:.0%} spoilt"]["requests"] for parts in (few, many))
        made[f"requests_per_part, {faults:.0%} spoilt"] = (two - one) / (many - few)
    return made


def search_cost(scratch: Path, queries: int, references: int, dim: int, jobs: Sequence[int]) -> dict[str, float]:
    """Processor time and time of a search over parts, in seconds, by this process and by workers.

    The matches are compared byte by byte with those of one search without tasks.
    """
    sides = search_sides(scratch, queries, references, dim)
    with isc_fast.open_descriptors(sides[0]) as one, isc_fast.open_descriptors(sides[1]) as other:
        isc_fast.write_matches(scratch / "whole.csv", isc_fast.search(one, other, k=10))
    made: dict[str, float] = {}
    for workers in (None, *jobs):
        out, began = scratch / "found", time.monotonic()
        work = partial(isc_fast.search_to_folder, *sides, out, k=10, workers=workers)
        name = "here" if workers is None else f"{workers} workers"
        made[f"{name}, core_s"] = busy_s(work)
        made[f"{name}, s"] = time.monotonic() - began
        if (out / "matches.csv").read_bytes() != (scratch / "whole.csv").read_bytes():
            raise SystemExit(f"the matches of {references} references, {name}, are not those of one search")
        shutil.rmtree(out)
    for side in sides:
        shutil.rmtree(side)
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


def slopes(costs: dict[str, Any], sizes: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """Processor time of an image in µs between one number of images and the next, by one job."""
    for few, many in itertools.pairwise(sizes):
        one, two = (costs[f"{images} images, 1 jobs"]["core_s"] for images in (few, many))
        yield few, many, 1e6 * (two - one) / (many - few)


def shown(cost: dict[str, float]) -> str:
    """Figures in a line."""
    return ", ".join(f"{name} {value:,.4g}" for name, value in cost.items())


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
    parser.add_argument("--images", type=int, nargs="+", default=SIZES, help="numbers that are measured")
    parser.add_argument("--references", type=int, nargs="+", default=SIZES, help="the same of a search")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="at once (default: 1 2)")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="what is measured")
    parser.add_argument("--folder", type=Path, help="for the files; by default the system's temporary folder")
    parser.add_argument("--us-per-image", type=float, default=39.0, help="for the table, where it is not measured")
    parser.add_argument("--us-per-container", type=float, default=49.0, help="the same")
    parser.add_argument("--smoke", action="store_true", help="few images")
    given = parser.parse_args(arguments)
    members, containers, files = (500, 200, 1_000) if given.smoke else (10_000, 10_000, 200_000)
    sizes = (500, 2_000) if given.smoke else given.images
    references = (2_000, 5_000) if given.smoke else given.references
    parts = (5, 20) if given.smoke else (20, 200)
    measured: dict[str, Any] = {}
    per_image, per_container = given.us_per_image, given.us_per_container
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.folder) as text:
        scratch = Path(text)
        if "plan" in given.only:
            measured["plan"] = plan_cost(scratch, containers, files)
            per_container = measured["plan"]["us_per_container"]
            print(f"plan: {shown(measured['plan'])}", flush=True)
        if "extraction" in given.only:
            costs = extraction_costs(scratch, sizes, members, given.jobs, given.dim)
            measured["extraction"] = costs
            if 1 in given.jobs:
                for few, many, per_image in slopes(costs, sizes):
                    measured[f"us_per_image, {few} to {many}"] = per_image
                    print(f"{per_image:.1f} µs an image between {few} and {many} images", flush=True)
        if "bucket" in given.only:
            try:
                measured["bucket"] = bucket_costs(scratch, parts, given.dim)
            except ImportError as error:
                print(f"no bucket: {error}", flush=True)
        for count in references if "search" in given.only else ():
            cost = measured[f"search of {count} references"] = search_cost(
                scratch, given.queries, count, given.dim, given.jobs
            )
            print(f"{given.queries} queries in {count} references: {shown(cost)}", flush=True)
    rows = [estimate(count, per_image, per_container, given) for count in TABLE]
    show(rows)
    result = {"measured": measured, "table": rows, "seconds": round(time.monotonic() - began, 1)}
    options = {**vars(given), "folder": None}
    print(json.dumps({**result, "options": options, "machine": machine_card()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
