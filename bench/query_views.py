"""What views of the queries cost and bring: queries described whole, with quarters, middle and halves, and mirrored.

    python bench/query_views.py                           the demo's collection: 270 queries, 45 references
    python bench/query_views.py --data DATA               also the held-out set of isc_fast.training.tiny.data_set
    python bench/query_views.py --data DATA --engine demo --engine v107.onnx      several engines
    python bench/query_views.py --data DATA --work FOLDER --only "held out"       goes on after an interruption
    python bench/query_views.py --smoke                   takes seconds with few photos

Queries are described once in all views, and each set of views takes its share of the rows, so that all are measured on the same
numbers; references are whole photos. The seconds are those of extracting a sample of the queries in these views alone, and of
searching for all queries.

Ways of normalising: none; negative embedding subtraction; score normalisation; and whitening, which brings the negatives to equal
spread in all directions. Negatives are the training photos of DATA. Without DATA they are those inside the package, which are
smoothed, so that only subtraction can use them, and only for the engine inside the package.

Each row has the cosine beside it: of the descriptors of views with those of crops that Pillow makes and the engine describes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from PIL import Image

import isc_fast
from isc_fast import Descriptors, Engine, Truth
from isc_fast.assets import DEMO_NEGATIVES, demo_photos
from isc_fast.decoders.views import view_names
from isc_fast.descriptors.view_rows import rows_of
from isc_fast.errors import MismatchError
from isc_fast.evaluation.metrics import PER_QUERY_CAP
from isc_fast.runs.demo import make_collection
from isc_fast.sources.listing import list_images
from isc_fast.training.tiny.figures import PROTOCOL, Row, measure

VIEWS = ("whole", "5", "6", "10", "mirror", "10,mirror")
_STATED = {"top-left": (0, 0, 1, 1), "right": (1, 0, 2, 2)}  # boxes in halves, which a statement cuts by itself


@dataclass(frozen=True)
class Collection:
    """Queries, references and the truth of a set."""

    name: str
    folder: Path
    truth: Truth


def chosen(queries: Descriptors, views: Sequence[str]) -> Descriptors:
    """The same photos in some of their views."""
    each = np.asarray(queries.vectors[:], np.float32).reshape(len(queries), len(queries.views), -1)
    rows = each[:, [queries.views.index(name) for name in views]].reshape(len(queries), -1)
    return replace(queries, vectors=rows, meta={**queries.meta, "views": [*views] if len(views) > 1 else None})


class Whitening:
    """Brings the negatives to mean zero and equal spread in all directions, and rows to unit length again."""

    def __init__(self, negatives: Descriptors) -> None:
        rows = np.asarray(rows_of(negatives).vectors[:], np.float64)
        self.mean = rows.mean(axis=0)
        spread, axes = np.linalg.eigh(np.cov(rows - self.mean, rowvar=False))
        self.turn = axes / np.sqrt(np.maximum(spread, 1e-3 * spread.max()))

    def __call__(self, side: Descriptors) -> Descriptors:
        rows = (np.asarray(rows_of(side).vectors[:], np.float64) - self.mean) @ self.turn
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return replace(side, vectors=rows.astype(np.float32).reshape(len(side), -1))


Sides = tuple[Descriptors, Descriptors]
Way = Callable[[Descriptors, Descriptors], Sides]


def described(photos: Path, engine: Engine, file: Path, views: str = "whole") -> Descriptors:
    """Photos of a folder; what an interrupted run has described is there, also where it was in more views."""
    if file.exists():
        found = isc_fast.read_descriptors(file)
        if {*view_names(views)} < {*found.views}:
            return found
    isc_fast.extract(photos, engine, file, ids="stem", views=views)
    return isc_fast.read_descriptors(file)


def both_sides(engine: Engine, collection: Collection, views: Sequence[str], work: Path) -> Sides:
    """The queries of a set in all these views, and its references."""
    folder, place = collection.folder, f"{engine.id[:12]}-{collection.name.replace(' ', '-')}"
    queries = described(folder / "query_images", engine, work / f"{place}-queries.h5", ",".join(views))
    return queries, described(folder / "reference_images", engine, work / f"{place}-references.h5")


def negatives_file(engine: Engine, work: Path) -> Path:
    """Where the training photos' descriptors are kept."""
    return work / f"{engine.id[:12]}-negatives.h5"


