"""``isc-fast normalize``: subtract negatives from descriptors."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace

from ..errors import InputError
from .flags import add_dtype, add_search_device, given
from .output import note, noted, progress, show, show_parts, tell, told_in_one_line
from .task_flags import add_task_flags, refuse_task_flags, tasks_of

HELP = "subtract negatives from descriptors, for queries and references alike"
EXAMPLE = "isc-fast normalize refs.h5 --negatives negatives.h5 -o refs-normalized.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("descriptors", metavar="FILE.h5", help="descriptors, or a result in parts")
    parser.add_argument("--negatives", metavar="FILE", help="made by isc-fast negatives (plain descriptors for score)")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="file to make; or with a slash, out/, a result in parts"
    )
    parser.add_argument(
        "--method",
        choices=("nes", "score"),
        help="negative embedding subtraction (default), or score normalisation, which leaves references as they are; "
        "isc-fast find --negatives does either for both sides and searches them",
    )
    parser.add_argument("--role", choices=("query", "reference"), help="for score: which side these descriptors are")
    parser.add_argument("-k", type=int, metavar="K", help="nearest negatives (default: 10 for nes, 3 for score)")
    parser.add_argument("--beta", type=float, metavar="B", help="their weight (default: 0.35 for nes, 1 for score)")
    parser.add_argument("--iterations", type=int, metavar="N", help="how often they are subtracted (default: 1)")
    add_dtype(parser)
    add_search_device(parser)
    add_task_flags(parser)


def run(arguments: Namespace) -> int:
    """Normalise, and print by what method."""
    from ..descriptors.comparing import compare_with_negatives
    from ..descriptors.formats.table import open_any
    from ..matching.normalizing.methods import normalize_to_file
    from ..runs.tasks.task_folder import is_task_output

    method = arguments.method or "nes"
    _check(arguments, method)
    if is_task_output(arguments.output):
        return _in_tasks(arguments, method)
    refuse_task_flags(arguments)
    options = given(arguments, "k", "beta", "iterations", "device", "dtype")
    with contextlib.ExitStack() as stack:
        negatives = None
        if _against(arguments, method):
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


def _against(arguments: Namespace, method: str) -> bool:
    """Whether negatives are needed.

    Raises:
        InputError: they are, and were not given.
    """
    needed = not (method == "score" and arguments.role == "reference")
    if needed and arguments.negatives is None:
        raise InputError("give --negatives FILE; make one with: isc-fast negatives TRAIN.h5 -o negatives.h5")
    return needed


def _in_tasks(arguments: Namespace, method: str) -> int:
    """Normalise into a result in parts."""
    from ..runs.tasks.normalizing import normalize_to_folder

    if arguments.dtype not in (None, "float32"):
        raise InputError("--dtype float16 is for one file, and a folder keeps parts of float32; give -o FILE")
    negatives = arguments.negatives if _against(arguments, method) else None
    options = given(arguments, "k", "beta", "iterations", "device") | tasks_of(arguments)
    with progress("normalize", "million pairs") as printer, noted("isc_fast.ray", printer), told_in_one_line():
        made = normalize_to_folder(
            arguments.descriptors, negatives, arguments.output, method=method, progress=printer, **options
        )
    if made.verdict is not None:
        tell(made.verdict)
    show_parts(made, f"normalised by {method}")
    return 0


def _check(arguments: Namespace, method: str) -> None:
    """Refuse a flag of the other method."""
    if method != "score" and arguments.role is not None:
        raise InputError("--role belongs to --method score; negative embedding subtraction treats both sides alike")
    if method == "score" and arguments.iterations is not None:
        raise InputError("--iterations belongs to --method nes")
    if method == "score" and arguments.role is None:
        raise InputError("score normalisation treats the two sides differently: give --role query or --role reference")
