"""``isc-fast align``: look at matches in their pixels."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import ID_RULES, add_choice_flags, add_json, choice, given
from .output import note, progress, show

HELP = "look at matches in their pixels: put those first that show the same scene, and show where"
EXAMPLE = "isc-fast align matches.csv --queries queries/ --references references/ -o aligned.csv"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "matches", metavar="MATCHES", help="matches.csv, .jsonl or .parquet, at best of a low threshold"
    )
    for side in ("queries", "references"):
        parser.add_argument(
            f"--{side}", required=True, nargs="+", metavar="PHOTOS", help=f"what the {side} were extracted from"
        )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="all matches, those that align first")
    parser.add_argument("--top", type=int, metavar="N", help="matches of each query to look at (default: 10)")
    parser.add_argument("--inliers", type=int, metavar="N", help="local features that must agree (default: 8)")
    parser.add_argument("--evidence", metavar="FILE.jsonl", help="for each aligned pair, where the copy lies")
    parser.add_argument("--pictures", metavar="FOLDER", help="draw the aligned pairs into this new folder")
    parser.add_argument("--most-pictures", type=int, metavar="N", help="pairs to draw at most (default: 100)")
    parser.add_argument("--ids", choices=ID_RULES, help="as given to extract")
    add_choice_flags(parser)
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Align, and print how many pairs do."""
    from ..matching.lists.matches import read_matches
    from ..runs.pixels.align import align_matches

    options = given(arguments, "top", "inliers", "evidence", "pictures", "most_pictures", "ids")
    with progress("align", "queries") as printer:
        found = align_matches(
            read_matches(arguments.matches),
            arguments.queries,
            arguments.references,
            arguments.output,
            choice=choice(arguments),
            progress=printer,
            **options,
        )
    if found.unread:
        shown = ", ".join(found.unread[:3]) + (" …" if len(found.unread) > 3 else "")
        note(f"note: {len(found.unread)} photos cannot be read, so their pairs stay as they are: {shown}")
    queries = {query for query, _ in found.alignments}
    if arguments.json:
        counts = {"aligned": len(found.alignments), "looked_at": found.looked_at, "queries": len(queries)}
        show(json.dumps({"matches": arguments.output, **counts, "unread": len(found.unread)}))
    else:
        show(
            f"{arguments.output}: {len(found.alignments)} of {found.looked_at} pairs align, of {len(queries)} queries; "
            "their scores are higher by 1"
        )
    return 0
