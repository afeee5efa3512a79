"""``isc-fast index``: an index on the disk, which is asked for a few photos at a time."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..errors import InputError
from .flags import PHOTOS_HELP, add_describing, add_json, add_views, describing_of, given, help_of
from .output import note, show

if TYPE_CHECKING:
    from ..matching.index.changes import IndexChange
    from ..runs.asking import IndexAnswer

HELP = "build an index that answers for one photo in milliseconds, change it, and ask it"
EXAMPLE = "isc-fast index build refs.h5 -o index/"
_INDEX_HELP = "folder of an index that isc-fast index build made"


def add(parser: ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = _action(actions, "build", "build an index of descriptors", EXAMPLE)
    build.add_argument("descriptors", metavar="REFERENCES.h5", help="descriptors of the photos that will be found")
    build.add_argument("-o", "--output", required=True, metavar="INDEX", help="folder of the index")
    build.add_argument(
        "--recall",
        type=float,
        metavar="R",
        help="share of the K nearest rows that a query finds, measured (default: 0.99)",
    )
    build.add_argument("-k", type=int, metavar="K", help="neighbours of which recall is measured (default: 10)")
    build.add_argument("--memory", metavar="SIZE", help="for its lists, such as 8GB (default: no limit)")
    build.add_argument("--overwrite", action="store_true", help="replace an index that is there")
    add_json(build, "what it consists of as ")
    adding = "isc-fast index add index/ more.h5"
    more = _action(actions, "add", "add descriptors of the same engine to an index", adding)
    more.add_argument("index", metavar="INDEX", help=_INDEX_HELP)
    more.add_argument("descriptors", metavar="MORE.h5", help="descriptors to add, of other photos")
    add_json(more, "what it consists of as ")
    less = _action(actions, "remove", "remove rows from an index", "isc-fast index remove index/ --ids out/remove.csv")
    less.add_argument("index", metavar="INDEX", help=_INDEX_HELP)
    less.add_argument(
        "--ids",
        required=True,
        metavar="FILE",
        help="list of ids: text, one a line; or CSV, JSON or Parquet with a column id, such as remove.csv of dedup",
    )
    add_json(less, "what it consists of as ")
    anew = "write an index anew as one piece, without what was removed"
    compact = _action(actions, "compact", anew, "isc-fast index compact index/")
    compact.add_argument("index", metavar="INDEX", help=_INDEX_HELP)
    add_json(compact, "what it consists of as ")
    _add_query(
        _action(actions, "query", "find the rows that are most like photos", "isc-fast index query index/ photo.jpg")
    )


def _action(actions, name: str, words: str, example: str) -> ArgumentParser:  # type: ignore[no-untyped-def]  # argparse's type is private
    made: ArgumentParser = actions.add_parser(name, help=words, **help_of(words, example))
    return made


def _add_query(query: ArgumentParser) -> None:
    query.add_argument("index", metavar="INDEX", help=_INDEX_HELP)
    query.add_argument("photos", nargs="+", metavar="PHOTO", help=f"{PHOTOS_HELP}; or one descriptor file")
    query.add_argument("-k", type=int, metavar="K", help="rows of each photo at most (default: 10)")
    query.add_argument(
        "--threshold",
        type=float,
        metavar="S",
        help="lowest score, a cosine (default: any; a note says which of the pairs are matches)",
    )
    add_views(query, "each photo")
    query.add_argument("--negatives", metavar="FILE", help="those that were subtracted from the rows of the index")
    add_describing(query, "the engine of the rows; ", keeps=False)
    add_json(query, "the matches as ")


def run(arguments: Namespace) -> int:
    """Do what the action says, and print the result."""
    return {"build": _build, "add": _more, "remove": _remove, "compact": _compact, "query": _query}[arguments.action](
        arguments
    )


def _build(arguments: Namespace) -> int:
    from ..descriptors.formats.table import open_any
    from ..matching.index.changes import build_index

    options = given(arguments, "recall", "k", "memory")
    with open_any(arguments.descriptors) as descriptors:
        made = build_index(
            descriptors, arguments.output, overwrite=arguments.overwrite, say=lambda step: note(f"{step} …"), **options
        )
    return _tell(arguments.output, made, arguments.json)


def _more(arguments: Namespace) -> int:
    from ..descriptors.formats.table import open_any
    from ..matching.index.changes import add_to_index

    with open_any(arguments.descriptors) as descriptors:
        made = add_to_index(arguments.index, descriptors)
    return _tell(arguments.index, made, arguments.json)


def _remove(arguments: Namespace) -> int:
    from ..descriptors.id_lists import read_ids
    from ..matching.index.changes import remove_from_index

    return _tell(arguments.index, remove_from_index(arguments.index, read_ids(arguments.ids)), arguments.json)


def _compact(arguments: Namespace) -> int:
    from ..matching.index.changes import compact_index

    return _tell(arguments.index, compact_index(arguments.index, say=lambda step: note(f"{step} …")), arguments.json)


def _tell(index: str, made: IndexChange, as_json: bool) -> int:
    """Print what an index consists of."""
    if made.missing:
        note(f"note: {made.missing} of the ids are not in the index")
    if as_json:
        show(json.dumps(made.to_dict()))
        return 0
    changes = [f"{count} {word}" for count, word in ((made.added, "added"), (made.removed, "removed")) if count]
    show(f"{index}: {made.rows} rows{', ' if changes else ''}{', '.join(changes)}")
    for segment in made.segments:
        gone = f" ({segment.gone} of them removed)" if segment.gone else ""
        how = (
            "compared one by one"
            if segment.lists is None
            else f"{segment.lists.factory}, recall {segment.lists.recall}"
        )
        show(f"  {segment.rows} rows{gone}: {how}")
    return 0


def _query(arguments: Namespace) -> int:
    from ..runs.asking import Index

    options = given(arguments, "k", "threshold", "views")
    with Index(arguments.index, describing=describing_of(arguments), **given(arguments, "negatives")) as index:
        answer = index.query(arguments.photos, **options)
    for failure in answer.failures:
        note(f"failed: {failure.path}: {failure.reason}")
    if not answer.queries:
        raise InputError(f"none of the {len(answer.failures)} photos could be described, so nothing was asked")
    if arguments.json:
        show(json.dumps(answer.to_dict()))
        return 0
    views = answer.matches.views or [""] * len(answer.matches)
    for (query, reference, score), view in zip(answer.matches, views, strict=True):
        show(f"{score:.4f}  {query}  {reference}" + (f"  {view}" if view else ""))
    note(_in_words(answer))
    return 0


def _in_words(answer: IndexAnswer) -> str:
    """Say how many queries match; without a threshold, what is printed are the nearest rows, whatever they score."""
    count = len(answer.matches)
    if answer.given:
        return f"{count} pairs; {answer.matched} of {answer.queries} queries match"
    if answer.threshold is None:
        return f"the {count} nearest pairs, whatever their score; --threshold S says from which on a pair is a match"
    matched = f"{answer.matched} of {answer.queries} queries match" if answer.matched else "none is a match"
    return (
        f"the {count} nearest pairs, whatever their score; {matched}, at {answer.threshold:.2f} or above, the engine's default "
        "(--threshold sets another, and leaves out what lies below)"
    )
