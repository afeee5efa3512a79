"""The table of the kinds of input: it makes an ordered list of items with stable ids, and opens the photo of an item."""

from __future__ import annotations

import builtins
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from ..errors import InputError
from ..files.lazy import Lazy
from ..items import Item, Photo
from .base import Entry, Kind, Source
from .catalog import ID_RULES, Catalog
from .folders import FOLDER, IMAGE, IMAGE_SUFFIXES
from .lists import LIST

KINDS: tuple[Kind, ...] = (FOLDER, IMAGE, LIST)
"""The kinds of input; the first that takes an input lists it."""

Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One input or several, by their names."""


@dataclass(frozen=True)
class Listing(Source):
    """The images that were found. It is a source too: what was listed can be opened.

    Attributes:
        found: the items, in order: by the bytes of their path, or as the list file has them. A folder that cannot be listed is
            an item too, ``name/``: it becomes a row of the ledger of failures, so that its photos are not missed silently. In a
            listing that `list_images` made, they lie in a temporary file where they are many.
        ignored: number of files in the folders whose name is not an image's.
        ignored_suffixes: how many of them have which suffix, in lower case; ``""`` where there is none. The most frequent first.
        items: the items as a list. The list is made when it is first asked for, and takes about 300 bytes an item.
    """

    found: Sequence[Item]
    ignored: int = 0
    ignored_suffixes: Mapping[str, int] = field(default_factory=dict)

    by_path = True

    @cached_property
    def items(self) -> builtins.list[Item]:
        """See above."""
        return [*self.found]

    def list(self) -> Listing:
        """The same images under names that hold from any working directory."""
        return Listing(_Absolute(self.found), self.ignored, self.ignored_suffixes)

    def open(self, item: Item) -> Photo:
        """See `open_item`."""
        return open_item(item)


class Files(Source):
    """The photos of inputs that are given by their names.

    Args:
        inputs, ids: see `list_images`.
    """

    by_path = True

    def __init__(self, inputs: Inputs, ids: str = "auto") -> None:
        self._given, self._ids = inputs, ids
        self.inputs = [*map(absolute, _names(inputs)), f"ids={ids}"]

    def list(self) -> Listing:
        """See `list_images`.

        Raises:
            InputError: as `list_images`.
        """
        return list_images(self._given, ids=self._ids).list()

    def open(self, item: Item) -> Photo:
        """See `open_item`."""
        return open_item(item)


def as_source(inputs: Inputs | Source, ids: str = "auto") -> Source:
    """The source of what a user gave: names of inputs, or a source already, whose ids stay."""
    return inputs if isinstance(inputs, Source) else Files(inputs, ids)


def open_item(item: Item) -> Photo:
    """The photo of an item that was listed by a kind of `KINDS`, in any process."""
    return open_path(item.path)


def open_path(path: str) -> Photo:
    """The photo of an item's path: the path itself where it is one in the file system."""
    kind = _kind_of(path)
    return partial(kind.open, path) if kind else path


def _kind_of(path: str) -> Kind | None:
    """The kind whose scheme a path begins with, or None for a path in the file system."""
    scheme, found, _ = path.partition("://")
    return next((kind for kind in KINDS if found and kind.scheme == scheme), None)


def absolute(path: str) -> str:
    """A path as it holds from any working directory, leading to the same file as the system would open."""
    if _kind_of(path):
        return path
    return os.path.join(os.getcwd(), path) if _leaves_link(path) else os.path.abspath(path)


def _leaves_link(path: str) -> bool:
    """Whether ``..`` comes behind a link to a folder: there it leads to the parent of the folder, not of the link."""
    if "/.." not in path:
        return False
    parts = path.split("/")
    return any(os.path.islink("/".join(parts[:number])) for number, part in enumerate(parts) if part == ".." and number)


class _Absolute(Lazy[Item]):
    """The same images with absolute paths."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`."""
        return [Item(item.id, absolute(item.path)) for item in self._items[start:stop]]


def _names(inputs: Inputs) -> list[str]:
    return [os.fspath(entry) for entry in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]


def in_words(suffixes: Mapping[str, int], most: int = 6) -> str:
    """Say how many files have which suffix: ``12 .txt, 3 .psd, 1 without a suffix``."""
    shown = [f"{count} {suffix or 'without a suffix'}" for suffix, count in suffixes.items()]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} other suffixes" if len(shown) > most else "")


def _add_input(catalog: Catalog, root: str, left_out: Counter[str], *, several: bool) -> None:
    """Add the images of one input, and count the suffixes of the other files in it."""
    kind = next((kind for kind in KINDS if kind.takes(root)), None)
    if kind is None:
        if not os.path.lexists(root):
            raise InputError(f"there is no {root}; expected a folder of images, an image or a list file")
        raise InputError(f"{root} is neither {', nor '.join(kind.noun for kind in KINDS)}")
    prefix = os.path.basename(os.path.abspath(root)) + "/" if several and kind.holds else ""

    def images() -> Iterator[Entry]:
        for entry in kind.entries(root):
            name, path, given = entry or ("", "", "")
            if path:
                yield prefix + name, path, given
            else:
                left_out[os.path.splitext(name)[1].lower()] += 1

    catalog.add(images(), by_name=kind.holds)


def list_images(inputs: Inputs, *, ids: str = "auto", limit: int | None = None) -> Listing:
    """List the images of one or several inputs, in a fixed order and with ids that are unique.

    An input is a folder (searched recursively, symbolic links followed, each folder once), an image file, or a list
    file (``.txt``, ``.lst``, ``.list``, ``.tsv``): one path per line, relative to the list file, optionally
    ``id<TAB>path``; where a file holds NUL bytes (``find -print0``) they separate the entries instead of line ends.

    Args:
        inputs: one input or several. With several, ids begin with the name of the folder they came from.
        ids: ``"auto"``: the path relative to its folder without suffix, with suffix for those that would be equal
            (``a.jpg`` beside ``a.png``); ``"path"``: always with suffix; ``"stem"``: the file name alone.
        limit: keep the first so many.

    Raises:
        InputError: an input does not exist, is of no known kind or holds no image, or two images would have the same id.
    """
    if ids not in ID_RULES:
        raise InputError(f"there is no id rule {ids!r}; choose one of {', '.join(ID_RULES)}")
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1, not {limit}")
    roots = _names(inputs)
    catalog = Catalog(ids)
    left_out = Counter[str]()
    for root in roots:
        _add_input(catalog, root, left_out, several=len(roots) > 1)
    by_suffix = dict(sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0])))
    if not len(catalog):
        shown = ", ".join(roots) or "the inputs"
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        others = f"{left_out.total()} other files" + (f": {in_words(by_suffix)}" if by_suffix else "")
        raise InputError(f"found no image in {shown} ({others}); looked for {known}")
    equal = catalog.settle_ids()
    if equal is not None:
        first, second = equal
        raise InputError(
            f"two images would have the id {first.id!r}: {first.path} and {second.path}; use the id rule 'auto' or 'path', "
            "give their common parent folder, or a list file with id<TAB>path lines"
        )
    if limit is not None:
        catalog.cut(limit)
    return Listing(catalog, left_out.total(), by_suffix)
