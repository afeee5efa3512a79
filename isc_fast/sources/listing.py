"""The table of the kinds of input: it makes an ordered list of items with stable ids, and opens the photo of an item."""

from __future__ import annotations

import builtins
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from ..errors import InputError
from ..files.lazy import Lazy
from ..items import Item, Photo
from ..stores.urls import is_url, read_name
from .arrow_files import ARROW
from .base import Kind, Source
from .catalog import ID_RULES, Catalog
from .choice import Choice
from .containers import container_of, file_of, repeated
from .finding import Finder
from .folders import FOLDER, IMAGE, IMAGE_SUFFIXES, names_of_images
from .lists import LIST
from .objects import awaited
from .paths import absolute_file, real
from .records import RECORDS
from .remote import PHOTO, REMOTE
from .standard_input import NAME, STANDARD_INPUT
from .tables import PARQUET
from .tars import TAR
from .zips import ZIP

KINDS: tuple[Kind, ...] = (STANDARD_INPUT, FOLDER, IMAGE, PHOTO, LIST, RECORDS, TAR, ZIP, PARQUET, ARROW, *REMOTE)
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
        excluded: how many files and folders each pattern of `Choice` left out, the most frequent first.
        given: texts that say which inputs were listed and how, the same from any working directory; empty where nobody said so.
        items: the items as a list. The list is made when it is first asked for, and takes about 300 bytes an item.
    """

    found: Sequence[Item]
    ignored: int = 0
    ignored_suffixes: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    given: Sequence[str] = ()

    by_path = True

    @cached_property
    def items(self) -> builtins.list[Item]:
        """See above."""
        return [*self.found]

    def list(self) -> Listing:
        """The same images under names that hold from any working directory."""
        return replace(self, found=_Absolute(self.found))

    def open(self, item: Item) -> Photo:
        """See `open_item`."""
        return open_item(item)


class Files(Source):
    """The photos of inputs that are given by their names.

    Args:
        inputs, ids, choice: see `list_images`.
    """

    by_path = True

    def __init__(self, inputs: Inputs, ids: str = "auto", choice: Choice | None = None) -> None:
        self._given, self._ids, self._choice = inputs, ids, choice
        self.inputs = _in_texts(inputs, ids, choice)

    def list(self) -> Listing:
        """See `list_images`.

        Raises:
            InputError: as `list_images`.
        """
        return list_images(self._given, ids=self._ids, choice=self._choice).list()

    def open(self, item: Item) -> Photo:
        """See `open_item`."""
        return open_item(item)


def _in_texts(inputs: Inputs, ids: str, choice: Choice | None) -> list[str]:
    """Say which inputs are listed and how, the same from any working directory."""
    names = [name if name == NAME else absolute(name) for name in names_of(inputs)]
    return [*names, f"ids={ids}", *(choice.texts() if choice else ())]


def as_source(inputs: Inputs | Source, ids: str = "auto", choice: Choice | None = None) -> Source:
    """The source of what a user gave: names of inputs, or a source already, whose images and ids stay."""
    return inputs if isinstance(inputs, Source) else Files(inputs, ids, choice)


def open_item(item: Item) -> Photo:
    """The photo of an item that was listed by a kind of `KINDS`, in any process."""
    return open_path(item.path)


def open_path(path: str) -> Photo:
    """The photo of an item's path: the path itself where it is one in the file system.

    What a store has is fetched from now on, as far as memory is set aside for that.
    """
    kind = _kind_of(path)
    if kind is None:
        return path
    return awaited(kind.open, path) if is_url(path) or is_url(file_of(path)) else partial(kind.open, path)


def _kind_of(path: str) -> Kind | None:
    """The kind whose scheme a path begins with, or None for a path in the file system."""
    scheme, found, _ = path.partition("://")
    return next((kind for kind in KINDS if kind.scheme == scheme), None) if found and scheme else None


def absolute(path: str) -> str:
    """A path as it holds from any working directory, leading to the same file as the system would open."""
    return path if _kind_of(path) else absolute_file(path)


class _Absolute(Lazy[Item]):
    """The same images with absolute paths."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`."""
        return [Item(item.id, absolute(item.path)) for item in self._items[start:stop]]


def names_of(inputs: Inputs | Source) -> list[str]:
    """The names of what a user gave, as `isc_fast.stores.urls.read_name` has them; none for a source, which has no name.

    Raises:
        InputError: one is an address that is not read.
    """
    if isinstance(inputs, Source):
        return []
    return [read_name(os.fspath(entry)) for entry in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]


def in_words(suffixes: Mapping[str, int], most: int = 6) -> str:
    """Say how many files have which suffix: ``12 .txt, 3 .psd, 1 without a suffix``."""
    shown = [f"{count} {suffix or 'without a suffix'}" for suffix, count in suffixes.items()]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} other suffixes" if len(shown) > most else "")


