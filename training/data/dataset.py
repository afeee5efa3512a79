"""The samples of a stage, which the processes of a DataLoader make.

A sample holds the views of a photo, or of a labelled pair, together with its negatives.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ...decoders.preprocessing import Preprocessing
from ...decoders.rules import fit
from ...items import Pixels
from ..stages import NO_PHOTO, Stage, ViewsOn
from ..views.apply_pil import apply_pil
from ..views.artwork import Artwork
from ..views.recipes import ViewRecipe, draw_hard, draw_moderate, draw_plain, draw_whole, view_random
from .collection import Collection
from .photos import OpenPhoto, PhotoReader
from .sampling import Key

# Each purpose has its own random numbers in a sample. Further hard views follow from _MORE on.
_MODERATE, _HARD, _NEGATIVES, _SPARE, _MORE = range(5)


@dataclass(frozen=True)
class Sample:
    """One sample, view by view. Its fields hold the same as those of `Batch`."""

    key: Key
    pixels: Sequence[npt.NDArray[np.uint8]]
    files: Sequence[tuple[bytes, ViewRecipe]]
    erase: Sequence[tuple[int, ...]]
    labels: Sequence[int | list[int]]
    names: Sequence[str]
    skipped: Sequence[tuple[str, str]]
    teacher_pixels: Sequence[Pixels] = ()


class Batch(NamedTuple):
    """The samples of one step of one process.

    The images stand in this order: the first view of every sample, then the second view of every sample, then the first
    negative of every sample, and so on.

    Attributes:
        keys: the keys of the samples.
        pixels: the views, ``uint8 (images, size, size, 3)``. It is empty if the device makes the views from ``files``.
        files: the bytes and the recipe of each image. It is empty if ``pixels`` holds the views.
        erase: the rectangles to erase, ``int64 (images, 5)``, see `isc_fast.training.views.apply_torch.finish`.
        labels: the labels of the images, ``int64 (images,)``. If the stage counts all photos that a view shows, they are
            ``int64 (images, photos)``: the own photo first, and `NO_PHOTO` in the places that are left.
        names: the ids of the images.
        skipped: the path and the reason for each image that could not be read. Another image replaces it.
        teacher_pixels: the same views as the teacher takes them, ``uint8 (images, height, width, 3)``. It is empty if the stage
            has no teacher.
    """

    keys: list[Key]
    pixels: torch.Tensor
    files: list[tuple[bytes, ViewRecipe]]
    erase: torch.Tensor
    labels: torch.Tensor
    names: list[str]
    skipped: list[tuple[str, str]]
    teacher_pixels: torch.Tensor


class SampleDataset(Dataset[Sample]):
    """The samples of a stage. A key, which is the pair (epoch, number), names a sample.

    The data set holds no state, so any process makes the same sample from the same key at any time. If a photo cannot be
    read, the data set reports it and takes another photo, which it draws with the sample's own random numbers.

    Args:
        collection: the images of the stage.
        stage: the stage.
        seed: the seed of all random numbers.
        artwork: the fonts and emoji for hard views, or None if the stage has no hard views.
        views_on: ``"workers"`` gives finished views. ``"device"`` gives bytes and recipes, from which
            `isc_fast.training.views.apply_torch` makes the views.
        teacher_input: how the teacher prepares a photo, for a stage that has one. Its views are made by workers.
    """

    def __init__(
        self,
        collection: Collection,
        stage: Stage,
        *,
        seed: int,
        artwork: Artwork | None,
        views_on: ViewsOn = "workers",
        teacher_input: Preprocessing | None = None,
    ) -> None:
        self._stage, self._seed, self._artwork = stage, seed, artwork
        self._samples = collection.samples
        self._negatives = [(item,) for item in collection.negatives]
        self._open = collection.open_photo
        self._labels, self._offset = collection.labels, collection.label_offset
        self._views_on, self._teacher_input = views_on, teacher_input

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: Key) -> Sample:
        return self.make(key)

    def make(self, key: Key, views_on: ViewsOn | None = None) -> Sample:
        """Make the sample of a key.

        Args:
            key: the epoch and the number of the sample.
            views_on: where its views are made; by default, where the data set makes them.

        Raises:
            InputError: 50 photos in a row could not be read, so the cause is probably not a single photo.
        """
        on_device = (views_on or self._views_on) == "device"
        reader = PhotoReader(decoded=not on_device, open_photo=self._open)
        number = key[1]
        photos = reader.open(self._samples[number])
        if photos is None:
            number, photos = reader.draw(self._random(key, _SPARE), self._samples)
        if self._stage.views == "pairs":
            recipes, shown = [draw_plain(self._stage.input_size) for _ in photos], [[number]] * len(photos)
        else:
            recipes, shown = self._views(key, number, photos[0], reader)
            photos *= len(recipes)
        labels = [self._label(places) for places in shown]
        random = self._random(key, _NEGATIVES)
        for _ in range(self._stage.negatives_per_sample):
            place, drawn = reader.draw(random, self._negatives)
            photos += drawn
            labels.append(self._padded([self._offset + place]))
            recipes.append(draw_plain(self._stage.input_size))
        both = list(zip(photos, recipes, strict=True))
        made = (
            [] if on_device else [apply_pil(recipe, photo.image) for photo, recipe in both if photo.image is not None]
        )
        pixels, teacher_pixels = self._prepared(made)
        return Sample(
            key,
            pixels,
            [(photo.file, recipe) for photo, recipe in both] if on_device else [],
            [recipe.erase_row for recipe in recipes],
            labels,
            [photo.item.id for photo in photos],
            reader.skipped,
            teacher_pixels,
        )

    def _prepared(self, views: list[Pixels]) -> tuple[list[Pixels], list[Pixels]]:
        """Return the views as the network takes them and as its teacher does: each prepares them like a photo."""
        if self._teacher_input is None:
            return views, []
        side = self._stage.input_size
        pictures = [Image.fromarray(view) for view in views]
        mine, theirs = Preprocessing(side, side), self._teacher_input
        return [fit(picture, mine) for picture in pictures], [fit(picture, theirs) for picture in pictures]

    def _random(self, key: Key, purpose: int) -> np.random.Generator:
        return view_random(self._seed, *key, purpose)

    def _label(self, places: Sequence[int]) -> int | list[int]:
        """Return the label of a view, or the labels of the photos that it shows, from their numbers."""
        return self._padded([int(self._labels[place]) for place in places])

    def _padded(self, labels: list[int]) -> int | list[int]:
        most = self._stage.photos_per_view
        return labels[0] if most == 1 else [*labels, *[NO_PHOTO] * most][:most]

    def _views(
        self, key: Key, number: int, photo: OpenPhoto, reader: PhotoReader
    ) -> tuple[list[ViewRecipe], list[list[int]]]:
        """Draw the views of a photo. Return their recipes, and the numbers of the photos that each of them shows."""
        size, hard = self._stage.drawn_size, self._stage.hard_view
        if hard is None or self._artwork is None:
            raise ValueError(
                f"the stage {self._stage.name} has augmented views, and no hard view or no fonts and emoji"
            )
        recipes = [draw_whole(size)] if self._stage.views == "distilled" else []
        recipes.append(draw_moderate(photo.size, size, self._random(key, _MODERATE)))
        shown = [[number] for _ in recipes]
        for view in range(self._stage.hard_views):
            random = self._random(key, _HARD if view == 0 else _MORE + view - 1)
            places = [number]

            def open_other(random: np.random.Generator = random, places: list[int] = places) -> Image.Image:
                place, picture = reader.draw_image(random, self._samples)
                places.append(place)
                return picture

            recipes.append(draw_hard(hard, photo.size, size, random, open_other=open_other, artwork=self._artwork))
            shown.append(places)
        return recipes, shown


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples together into a batch, view by view."""
    views = range(len(samples[0].labels))

    def by_view(field: str) -> list[Any]:
        rows = [getattr(sample, field) for sample in samples]
        return [row[view] for view in views for row in rows if row]

    pixels, teacher_pixels = by_view("pixels"), by_view("teacher_pixels")
    return Batch(
        keys=[sample.key for sample in samples],
        pixels=_stacked(pixels),
        files=by_view("files"),
        erase=torch.tensor(by_view("erase"), dtype=torch.int64),
        labels=torch.tensor(by_view("labels"), dtype=torch.int64),
        names=by_view("names"),
        skipped=[entry for sample in samples for entry in sample.skipped],
        teacher_pixels=_stacked(teacher_pixels),
    )


def _stacked(pixels: Sequence[Pixels]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, dtype=torch.uint8)


def _begin_worker(_number: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C sends its signal to all processes of a terminal. Only the training process must handle it, to save its state.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_loader(dataset: SampleDataset, sampler: Iterable[list[Key]], *, workers: int, pin: bool) -> DataLoader[Batch]:
    """Make a DataLoader whose processes stay alive from epoch to epoch.

    Args:
        dataset: the samples.
        sampler: the keys of each batch, such as a `KeySampler`, whose ``epoch`` and ``first_step`` say where an iteration starts.
        workers: the number of loader processes; 0 makes the samples in this process.
        pin: whether to copy batches into pinned memory, from which a GPU reads faster.
    """
    return DataLoader(  # its items are batches, because `collate` makes batches
        dataset,  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_begin_worker,
    )
