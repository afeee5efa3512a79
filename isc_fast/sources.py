"""Where images come from: folders, single files and list files become an ordered list of items with stable ids."""

from __future__ import annotations

import os
from collections import Counter
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
        items: in order: by the bytes of their path, or as the list file has them.
        ignored: number of files in the folders whose name is not an image's.
    """

    items: list[Item]
    ignored: int = 0


def _walk(folder: str, ancestors: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Every file below a folder, symbolic links followed, loops not."""
    try:
        status = os.stat(folder)
        key = (status.st_dev, status.st_ino)
        if key in ancestors:
            return
        with os.scandir(folder) as entries:
            children = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise InputError(f"cannot list the folder {folder}: {error.strerror or error}") from error
    for entry in children:
        if entry.is_dir():
            yield from _walk(entry.path, ancestors | {key})
        else:
            yield entry.path


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _from_folder(folder: str) -> tuple[list[tuple[str, str]], int]:
    """(name relative to the folder, path) of each image, and how many other files there were."""
    found, ignored = [], 0
    for path in _walk(folder):
        if _suffix(path) in IMAGE_SUFFIXES:
            found.append((os.path.relpath(path, folder).replace(os.sep, "/"), path))
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
    lines = raw.split(b"\0") if b"\0" in raw else raw.splitlines()
    folder = os.path.dirname(list_file)
    entries: list[tuple[str, str, str | None]] = []
    for line in lines:
        if line.strip():
            head, tab, tail = os.fsdecode(line).partition("\t")
            name, given = (tail, head) if tab else (head, None)
            entries.append((name, os.path.join(folder, name), given))
    return entries


def _unique_ids(names: Sequence[str], rule: str) -> list[str]:
    """An id for each relative name, by rule; see `list_images`."""
    if rule == "path":
        return list(names)
    if rule == "stem":
        return [os.path.splitext(os.path.basename(name))[0] for name in names]
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

    An input is a folder (searched recursively, symbolic links followed), an image file, or a list file (``.txt``,
    ``.lst``, ``.list``, ``.tsv``): one path per line, relative to the list file, optionally ``id<TAB>path``; where a
    file holds NUL bytes (``find -print0``) they separate the entries instead of line ends.

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
