"""``isc-fast negatives``: make negatives of training images' descriptors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .flags import add_search_device, given
from .output import show

HELP = "smooth the descriptors of training images into negatives, once for an engine"
EXAMPLE = "isc-fast negatives train.h5 -o negatives.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("descriptors", metavar="TRAIN.h5", help="descriptors of images that match nothing")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="negatives to make, such as negatives.h5")
    parser.add_argument("-k", type=int, metavar="K", help="neighbours that are averaged (default: 10)")
    parser.add_argument("--power", type=int, metavar="P", help="power of the similarity that weighs them (default: 3)")
    add_search_device(parser)


def run(arguments: Namespace) -> int:
    """Smooth, and print how many there are."""
    from ..descriptors.formats.table import open_any
    from ..matching.smoothing import smooth_to_file

    with open_any(arguments.descriptors) as plain:
        smooth_to_file(plain, arguments.output, **given(arguments, "k", "power", "device"))
        show(f"{arguments.output}: {len(plain)} negatives, smoothed")
    return 0
