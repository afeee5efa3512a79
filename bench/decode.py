"""Files → network input on one core: Pillow, turbo, and other decoders that people use.

    python bench/decode.py                photos of three sizes → 512 × 512
    python bench/decode.py --size 224
    python bench/decode.py --smoke        takes seconds and shows only that it runs

The reference is what the reference solution does and the preprocessing contract says: Pillow's decoder and its antialiased
bilinear resize (`isc_fast.decoders.pillow`). Each way gets the paths of JPEG files (4:2:0, quality 90) that lie in the page
cache, and fills ``uint8 (size, size, 3)``. The program pins itself to one core, so that a rate is the rate of one core. Two
rows measure the decoding of a whole extraction on all cores, with its threads and batches. The ceiling of every JPEG row is
libjpeg-turbo alone, which decodes from memory into a buffer that exists already.

The program also measures accuracy. On the files that it times, it prints the largest and the mean difference to Pillow in
grey levels. On the photos of the package, at their own sizes, it describes the pixels with the engine inside the package,
and prints the cosine with the descriptors of Pillow's pixels and the share of photos that keep their nearest other photo.
For the decoders of this package it also prints how well the search finds the demo's edited copies. DALI's decoders have rows
where DALI is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from harness import PHOTO_SIZE, finish, interleaved, make_photos
from PIL import Image

import isc_fast
from isc_fast.assets import demo_photos
from isc_fast.decoders.base import DECODERS, make_decoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.machine.cores import available_cores
from isc_fast.runs.demo import make_collection

Pixels = npt.NDArray[np.uint8]
Way = Callable[[str, Pixels], object]
"""A function that decodes a file into ``uint8 (height, width, 3)``."""

REFERENCE, CEILING = "pillow", "libjpeg-turbo alone"
OURS = (REFERENCE, "turbo", "turbo-scaled")


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Run on the last core that this process may use."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(all_cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def draft(path: str, slot: Pixels) -> None:
    """Decode by Pillow at a half, a quarter or an eighth of the size, if that is large enough, then resize by Pillow."""
    image = Image.open(path)
    image.draft("RGB", slot.shape[1::-1])
    slot[:] = np.asarray(image.convert("RGB").resize(slot.shape[1::-1], Image.Resampling.BILINEAR))


def torchvision_way() -> Way | None:
    """Return torchvision's decoder and its antialiased resize of tensors, or None if it is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)

    def decode(path: str, slot: Pixels) -> None:
        small = resize(decode_image(path, ImageReadMode.RGB), list(slot.shape[:2]), antialias=True)
        slot[:] = small.permute(1, 2, 0).numpy()

    return decode


def clip_retrieval_way(folder: Path, size: int) -> Way | None:
    """Return the data set by which clip-retrieval reads a folder, or None if it is not installed.

    The transform is the one of the preprocessing contract. Only the data set's module is loaded, because the whole package
    imports a web server, a data frame library and more.
    """
    found = importlib.util.find_spec("clip_retrieval")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("torchvision") is None:
        return None
    reader = Path(found.submodule_search_locations[0]) / "clip_inference" / "reader.py"
    spec = importlib.util.spec_from_file_location("clip_retrieval_reader", reader)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from torchvision import transforms

    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    dataset = module.get_image_dataset()(transform, None, str(folder), enable_text=False)
    row = {str(folder / key): number for number, key in enumerate(dataset.keys)}

    def decode(path: str, slot: Pixels) -> None:
        slot[:] = dataset[row[path]]["image_tensor"].mul(255).round().permute(1, 2, 0).numpy()

    return decode


def _way(decoder: Any) -> Way:
    return lambda path, slot: decoder.decode_into(path, Preprocessing(*slot.shape[:2]), slot)


def our_ways() -> dict[str, Way]:
    """Return every decoder of this package that works here, by name. The reference comes first."""
    ways: dict[str, Way] = {}
    for name in DECODERS:
        try:
            ways[name] = _way(make_decoder(name, 1))
        except isc_fast.IscFastError:  # DALI is not installed, or there is no GPU
            if name in OURS:
                raise
    return ways


