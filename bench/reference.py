"""The reference way, JPEG files → descriptors: a DataLoader whose processes decode with PIL, and torch in eager mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from isc_fast.machine.cores import available_cores
from isc_fast.networks.model import DescriptorNet


class Photos(torch.utils.data.Dataset[torch.Tensor]):
    """The reference solution's dataset: PIL, then torchvision's transforms."""

    def __init__(self, paths: Sequence[str], size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        tensor: torch.Tensor = self.transform(Image.open(self.paths[index]).convert("RGB"))
        return tensor


def photo_batches(
    net: DescriptorNet, paths: Sequence[str], size: int, batch: int, *, pinned: bool = False
) -> Iterator[torch.Tensor]:
    """Yield normalised images ``float32 (n, 3, size, size)``. A process on every core makes them."""
    photos = Photos(paths, size, net.mean, net.std)
    workers = available_cores()
    return iter(torch.utils.data.DataLoader(photos, batch_size=batch, num_workers=workers, pin_memory=pinned))


def half_precision(device: str, enabled: bool = True) -> contextlib.AbstractContextManager[Any]:
    """Return torch's autocast, in fp16 on a GPU and in bf16 on a processor."""
    return torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16, enabled=enabled)


def reference_way(
    net: DescriptorNet, paths: Sequence[str], size: int, batch: int, *, device: str = "cpu", half: bool = False
) -> np.ndarray[Any, Any]:
    """Compute descriptors ``float32 (n, d)`` as the reference solution does.

    Args:
        net: the network, which is on the device already.
        paths: paths of JPEG files.
        size: side of the network's input in pixels.
        batch: number of images in one call.
        device: ``"cpu"`` or ``"cuda"``.
        half: whether the network runs in autocast, as people run it on a GPU; see `half_precision`.
    """
    on_gpu = device == "cuda"
    layout = torch.channels_last if half else torch.contiguous_format
    found = []
    with torch.inference_mode(), half_precision(device, half):
        for images in photo_batches(net, paths, size, batch, pinned=on_gpu):
            there = images.to(device, non_blocking=True, memory_format=layout) if on_gpu or half else images
            found.append(net(there).float())
        return torch.cat(found).cpu().numpy()
