"""``isc-fast normalize``: subtract negatives from descriptors."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace

from ..errors import InputError
from .flags import add_dtype, add_search_device, given
from .output import note, show, tell, told_in_one_line

HELP = "subtract negatives from descriptors, for queries and references alike"
EXAMPLE = "isc-fast normalize refs.h5 --negatives negatives.h5 -o refs-normalized.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("descriptors", metavar="FILE.h5")
    parser.add_argument("--negatives", metavar="FILE", help="made by isc-fast negatives (plain descriptors for score)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument(
        "--method",
        choices=("nes", "score"),
        help="negative embedding subtraction (default), or score normalisation, which leaves references as they are",
    )
    parser.add_argument("--role", choices=("query", "reference"), help="for score: which side these descriptors are")
    parser.add_argument("-k", type=int, metavar="K", help="nearest negatives (default: 10 for nes, 3 for score)")
    parser.add_argument("--beta", type=float, metavar="B", help="their weight (default: 0.35 for nes, 1 for score)")
    parser.add_argument("--iterations", type=int, metavar="N", help="how often they are subtracted (default: 1)")
    add_dtype(parser)
    add_search_device(parser)


def run(arguments: Namespace) -> int:
    """Normalise, and print by what method."""
    from ..descriptors.comparing import compare_with_negatives
    from ..descriptors.formats.table import open_any
    from ..matching.methods import normalize_to_file

    method = arguments.method or "nes"
    _check(arguments, method)
    options = given(arguments, "k", "beta", "iterations", "device", "dtype")
    with contextlib.ExitStack() as stack:
        negatives = None
        if not (method == "score" and arguments.role == "reference"):
            if arguments.negatives is None:
                raise InputError("give --negatives FILE; make one with: isc-fast negatives TRAIN.h5 -o negatives.h5")
            negatives = stack.enter_context(open_any(arguments.negatives))
            if method == "nes" and not negatives.provenance.smoothing:
                note(f"note: {arguments.negatives} is not smoothed; the published method smooths: isc-fast negatives")
        descriptors = stack.enter_context(open_any(arguments.descriptors))
        with told_in_one_line():
            normalize_to_file(descriptors, negatives, arguments.output, method=method, **options)
        if negatives is not None:
            tell(compare_with_negatives(descriptors, negatives))
    show(f"{arguments.output}: normalised by {method}")
    return 0


def _check(arguments: Namespace, method: str) -> None:
    """Refuse a flag of the other method."""
    if method != "score" and arguments.role is not None:
        raise InputError("--role belongs to --method score; negative embedding subtraction treats both sides alike")
    if method == "score" and arguments.iterations is not None:
        raise InputError("--iterations belongs to --method nes")
    if method == "score" and arguments.role is None:
        raise InputError("score normalisation treats the two sides differently: give --role query or --role reference")
