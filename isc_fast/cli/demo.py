"""``isc-fast demo``: find edited copies among the photos inside the package."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .flags import add_align, given
from .output import named_progress, show

HELP = "find edited copies among photos inside the package, and make a page to look at"
EXAMPLE = "isc-fast demo -o demo-out/"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("-o", "--output", metavar="FOLDER", help="(default: demo-out)")
    parser.add_argument("--engine", metavar="FILE", help="another engine than the one inside the package")
    add_align(parser)


def run(arguments: Namespace) -> int:
    """Run the demo, and print its figures."""
    from ..runs.demo import run_demo

    with named_progress() as printers:
        result = run_demo(align=arguments.align, progress=printers, **given(arguments, "output", "engine"))
    show(result)
    return 0
