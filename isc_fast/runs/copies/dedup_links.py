"""Folders of symbolic links, one for each group of copies, to look at with any program that shows photos."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ...errors import InputError, OutputError
from ...files.atomic import output_error
from ...items import Item
from ...sources.base import Source
from ...sources.listing import Inputs, names_of
from .deciding import Collection


def check_links(link_to: str | os.PathLike[str], photos: Inputs | Source) -> None:
    """See before the work that a folder of links can be made.

    Raises:
        OutputError: there is something of that name already, or its parent folder is missing.
        InputError: it lies in a folder of photos, where the next run would find its links.
    """
    folder = Path(link_to)
    if os.path.lexists(folder):
        raise OutputError(
            f"there is {folder} already, and links replace nothing; give a name that is free: --link-to FOLDER"
        )
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"cannot make {folder}: its folder does not exist")
    for name in names_of(photos):
        if os.path.isdir(name) and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(name)):
            raise InputError(f"{folder} lies in {name}, where the next run would find its links; choose another folder")


def check_files(items: Iterable[Item]) -> None:
    """See before the work whether photos are files of their own, by the first of them.

    Raises:
        InputError: it is not.
    """
    for item in items:
        if not os.path.lexists(item.path):
            raise InputError(f"{item.id} is no file of its own, and cannot be linked to; leave out --link-to")
        return


def write_links(made: Collection, folder: Path, most: tuple[int, int]) -> Path:
    """Make a folder for each group with a link to each of its photos, the preferred first. It appears whole or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    try:
        for number, rows in enumerate(made.groups(), 1):
            if number > most[0]:
                break
            group = temporary / f"{number:04d}-of-{len(rows)}-photos"
            group.mkdir()
            for place, (name, _, score, _) in enumerate(made.stands(rows[: most[1]]), 1):
                target = made.items[name].path
                check_files([made.items[name]])
                word = "keep" if score is None else f"{score:.3f}"
                (group / f"{place:03d}-{word}-{os.path.basename(target)}").symlink_to(os.path.abspath(target))
        temporary.chmod(0o755)
        if os.path.lexists(folder):
            raise OutputError(
                f"there is {folder} already, and links replace nothing; give a name that is free: --link-to FOLDER"
            )
        temporary.rename(folder)
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
