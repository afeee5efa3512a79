"""``isc-fast merge``: put descriptor files together."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_dtype, add_json, given
from .output import show, tell, told_in_one_line

HELP = "put descriptor files of one network together, without describing anything again"
EXAMPLE = "isc-fast merge refs-1.h5 refs-2.h5 -o refs.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("files", nargs="+", metavar="FILE.h5", help="descriptors of one network, normalised alike")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="file to make; it may be one of the inputs"
    )
    parser.add_argument(
        "--prefer",
        choices=("first", "last"),
        help="where an id occurs several times, keep the descriptor of the first file, or of the last (default: refuse)",
    )
    add_dtype(parser, "float16 where all files have it")
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Merge, and print how many descriptors there are."""
    from ..descriptors.rewriting import merge_descriptors

    with told_in_one_line():
        made = merge_descriptors(arguments.files, arguments.output, **given(arguments, "prefer", "dtype"))
    tell(made.verdict)
    if arguments.json:
        show(json.dumps(made.to_dict()))
    else:
        left = f"; {made.left_out} with ids of others were left out" if made.left_out else ""
        show(f"{made.path}: {made.count} descriptors of {len(arguments.files)} files{left}")
    return 0
