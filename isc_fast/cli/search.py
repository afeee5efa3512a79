"""``isc-fast search``: find the references that queries were copied from."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json, add_left_out, add_search_device, add_threshold, given, threshold_of
from .output import note, progress, show, tell, told_in_one_line

HELP = "find the references that queries were copied from; exact"
EXAMPLE = "isc-fast search queries.h5 refs.h5 --threshold 0.5 -o matches.csv"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("queries", metavar="QUERIES.h5")
    parser.add_argument("references", metavar="REFERENCES.h5")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="matches.csv; matches.jsonl, which holds any id; or matches.parquet",
    )
    parser.add_argument(
        "-k", type=int, metavar="K", help="best references of each query (default: 10, if no other limit)"
    )
    parser.add_argument("--max-pairs", type=int, metavar="N", help="best pairs of all queries together")
    add_threshold(parser, "lowest score")
    parser.add_argument(
        "--labelled",
        metavar="TRUTH.csv",
        help="search only the queries that this ground truth labels; by default for the best 10 × as many pairs, on which the "
        "challenge's descriptor track is scored",
    )
    parser.add_argument("--metric", choices=("ip", "l2"), help="score: cosine (default), or minus the squared distance")
    add_left_out(parser)
    add_search_device(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Search, write the matches, and print how many pairs there are."""
    from ..descriptors.comparing import compare
    from ..descriptors.formats.table import open_any
    from ..descriptors.lengths import check_lengths
    from ..evaluation.calibration import Task
    from ..matching.matches import check_output, has_views, read_truth, write_matches
    from ..matching.two_sides import search
    from ..runs.thresholds import choose

    names = ("k", "max_pairs", "metric", "device", "verdicts", "stop_list")
    options = given(arguments, *names) | threshold_of(arguments)
    if arguments.labelled:
        options["labelled"] = read_truth(arguments.labelled)
    with open_any(arguments.queries) as queries, open_any(arguments.references) as references, told_in_one_line():
        if arguments.metric != "l2":
            check_lengths(queries, "query")
            check_lengths(references, "reference")
        check_output(arguments.output, queries.ids, references.ids)
        if arguments.calibration is not None:
            pairs = len(queries) * len(queries.views) * len(references) * len(references.views)
            words = f"{pairs} pairs"
            wanted = choose(options["threshold"], [queries, references], Task(pairs, len(queries)), words)
            options["threshold"] = wanted.score
            note(f"threshold {wanted.score:g}: {wanted.said}")
        with progress("search", "references") as printer:
            found = search(queries, references, progress=printer, **options)
        sides = {"queries": len(queries), "references": len(references)}
        verdict = compare(queries, references)
    write_matches(arguments.output, found)
    tell(verdict)
    if found.views is not None and not has_views(arguments.output):
        note(
            f"note: {arguments.output} has no room for the view that matched; a name that ends in .jsonl or .parquet has"
        )
    if found.verdicts is not None and not has_views(arguments.output):
        note("note: a CSV has no place for verdicts; -o FILE.jsonl says which pairs somebody judged right")
    if arguments.json:
        show(json.dumps({"matches": arguments.output, "pairs": len(found), **sides}))
    else:
        show(
            f"{arguments.output}: {len(found)} pairs of {sides['queries']} queries and {sides['references']} references"
        )
    return 0
