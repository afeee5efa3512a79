"""Where images come from: folders, single files and list files become an ordered list of items with stable ids."""

from __future__ import annotations

import codecs
import io
import os
import string
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import InputError
from ..items import Item
from .catalog import ID_RULES, Catalog, Entry

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif .jp2 .j2k .ppm .pgm .pbm .pnm .tga".split()
)
"""What a folder is searched for; the content decides how a file is decoded, not its name."""

LIST_SUFFIXES = frozenset((".txt", ".lst", ".list", ".tsv"))

_BLOCK = 1 << 20  # of a list file, read at a time


@dataclass(frozen=True)
class Listing:
    """The images that were found.

    Attributes:
        found: the items, in order: by the bytes of their path, or as the list file has them. A folder below an input
            that cannot be listed is an item too, ``name/``, so that it becomes a row of the ledger and its photos are
            missed. As `list_images` makes it, it lies in a temporary file where it is large.
        ignored: number of files in the folders whose name is not an image's.
        items: what was found, as a list; it is made, and takes about 300 bytes an item, when it is first asked for.
    """

    found: Sequence[Item]
    ignored: int = 0

    @cached_property
    def items(self) -> list[Item]:
        """See above."""
        return list(self.found)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether to look into an entry: also where it may be a folder that is out of reach, which must not go unseen."""
    suffix = _suffix(entry.name)
    try:
        return entry.is_dir() or (entry.is_symlink() and not suffix and not os.path.exists(entry.path))
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return suffix not in IMAGE_SUFFIXES


def _order_of_links(name: str) -> tuple[list[bytes], bytes]:
    """A folder that is behind several links is listed under the first: of those of the last folder, the first name.

    The order has no merit but that it stays: ids depend on it.
    """
    *folders, last = os.fsencode(name).split(b"/")[:-1]
    return [bytes(255 - byte for byte in folder) + b"\xff" for folder in folders], last


def _walk(root: str) -> Iterator[tuple[str, str]]:
    """(name relative to the root, path) of every file below it, and ``name/`` of each folder that cannot be listed.

    Comes in no order that means anything; memory holds the names of folders, not of files. No folder is listed twice:
    links in a circle come to an end, and links across do not multiply. Links come last, so that a folder is listed under its
    own name if it has one below the root.
    """
    seen: set[tuple[int, int]] = set()
    folders = [("", root)]  # the next to look into is the last
    links = list[tuple[str, str]]()
    behind_links = deque[tuple[str, str]]()
    while folders or behind_links:
        name, path = folders.pop() if folders else behind_links.popleft()
        below = list[tuple[str, str]]()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(path) as entries:
                    for entry in entries:
                        inner = name + entry.name, os.path.join(path, entry.name)
                        if _is_folder(entry):
                            (links if entry.is_symlink() else below).append((inner[0] + "/", inner[1]))
                        else:
                            yield inner
        except OSError as error:
            if not name:
                raise InputError(f"cannot list the folder {root}: {error.strerror or error}") from error
            yield name, path
        below.sort(key=lambda folder: os.fsencode(folder[0]), reverse=True)
        folders += below
        if not folders:
            links.sort(key=lambda link: _order_of_links(link[0]))
            behind_links += links
            links.clear()


def _lines(list_file: str) -> Iterator[str]:
    """What stands between the line ends of a list file, or between the NUL bytes where it holds any."""
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    with open(list_file, "rb") as stream:
        begin = stream.read(len(codecs.BOM_UTF8))
        if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"the list file {list_file} is UTF-16, as PowerShell writes it; save it as UTF-8")
        start = len(begin) if begin == codecs.BOM_UTF8 else 0
        stream.seek(start)
        by_nul = any(b"\0" in block for block in iter(lambda: stream.read(_BLOCK), b""))
        stream.seek(start)
        with io.TextIOWrapper(stream, encoding, errors, newline="" if by_nul else None) as text:
            if not by_nul:
                yield from (line.removesuffix("\n") for line in text)
                return
            rest = ""
            while block := text.read(_BLOCK):
                *whole, rest = (rest + block).split("\0")
                yield from whole
            yield rest


def _from_list(list_file: str) -> Iterator[Entry]:
    """The images that a list file names; see `list_images` for the format."""
    folder = os.path.dirname(list_file)
    try:
        for number, line in enumerate(_lines(list_file), 1):
            if not line.strip(string.whitespace):
                continue
            head, tab, tail = line.partition("\t")
            if tab and not (head and tail):
                raise InputError(
                    f"entry {number} of the list file {list_file} is {os.fsencode(line)!r}; expected id<TAB>path"
                )
            name, given = (tail, head) if tab else (head, "")
            yield name, os.path.join(folder, name), given
    except OSError as error:
        raise InputError(f"cannot read the list file {list_file}: {error.strerror or error}") from error


def _add_input(catalog: Catalog, root: str, *, several: bool) -> int:
    """Add the images of one input, and say how many other files there were."""
    if not os.path.isdir(root):
        if not os.path.lexists(root):
            raise InputError(f"there is no {root}; expected a folder of images, an image or a list file")
        if _suffix(root) in IMAGE_SUFFIXES:
            catalog.add([(os.path.basename(root), root, "")])
        elif _suffix(root) in LIST_SUFFIXES:
            catalog.add(_from_list(root))
        else:
            known = ", ".join(sorted(LIST_SUFFIXES))
            raise InputError(f"{root} is neither a folder, nor an image, nor a list file ({known})")
        return 0
    prefix = os.path.basename(os.path.abspath(root)) + "/" if several else ""
    ignored = 0

    def images() -> Iterator[Entry]:
        nonlocal ignored
        for name, path in _walk(root):
            if name.endswith("/") or _suffix(name) in IMAGE_SUFFIXES:
                yield prefix + name, path, ""
            else:
                ignored += 1

    catalog.add(images(), by_name=True)
    return ignored


def list_images(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, ids: str = "auto", limit: int | None = None
) -> Listing:
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
        InputError: an input does not exist, is of no known kind or holds no image; two images would have the same id.
    """
    if ids not in ID_RULES:
        raise InputError(f"there is no id rule {ids!r}; choose one of {', '.join(ID_RULES)}")
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1, not {limit}")
    roots = [os.fspath(entry) for entry in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]
    catalog = Catalog(ids)
    ignored = sum(_add_input(catalog, root, several=len(roots) > 1) for root in roots)
    if not len(catalog):
        shown = ", ".join(roots) or "the inputs"
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"found no image in {shown} ({ignored} other files); looked for {known}")
    equal = catalog.settle_ids()
    if equal is not None:
        first, second = equal
        raise InputError(
            f"two images would have the id {first.id!r}: {first.path} and {second.path}; use the id rule 'auto' or 'path', "
            "give their common parent folder, or a list file with id<TAB>path lines"
        )
    if limit is not None:
        catalog.cut(limit)
    return Listing(catalog, ignored)
