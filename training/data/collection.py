"""The images of a stage: its photos, its labelled pairs and the images that match nothing, in a fixed order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...items import Item, Photo
from ...matching.lists.matches import read_truth
from ...sources.disc21 import FOLDERS, find_sets, find_truth
from ...sources.listing import list_images, open_item
from ..stages import Stage
from .components import Components

LABEL_OFFSET = 1_000_000
"""The lowest label of a negative, as in the published runs. It is higher if there are more samples than that."""


@dataclass(frozen=True)
class Collection:
    """The images of one stage.

    Attributes:
        samples: for each sample, its photo, or its labelled query and reference. An overlay in a hard view takes its other
            photo from here too.
        negatives: the images to draw negatives from. It is empty if the stage has no negatives.
        open_photo: a function that returns the photo of an item. For images of a source, it is the source's ``open``.
    """

    samples: Sequence[tuple[Item, ...]]
    negatives: Sequence[Item] = ()
    open_photo: Callable[[Item], Photo] = open_item

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """The label of each sample, ``int64 (n,)``.

        It is the number of the first sample that is connected with this one by shared images. Without this rule, several
        copies of one reference would be negatives of each other.
        """
        first: dict[str, int] = {}
        together = Components(len(self.samples))
        for number, items in enumerate(self.samples):
            for item in items:
                together.join(first.setdefault(item.path, number), number)
        return together.roots()

    @property
    def label_offset(self) -> int:
        """The number that is added to the place of a negative to make its label."""
        return max(LABEL_OFFSET, len(self.samples))

    def digest(self) -> str:
        """Return the SHA-256 of the ids in their order. It is equal on every machine that has images with these ids."""
        sha = hashlib.sha256()
        for group in (self.samples, [(item,) for item in self.negatives]):
            for items in group:
                sha.update(("\t".join(item.id for item in items) + "\n").encode("utf-8", "surrogateescape"))
            sha.update(b"\n")
        return sha.hexdigest()


def _listed(root: Path, letter: str, stage: Stage) -> list[Item]:
    try:
        folders = find_sets(root, letter)[letter]
    except InputError as error:
        raise InputError(f"the stage {stage.name} cannot train on {root}: {error}") from error
    return list_images(folders, ids="stem").items


def _by_id(items: Sequence[Item], ids: Sequence[str], what: str, truth: Path) -> list[Item]:
    found = {item.id: item for item in items}
    missing = [id_ for id_ in ids if id_ not in found]
    if missing:
        raise InputError(
            f"{truth} names {len(missing)} {what} that are not there, such as {missing[0]!r}; "
            f"expected an image with that name in {' or '.join(FOLDERS['q' if what == 'queries' else 'r'])}"
        )
    return [found[id_] for id_ in ids]


def _pairs(root: Path, stage: Stage, truth_file: Path | None) -> tuple[list[tuple[Item, ...]], list[Item]]:
    """Return the labelled pairs, and the references that belong to no pair."""
    truth = truth_file or find_truth(root, "q", None)
    if truth is None:
        raise InputError(
            f"the stage {stage.name} trains on labelled pairs, and {root} has no ground truth (*truth*.csv with "
            "query_id,reference_id); name one with --ground-truth"
        )
    ids = sorted(read_truth(truth).pairs)
    queries = _by_id(_listed(root, "q", stage), [query for query, _ in ids], "queries", truth)
    references = _listed(root, "r", stage)
    matching = _by_id(references, [reference for _, reference in ids], "references", truth)
    used = {item.id for item in matching}
    return list(zip(queries, matching, strict=True)), [item for item in references if item.id not in used]


def collect(
    root: str | os.PathLike[str], stage: Stage, *, ground_truth: str | os.PathLike[str] | None = None
) -> Collection:
    """Collect the images of a stage from a folder with the layout of DISC21, in the order of their names.

    Args:
        root: a folder in a layout of DISC21, see `isc_fast.sources.disc21.FOLDERS`, with the training images. Some stages
            also need the references, the queries and a ground-truth CSV in it.
        stage: the stage.
        ground_truth: the ground-truth CSV. It is needed only if the file cannot be found by its name.

    Raises:
        InputError: a folder is missing or empty, or the ground truth names images that do not exist.
        FormatError: the ground truth has a wrong format.
    """
    base = Path(root)
    if not base.is_dir():
        raise InputError(f"there is no folder {base}; expected the layout of DISC21: {', '.join(FOLDERS['t'])}, …")
    negatives: Sequence[Item] = ()
    photos: list[Item] = []
    if stage.views == "pairs":
        samples, rest = _pairs(base, stage, Path(ground_truth) if ground_truth is not None else None)
    else:
        photos = _listed(base, "t", stage)[: stage.sample_size]
        samples, rest = [(item,) for item in photos], []
    if stage.negatives_from == "training":
        negatives = photos or _listed(base, "t", stage)[: stage.sample_size]
    elif stage.negatives_from == "reference":
        negatives = rest or _listed(base, "r", stage)
    if stage.negatives_per_sample and not negatives:
        raise InputError(
            f"the stage {stage.name} draws negatives, which are images that match nothing, and there is none in {base}"
        )
    return Collection(samples, negatives)
