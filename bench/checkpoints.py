"""A network with random weights at v107's shape, for machines on which the published ones are not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from isc_fast.assets import demo_photos
from isc_fast.networks.checkpoint import save_checkpoint
from isc_fast.networks.model import DescriptorNet


def random_checkpoint(path: Path, arch: str, size: int, device: str = "cpu") -> None:
    """A network with random weights whose batch statistics fit real photos, so that it is not degenerate.

    Args:
        path: of the checkpoint.
        arch: name of the backbone in timm.
        size: of its input in pixels; the photos are shown at half of it.
        device: that the photos are shown on.
    """
    torch.manual_seed(0)
    net = DescriptorNet(arch).to(device)
    photos = [np.asarray(Image.open(p).convert("RGB").resize((size // 2, size // 2))) for p in demo_photos()[:16]]
    net.train()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the average of all batches seen
        for start in (0, 8):
            pixels = torch.from_numpy(np.stack(photos[start : start + 8])).to(device)
            net((pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5)
    save_checkpoint(path, net.to("cpu"), arch=arch, input_size=size, epoch=0)
