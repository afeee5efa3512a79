"""The network of the ISC family: a timm backbone, generalised-mean pooling, a linear head and unit length.

The other families, in `isc_fast.networks.families`, build on what stands here.
"""

from __future__ import annotations

import difflib
import re
import warnings
from typing import Any

import timm
import torch
from torch import nn

from ..errors import CheckpointError

_SMALLEST = 1e-6  # the reference clamps feature maps to this value, so that a power of them has a gradient
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def _unknown_arch(arch: str, reason: str) -> CheckpointError:
    base = arch.partition(".")[0]
    close = difflib.get_close_matches(base, timm.list_models(), n=4, cutoff=0.6) if base else []
    hint = f"close names: {', '.join(close)}" if close else "expected a name from timm.list_models()"
    return CheckpointError(f"the architecture {arch!r} {reason} (timm {timm.__version__}); {hint}")


def create_backbone(arch: str) -> nn.Module:
    """Make timm's network that gives the last feature map, with random weights.

    Names that point to a hub are refused, so that timm never downloads anything.

    Raises:
        CheckpointError: timm does not know the architecture, or it has no feature maps.
    """
    if not _PLAIN_NAME.fullmatch(arch):
        raise _unknown_arch(arch, "is not a plain timm name")
    if not timm.is_model(arch):
        raise _unknown_arch(arch, "is not known to timm")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # timm has renamed the network of the published checkpoints, and warns of it
            network: nn.Module = timm.create_model(arch, pretrained=False, features_only=True, out_indices=(-1,))
    except Exception as error:  # each model family of timm raises its own kind of error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise _unknown_arch(arch, f"gives no feature maps: {reason}") from error
    return network


def generalised_mean(features: torch.Tensor, power: float) -> torch.Tensor:
    """The generalised mean over a feature map, ``(n, c, h, w)`` → ``(n, c)``."""
    features = features.clamp(min=_SMALLEST)
    if power == 1.0:
        return features.mean(dim=(-2, -1))
    return features.pow(power).mean(dim=(-2, -1)).pow(1.0 / power)


def unit_length(vectors: torch.Tensor) -> torch.Tensor:
    """The vectors ``(n, d)`` divided by their lengths."""
    # This equals nn.functional.normalize. It broadcasts in the division, which saves three nodes in an exported graph.
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(1e-12)
    return vectors / lengths


class DescribingNet(nn.Module):
    """A network that engines are made from: normalised images ``float32 (n, 3, h, w)`` → unit ``float32 (n, dim)``.

    Attributes:
        arch: the backbone's timm name.
        dim: the length of a descriptor.
        gem_p: the power of generalised-mean pooling; None where the network pools in another way.
        mean, std: of red, green and blue, on the scale from 0 to 1. Images are normalised with them.
        backbone: takes images and gives a list of feature maps, the last of which is used.
    """

    arch: str
    dim: int
    gem_p: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbone: nn.Module


class DescriptorNet(DescribingNet):
    """The network that maps normalised images to descriptors.

    Its input is ``float32 (n, 3, h, w)``, its output ``float32 (n, dim)`` of unit length. Its parameters are named as in the
    published checkpoints: ``backbone.*``, ``fc.weight``, ``bn.*``. The weights are random until a checkpoint is loaded;
    nothing is downloaded.

    Args:
        arch: a timm architecture with feature maps. Old names that timm has changed still work.
        dim: the length of a descriptor.
        gem_p: the power of generalised-mean pooling. 1.0 is average pooling.

    Raises:
        CheckpointError: timm does not know the architecture, or it has no feature maps.
    """

    gem_p: float

    def __init__(self, arch: str, dim: int = 256, gem_p: float = 1.0) -> None:
        super().__init__()
        self.arch = arch
        self.dim = dim
        self.gem_p = gem_p
        self.backbone = create_backbone(arch)
        info: Any = self.backbone
        channels = int(info.feature_info.channels()[-1])
        self._channels_last = str(getattr(info, "output_fmt", "NCHW")).endswith("NHWC")
        self.fc = nn.Linear(channels, dim, bias=False)
        self.bn = nn.BatchNorm1d(dim)
        nn.init.xavier_normal_(self.fc.weight)
        self.mean = tuple(float(value) for value in info.pretrained_cfg["mean"])
        self.std = tuple(float(value) for value in info.pretrained_cfg["std"])

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """Return the generalised mean over the last feature map, ``(n, c, h, w)`` → ``(n, c)``."""
        return generalised_mean(features, self.gem_p)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pooled features of images, ``(n, c)``, which are the input of the head."""
        features = self.backbone(images)[-1]
        if self._channels_last:
            features = features.permute(0, 3, 1, 2)
        return self.pool(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return unit_length(self.bn(self.fc(self.pooled(images))))
