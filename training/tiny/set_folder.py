"""Writes photos to evaluate on into a new folder: references, queries and their ground truth, in the shape of DISC21."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ...errors import InputError
from ...files.atomic import make_folder, output_error, write_text
from ...items import Item
from ...matching.lists.matches import TRUTH_HEADER
from ...sources.listing import list_images


class Query(Protocol):
    """A query that can be made from its photo and saved in a folder, under its id."""

    @property
    def id(self) -> str: ...

    @property
    def photo(self) -> Item: ...

    def save(self, folder: Path) -> None: ...


def list_pool(pool: str | os.PathLike[str]) -> list[Item]:
    """List the photos of a folder by their file names without the suffix.

    Raises:
        InputError: there is no photo, or a ground-truth CSV cannot hold the name of one.
    """
    photos = list_images(pool, ids="stem").items
    if bad := next((item.id for item in photos if set(item.id) & set(',"\r\n')), None):
        raise InputError(
            f"the photo {bad!r} has a comma, quote or line end in its name, which a ground-truth CSV cannot hold"
        )
    return list(photos)


@contextmanager
def new_set(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``out`` at the very end, and only if nothing failed.

    Raises:
        InputError: ``out`` is not empty.
        OutputError: the files cannot be written.
    """
    folder = make_folder(out)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: name a new folder")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            root = make_folder(Path(scratch, "data"))
            yield root
            os.replace(root, folder)
    except OSError as error:
        raise output_error(folder, error) from error


def copy_photos(photos: Iterable[Item], folder: Path) -> None:
    """Copy the files of photos into a folder, under their ids."""
    make_folder(folder)
    for item in photos:
        shutil.copyfile(item.path, folder / f"{item.id}{Path(item.path).suffix}")


def write_part(
    root: Path,
    truth: str,
    references: Sequence[Item],
    matching: Sequence[Query],
    unmatched: Sequence[Query],
    threads: ThreadPoolExecutor,
) -> None:
    """Write references, queries and the ground truth. Queries without a match have an empty reference in it."""
    copy_photos(references, root / "reference_images")
    queries = make_folder(root / "query_images")
    list(threads.map(lambda query: query.save(queries), [*matching, *unmatched]))
    rows = [TRUTH_HEADER, *(f"{query.id},{query.photo.id}" for query in matching)]
    write_text(root / truth, "\n".join([*rows, *(f"{query.id}," for query in unmatched)]) + "\n")
