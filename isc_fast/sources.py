"""Where images come from: folders, single files and list files become an ordered list of items with stable ids."""

from __future__ import annotations

import codecs
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .plan import Item

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
        items: in order: by the bytes of their path, or as the list file has them. A folder below an input that cannot
            be listed is an item too, ``name/``, so that it becomes a row of the ledger and its photos are missed.
        ignored: number of files in the folders whose name is not an image's.
    """

    items: list[Item]
    ignored: int = 0


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether to look into an entry: also where it may be a folder that is out of reach, which must not go unseen."""
    suffix = _suffix(entry.name)
    try:
        return entry.is_dir() or (entry.is_symlink() and not suffix and not os.path.exists(entry.path))
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return suffix not in IMAGE_SUFFIXES


def _walk(root: str) -> Iterator[tuple[str, str]]:
    """(name relative to the root, path) of every file below it, and ``name/`` of each folder that cannot be listed.

    Symbolic links are followed, but no folder is listed twice: links in a circle come to an end, and links across do
    not multiply. Links come last, so that a folder is listed under its own name if it has one below the root.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [("", root)], deque[tuple[str, str]]()
    while folders or links:
        name, path = folders.pop() if folders else links.popleft()
        try:
            status = os.stat(path)
            key = (status.st_dev, status.st_ino)
            if key in seen:
                continue
            seen.add(key)
            with os.scandir(path) as entries:
                children = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if not name:
                raise InputError(f"cannot list the folder {root}: {error.strerror or error}") from error
            yield name, path
            continue
        for entry in children:
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append((f"{name}{entry.name}/", entry.path))
            else:
                yield name + entry.name, entry.path


def _from_folder(folder: str) -> tuple[list[tuple[str, str]], int]:
    """(name relative to the folder, path) of each image, and how many other files there were."""
    found, ignored = [], 0
    for name, path in _walk(folder):
        if name.endswith("/") or _suffix(name) in IMAGE_SUFFIXES:
            found.append((name, path))
        else:
            ignored += 1
    found.sort(key=lambda pair: os.fsencode(pair[0]))
    return found, ignored


def _from_list(list_file: str) -> list[tuple[str, str, str | None]]:
    """(name as written, path, id if the line gives one) of each line; see `list_images` for the format."""
    try:
        raw = Path(list_file).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"cannot read the list file {list_file}: {error.strerror or error}") from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"the list file {list_file} is UTF-16, as PowerShell writes it; save it as UTF-8")
    lines = raw.split(b"\0") if b"\0" in raw else raw.splitlines()
    folder = os.path.dirname(list_file)
    entries: list[tuple[str, str, str | None]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            head, tab, tail = os.fsdecode(line).partition("\t")
            if tab and not (head and tail):
                raise InputError(f"entry {number} of the list file {list_file} is {line!r}; expected id<TAB>path")
            name, given = (tail, head) if tab else (head, None)
            entries.append((name, os.path.join(folder, name), given))
    return entries


def _unique_ids(names: Sequence[str], rule: str) -> list[str]:
    """An id for each relative name, by rule; see `list_images`."""
    if rule == "path":
        return list(names)
    if rule == "stem":
        return [os.path.splitext(os.path.basename(name))[0] or name for name in names]
    ids = [os.path.splitext(name)[0] for name in names]
    while True:
        counts = Counter(ids)
        clashing = [i for i, id_ in enumerate(ids) if counts[id_] > 1 and id_ != names[i]]
        if not clashing:
            return ids
        for i in clashing:
            ids[i] = names[i]


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
    names: list[str] = []
    paths: list[str] = []
    given: list[str | None] = []
    ignored = 0
    for root in roots:
        prefix = ""
        found: list[tuple[str, str, str | None]]
        if os.path.isdir(root):
            if len(roots) > 1:
                prefix = os.path.basename(os.path.abspath(root)) + "/"
            in_folder, others = _from_folder(root)
            ignored += others
            found = [(name, path, None) for name, path in in_folder]
        elif not os.path.lexists(root):
            raise InputError(f"there is no {root}; expected a folder of images, an image or a list file")
        elif _suffix(root) in IMAGE_SUFFIXES:
            found = [(os.path.basename(root), root, None)]
        elif _suffix(root) in LIST_SUFFIXES:
            found = _from_list(root)
        else:
            raise InputError(
                f"{root} is neither a folder, nor an image, nor a list file ({', '.join(sorted(LIST_SUFFIXES))})"
            )
        for name, path, id_ in found:
            names.append(prefix + name)
            paths.append(path)
            given.append(id_)
    if not names:
        shown = ", ".join(roots) or "the inputs"
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"found no image in {shown} ({ignored} other files); looked for {known}")
    made = _unique_ids(names, ids)
    items = [Item(made[i] if id_ is None else id_, paths[i]) for i, id_ in enumerate(given)]
    _refuse_equal_ids(items)
    return Listing(items[:limit], ignored)


def _refuse_equal_ids(items: Sequence[Item]) -> None:
    first: dict[str, str] = {}
    for item in items:
        if item.id in first:
            raise InputError(
                f"two images would have the id {item.id!r}: {first[item.id]} and {item.path}; use the id rule 'auto' "
                "or 'path', give their common parent folder, or a list file with id<TAB>path lines"
            )
        first[item.id] = item.path
