"""``isc-fast leaks``: which photos of evaluation sets have a copy in a training set."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import (
    add_align,
    add_describing,
    add_json,
    add_left_out,
    add_search_device,
    add_tables,
    add_threshold,
    add_views,
    describing_of,
    given,
    threshold_of,
)
from .output import named_progress, note_what_is_missing, noted_after, propose, show, told_in_one_line
from .ray_flags import add_search_workers, search_workers_of

HELP = "find photos of evaluation sets that have a copy in a training set, and list what to remove on either side"
EXAMPLE = "isc-fast leaks --train data/ --eval test/ -o out/"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    photos = "folder, list file or descriptor file"
    parser.add_argument(
        "--train", nargs="+", required=True, metavar="PHOTOS", help=f"the training set: {photos}; several are one set"
    )
    parser.add_argument(
        "--eval",
        dest="evaluations",
        nargs="+",
        required=True,
        metavar="PHOTOS",
        help=f"evaluation sets: a {photos} each",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder for descriptors, lists and page, here or in a bucket: s3://bucket/out/",
    )
    add_threshold(parser)
    parser.add_argument(
        "--recipe",
        choices=("direct", "dinov2"),
        help="what goes from the training set: direct (default): what matches a photo of an evaluation set; dinov2: every "
        "group that hangs together with such a photo, and of every other group all but one",
    )
    add_views(parser, "each photo of an evaluation set")
    add_tables(parser)
    parser.add_argument(
        "--max-rows",
        type=int,
        metavar="N",
        help="pairs of each set on the page at most, spread over the scores (default: 1000)",
    )
    add_align(parser)
    add_left_out(parser)
    add_describing(parser)
    add_search_device(parser, "--search-device")
    add_search_workers(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Find the leaks, and print the share of each evaluation set."""
    from ..runs.copies.leaks import find_leaks

    noting = noted_after("isc_fast.left_out")
    with noting, named_progress(compare="million pairs", page="pairs") as printers, told_in_one_line():
        found = find_leaks(
            arguments.train,
            arguments.evaluations,
            arguments.output,
            describing=describing_of(arguments),
            nemo=arguments.nemo,
            align=arguments.align,
            progress=printers,
            **given(arguments, "recipe", "form", "max_rows", "search_device", "views", "verdicts", "stop_list"),
            **search_workers_of(arguments),
            **threshold_of(arguments),
        )
    if found.waits is not None:
        show(json.dumps(found.to_dict()) if arguments.json else found.waits)
        return 0
    for side in found.sides:
        if side.made:
            note_what_is_missing(side.made)
    propose(found.hubs, found.files.get("suggestions"))
    if arguments.json:
        show(json.dumps(found.to_dict()))
        return 0
    for one in found.sets:
        show(
            f"{one.name}: {one.leaked} of {one.photos} photos ({one.share:.1%}) have a copy among the {found.train} of training"
        )
    show(f"threshold {found.threshold:g}: {found.said}")
    show(
        f"{found.removed} photos would go from the training set by the recipe {found.recipe}: {found.files['remove-train']}"
    )
    show(f"nothing was removed; {found.pairs} pairs: {found.files['pairs']}")
    if found.aligned is not None:
        show(f"{found.aligned} of the pairs on the page align: they show the same scene")
    if found.page:
        show(f"Look at {found.page}")
    return 0
