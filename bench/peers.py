"""isc-fast and other tools that find edited copies, side by side: from image files to matches, with the copies they find.

    python bench/peers.py            the demo's collection: 270 queries, 45 references
    python bench/peers.py --plot peers.svg   draws µAP over the rates
    python bench/peers.py --smoke    takes seconds with few photos

Ours is the engine inside the package, with `isc_fast.extract` and `isc_fast.search` as a user calls them. The peers are
perceptual hashes, which people install for this task. `imagehash` runs as in its documentation, one image after the other, and
also in one process for each core. `imagededup` runs where it is installed; its hash is measured, because its networks download
weights. All ways are searched exactly and evaluated alike; hashes are compared by the number of bits that differ. µAP is the
challenge's. "Found" is the share of copies that are found at the score where 90 % of all that is found is right.

The edits of this collection are easy. The model card has figures for harder ones.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from harness import finish, interleaved
from plots import add_plot, plot_tradeoff

import isc_fast
from isc_fast.assets import demo_photos
from isc_fast.decoders.rules import load_input
from isc_fast.descriptors.store import Descriptors
from isc_fast.items import Item
from isc_fast.machine.cores import available_cores
from isc_fast.matching.lists.matches import Matches
from isc_fast.review.drawing import check_plot
from isc_fast.runs.demo import make_collection
from isc_fast.sources.listing import list_images
from isc_fast.training.tiny.baselines import HASH_SIDES, as_hamming, describe_by_hash

SIDES = ("queries", "references")
_PROTOCOL = "per-query"
_AT_ONCE = 8  # images that a process gets at a time


def ours(engine: isc_fast.Engine, folder: Path) -> tuple[Matches, Descriptors]:
    """Extract and search as a user does; return the matches and the queries' descriptors."""
    for side in SIDES:
        isc_fast.extract(folder / side, engine, folder / f"{side}.h5", overwrite=True)
    queries, references = (isc_fast.read_descriptors(folder / f"{side}.h5") for side in SIDES)
    return isc_fast.search(queries, references), queries


def by_hash(describe: Callable[[Sequence[Item]], Descriptors], folder: Path) -> Matches:
    """Describe by a hash and search. The descriptors are rows of ±1, scaled to unit length."""
    queries, references = (describe(list_images(folder / side).items) for side in SIDES)
    return as_hamming(isc_fast.search(queries, references), queries.dim)


def in_processes(pool: ProcessPoolExecutor, name: str, side: int, items: Sequence[Item]) -> Descriptors:
    """Describe like `describe_by_hash`, with a process on each core."""
    groups = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
    parts = list(pool.map(partial(describe_by_hash, name=name, side=side), groups))
    return Descriptors(np.concatenate([part.vectors for part in parts]), [id_ for part in parts for id_ in part.ids])


def by_imagededup(items: Sequence[Item]) -> Descriptors:
    """Describe by imagededup's perceptual hash of 64 bits. It reads a folder with a process for each core."""
    from imagededup.methods import PHash

    found = PHash(verbose=False).encode_images(image_dir=Path(items[0].path).parent)
    bits = [[int(bit) for bit in f"{int(found[Path(item.path).name], 16):064b}"] for item in items]
    return Descriptors((np.array(bits, np.float32) * 2 - 1) / np.float32(8), [item.id for item in items])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="few photos, one round")
    add_plot(parser)
    given = parser.parse_args(arguments)
    if given.plot:
        check_plot(given.plot)
    photos = demo_photos()
    if given.smoke:
        photos, given.rounds = photos[:12], 1
    matches: dict[str, Matches] = {}
    described: list[Descriptors] = []
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(available_cores()) as pool:
        folder = Path(scratch)
        make_collection(folder, photos)
        truth = isc_fast.read_truth(folder / "ground_truth.csv")
        images = sum(len(list_images(folder / side).items) for side in SIDES)
        engine = isc_fast.load_engine("demo")

        def our_way() -> Matches:
            found, queries = ours(engine, folder)
            described[:] = [queries]
            return found

        ways: dict[str, Callable[[], Matches]] = {"isc-fast, demo engine": our_way}
        for side in HASH_SIDES:
            bits = side * side
            ways[f"imagehash phash, {bits} bits"] = partial(
                by_hash, partial(describe_by_hash, name="phash", side=side), folder
            )
            ways[f"the same, {available_cores()} processes, {bits} bits"] = partial(
                by_hash, partial(in_processes, pool, "phash", side), folder
            )
        if importlib.util.find_spec("imagededup") is not None:
            ways["imagededup PHash, 64 bits"] = partial(by_hash, by_imagededup, folder)

        def timed(name: str, way: Callable[[], Matches]) -> Callable[[], int]:
            def once() -> int:
                matches[name] = way()
                return images

            return once

        runs = {name: timed(name, way) for name, way in ways.items()}
        for run in runs.values():
            run()  # warm-up
        rates = interleaved(runs, given.rounds)
        queries = list_images(folder / "queries").items
        pixels = np.stack([load_input(item.path, engine.spec.height, engine.spec.width) for item in queries])
        plain = np.concatenate([engine.run(pixels[start : start + 4]) for start in range(0, len(pixels), 4)])

    own, *peers = ways
    best = max(peers, key=lambda name: rates[name]["images_per_s"])
    print(f"{images} images, {len(truth.queries)} queries, {len(truth.pairs)} of them copies")
    print(f"{'':<36}{'images/s':>9}{'µAP':>8}{'found':>8}{'first':>8}")
    rows = {}
    for name, found in matches.items():
        figures = isc_fast.evaluate(found, truth, protocols=(_PROTOCOL,))[_PROTOCOL]
        rows[name] = {
            **rates[name],
            "micro_ap": figures.micro_ap,
            "recall_at_p90": figures.recall_at_p90,
            "recall_at_1": figures.recall_at_rank[1],
        }
        print(
            f"{name:<36}{rates[name]['images_per_s']:>9.0f}{figures.micro_ap:>8.3f}"
            f"{figures.recall_at_p90 or 0.0:>8.1%}{figures.recall_at_rank[1]:>8.1%}"
        )
    if given.plot:
        plot_tradeoff(
            given.plot,
            rows,
            own,
            f"{len(truth.pairs)} edited copies among {len(truth.queries)} queries, {available_cores()} cores",
        )
    order = {id_: row for row, id_ in enumerate(described[0].ids)}
    rows_of_ours = described[0].vectors[[order[item.id] for item in queries]]
    finish(
        {
            "bench": "peers",
            "images": images,
            "rounds": given.rounds,
            "rows": rows,
            "best_reference": best,
            "ratio_to_best_reference": rates[own]["images_per_s"] / rates[best]["images_per_s"],
            "cosine_min": float((plain * rows_of_ours).sum(axis=1).min()),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
