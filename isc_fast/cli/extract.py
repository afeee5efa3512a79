"""``isc-fast extract``: describe photos."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..progress import duration
from .flags import (
    CHECKSUM_HELP,
    ENGINE_HELP,
    ID_RULES,
    IDS_HELP,
    ISOLATE_HELP,
    PHOTOS_HELP,
    add_choice_flags,
    add_dtype,
    add_json,
    add_run_flags,
    choice,
    engine_flags,
    given,
)
from .output import note_what_is_missing, progress, show, unread

if TYPE_CHECKING:
    from ..extraction.pipeline import Extraction

HELP = "describe photos; interrupt it at any time, the same command resumes"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("inputs", nargs="+", metavar="PHOTOS", help=PHOTOS_HELP)
    parser.add_argument("--engine", required=True, metavar="FILE", help=ENGINE_HELP)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="descriptor file to make, such as out.h5")
    parser.add_argument("--ids", choices=ID_RULES, help=IDS_HELP)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--shard-size", type=int, metavar="N", help="images of one part, the unit of resuming")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output made from other inputs or recompute it"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try the images again that failed")
    parser.add_argument(
        "--keep-gone", action="store_true", help="keep the descriptors of photos that are gone from the inputs"
    )
    add_dtype(parser, "as the output has it, or float32")
    parser.add_argument("--checksum", action="store_true", help=CHECKSUM_HELP)
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if any image failed, or pictures were left out"
    )
    parser.add_argument("--isolate", action="store_true", help=ISOLATE_HELP)
    add_choice_flags(parser)
    add_run_flags(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Extract, note what failed, and print the result."""
    from ..extraction.pipeline import extract

    options = given(arguments, "ids", "limit", "shard_size", "batch_size", "workers", "decoder", "dtype")
    with progress("extract") as printer:
        made = extract(
            arguments.inputs,
            arguments.engine,
            arguments.output,
            overwrite=arguments.overwrite,
            retry_failed=arguments.retry_failed,
            keep_gone=arguments.keep_gone,
            checksum=arguments.checksum,
            isolated=arguments.isolate,
            choice=choice(arguments),
            progress=printer,
            **engine_flags(arguments),
            **options,
        )
    note_what_is_missing(made)
    if arguments.json:
        result = {"path": str(made.path), "descriptors": made.count, "failures": len(made.failures)}
        found = {"notes": len(made.notes), "ignored": made.ignored, "ignored_suffixes": dict(made.ignored_suffixes)}
        found |= {"excluded": dict(made.excluded)}
        show(json.dumps({**result, "computed": made.computed, "seconds": round(made.seconds, 3), **found}))
    elif made.computed:
        rate = f"{made.computed / max(made.seconds, 1e-9):.1f} images/s"
        show(f"{made.path}: {_counts(made)}, {duration(made.seconds)}, {rate}")
    else:
        show(f"{made.path}: {_counts(made)}, complete already")
    return 1 if arguments.strict and (made.failures or unread(made)) else 0


def _counts(made: Extraction) -> str:
    return f"{made.count} descriptors" + (f", {len(made.failures)} images failed" if made.failures else "")
