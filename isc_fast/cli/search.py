"""``isc-fast search``: find the references that queries were copied from."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .flags import add_search_device, given
from .output import note

HELP = "find the references that queries were copied from; exact"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("queries", metavar="QUERIES.h5")
    parser.add_argument("references", metavar="REFERENCES.h5")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="matches.csv, or matches.jsonl for any id"
    )
    parser.add_argument(
        "-k", type=int, metavar="K", help="best references of each query (default: 10, if no other limit)"
    )
    parser.add_argument("--max-pairs", type=int, metavar="N", help="best pairs of all queries together")
    parser.add_argument("--threshold", type=float, metavar="S", help="lowest score")
    parser.add_argument("--metric", choices=("ip", "l2"), help="score: cosine (default), or minus the squared distance")
    add_search_device(parser)


def run(arguments: Namespace) -> int:
    """Search, write the matches, and print how many pairs there are."""
    from ..decoders.base import EXACT
    from ..descriptors.dialects import open_any
    from ..matching.index import search
    from ..matching.matches import write_matches

    options = given(arguments, "k", "max_pairs", "threshold", "metric", "device")
    with open_any(arguments.queries) as queries, open_any(arguments.references) as references:
        found = search(queries, references, **options)
        sides = f"{len(queries)} queries and {len(references)} references"
        stamped = queries.meta and references.meta
        decoders = [side.meta.get("decoder", EXACT[0]) for side in (queries, references)]
    write_matches(arguments.output, found)
    if decoders[0] != decoders[1] and not set(decoders) <= set(EXACT):
        note(
            f"note: queries were decoded by {decoders[0]} and references by {decoders[1]}, whose pixels differ a little, and so "
            "do scores; extract both with one --decoder"
        )
    if not stamped:
        note("note: not both sides say which engine made them, so nobody has checked that they belong together")
    print(f"{arguments.output}: {len(found)} pairs of {sides}")
    return 0
