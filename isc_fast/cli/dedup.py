"""``isc-fast dedup``: from one folder to the copies in it, and to what stays and what could go."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .flags import (
    add_align,
    add_describing,
    add_json,
    add_left_out,
    add_search_device,
    add_tables,
    add_threshold,
    describing_of,
    given,
    threshold_of,
)
from .output import named_progress, note, note_what_is_missing, noted_after, propose, show, told_in_one_line
from .ray_flags import add_search_workers, search_workers_of

if TYPE_CHECKING:
    from ..runs.copies.dedup import DedupResult

HELP = "find the copies in one collection, and list what stays and what could go; removes nothing"
EXAMPLE = "isc-fast dedup photos/ -o out/"


_KEEPS = {
    "largest": "the photo of most pixels",
    "oldest": "the oldest file",
    "newest": "the newest file",
    "best-quality": "the file with most bytes for each pixel",
    "first": "the first in the order of the inputs, and in each by name",
}


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="folders, images or list files; or one descriptor file"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder for descriptors, lists and page, here or in a bucket: s3://bucket/out/",
    )
    add_threshold(parser)
    parser.add_argument(
        "--keep",
        choices=("largest", "oldest", "first", "best-quality", "newest"),
        help="which of several copies stays: largest: most pixels (default for photos); oldest, newest: by the time of the file; "
        "best-quality: most bytes for each pixel; first: of the inputs in the order as given, in each by name (default for "
        "descriptors): originals/ edits/ --keep first keeps the originals",
    )
    parser.add_argument(
        "--mutual", type=int, metavar="K", help="only pairs of which each is among the K nearest of the other"
    )
    parser.add_argument(
        "--exact", action="store_true", help="tell equal files and equal pixels from near copies, in the column kind"
    )
    add_tables(parser)
    parser.add_argument(
        "--link-to", metavar="FOLDER", help="make this new folder, with a folder of symbolic links for each group"
    )
    parser.add_argument(
        "--max-group", type=int, metavar="N", help="photos of a group that page and links show (default: 12)"
    )
    parser.add_argument("--max-groups", type=int, metavar="N", help="groups that page and links show (default: 100)")
    add_align(parser)
    parser.add_argument(
        "--only-aligned",
        action="store_true",
        help="look at all pairs in their pixels, and leave out those that do not show the same scene, such as photos of one "
        "kind; takes a second and core for 10 to 35 pairs; needs the extra evidence",
    )
    add_left_out(parser)
    add_describing(parser)
    add_search_device(parser, "--search-device")
    add_search_workers(parser)
    add_json(parser, "the result as ")


def run(arguments: Namespace) -> int:
    """Find the copies, and print how many photos and bytes could go."""
    from ..runs.copies.dedup import find_duplicates

    names = ("keep", "mutual", "form", "link_to", "max_group", "max_groups", "search_device", "verdicts", "stop_list")
    noting = noted_after("isc_fast.left_out")
    with noting, named_progress(compare="million pairs", pixels="photos", page="pairs") as printers, told_in_one_line():
        found = find_duplicates(
            arguments.photos,
            arguments.output,
            describing=describing_of(arguments),
            exact=arguments.exact,
            nemo=arguments.nemo,
            align=arguments.align,
            only_aligned=arguments.only_aligned,
            progress=printers,
            **given(arguments, *names),
            **search_workers_of(arguments),
            **threshold_of(arguments),
        )
    if found.waits is not None:
        show(json.dumps(found.to_dict()) if arguments.json else found.waits)
        return 0
    if found.side.made:
        note_what_is_missing(found.side.made)
    if chain := found.chain:
        note(
            f"warning: the largest group has {chain.size} photos and hangs together by weak links: at {chain.threshold:.2f} the "
            f"largest has {chain.left}; look at the page, and try --threshold {chain.threshold:.2f}"
        )
    if found.crowd:
        note(
            f"warning: the largest group has {found.crowd} photos and does not fall apart at higher thresholds: these are "
            "very many copies of one photo, or photos of one kind, such as tiles of one texture; look at the page first"
            + _remedy(arguments)
        )
    if found.side.source is None and not arguments.keep:
        note(
            "note: descriptors do not say how large photos are, so the first copy stays; give the photos to keep the largest"
        )
    if found.spared:
        note(
            f"note: {found.spared} names lead to a file that stays under another name; they are not on the list of what could go"
        )
    propose(found.hubs, found.files.get("suggestions"))
    if arguments.json:
        show(json.dumps(found.to_dict()))
    else:
        _show(found)
    return 0


def _remedy(arguments: Namespace) -> str:
    """What to try where photos of one kind make a crowd."""
    if arguments.only_aligned:
        return ""
    pixels, mutual = "--only-aligned, which looks at the pixels of each pair", "--mutual 3, which is quick"
    return f", and try {pixels}" + (
        "" if arguments.mutual else f", or {mutual}: only pairs among each other's 3 nearest"
    )


def _show(found: DedupResult) -> None:
    size = "" if found.removed_bytes is None else f" ({found.removed_bytes / 1e6:.1f} MB)"
    show(
        f"{found.folder}: of {found.photos} photos {found.removed} could go{size}, {found.photos - found.removed} stay"
    )
    if found.equal is not None:
        show(
            f"of those that could go, {found.equal['file']} have an equal file and {found.equal['pixels']} equal pixels"
        )
    if found.pairs_looked_at is not None:
        show(
            f"{found.pairs} of {found.pairs_looked_at} pairs show the same scene in their pixels; the others are left out"
        )
    show(f"{found.pairs} pairs, {found.groups} groups, the largest of {found.largest} photos")
    show(f"of several copies stays: {_KEEPS[found.keep]} (--keep {found.keep})")
    show(f"threshold {found.threshold:g}: {found.said}")
    show("nothing was removed; the lists: " + ", ".join(str(found.files[name]) for name in ("remove", "keep")))
    if found.aligned is not None:
        show(f"{found.aligned} of the pairs on the page align: they show the same scene")
    if found.page:
        show(f"Look at {found.page}")
