"""The images that training is evaluated on, and their ground truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...items import Item, Photo
from ...matching.lists.matches import Truth, read_truth
from ...sources.disc21 import find_sets, find_truth
from ...sources.listing import list_images, open_item


@dataclass(frozen=True)
class HeldOut:
    """Images that training never sees, and the ground truth that says which of them belong together.

    Attributes:
        queries, references: the images.
        truth: the ground truth.
        open_photo: a function that returns the photo of an item. For images of a source, it is the source's ``open``.
    """

    queries: Sequence[Item]
    references: Sequence[Item]
    truth: Truth
    open_photo: Callable[[Item], Photo] = open_item


def read_held_out(folder: str | os.PathLike[str]) -> HeldOut:
    """Read a folder with queries, references and a ground-truth CSV, in a layout of DISC21.

    Raises:
        InputError: the folder or one of its parts is missing.
        FormatError: the ground truth has a wrong format.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"there is no folder {root} to evaluate on")
    folders = find_sets(root, "qr")
    truth = find_truth(root, "q", None)
    if truth is None:
        raise InputError(f"{root} has no ground truth (*truth*.csv with query_id,reference_id) to evaluate against")
    queries, references = (list_images(folders[letter], ids="stem").items for letter in "qr")
    return HeldOut(queries, references, read_truth(truth))
