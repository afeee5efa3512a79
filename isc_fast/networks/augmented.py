"""Test-time augmentation as the published script has it: six views of a photo, whose descriptors are added."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate

from .model import DescribingNet

SCALES_AND_MIRROR = "3-scales-mirror"
"""The name of this augmentation in the specification of an engine."""
_LARGE, _SMALL = 1.4142135623730951, 0.7071067811865475


def large_side(size: int) -> int:
    """Return the side of the input in pixels: √2 times the network's own, rounded down."""
    return int(size * _LARGE)


class AugmentedNet(nn.Module):
    """A network that sums the descriptors of six views of an image, and brings the sum to unit length.

    The views are the image as it is given, at √2 times the network's size; the image at the network's size; the image at 1/√2
    of it; and the mirror image of each. The smaller images are made by bilinear interpolation without antialiasing, each from the
    next larger one. A descriptor takes 7/2 × 2 = 7 times the arithmetic of a single one.

    Args:
        net: the network of single views.
        size: the side of its square input, in pixels.

    Attributes:
        arch, dim, gem_p, mean, std: those of the network.
    """

    def __init__(self, net: DescribingNet, size: int) -> None:
        super().__init__()
        self.net, self.size = net, size
        self.arch, self.dim, self.gem_p, self.mean, self.std = net.arch, net.dim, net.gem_p, net.mean, net.std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
        # With a factor instead of a size, the places of the pixels follow from the factor itself, as in the published script.
        small = interpolate(middle, scale_factor=_SMALL, mode="bilinear", align_corners=False)
        views = [view for image in (middle, small, images) for view in (image, image.flip(-1))]
        total = torch.stack([self.net(view) for view in views]).sum(0)
        lengths: torch.Tensor = torch.linalg.vector_norm(total, dim=1, keepdim=True)
        return total / lengths.clamp_min(1e-12)
