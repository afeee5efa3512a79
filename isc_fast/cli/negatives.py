"""``isc-fast negatives``: make negatives of training images' descriptors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .flags import add_search_device, given
from .output import noted, progress, show, show_parts
from .task_flags import add_task_flags, refuse_task_flags, tasks_of

HELP = "smooth the descriptors of training images into negatives, once for an engine"
EXAMPLE = "isc-fast negatives train.h5 -o negatives.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("descriptors", metavar="TRAIN.h5", help="descriptors of images that match nothing")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="negatives to make, such as negatives.h5; or with a slash, negatives/, a result in parts",
    )
    parser.add_argument("-k", type=int, metavar="K", help="neighbours that are averaged (default: 10)")
    parser.add_argument("--power", type=int, metavar="P", help="power of the similarity that weighs them (default: 3)")
    add_search_device(parser)
    add_task_flags(parser)


def run(arguments: Namespace) -> int:
    """Smooth, and print how many there are."""
    from ..descriptors.formats.table import open_any
    from ..matching.normalizing.smoothing import smooth_to_file
    from ..runs.tasks.normalizing import smooth_to_folder
    from ..runs.tasks.task_folder import is_task_output

    options = given(arguments, "k", "power", "device")
    if is_task_output(arguments.output):
        options |= tasks_of(arguments)
        with progress("negatives", "million pairs") as printer, noted("isc_fast.ray", printer):
            made = smooth_to_folder(arguments.descriptors, arguments.output, progress=printer, **options)
        show_parts(made, f"{made.count} negatives, smoothed")
        return 0
    refuse_task_flags(arguments)
    with open_any(arguments.descriptors) as plain:
        smooth_to_file(plain, arguments.output, **options)
        show(f"{arguments.output}: {len(plain)} negatives, smoothed")
    return 0
