"""``isc-fast rename``: write a descriptor file under other ids."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json
from .output import note, show
from .remove import LIST_HELP

HELP = "give the ids in a descriptor file other names, without describing anything again"
EXAMPLE = "isc-fast rename refs.h5 --ids names.csv -o renamed.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("descriptors", metavar="REFS.h5", help="descriptors, or a result in parts")
    parser.add_argument(
        "--ids", required=True, metavar="MAP", help=LIST_HELP.format(" and a column new_id", ", a tab and the new one")
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to make; it may be the input")
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Rename, and print how many descriptors there are."""
    from ..descriptors.id_lists import read_new_names
    from ..descriptors.rewriting import rename_descriptors

    made = rename_descriptors(arguments.descriptors, read_new_names(arguments.ids), arguments.output)
    if made.unknown:
        note(f"note: {made.unknown} ids of {arguments.ids} are not in {arguments.descriptors}")
    show(json.dumps(made.to_dict()) if arguments.json else f"{made.path}: {made.count} descriptors")
    return 0
