"""Where images come from: folders, single files and list files become an ordered list of items with stable ids."""

from __future__ import annotations

import codecs
import heapq
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .plan import Item, Items, Texts, repeated_rows

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif .jp2 .j2k .ppm .pgm .pbm .pnm .tga".split()
)
"""What a folder is searched for; the content decides how a file is decoded, not its name."""

LIST_SUFFIXES = frozenset((".txt", ".lst", ".list", ".tsv"))

ID_RULES = ("auto", "path", "stem")


@dataclass(frozen=True)
class Listing:
    """The images that were found.

    Attributes:
        found: the items, in order: by the bytes of their path, or as the list file has them. A folder below an input
            that cannot be listed is an item too, ``name/``, so that it becomes a row of the ledger and its photos are
            missed. As `list_images` makes it, it takes about 40 bytes an item.
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


def _children(folder: str) -> Texts:
    """What a folder holds, in the order of the bytes of what is below it: names of files, and ``name/`` to look into."""
    with os.scandir(folder) as entries:
        names = [f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries]
    # Nearly always ASCII, and then no second copy of ten million names is needed.
    names.sort(key=None if all(map(str.isascii, names)) else os.fsencode)
    return Texts(names)  # while they are walked through, a third of the list's memory


def _order_of_links(name: str) -> tuple[list[bytes], bytes]:
    """A folder that is behind several links is listed under the first: of those of the last folder, the first name.

    The order has no merit but that it stays: ids depend on it.
    """
    *folders, last = os.fsencode(name).split(b"/")[:-1]
    return [bytes(255 - byte for byte in folder) + b"\xff" for folder in folders], last


def _walk(root: str) -> Iterator[Iterator[tuple[str, str]]]:
    """(name relative to the root, path) of every file below it, and ``name/`` of each folder that cannot be listed.

    Comes in runs, each in the order of the bytes of the names: the tree itself, then what is behind each symbolic link.
    No folder is listed twice: links in a circle come to an end, and links across do not multiply. Links come last, so
    that a folder is listed under its own name if it has one below the root.
    """
    seen: set[tuple[int, int]] = set()
    queue, links = deque([("", root)]), list[tuple[str, str]]()

    def run(name: str, path: str) -> Iterator[tuple[str, str]]:
        open_folders: list[tuple[str, str, Iterator[str]]] = []

        def enter(name: str, path: str) -> bool:
            """Whether a folder could be listed, or was before."""
            try:
                status = os.stat(path)
                key = (status.st_dev, status.st_ino)
                if key not in seen:
                    seen.add(key)
                    open_folders.append((name, path, iter(_children(path))))
            except OSError as error:
                if not name:
                    raise InputError(f"cannot list the folder {root}: {error.strerror or error}") from error
                return False
            return True

        if not enter(name, path):
            yield name, path
        while open_folders:
            name, path, children = open_folders[-1]
            child = next(children, None)
            if child is None:
                open_folders.pop()
                continue
            below, inner = name + child, os.path.join(path, child.removesuffix("/"))
            if not child.endswith("/"):
                yield below, inner
            elif os.path.islink(inner):
                links.append((below, inner))
            elif not enter(below, inner):
                yield below, inner

    while queue:
        yield run(*queue.popleft())
        links.sort(key=lambda link: _order_of_links(link[0]))
        queue.extend(links)
        links.clear()


def _from_folder(folder: str) -> tuple[Iterable[Item], int]:
    """Name relative to the folder and path of each image, and how many other files there were."""
    runs, ignored = [], 0
    for run in _walk(folder):
        found = Items()
        for name, path in run:
            if name.endswith("/") or _suffix(name) in IMAGE_SUFFIXES:
                found.append(Item(name, path))
            else:
                ignored += 1
        if len(found):
            runs.append(found)
    if len(runs) == 1:
        return runs[0], ignored
    return heapq.merge(*runs, key=lambda item: os.fsencode(item.id)), ignored


def _from_list(list_file: str) -> Iterator[tuple[str, str, str]]:
    """(name as written, path, id or "" where the line gives none) of each line; see `list_images` for the format."""
    try:
        raw = Path(list_file).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"cannot read the list file {list_file}: {error.strerror or error}") from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"the list file {list_file} is UTF-16, as PowerShell writes it; save it as UTF-8")
    folder = os.path.dirname(list_file)
    parts = rb"[^\0]+|\0" if b"\0" in raw else rb"[^\r\n]+|\r\n?|\n"  # what stands in a line, or a line's end
    number = 1
    for match in re.finditer(parts, raw):
        line = match[0]
        if line in (b"\0", b"\n", b"\r", b"\r\n"):
            number += 1
        elif line.strip():
            head, tab, tail = os.fsdecode(line).partition("\t")
            if tab and not (head and tail):
                raise InputError(f"entry {number} of the list file {list_file} is {line!r}; expected id<TAB>path")
            name, given = (tail, head) if tab else (head, "")
            yield name, os.path.join(folder, name), given


def _unique_ids(named: Sequence[Item], rule: str) -> Iterator[str]:
    """An id for each item's name, by rule; see `list_images`. The names are in the place of the ids."""
    if rule == "stem":
        for item in named:
            yield os.path.splitext(os.path.basename(item.id))[0] or item.id
        return
    whole: npt.NDArray[np.bool_] = np.full(len(named), rule == "path")  # which items keep their suffix

    def ids() -> Iterator[str]:
        for item, all_of_it in zip(named, whole, strict=True):
            yield item.id if all_of_it else os.path.splitext(item.id)[0]

    while rule == "auto":
        rows = repeated_rows(ids(), len(named))
        names = [named[row].id for row in rows.tolist()]
        found = [name if whole[row] else os.path.splitext(name)[0] for row, name in zip(rows, names, strict=True)]
        counts = Counter(found)
        clashing = [counts[id_] > 1 and id_ != name for id_, name in zip(found, names, strict=True)]
        if not any(clashing):
            break
        whole[rows[clashing]] = True
    yield from ids()


