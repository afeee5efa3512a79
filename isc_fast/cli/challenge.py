"""``isc-fast challenge``: the whole run on a folder laid out like DISC21."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..errors import IscFastError
from .flags import ENGINE_HELP, add_run_flags, add_search_device, add_views, engine_flags, given
from .output import named_progress, show

HELP = "the whole run on a folder laid out like DISC21: describe, normalise, search, evaluate"
EXAMPLE = "isc-fast challenge DISC21/ --engine v107.onnx -o challenge-out/"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "input", metavar="DISC21", help="folder with the sets: query_images or dev_queries, references, train, …"
    )
    parser.add_argument("--engine", required=True, metavar="FILE", help=ENGINE_HELP)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="for descriptors, submissions and matches"
    )
    parser.add_argument(
        "--sets", metavar="LETTERS", help="q, p (phase-2 queries), r, t; such as qrt (default: all there are)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="dry run: only the first N images of each set")
    parser.add_argument("--reference-subset", metavar="FILE", help="only the references listed there, one id a line")
    parser.add_argument("--ground-truth", metavar="CSV", help="by default the *truth*.csv whose name fits")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace descriptors of other images or another engine"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try the images again that failed")
    parser.add_argument(
        "--method",
        choices=("nes", "score"),
        help="of the matching track: scores lowered by what each query scores among the training images (score, the default), or "
        "minus squared distances after these were subtracted (nes); the descriptor track has vectors, which are always nes",
    )
    add_views(parser, "each query")
    add_search_device(parser, "--search-device")
    add_run_flags(parser)


def run(arguments: Namespace) -> int:
    """Run the challenge, and print what came of it.

    Raises:
        IscFastError: what was written breaks a rule of the challenge.
    """
    from ..runs.challenge import run_challenge

    options = given(arguments, "sets", "limit", "reference_subset", "ground_truth", "batch_size", "workers", "decoder")
    options |= given(arguments, "search_device", "views", "method")
    with named_progress() as printers:
        result = run_challenge(
            arguments.input,
            arguments.engine,
            arguments.output,
            overwrite=arguments.overwrite,
            retry_failed=arguments.retry_failed,
            progress=printers,
            **engine_flags(arguments),
            **options,
        )
    show(result)
    if result.problems:
        raise IscFastError(f"what was written breaks {len(result.problems)} rules of the challenge, listed above")
    return 0
