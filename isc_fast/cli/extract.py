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
    add_views,
    choice,
    engine_flags,
    given,
)
from .output import note_what_is_missing, noted, progress, show, unread
from .ray_flags import add_ray_flags, cluster_of, count_or_range
from .share_flags import add_share_flags, share_of

if TYPE_CHECKING:
    from ..extraction.pipeline import Extraction

HELP = "describe photos; interrupt it at any time, the same command resumes"
EXAMPLE = "isc-fast extract photos/ --engine v107.onnx -o refs.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("inputs", nargs="+", metavar="PHOTOS", help=PHOTOS_HELP)
    parser.add_argument("--engine", required=True, metavar="FILE", help=ENGINE_HELP)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="descriptor file to make, such as out.h5; or a folder that keeps the parts, with a slash: out/",
    )
    parser.add_argument("--ids", choices=ID_RULES, help=IDS_HELP)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--shard-size", type=int, metavar="N", help="images (or containers) of one part, the unit of resuming"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output made from other inputs or recompute it"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try the images again that failed")
    parser.add_argument(
        "--keep-gone", action="store_true", help="keep the descriptors of photos that are gone from the inputs"
    )
    add_dtype(parser, "as the output has it, or float32")
    add_views(parser, "each photo")
    parser.add_argument("--checksum", action="store_true", help=CHECKSUM_HELP)
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if any image failed, or pictures were left out"
    )
    add_share_flags(parser)
    parser.add_argument(
        "--by-container",
        action="store_true",
        help="plan archives and tables as they are, not each photo in them: for very many; with -o FOLDER/",
    )
    parser.add_argument("--isolate", action="store_true", help=ISOLATE_HELP)
    add_choice_flags(parser)
    add_run_flags(parser, count_or_range, "; with --ray MIN:MAX workers, such as 2:8")
    add_ray_flags(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Extract, note what failed, and print the result."""
    from ..extraction.pipeline import extract

    options = given(arguments, "ids", "limit", "shard_size", "batch_size", "decoder", "dtype", "views")
    options |= cluster_of(arguments)
    with progress("extract") as printer, noted("isc_fast.ray", printer):
        made = extract(
            arguments.inputs,
            arguments.engine,
            arguments.output,
            overwrite=arguments.overwrite,
            retry_failed=arguments.retry_failed,
            keep_gone=arguments.keep_gone,
            checksum=arguments.checksum,
            isolated=arguments.isolate,
            share=share_of(arguments),
            by_container=arguments.by_container,
            choice=choice(arguments),
            progress=printer,
            **engine_flags(arguments),
            **options,
        )
    note_what_is_missing(made)
    if arguments.json:
        result = {"path": str(made.path), "descriptors": made.count, "failures": len(made.failures)}
        found = {"notes": len(made.notes), "ignored": made.ignored, "ignored_suffixes": dict(made.ignored_suffixes)}
        found |= {"excluded": dict(made.excluded), "complete": made.complete}
        show(json.dumps({**result, "computed": made.computed, "seconds": round(made.seconds, 3), **found}))
    elif made.computed:
        rate = f"{made.computed / max(made.seconds, 1e-9):.1f} images/s"
        show(f"{made.path}: {_counts(made)}, {duration(made.seconds)}, {rate}")
    else:
        show(f"{made.path}: {_counts(made)}, complete already" + ("" if made.complete else " in this share"))
    return 1 if arguments.strict and (made.failures or unread(made)) else 0


def _counts(made: Extraction) -> str:
    return f"{made.count} descriptors" + (f", {len(made.failures)} images failed" if made.failures else "")