def _from_input(root: str, *, several: bool) -> tuple[Iterator[tuple[str, str, str]], int]:
    """(name, path, id or "" where none is given) of each image of one input, and how many other files there were."""
    if os.path.isdir(root):
        prefix = os.path.basename(os.path.abspath(root)) + "/" if several else ""
        found, ignored = _from_folder(root)
        return ((prefix + item.id, item.path, "") for item in found), ignored
    if not os.path.lexists(root):
        raise InputError(f"there is no {root}; expected a folder of images, an image or a list file")
    if _suffix(root) in IMAGE_SUFFIXES:
        return iter([(os.path.basename(root), root, "")]), 0
    if _suffix(root) in LIST_SUFFIXES:
        return _from_list(root), 0
    raise InputError(f"{root} is neither a folder, nor an image, nor a list file ({', '.join(sorted(LIST_SUFFIXES))})")


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
    named, given = Items(), Texts()
    ignored = 0
    for root in roots:
        found, others = _from_input(root, several=len(roots) > 1)
        ignored += others
        for name, path, id_ in found:
            named.append(Item(name, path))
            given.append(id_)
    if not len(named):
        shown = ", ".join(roots) or "the inputs"
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"found no image in {shown} ({ignored} other files); looked for {known}")
    made = zip(_unique_ids(named, ids), given, named, strict=True)
    items = Items(Item(given_id or id_, item.path) for id_, given_id, item in made)
    _refuse_equal_ids(items)
    return Listing(items if limit is None else Items(islice(items, limit)), ignored)


def _refuse_equal_ids(items: Sequence[Item]) -> None:
    first: dict[str, str] = {}
    for row in repeated_rows((item.id for item in items), len(items)).tolist():
        item = items[row]
        if item.id in first:
            raise InputError(
                f"two images would have the id {item.id!r}: {first[item.id]} and {item.path}; use the id rule 'auto' "
                "or 'path', give their common parent folder, or a list file with id<TAB>path lines"
            )
        first[item.id] = item.path
