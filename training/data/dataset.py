"""Samples: the views of a photo or pair with its negatives, made in the workers of a DataLoader."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from ..stages import Stage
from ..views.apply_pil import apply_pil
from ..views.artwork import Artwork
from ..views.recipes import ViewRecipe, draw_hard, draw_moderate, draw_plain, view_random
from .collection import Collection
from .photos import OpenPhoto, PhotoReader
from .sampling import Key, KeySampler

ViewsOn = Literal["workers", "device"]
_MODERATE, _HARD, _NEGATIVES, _SPARE = range(4)  # what a sample's random numbers are for


@dataclass(frozen=True)
class Sample:
    """One sample, view by view; see `Batch` for what the fields hold."""

    key: Key
    pixels: Sequence[npt.NDArray[np.uint8]]
    files: Sequence[tuple[bytes, ViewRecipe]]
    erase: Sequence[tuple[int, ...]]
    labels: Sequence[int]
    names: Sequence[str]
    skipped: Sequence[tuple[str, str]]


class Batch(NamedTuple):
    """The samples of one step of one process: all first views, then all second ones, then the negatives in turn.

    Attributes:
        keys: of the samples.
        pixels: ``uint8 (images, size, size, 3)``; no images where views are made on the device, from ``files``.
        files: bytes and recipe of each image, or empty.
        erase: ``int64 (images, 5)``, see `isc_fast.training.views.apply_torch.finish`.
        labels: ``int64 (images,)``.
        names: ids of the images.
        skipped: (path, reason) of each image that could not be read and was replaced by another.
    """

    keys: list[Key]
    pixels: torch.Tensor
    files: list[tuple[bytes, ViewRecipe]]
    erase: torch.Tensor
    labels: torch.Tensor
    names: list[str]
    skipped: list[tuple[str, str]]


class SampleDataset(Dataset[Sample]):
    """The samples of a stage by (epoch, number). Holds no state: any process at any time makes the same sample.

    A photo that cannot be read is replaced by another one, drawn from the sample's own random numbers, and reported.

    Args:
        artwork: fonts and emoji for hard views; None where the stage has none.
        views_on: ``"workers"``: finished views; ``"device"``: bytes and recipes, for `isc_fast.training.views.apply_torch`.
    """

    def __init__(
        self, collection: Collection, stage: Stage, *, seed: int, artwork: Artwork | None, views_on: ViewsOn = "workers"
    ) -> None:
        self._stage, self._seed, self._artwork = stage, seed, artwork
        self._samples = collection.samples
        self._negatives = [(item,) for item in collection.negatives]
        self._open = collection.open_photo
        self._labels, self._offset = collection.labels, collection.label_offset
        self._views_on = views_on

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: Key) -> Sample:
        return self.make(key)

    def make(self, key: Key, views_on: ViewsOn | None = None) -> Sample:
        """The sample of a key.

        Raises:
            InputError: so many photos in a row could not be read that something else must be wrong.
        """
        on_device = (views_on or self._views_on) == "device"
        reader = PhotoReader(decoded=not on_device, open_photo=self._open)
        number = key[1]
        photos = reader.open(self._samples[number])
        if photos is None:
            number, photos = reader.draw(self._random(key, _SPARE), self._samples)
        if self._stage.views == "augmented":
            recipes = self._two_views(key, photos[0], reader)
            photos *= 2
        else:
            recipes = [draw_plain(self._stage.input_size) for _ in photos]
        labels = [int(self._labels[number])] * len(photos)
        random = self._random(key, _NEGATIVES)
        for _ in range(self._stage.negatives_per_sample):
            place, drawn = reader.draw(random, self._negatives)
            photos += drawn
            labels.append(self._offset + place)
            recipes.append(draw_plain(self._stage.input_size))
        both = list(zip(photos, recipes, strict=True))
        return Sample(
            key,
            [] if on_device else [apply_pil(recipe, photo.image) for photo, recipe in both if photo.image is not None],
            [(photo.file, recipe) for photo, recipe in both] if on_device else [],
            [recipe.erase_row for recipe in recipes],
            labels,
            [photo.item.id for photo in photos],
            reader.skipped,
        )

    def _random(self, key: Key, purpose: int) -> np.random.Generator:
        return view_random(self._seed, *key, purpose)

    def _two_views(self, key: Key, photo: OpenPhoto, reader: PhotoReader) -> list[ViewRecipe]:
        size, hard = self._stage.input_size, self._stage.hard_view
        if hard is None or self._artwork is None:
            raise ValueError(
                f"the stage {self._stage.name} has augmented views, and no hard view or no fonts and emoji"
            )
        random = self._random(key, _HARD)
        return [
            draw_moderate(photo.size, size, self._random(key, _MODERATE)),
            draw_hard(
                hard,
                photo.size,
                size,
                random,
                open_other=lambda: reader.draw_image(random, self._samples),
                artwork=self._artwork,
            ),
        ]


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples together, view by view."""
    views = range(len(samples[0].labels))

    def by_view(field: str) -> list[Any]:
        rows = [getattr(sample, field) for sample in samples]
        return [row[view] for view in views for row in rows if row]

    pixels = by_view("pixels")
    return Batch(
        keys=[sample.key for sample in samples],
        pixels=torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, dtype=torch.uint8),
        files=by_view("files"),
        erase=torch.tensor(by_view("erase"), dtype=torch.int64),
        labels=torch.tensor(by_view("labels"), dtype=torch.int64),
        names=by_view("names"),
        skipped=[entry for sample in samples for entry in sample.skipped],
    )


def _begin_worker(_number: int) -> None:
    torch.set_num_threads(1)
    # A signal to the whole group, as Ctrl-C sends it, is for the process that writes the checkpoint.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_loader(dataset: SampleDataset, sampler: KeySampler, *, workers: int, pin: bool) -> DataLoader[Batch]:
    """A DataLoader whose workers stay from epoch to epoch; ``sampler.epoch`` and ``first_step`` say where it begins."""
    return DataLoader(  # its items are batches because `collate` makes them so
        dataset,  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_begin_worker,
    )