def list_images(
    inputs: Inputs, *, ids: str = "auto", limit: int | None = None, choice: Choice | None = None
) -> Listing:
    """List the images of one or several inputs, in a fixed order and with ids that are unique.

    An input is one of these:

    * a folder, searched recursively. Symbolic links are followed, each folder once;
    * an image file;
    * a list file (``.txt``, ``.lst``, ``.list``, ``.tsv``), or ``-`` for one on standard input: one path per line, relative
      to the list file, optionally ``id<TAB>path``. Where it holds NUL bytes (``find -print0``) they separate the entries
      instead of line ends;
    * a list with named columns (``.csv`` with a header, ``.jsonl``): a column ``path`` and, where there is one, a column ``id``;
    * a container: ``.tar``, ``.zip``, ``.parquet``, or the ``.arrow`` of Hugging Face's ``save_to_disk``. A list may name
      containers too, and a folder that holds no image but containers gives their photos;
    * all of these in a bucket, by their addresses (``s3://``, ``gs://``, ``az://``), where a prefix is a folder; or a single file
      on the web (``https://``). Lists may name such addresses.

    Args:
        inputs: one input or several. With several, ids begin with the name of the folder they came from. Ids of photos in a
            container begin with its name too: ``container/key``. Of images that are given one by one and have one name, they
            begin with the folders in which they differ.
        ids: ``"auto"``: the path relative to its folder without suffix, with suffix for those that would be equal
            (``a.jpg`` beside ``a.png``); ``"path"``: always with suffix; ``"stem"``: the file name alone.
        limit: keep the first so many.
        choice: what of the inputs is taken; by default `Choice()`.

    Raises:
        InputError: an input does not exist, is of no known kind, cannot be read or holds no image, a table lacks the
            column, or two images would have the same id.
        StoreError: a bucket or a server cannot be reached, or refuses.
        MissingExtraError: pyarrow, which reads Parquet and Arrow files, or obstore, which reads addresses, is not installed.
    """
    if ids not in ID_RULES:
        raise InputError(f"there is no id rule {ids!r}; choose one of {', '.join(ID_RULES)}")
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1, not {limit}")
    roots = names_of(inputs)
    catalog = Catalog(ids)
    finder = Finder(KINDS, catalog, choice or Choice(), names_of_images(roots))
    for root in roots:
        finder.add(root, several=len(roots) > 1)
    by_suffix, excluded = _most_first(finder.left_out), _most_first(finder.excluded)
    if not len(catalog):
        shown = ", ".join(roots) or "the inputs"
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        others = f"{finder.left_out.total()} other files" + (f": {in_words(by_suffix)}" if by_suffix else "")
        others += f", {finder.excluded.total()} left out by patterns: {patterns_in_words(excluded)}" if excluded else ""
        if choice is not None and choice.include and finder.left_out:
            patterns = " or ".join(map(repr, choice.include))
            raise InputError(
                f"no image in {shown} fits --include {patterns} ({others}); upper case counts in a pattern"
            )
        raise InputError(f"found no image in {shown} ({others}); looked for {known}")
    if finder.has_containers:
        catalog.settle_repeats(container_of, repeated)
    equal = catalog.settle_ids()
    if equal is not None:
        raise InputError(_in_conflict(*equal, ids))
    if limit is not None:
        catalog.cut(limit)
    return Listing(catalog, finder.left_out.total(), by_suffix, excluded, _in_texts(inputs, ids, choice))


def _in_conflict(first: Item, second: Item, rule: str) -> str:
    """Say that two images would have one id, and what gives them two."""
    same = f"two images would have the id {first.id!r}"
    if real(first.path) == real(second.path):
        also = "" if first.path == second.path else f", also as {second.path}"
        return f"{same}, because {first.path} is given twice{also}; name it once"
    advice = "" if rule in ("auto", "path") else "use the id rule 'auto' or 'path', "
    return (
        f"{same}: {first.path} and {second.path}; {advice}give their common parent folder, or a list file with id<TAB>path lines "
        "whose ids differ"
    )


def list_files(inputs: Inputs) -> builtins.list[Path]:
    """List images as `list_images` does, for what takes files only.

    Raises:
        InputError: as `list_images`, or images lie in archives or tables.
    """
    paths = [item.path for item in list_images(inputs).found]
    inside = next(filter(_kind_of, paths), None)
    if inside is not None:
        raise InputError(
            f"{file_of(inside)} holds its photos inside: unpack it, and give the folder"
            if file_of(inside)
            else f"{inside.rpartition('#')[0]} is not on this machine: download it, and give the folder"
        )
    return [Path(path) for path in paths]


def containers_among(suffixes: Mapping[str, int]) -> int:
    """How many of the files that were left out are containers of photos, by their suffixes."""
    return sum(count for suffix, count in suffixes.items() if any(suffix in kind.packs for kind in KINDS))


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def patterns_in_words(excluded: Mapping[str, int]) -> str:
    """Say how many files and folders which pattern left out: ``12 by '._*', 1 by '.git'``."""
    return ", ".join(f"{count} by {pattern!r}" for pattern, count in excluded.items())
