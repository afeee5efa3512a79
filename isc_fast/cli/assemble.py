"""``isc-fast assemble``: make one descriptor file of a folder of parts."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json
from .output import show

HELP = "make one descriptor file of the folder of parts that extract -o FOLDER/ keeps"
EXAMPLE = "isc-fast assemble out/ -o refs.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("parts", metavar="FOLDER", help="made by isc-fast extract -o FOLDER/")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="descriptor file to make, such as out.h5")
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Assemble, and print how many descriptors there are."""
    from ..descriptors.whole_file import assemble

    made = assemble(arguments.parts, arguments.output)
    show(json.dumps(made.to_dict()) if arguments.json else f"{made.path}: {made.count} descriptors")
    return 0
