"""Edited copies of photos, described beside the photos: what an engine's scores mean where nobody has labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..decoders.rules import fit, load_rgb
from ..engines.base import Engine
from ..items import Ints, Photo, Pixels, Vectors
from .edits.held_out import HELD_OUT_EDITS

SEED = 2021
BATCH = 8
LONGEST_SIDE = 512
"""Photos are shrunk to this before they are edited."""


@dataclass(frozen=True)
class Trial:
    """Photos, and edited copies of them and of strangers.

    Attributes:
        photos: descriptors ``(n, d)`` of the photos that copies are compared with.
        copies: descriptors ``(m, d)`` of the copies.
        originals: for each copy the number of its photo; n and more are strangers, which are not among the photos.
        kinds: the edit of each copy.
    """

    photos: Vectors
    copies: Vectors
    originals: Ints
    kinds: Sequence[str]

    @property
    def is_true(self) -> npt.NDArray[np.bool_]:
        """For each copy and each photo, ``(m, n)``, whether the one was made of the other."""
        found: npt.NDArray[np.bool_] = self.originals[:, None] == np.arange(len(self.photos))
        return found


def open_shrunk(photo: Photo, longest_side: int = LONGEST_SIDE) -> Image.Image:
    """A photo that is to be edited, shrunk to a longest side in pixels.

    Raises:
        ImageProblem: it cannot be read or decoded.
    """
    image = load_rgb(photo)
    image.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    return image


def describe_all(engine: Engine, pixels: npt.NDArray[np.uint8] | Sequence[Pixels] | Iterator[Pixels]) -> Vectors:
    """Describe any number of images, in one array or one by one: descriptors ``float32 (n, d)``."""
    found, batch = list[Any](), list[Pixels]()
    for one in pixels:
        batch.append(one)
        if len(batch) == BATCH:
            found.append(engine.run(np.asarray(batch)))
            batch = []
    if batch:
        found.append(engine.run(np.asarray(batch)))
    made: Vectors = np.concatenate(found)
    return made


def describe_copies(
    engine: Engine,
    names: Sequence[str],
    open_photo: Callable[[int], Image.Image],
    *,
    strangers: int,
    copies: int,
    seed: int = SEED,
    done: Callable[[int], None] | None = None,
) -> Trial:
    """Make copies of photos, each by another edit of `HELD_OUT_EDITS`, and describe them and the photos.

    Memory holds the strangers and one photo at a time.

    Args:
        engine: describes.
        names: of the photos; a photo's name decides with the seed what its copies are.
        open_photo: gives photo k, shrunk to `LONGEST_SIDE`.
        strangers: so many of the last photos are compared with nothing. They lend what an edit puts beside a photo in its
            copy: that is no photo of the trial, because it would be found, and rightly so. At least 4.
        copies: of each photo and stranger.
        seed: another one gives other copies.
        done: is called with the number of photos that are done.
    """
    known = len(names) - strangers
    lent = {number: open_photo(number) for number in range(known, len(names))}
    kinds = list(HELD_OUT_EDITS)
    photos, made = list[Vectors](), list[Vectors]()
    of_copy: list[str] = []
    for number, name in enumerate(names):
        image = lent[number] if number in lent else open_photo(number)
        turns = [kinds[(number + turn * len(kinds) // copies) % len(kinds)] for turn in range(copies)]
        of_copy += turns
        made.append(describe_all(engine, (_copy(engine, kind, image, number, name, lent, seed) for kind in turns)))
        if number < known:
            photos.append(engine.run(fit(image, engine.spec.input)[None]))
        if done:
            done(number + 1)
    originals = np.repeat(np.arange(len(names)), copies)
    return Trial(np.concatenate(photos), np.concatenate(made), originals, of_copy)


def _copy(
    engine: Engine, kind: str, image: Image.Image, number: int, name: str, lent: dict[int, Image.Image], seed: int
) -> Pixels:
    random = Random(f"{seed} {name} {kind}")
    others = [lent[other] for other in random.sample([row for row in lent if row != number], 3)]
    return fit(HELD_OUT_EDITS[kind](image, others, random), engine.spec.input)
