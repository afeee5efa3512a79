"""``isc-fast search``: find the references that queries were copied from."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from ..errors import InputError
from .flags import add_json, add_left_out, add_search_device, add_threshold, given, threshold_of
from .output import note, noted, noted_after, progress, show, tell, told_in_one_line
from .task_flags import add_task_flags, refuse_task_flags, tasks_of

HELP = "find the references that queries were copied from; exact"
EXAMPLE = "isc-fast search queries.h5 refs.h5 --threshold 0.5 -o matches.csv"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("queries", metavar="QUERIES.h5", help="descriptors of photos that may be copies")
    parser.add_argument("references", metavar="REFERENCES.h5", help="descriptors of the originals")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="matches.csv; matches.jsonl, which holds any id; or matches.parquet. With a slash, out/, a folder: the search is "
        "cut into tasks, which may be shared and resumed",
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
    parser.add_argument(
        "--format", choices=("csv", "jsonl", "parquet"), help="with -o FOLDER/: of the matches (default: csv)"
    )
    parser.add_argument(
        "--shard-size", type=int, metavar="N", help="with -o FOLDER/: references of one task, the unit of resuming"
    )
    add_task_flags(parser)
    add_json(parser, "the result as ")


_NO_VIEWS = "note: {} has no room for the view that matched; {}"
_NO_VERDICTS = "note: a CSV has no place for verdicts; {} says which pairs somebody judged right"


def run(arguments: Namespace) -> int:
    """Search, write the matches, and print how many pairs there are."""
    from ..runs.tasks.task_folder import is_task_output

    with noted_after("isc_fast.left_out"):
        return (_in_tasks if is_task_output(arguments.output) else _at_once)(arguments)


def _options(arguments: Namespace) -> dict[str, Any]:
    return given(arguments, "k", "max_pairs", "metric", "device", "verdicts", "stop_list") | threshold_of(arguments)


def _at_once(arguments: Namespace) -> int:
    """Search in this process."""
    from ..descriptors.comparing import compare
    from ..descriptors.formats.table import open_any
    from ..descriptors.lengths import check_lengths
    from ..matching.lists.matches import check_output, has_views, read_truth, write_matches
    from ..matching.two_sides import search
    from ..runs.sides.thresholds import choose_for_search

    refuse_task_flags(arguments, "format", "shard_size")
    options = _options(arguments)
    if arguments.labelled:
        options["labelled"] = read_truth(arguments.labelled)
    with open_any(arguments.queries) as queries, open_any(arguments.references) as references, told_in_one_line():
        if arguments.metric != "l2":
            check_lengths(queries, "query")
            check_lengths(references, "reference")
        check_output(arguments.output, queries.ids, references.ids)
        if arguments.calibration is not None:
            wanted = choose_for_search(options["threshold"], queries, references)
            options["threshold"] = wanted.score
            note(f"threshold {wanted.score:g}: {wanted.said}")
        with progress("search", "references") as printer:
            found = search(queries, references, progress=printer, **options)
        sides = {"queries": len(queries), "references": len(references)}
        verdict = compare(queries, references)
    write_matches(arguments.output, found)
    tell(verdict)
    if found.views is not None and not has_views(arguments.output):
        note(_NO_VIEWS.format(arguments.output, "a name that ends in .jsonl or .parquet has"))
    if found.verdicts is not None and not has_views(arguments.output):
        note(_NO_VERDICTS.format("-o FILE.jsonl"))
    if arguments.json:
        show(json.dumps({"matches": arguments.output, "pairs": len(found), **sides}))
    else:
        show(
            f"{arguments.output}: {len(found)} pairs of {sides['queries']} queries and {sides['references']} references"
        )
    return 0


def _in_tasks(arguments: Namespace) -> int:
    """Search in tasks."""
    from ..matching.lists.matches import has_views
    from ..runs.tasks.searching import search_to_folder

    if arguments.labelled:
        raise InputError("--labelled is for a search at once, whose output is a file: -o matches.csv")
    options = _options(arguments) | tasks_of(arguments) | given(arguments, "shard_size")
    if arguments.format is not None:
        options["form"] = arguments.format
    with progress("search", "million pairs") as printer, noted("isc_fast.ray", printer), told_in_one_line():
        made = search_to_folder(
            arguments.queries,
            arguments.references,
            arguments.output,
            progress=printer,
            **options,
        )
    tell(made.verdict)
    if made.threshold is not None:
        note(f"threshold {made.threshold}")
    no_room = made.matches is not None and not has_views(made.matches)
    if made.with_views and no_room:
        note(_NO_VIEWS.format(made.matches, "--format jsonl and parquet have"))
    if made.with_verdicts and no_room:
        note(_NO_VERDICTS.format("--format jsonl"))
    if arguments.json:
        names = ("matches", "pairs", "queries", "references", "complete", "tasks", "done", "computed")
        show(json.dumps({"folder": str(made.folder), **{name: getattr(made, name) for name in names}}))
    elif made.complete:
        show(f"{made.matches}: {made.pairs} pairs of {made.queries} queries and {made.references} references")
    else:
        show(
            f"{made.folder}: {made.done} of {made.tasks} tasks are there; the job that sees the last one writes the matches"
        )
    return 0
