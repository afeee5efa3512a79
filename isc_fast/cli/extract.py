"""``isc-fast extract``: describe photos."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..progress import duration
from .flags import (
    ENGINE_HELP,
    PHOTOS_HELP,
    add_choice_flags,
    add_json,
    add_run_flags,
    choice,
    engine_flags,
    given,
)
from .output import note, progress, show

if TYPE_CHECKING:
    from ..extraction.pipeline import Extraction

HELP = "describe photos; interrupt it at any time, the same command resumes"
_FAILURES_SHOWN = 10


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("inputs", nargs="+", metavar="PHOTOS", help=PHOTOS_HELP)
    parser.add_argument("--engine", required=True, metavar="FILE", help=ENGINE_HELP)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="descriptor file to make, such as out.h5")
    parser.add_argument(
        "--ids",
        choices=("auto", "path", "stem"),
        help="ids: path in the folder without suffix (auto, the default), with suffix (path), file name alone (stem)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--shard-size", type=int, metavar="N", help="images of one part, the unit of resuming")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output made from other inputs or recompute it"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try the images again that failed")
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if any image failed, or pictures were left out"
    )
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="decode in processes of their own: a photo that hangs or crashes an image library costs that photo alone",
    )
    add_choice_flags(parser)
    add_run_flags(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Extract, note what failed, and print the result."""
    from ..extraction.pipeline import extract

    options = given(arguments, "ids", "limit", "shard_size", "batch_size", "workers", "decoder")
    with progress("extract") as printer:
        made = extract(
            arguments.inputs,
            arguments.engine,
            arguments.output,
            overwrite=arguments.overwrite,
            retry_failed=arguments.retry_failed,
            isolated=arguments.isolate,
            choice=choice(arguments),
            progress=printer,
            **engine_flags(arguments),
            **options,
        )
    _note_what_is_missing(made)
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
    return 1 if arguments.strict and (made.failures or _unread(made)) else 0


def _note_what_is_missing(made: Extraction) -> None:
    from ..sources.listing import containers_among, in_words, patterns_in_words

    if made.note:
        note(f"note: {made.note}")
    if made.ignored:
        note(f"note: {made.ignored} files were left out by their names: {in_words(made.ignored_suffixes)}")
    if packed := containers_among(made.ignored_suffixes):
        note(f"note: {packed} of them are archives or tables beside images; to describe their photos, name them")
    if made.excluded:
        left = patterns_in_words(made.excluded)
        note(
            f"note: files and folders left out by patterns: {left}; --no-default-excludes takes what no --exclude names"
        )
    if unread := _unread(made):
        note(
            f"note: {unread} of them are pictures of formats that isc-fast does not read; convert them, for example to PNG"
        )
    for failure in made.failures[:_FAILURES_SHOWN]:
        note(f"failed: {failure.path}: {failure.reason}")
    if len(made.failures) > _FAILURES_SHOWN:
        note(f"… and {len(made.failures) - _FAILURES_SHOWN} more: isc-fast info {made.path} --failures")
    if made.notes:
        count = "1 image is" if len(made.notes) == 1 else f"{len(made.notes)} images are"
        note(f"note: {count} of one single colour, and match every other such image: isc-fast info {made.path} --notes")


def _unread(made: Extraction) -> int:
    """How many of the files that were left out are pictures all the same, by their names."""
    from ..sources.folders import UNREAD_SUFFIXES

    return sum(count for suffix, count in made.ignored_suffixes.items() if suffix in UNREAD_SUFFIXES)


def _counts(made: Extraction) -> str:
    return f"{made.count} descriptors" + (f", {len(made.failures)} images failed" if made.failures else "")
