"""``isc-fast report``: make a page of matches with their pictures."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from ..items import Photo
from .flags import add_choice_flags, choice, given
from .output import show

HELP = "make a page of matches with their pictures"
EXAMPLE = "isc-fast report matches.csv --queries queries/ --references references/ -o matches.html"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("matches", metavar="MATCHES", help="matches.csv, .jsonl or .parquet")
    for side in ("queries", "references"):
        parser.add_argument(
            f"--{side}", required=True, nargs="+", metavar="PHOTOS", help=f"what the {side} were extracted from"
        )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE.html", help="the page: one file that needs no other"
    )
    parser.add_argument("--ids", choices=("auto", "path", "stem"), help="as given to extract")
    add_choice_flags(parser)
    parser.add_argument(
        "--truth",
        metavar="CSV",
        help="ground truth, for the curve of precision and recall, and to tell copies from others",
    )
    parser.add_argument("--threshold", type=float, metavar="S", help="lowest score shown")
    parser.add_argument(
        "--max-rows", type=int, metavar="N", help="pairs shown at most, spread over the scores (default: 1000)"
    )
    parser.add_argument("--verdicts", metavar="FILE", help="mark the pairs that this file, saved from a page, judges")
    parser.add_argument(
        "--evidence",
        metavar="FILE.jsonl",
        help="what align --evidence wrote: lay the photos of these pairs over each other where the copy lies",
    )


def run(arguments: Namespace) -> int:
    """Write the page, and print how many pairs it shows."""
    from ..matching.lists.matches import read_matches, read_truth
    from ..review.page import write_report
    from ..sources.listing import list_images, open_item

    def photos(inputs: list[str]) -> dict[str, Photo]:
        found = list_images(inputs, **given(arguments, "ids"), choice=choice(arguments))
        return {item.id: partial(open_item, item) for item in found.items}

    truth = read_truth(arguments.truth) if arguments.truth else None
    shown = write_report(
        arguments.output,
        read_matches(arguments.matches),
        queries=photos(arguments.queries),
        references=photos(arguments.references),
        truth=truth,
        **given(arguments, "threshold", "max_rows", "verdicts", "evidence"),
    )
    show(f"{arguments.output}: {shown} pairs")
    return 0
