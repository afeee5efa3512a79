"""``isc-fast find``: from two folders to the pairs and a page."""

from __future__ import annotations

import json
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import InputError
from .flags import (
    PHOTOS_HELP,
    add_describing,
    add_json,
    add_left_out,
    add_negatives,
    add_search_device,
    add_threshold,
    add_views,
    describing_of,
    given,
    threshold_of,
)
from .output import named_progress, note, note_what_is_missing, noted_after, propose, show, tell, told_in_one_line
from .ray_flags import add_search_workers, search_workers_of

HELP = "find the photos that others were copied from, in one command: describe both sides, search, make a page"
EXAMPLE = "isc-fast find queries/ --in references/ -o out/"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    photos = f"{PHOTOS_HELP}; or one descriptor file"
    parser.add_argument("queries", nargs="+", metavar="QUERIES", help=f"photos that may be copies: {photos}")
    parser.add_argument(
        "--in", dest="references", nargs="+", required=True, metavar="REFERENCES", help=f"the originals: {photos}"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder for descriptors, pairs and page, here or in a bucket: s3://bucket/out/",
    )
    add_threshold(
        parser,
        "lowest score of a pair; by default what the engine carries for so many pairs, and with negatives (--method score) the "
        "score from which on they expect one wrong pair for each 1,000 photos",
    )
    parser.add_argument("-k", type=int, metavar="K", help="references of each query at most (default: 10)")
    add_views(parser, "each query")
    parser.add_argument("--mirror", action="store_true", help="find mirrored copies too: the same as mirror in --views")
    parser.add_argument(
        "--turn",
        action="store_true",
        help="find copies too that are turned by 90, 180 and 270 degrees: the same as turn in --views",
    )
    add_views(parser, "each reference", "--reference-views")
    parser.add_argument(
        "--align",
        action="store_true",
        help="look at the best references of each query in their pixels too; those that show the same scene stand first, "
        "whatever their score, which rises by 1",
    )
    add_negatives(parser, "normalise both sides by these descriptors of photos that match nothing")
    parser.add_argument(
        "--max-rows", type=int, metavar="N", help="pairs on the page at most, spread over the scores (default: 1000)"
    )
    parser.add_argument("--view", action="store_true", help="open the page")
    add_left_out(parser)
    add_describing(parser)
    add_search_device(parser, "--search-device")
    add_search_workers(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Find, print how many pairs there are, and open the page if it is wanted."""
    from ..files.homes import is_bucket
    from ..runs.copies.find import find_copies, shared_inputs

    if arguments.view and is_bucket(arguments.output):
        raise InputError(
            f"--view opens a page on this machine, and {arguments.output} is in a bucket; leave --view out"
        )

    if shared := shared_inputs(arguments.queries, arguments.references):
        note(
            f"note: {shared[0]} is on both sides, so each of its photos matches itself; to find the copies within it: isc-fast "
            f"dedup {shlex.quote(shared[0])} -o FOLDER"
        )

    names = (
        "k",
        "negatives",
        "method",
        "max_rows",
        "search_device",
        "views",
        "reference_views",
        "verdicts",
        "stop_list",
    )
    options = threshold_of(arguments) | given(arguments, *names)
    options |= {"mirror": arguments.mirror, "turn": arguments.turn}
    workers = search_workers_of(arguments)
    unit = "million pairs" if any(value is not None for value in workers.values()) else "references"
    noting = noted_after("isc_fast.left_out")
    printed = named_progress(search=unit, align="queries", page="pairs")
    with noting, printed as printers, told_in_one_line():
        found = find_copies(
            arguments.queries,
            arguments.references,
            arguments.output,
            describing=describing_of(arguments),
            align=arguments.align,
            progress=printers,
            **workers,
            **options,
        )
    if found.waits is not None:
        show(json.dumps(found.to_dict()) if arguments.json else found.waits)
        return 0
    for side in found.sides:
        if side.made:
            note_what_is_missing(side.made)
    tell(found.verdict)
    propose(found.hubs, found.suggestions)
    if arguments.json:
        show(json.dumps(found.to_dict()))
    else:
        show(
            f"{found.matches}: {found.pairs} pairs; {found.matched} of {found.queries} queries match one of {found.references}"
        )
        if found.by_view is not None:
            show("by view: " + ", ".join(f"{count} {view}" for view, count in found.by_view.items()))
        if found.aligned is not None:
            show(f"{found.aligned} of the pairs align: they show the same scene, and their scores are higher by 1")
        if found.method is not None:
            show(f"normalised by {found.method}")
        show(f"threshold {found.threshold:g}: {found.said}")
        show(f"Look at {found.page}" if found.page else "no page: it shows pairs of photos, and there are none to show")
    if arguments.view and found.page:
        import webbrowser

        if not webbrowser.open(Path(found.page).resolve().as_uri()):
            note(f"note: no browser was found to open {found.page}")
    return 0