def ways_of(folder: Path, size: int) -> dict[str, Way]:
    """Return every way that can run here, by name. The reference comes first."""
    ways = our_ways()
    ways["Pillow, draft"] = draft
    for name, way in (
        ("torchvision", torchvision_way()),
        ("clip-retrieval's reader", clip_retrieval_way(folder, size)),
    ):
        if way is not None:
            ways[name] = way
    return ways


def ceiling(paths: Sequence[str]) -> Callable[[], int]:
    """Return a function that decodes files with libjpeg-turbo alone, from memory and without a resize."""
    files = [Path(path).read_bytes() for path in paths]
    buffer = np.empty(max(np.prod(simplejpeg.decode_jpeg_header(file)[:2]) for file in files) * 4, np.uint8)

    def run() -> int:
        for file in files:
            simplejpeg.decode_jpeg(file, "RGBX", buffer=buffer)
        return len(files)

    return run


def measure(folder: Path, photo_size: tuple[int, int], count: int, size: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure the rate of every way on photos of one size, and its differences to Pillow."""
    paths = make_photos(folder, count, photo_size)
    ways = ways_of(folder, size)
    made = {name: np.zeros((count, size, size, 3), np.uint8) for name in ways}

    def one_after_the_other(way: Way, slots: Pixels) -> Callable[[], int]:
        def run() -> int:
            for path, slot in zip(paths, slots, strict=True):
                way(path, slot)
            return count

        return run

    def in_threads(name: str) -> Callable[[], int]:
        decoder = make_decoder(name)
        jobs = [paths[start : start + 4] for start in range(0, count, 4)]
        return lambda: sum(len(batch.problems) for batch in decoder.batches(jobs, Preprocessing(size, size)))

    with one_core():
        runs = {name: one_after_the_other(way, made[name]) for name, way in ways.items()}
        runs[CEILING] = ceiling(paths)
        for run in runs.values():
            run()  # warm-up
        rates = interleaved(runs, rounds)
    cores = available_cores()
    rates |= interleaved({f"{name}, {cores} cores": in_threads(name) for name in (REFERENCE, "turbo")}, rounds)
    for name, row in rates.items():
        row["ratio"] = row["images_per_s"] / rates[REFERENCE]["images_per_s"]
        if name in made:
            difference = np.abs(made[name].astype(np.int16) - made[REFERENCE])
            row["largest_difference"], row["mean_difference"] = int(difference.max()), float(difference.mean())
    return rates


def compare_descriptors(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Compare the descriptors of each way's pixels with those of Pillow's pixels.

    Returns:
        by way: the cosines, and the share of photos whose nearest other photo is the same.
    """
    engine = isc_fast.load_engine("demo")
    height, width = engine.spec.height, engine.spec.width
    folder.mkdir()
    paths = []
    for photo in sorted(demo_photos())[:count]:
        (folder / photo.name).symlink_to(photo)
        paths.append(str(folder / photo.name))
    rows: dict[str, npt.NDArray[np.float32]] = {}
    for name, way in ways_of(folder, height).items():
        pixels = np.zeros((len(paths), height, width, 3), np.uint8)
        for path, slot in zip(paths, pixels, strict=True):
            way(path, slot)
        rows[name] = np.concatenate([engine.run(pixels[start : start + 4]) for start in range(0, len(paths), 4)])

    def nearest(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -2)
        return np.asarray(scores.argmax(1))

    expected = nearest(rows[REFERENCE])
    found = {}
    for name, vectors in rows.items():
        cosine = (vectors * rows[REFERENCE]).sum(1)
        found[name] = {
            "cosine_min": float(cosine.min()),
            "cosine_p01": float(np.quantile(cosine, 0.01)),
            "cosine_mean": float(cosine.mean()),
            "same_nearest": float((nearest(vectors) == expected).mean()),
        }
    return found


def find_copies(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Measure, for each decoder of this package, how well the search finds the demo's edited copies.

    The decoder decodes the photos of both sides.
    """
    engine = isc_fast.load_engine("demo")
    folder.mkdir()
    make_collection(folder, sorted(demo_photos())[:count])
    truth = isc_fast.read_truth(folder / "ground_truth.csv")

    def described(way: Way, photos: Sequence[Path]) -> isc_fast.Descriptors:
        pixels = np.zeros((len(photos), engine.spec.height, engine.spec.width, 3), np.uint8)
        for photo, slot in zip(photos, pixels, strict=True):
            way(str(photo), slot)
        rows = [engine.run(pixels[start : start + 4]) for start in range(0, len(photos), 4)]
        return isc_fast.Descriptors(np.concatenate(rows), [photo.stem for photo in photos])

    sides = [sorted((folder / side).iterdir()) for side in ("queries", "references")]
    found: dict[str, dict[str, float]] = {}
    first: dict[str, str] = {}
    for name, way in our_ways().items():
        matches = isc_fast.search(*(described(way, side) for side in sides), k=10)
        scores = isc_fast.evaluate(matches, truth)["official"]
        best: dict[str, str] = {}
        for i in np.argsort(-matches.scores, kind="stable"):
            best.setdefault(matches.query_ids[i], matches.reference_ids[i])
        first = first or best
        found[name] = {
            "micro_ap": scores.micro_ap,
            "recall_at_1": scores.recall_at_rank[1],
            "same_best": sum(first[query] == reference for query, reference in best.items()) / len(first),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the network's input in pixels")
    parser.add_argument(
        "--megapixels", type=float, default=12, help="megapixels of photos to decode in one round, for each photo size"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="a few small photos, one round")
    given = parser.parse_args(arguments)
    photo_sizes, described = [PHOTO_SIZE, (4000, 3000), (640, 480)], len(demo_photos())
    if given.smoke:
        photo_sizes, described, given.size, given.megapixels, given.rounds = [(160, 120)], 8, 64, 0.08, 1
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for width, height in photo_sizes:
            count = max(4, round(given.megapixels * 1e6 / (width * height)))
            folder = Path(scratch) / f"{width}x{height}"
            rates = results[folder.name] = measure(folder, (width, height), count, given.size, given.rounds)
            print(f"\n{count} photos of {width} × {height} → {given.size} × {given.size}, images/s of one core")
            print(f"{'':<24} {'median':>8} {'lowest to highest':>20} {'× Pillow':>9}   largest, mean difference")
            for name, row in rates.items():
                spread = f"{row['min']:.1f} to {row['max']:.1f}"
                close = (
                    f"{row['largest_difference']:>3}, {row['mean_difference']:.4f}" if "mean_difference" in row else "–"
                )
                print(f"{name:<24} {row['images_per_s']:8.1f} {spread:>20} {row['ratio']:9.2f}   {close}")
        descriptors = compare_descriptors(Path(scratch) / "described", described)
        copies = find_copies(Path(scratch) / "copies", described)
    print(f"\ndescriptors of {described} photos against those of Pillow's pixels, engine demo")
    print(f"{'':<24} cosine: worst, 1 %, mean          same nearest photo")
    for name, values in descriptors.items():
        cosines = f"{values['cosine_min']:.6f}  {values['cosine_p01']:.6f}  {values['cosine_mean']:.6f}"
        print(f"{name:<24} {cosines}     {100 * values['same_nearest']:.0f} %")
    print("\nthe demo's edited copies, searched with descriptors of each decoder's pixels on both sides")
    print(f"{'':<24} µAP     recall@1   same best match as with Pillow's")
    for name, values in copies.items():
        print(f"{name:<24} {values['micro_ap']:.4f}  {values['recall_at_1']:.4f}     {100 * values['same_best']:.1f} %")
    first = next(iter(results.values()))
    print(
        f"\nturbo: {first['turbo']['ratio']:.2f} × Pillow; libjpeg-turbo alone would be {first[CEILING]['ratio']:.2f} ×"
    )
    finish(
        {
            "bench": "decode",
            "size": given.size,
            "rounds": given.rounds,
            "rates": results,
            "descriptors": descriptors,
            "copies": copies,
            "ratio_to_best_reference": first["turbo"]["ratio"],
            "best_reference": REFERENCE,
            "cosine_min": descriptors["turbo"]["cosine_min"],
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