def ways(engine: Engine, data: Path | None, work: Path) -> dict[str, Way]:
    """The ways of normalising for which there are negatives, by name."""
    found: dict[str, Way] = {"plain": lambda queries, references: (queries, references)}
    if data is None:
        smooth = isc_fast.read_descriptors(DEMO_NEGATIVES)
    else:
        plain = described(data / "training_images", engine, negatives_file(engine, work))
        smooth, whitening = isc_fast.smooth_negatives(plain), Whitening(plain)
        found["score"] = lambda queries, references: isc_fast.normalize_scores(queries, references, plain)
        found["whitening"] = lambda queries, references: (whitening(queries), whitening(references))

    def subtract(*sides: Descriptors) -> Sides:
        one, other = (isc_fast.subtract_negatives(side, smooth) for side in sides)
        return one, other

    return {"plain": found.pop("plain"), "NES": subtract, **found}


def lowest_cosine(engine: Engine, folder: Path, scratch: Path) -> float:
    """Views of a few queries against crops that Pillow makes and the engine describes."""
    items = list_images(folder / "query_images").found[:4]
    isc_fast.extract([item.path for item in items], engine, scratch / "few.h5", views="10", overwrite=True)
    few = isc_fast.read_descriptors(scratch / "few.h5")
    worst = 1.0
    for row, item in enumerate(items):
        image = Image.open(item.path).convert("RGB")
        for name, (left, top, right, bottom) in _STATED.items():
            w, h = image.size
            box = (left * w // 2, top * h // 2, w - (2 - right) * w // 2, h - (2 - bottom) * h // 2)
            size = (engine.spec.width, engine.spec.height)
            (mine,) = engine.run(np.asarray(image.crop(box).resize(size, Image.Resampling.BILINEAR))[None])
            place = few.views.index(name) * few.dim
            worst = min(worst, float(mine @ few.vectors[row, place : place + few.dim]))
    return worst


def seconds_of(engine: Engine, folder: Path, views: str, sample: int, scratch: Path) -> float:
    """Seconds that describing all queries in these views would take, by a sample of them."""
    every = list_images(folder / "query_images").found
    some = [item.path for item in every[:: max(1, len(every) // sample)]]
    began = time.perf_counter()
    isc_fast.extract(some, engine, scratch / "sample.h5", views=views, overwrite=True)
    return (time.perf_counter() - began) * len(every) / len(some)


def measured(
    engine: Engine, collection: Collection, given: argparse.Namespace, scratch: Path, work: Path
) -> Iterator[dict[str, Any]]:
    """The rows of one engine and one set."""
    folder = collection.folder
    queries, references = both_sides(engine, collection, given.views, work)
    cosine = lowest_cosine(engine, folder, scratch)
    normalisations = ways(engine, given.data, work)
    for views in given.views:
        names = view_names(views)
        describing_s = seconds_of(engine, folder, views, given.sample, scratch)
        for way, normalise in normalisations.items():
            try:
                sides = normalise(chosen(queries, names), references)
            except MismatchError:  # the negatives are those of another engine
                continue
            began = time.perf_counter()
            found = isc_fast.search(*sides, k=PER_QUERY_CAP)
            search_s = time.perf_counter() - began
            plain = isc_fast.Matches(found.query_ids, found.reference_ids, found.scores)
            yield {
                **{"engine": engine.spec.name, "set": collection.name, "views": views, "rows": len(names)},
                **{"way": way, "describing_s": describing_s, "search_s": search_s, "cosine_min": cosine},
                **figures(measure(f"{views}, {way}", plain, collection.truth)),
            }


def figures(row: Row) -> dict[str, Any]:
    """The figures of a row that stand in the table."""
    of_all, four = row.subsets["all"], row.subsets.get("four edits")
    return {
        "micro_ap": of_all.micro_ap,
        "interval": of_all.interval,
        "recall_at_p90": of_all.recall_at_p90,
        "micro_ap_four_edits": four.micro_ap if four else None,
        "recall_at_1": dict(row.recall_at_1_by_kind),
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the tables of one engine and one set."""
    print(
        f"\n{rows[0]['engine']}, {rows[0]['set']}; protocol {PROTOCOL}; cosine with Pillow's crops {rows[0]['cosine_min']:.5f}"
    )
    print(
        f"{'views':<12}{'rows':>5}{'describe':>10}{'search':>8}  {'way':<11}{'µAP':>6}  {'95 %':<13}{'R@P90':>6}{'four':>7}"
    )
    for row in rows:
        four, recall = row["micro_ap_four_edits"], row["recall_at_p90"]
        print(
            f"{row['views']:<12}{row['rows']:>5}{row['describing_s']:>8.1f} s{row['search_s']:>6.2f} s  {row['way']:<11}"
            f"{row['micro_ap']:>6.3f}  {row['interval'][0]:.3f}–{row['interval'][1]:.3f}  {recall or 0:>6.3f}"
            f"{'' if four is None else f'{four:>7.3f}'}"
        )
    shown = [row for row in rows if row["way"] == "NES"] or [row for row in rows if row["way"] == "plain"]
    print(f"\nrecall@1 by edit, {shown[0]['way']}\n{'':<16}" + "".join(f"{row['views']:>11}" for row in shown))
    for kind in shown[0]["recall_at_1"]:
        print(f"{kind:<16}" + "".join(f"{row['recall_at_1'][kind]:>11.2f}" for row in shown))


def collections(given: argparse.Namespace, scratch: Path) -> Iterator[Collection]:
    """The sets to measure on."""
    if given.only != "held out":
        photos = demo_photos()[:12] if given.smoke else demo_photos()
        demo = scratch / "demo"
        if not (demo / "ground_truth.csv").exists():
            make_collection(demo, photos)
        for name, target in (("query", "queries"), ("reference", "references")):
            if not (demo / f"{name}_images").exists():
                (demo / f"{name}_images").symlink_to(target)
        yield Collection("demo", demo, isc_fast.read_truth(demo / "ground_truth.csv"))
    if given.data is not None and given.only != "demo":
        folder = given.data / "heldout"
        yield Collection("held out", folder, isc_fast.read_truth(folder / "ground_truth.csv"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", help="engine file; may be repeated (default: demo)")
    parser.add_argument("--data", type=Path, help="folder of isc_fast.training.tiny.data_set")
    parser.add_argument("--views", nargs="+", default=VIEWS, help="sets of views (default: %(default)s)")
    parser.add_argument("--only", choices=("demo", "held out"), help="one of the two sets")
    parser.add_argument("--work", type=Path, help="folder that keeps descriptors, so that an interrupted run goes on")
    parser.add_argument("--sample", type=int, default=100, help="queries whose describing is timed")
    parser.add_argument("--smoke", action="store_true", help="few photos, two sets of views")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.views, given.sample = ("whole", "5"), 10
    rows: list[dict[str, Any]] = []
    for name in given.engine or ["demo"]:
        engine = isc_fast.load_engine(name)
        with tempfile.TemporaryDirectory() as folder:
            work = given.work or Path(folder)
            for collection in collections(given, work):
                made = list(measured(engine, collection, given, Path(folder), work))
                show(made)
                rows += made
    best, whole = (max(row["micro_ap"] for row in some) for some in (rows, [r for r in rows if r["views"] == "whole"]))
    finish(
        {
            "bench": "query_views",
            "rows": rows,
            "cosine_min": min(row["cosine_min"] for row in rows),
            "ratio_to_best_reference": best / whole,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
