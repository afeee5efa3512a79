"""The network in torch as a way that benchmarks measure: pixels → descriptors, on a processor or a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from isc_fast.networks.model import DescriptorNet

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class TorchWay:
    """The network in eager mode, or compiled by torch.

    Args:
        net: the network in evaluation mode. It is moved to the device.
        device: ``"cpu"`` or ``"cuda"``.
        channels_last: whether weights and images have this layout.
        autocast: the precision in which the network computes instead of fp32.
        compiled: whether ``torch.compile`` compiles it, at the first batch of each size.
    """

    def __init__(
        self,
        net: DescriptorNet,
        *,
        device: str = "cpu",
        channels_last: bool = False,
        autocast: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.device, self.autocast = device, autocast
        # Without channels_last, the network keeps the layout that the caller gave it.
        net = net.to(device)
        if channels_last:
            net = net.to(memory_format=torch.channels_last)
        self.mean, self.std = (torch.tensor(n, device=device)[:, None, None] for n in (net.mean, net.std))
        self.network: Any = torch.compile(net, dynamic=False) if compiled else net

    def on_device(self, pixels: torch.Tensor) -> torch.Tensor:
        """Describe ``uint8 (n, h, w, 3)`` on the device. The device may still be computing the result when this returns."""
        with torch.inference_mode(), torch.autocast(self.device, self.autocast, enabled=self.autocast is not None):
            images = (pixels.permute(0, 3, 1, 2).float().div(255) - self.mean) / self.std
            found: torch.Tensor = self.network(images.contiguous(memory_format=self.layout)).float()
            return found

    def run(self, pixels: Pixels) -> Vectors:
        """Describe ``uint8 (n, h, w, 3)`` in the host's memory; return ``float32 (n, dim)`` there too."""
        rows: Vectors = self.on_device(torch.from_numpy(pixels).to(self.device)).cpu().numpy()
        return rows
