"""Photos → augmented views: images/s on one core, with Pillow and with torch, and the cost of each edit.

    python bench/views.py            v83 at 256, v86 at 384, v98 at 512, from JPEG files of 1024 × 768
    python bench/views.py --smoke    takes seconds with few small photos and shows only that it runs

Both ways carry out the same recipes on the same decoded photos, on one thread. A machine's rate is this rate times the
number of loaders that it can keep busy. The difference beside the rates is the mean over all views, in grey levels of 255.
Pillow decodes the photos, as in the loader; the rows with decoding show its share of the time. The reference way is Pillow,
which the published training used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # must be set before torch is loaded: a loader has one thread

import numpy as np
import torch
from harness import PHOTO_SIZE, finish, interleaved, make_photos
from PIL import Image

from isc_fast.decoders.rules import load_rgb
from isc_fast.training.stages import STAGES
from isc_fast.training.views import apply_pil, apply_torch, edits
from isc_fast.training.views.artwork import Artwork, find_artwork
from isc_fast.training.views.recipes import draw_hard, draw_moderate, view_random


def draw_views(
    kind: str, stage: str, size: int, paths: Sequence[str], count: int, artwork: Artwork
) -> list[edits.ViewRecipe]:
    """Draw the recipes of ``count`` views, of the photos in turn."""
    hard = STAGES[stage].hard_view
    assert hard is not None
    with Image.open(paths[0]) as first:
        photo_size = first.size
    recipes = []
    for i in range(count):
        random, other = view_random(0, 0, i, 1), partial(load_rgb, paths[(i + 1) % len(paths)])
        if kind == "moderate":
            recipes.append(draw_moderate(photo_size, size, random))
        else:
            recipes.append(draw_hard(hard, photo_size, size, random, open_other=other, artwork=artwork))
    return recipes


def name_of(edit: edits.Edit) -> str:
    return edit.kind if isinstance(edit, edits.Paste) else type(edit).__name__.lower()


def time_edits(recipes: Sequence[edits.ViewRecipe], photos: Sequence[Image.Image]) -> dict[str, dict[str, float]]:
    """Measure the milliseconds of each edit, the median over its uses, with Pillow and with torch on the same input."""
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"pillow": [], "torch": []})
    for i, recipe in enumerate(recipes):
        image = photos[i % len(photos)]
        for edit in recipe.edits:
            tensor = apply_torch.to_tensor(image)
            began = time.perf_counter()
            apply_torch.apply_edit(edit, tensor)
            middle = time.perf_counter()
            image = apply_pil.apply_edit(edit, image)
            ended = time.perf_counter()
            times[name_of(edit)]["torch"].append(1000 * (middle - began))
            times[name_of(edit)]["pillow"].append(1000 * (ended - middle))
    return {name: {way: statistics.median(found) for way, found in ways.items()} for name, ways in times.items()}


def with_torch(recipe: edits.ViewRecipe, photo: Image.Image) -> torch.Tensor:
    """Make the view, uint8 ``(3, size, size)``, of a decoded photo."""
    return apply_torch.apply_torch(recipe, apply_torch.to_tensor(photo))


def make_views(
    recipes: Sequence[edits.ViewRecipe],
    apply: Callable[[edits.ViewRecipe, Image.Image], object],
    open_photo: Callable[[int], Image.Image],
) -> int:
    """Carry out the recipes. ``open_photo`` returns the photo of a number."""
    for i, recipe in enumerate(recipes):
        apply(recipe, open_photo(i))
    return len(recipes)


def measure(stage: str, size: int, paths: Sequence[str], views: int, rounds: int) -> dict[str, Any]:
    """Measure the rates of drawing, decoding and making the views of a stage."""
    photos, artwork = [load_rgb(path) for path in paths], find_artwork()
    result: dict[str, Any] = {"stage": stage, "size": size, "rates": {}, "difference": {}}
    cosines = []

    def decoded(i: int) -> Image.Image:
        return photos[i % len(photos)]

    def from_file(i: int) -> Image.Image:
        return load_rgb(paths[i % len(paths)])

    for kind in ("moderate", "hard"):
        draw = partial(draw_views, kind, stage, size, paths, views, artwork)
        recipes = draw()
        ways: dict[str, Callable[[], int]] = {
            f"{kind}, drawing": lambda draw=draw: len(draw()),  # type: ignore[misc]
            f"{kind}, Pillow": partial(make_views, recipes, apply_pil.apply_pil, decoded),
            f"{kind}, torch": partial(make_views, recipes, with_torch, decoded),
            f"{kind}, decoding and Pillow": partial(make_views, recipes, apply_pil.apply_pil, from_file),
            f"{kind}, decoding and torch": partial(make_views, recipes, with_torch, from_file),
        }
        for way in ways.values():
            way()  # warm-up
        result["rates"].update(interleaved(ways, rounds))
        apart = []
        for i, recipe in enumerate(recipes):
            one = apply_pil.apply_pil(recipe, decoded(i)).astype(np.float64)
            two = with_torch(recipe, decoded(i)).permute(1, 2, 0).numpy().astype(np.float64)
            apart.append(float(np.abs(one - two).mean()))
            cosines.append(float((one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum())))
        result["difference"][kind] = {"mean": statistics.mean(apart), "worst": max(apart)}
    result["cosine_min"] = min(cosines)
    result["ms"] = time_edits(recipes, photos)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--views", type=int, default=60, help="views of each kind and stage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="one stage, few small photos, one round")
    given = parser.parse_args(arguments)
    stages, photo_size = {"v83": 256, "v86": 384, "v98": 512}, PHOTO_SIZE
    if given.smoke:
        given.photos, given.views, given.rounds, stages, photo_size = 2, 4, 1, {"v98": 64}, (160, 120)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        paths = make_photos(Path(scratch, "photos"), given.photos, photo_size)
        results = [measure(stage, size, paths, given.views, given.rounds) for stage, size in stages.items()]
    for result in results:
        print(f"\n{result['stage']}, views of {result['size']} × {result['size']}, one core")
        for name, rate in result["rates"].items():
            print(f"  {name:<30} {rate['images_per_s']:8.1f} views/s   ({rate['min']:.1f} to {rate['max']:.1f})")
        for kind, apart in result["difference"].items():
            print(f"  {kind}: the two ways differ by {apart['mean']:.3f} grey levels, worst view {apart['worst']:.3f}")
        print("  ms (median)        Pillow    torch")
        for name, ms in sorted(result["ms"].items(), key=lambda entry: -entry[1]["pillow"]):
            print(f"  {name:<16} {ms['pillow']:8.2f} {ms['torch']:8.2f}")
    rates = results[-1]["rates"]
    ratio = rates["hard, decoding and torch"]["images_per_s"] / rates["hard, decoding and Pillow"]["images_per_s"]
    print(f"\nhard views of {results[-1]['stage']}, decoding included: torch {ratio:.2f} × Pillow")
    finish(
        {
            "bench": "views",
            "photo_size": photo_size,
            "views": given.views,
            "rounds": given.rounds,
            "stages": results,
            "ratio_to_best_reference": ratio,
            "best_reference": "hard, decoding and Pillow",
            "cosine_min": min(result["cosine_min"] for result in results),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
