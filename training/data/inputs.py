"""Turns a batch of the loader into the input of the network, on the network's device."""

from __future__ import annotations

import numpy as np
import torch

from ...engines.protocol import Engine
from ...networks.model import DescriptorNet
from ..views.apply_torch import apply_torch, finish
from ..views.decoding import decode_on_device
from .dataset import Batch, SampleDataset


class InputMaker:
    """Turns a `Batch` into normalised images and labels.

    Args:
        net: the network. The images are normalised with its mean and its standard deviation.
        dataset: the data set of the batches. If a file does not decode on the device, it makes the sample again.
        device: the device for the images.
        channels_last: the memory order of the images, see `isc_fast.training.stages.Stage`.
        teacher: the engine whose descriptors take the place of labels, if the stage has one.
    """

    def __init__(
        self,
        net: DescriptorNet,
        dataset: SampleDataset,
        device: torch.device,
        *,
        channels_last: bool = False,
        teacher: Engine | None = None,
    ) -> None:
        self._mean, self._std = net.mean, net.std
        self._dataset, self._device, self._channels_last = dataset, device, channels_last
        self._teacher = teacher

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images ``float32 (n, 3, size, size)`` and their labels, both on the device.

        The labels are ``int64 (n,)`` or ``int64 (n, photos)``, or with a teacher its descriptors ``float32 (n, dim)``.
        """
        pixels = self._made_on_device(batch) if batch.files else batch.pixels.to(self._device, non_blocking=True)
        images = finish(pixels, batch.erase, self._mean, self._std, channels_last=self._channels_last)
        labels = batch.labels if self._teacher is None else _described(self._teacher, batch.teacher_pixels)
        return images, labels.to(self._device, non_blocking=True)

    def _made_on_device(self, batch: Batch) -> torch.Tensor:
        """Make the views on the device, ``uint8 (n, 3, size, size)``.

        If one file of a sample does not decode, the data set makes the whole sample again on the host. It replaces the photo
        and reports it.
        """
        decoded = decode_on_device([file for file, _ in batch.files], self._device)
        samples = len(batch.keys)
        views: list[torch.Tensor | None] = [
            None if photo is None else apply_torch(recipe, photo)
            for photo, (_, recipe) in zip(decoded, batch.files, strict=True)
        ]
        for sample in sorted({place % samples for place, view in enumerate(views) if view is None}):
            made = self._dataset.make(batch.keys[sample], "workers")
            batch.skipped.extend(made.skipped)
            for view, pixels in enumerate(made.pixels):
                place = view * samples + sample
                views[place] = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).to(self._device)
                batch.erase[place] = torch.tensor(made.erase[view])
                batch.labels[place] = torch.tensor(made.labels[view])
                batch.names[place] = made.names[view]
        return torch.stack([view for view in views if view is not None])


def _described(engine: Engine, pixels: torch.Tensor) -> torch.Tensor:
    """Return an engine's descriptors of ``uint8 (n, height, width, 3)``."""
    blocks = pixels.numpy()
    starts = range(0, len(blocks), engine.default_batch_size)
    return torch.from_numpy(
        np.concatenate([engine.run(blocks[start : start + engine.default_batch_size]) for start in starts])
    )
