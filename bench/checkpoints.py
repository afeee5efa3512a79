"""A checkpoint with random weights in v107's shape, for machines that do not have the published weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from isc_fast.assets import demo_photos
from isc_fast.networks.checkpoint import save_checkpoint
from isc_fast.networks.model import DescriptorNet


def random_checkpoint(path: Path, arch: str, size: int, device: str = "cpu") -> None:
    """Write a checkpoint with random weights and the batch statistics of real photos, so that descriptors differ.

    Args:
        path: the checkpoint to write.
        arch: name of the backbone in timm.
        size: side of the network's input in pixels. The photos that give the statistics are half as large.
        device: device on which the network sees these photos.
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
