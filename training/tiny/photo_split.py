"""Divides photos into a training part and a held-out part.

The parts share no source, and no photo of one part looks like a photo of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ...decoders.opening import ImageProblem
from ...decoders.rules import load_rgb
from ...errors import InputError
from ...items import Item
from ...sources.listing import open_item
from ..data.components import Components
from .photo_pool import difference_bits

# Two photos look alike if at most this share of the bits of their hashes differs, and if the colours of their thumbnails
# differ by at most this much, out of 255. Their sources then stay together. One of the two conditions alone would join
# unrelated photos of clear skies or of things on white.
ALIKE_BITS, ALIKE_COLOURS = 0.2, 12.0
_SIDE = 16


def source_of(id_: str) -> str:
    """Return the source of a photo, which is the part of its id before ``__``."""
    return id_.rpartition("__")[0] or id_


def load_photo(item: Item) -> Image.Image:
    try:
        return load_rgb(open_item(item))
    except ImageProblem as error:
        raise InputError(f"{item.path} cannot be used: {error}") from error


def group_photos(photos: Sequence[Item], threads: ThreadPoolExecutor) -> list[list[Item]]:
    """Group photos by source. Sources with photos that look alike, or like mirror images, form one group."""

    def looks(item: Item) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        image = load_photo(item)
        return [
            (
                difference_bits(view, _SIDE).astype(np.float32),
                np.asarray(view.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32).ravel(),
            )
            for view in (image, ImageOps.mirror(image))
        ]

    views = list(threads.map(looks, photos))
    bits, colours = (np.stack([view[0][part] for view in views]) for part in (0, 1))
    first: dict[str, int] = {}
    together = Components(len(photos))
    for i, item in enumerate(photos):
        together.join(first.setdefault(source_of(item.id), i), i)
        for view_bits, view_colours in views[i]:
            near = np.flatnonzero(np.abs(bits[:i] - view_bits).mean(axis=1) <= ALIKE_BITS)
            for j in near[np.abs(colours[near] - view_colours).mean(axis=1) <= ALIKE_COLOURS]:
                together.join(int(j), i)
    groups: dict[int, list[Item]] = {}
    for number, item in zip(together.roots().tolist(), photos, strict=True):
        groups.setdefault(number, []).append(item)
    return list(groups.values())


def split_groups(groups: Sequence[list[Item]], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Divide groups into photos to train on and held-out photos, both in a random order.

    Groups are held out until they have about this share of the photos. Only one photo of a held-out group is used: nobody
    can tell parts of one picture of water or sand apart, so they would count as errors.
    """
    random = Random(seed)
    shuffled = random.sample(groups, len(groups))
    wanted, passed = share * sum(map(len, groups)), 0
    held_out: list[Item] = []
    train: list[Item] = []
    for group in shuffled:
        if passed + len(group) / 2 < wanted:
            passed += len(group)
            held_out.append(random.choice(group))
        else:
            train.extend(group)
    return Random(seed).sample(train, len(train)), Random(seed).sample(held_out, len(held_out))
