"""``isc-fast remove``: write a descriptor file without some ids."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json
from .output import note, show

HELP = "take ids out of a descriptor file, without describing anything again"
EXAMPLE = "isc-fast remove refs.h5 --ids out/remove.csv -o kept.h5"
LIST_HELP = "a .csv, .jsonl, .json or .parquet with a column id{}; or a text, one id a line{}"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("descriptors", metavar="REFS.h5", help="descriptors, or a result in parts")
    parser.add_argument(
        "--ids",
        required=True,
        metavar="FILE",
        help=LIST_HELP.format(", such as remove.csv of dedup", ""),
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to make; it may be the input")
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Remove, and print how many descriptors stay."""
    from ..descriptors.id_lists import read_ids
    from ..descriptors.rewriting import remove_descriptors

    made = remove_descriptors(arguments.descriptors, read_ids(arguments.ids), arguments.output)
    if made.unknown:
        note(f"note: {made.unknown} ids of {arguments.ids} are not in {arguments.descriptors}")
    if arguments.json:
        show(json.dumps(made.to_dict()))
    else:
        show(f"{made.path}: {made.count} descriptors; {made.left_out} were removed")
    return 0
