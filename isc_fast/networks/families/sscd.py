"""SSCD, the self-supervised descriptors for copy detection: ResNets, generalised-mean pooling and a linear head with a bias.

Their authors publish each network in three forms: with the names of torchvision, with those of Classy Vision, and as TorchScript,
of which `isc_fast.networks.torchscript` reads the tensors alone. All three become the same network here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ...errors import CheckpointError
from ..checkpoint import load_strictly, named_tensors
from ..model import DescribingNet, create_backbone, generalised_mean, unit_length
from .base import IMAGENET_MEAN, IMAGENET_STD, Built, Family, Weights, Wishes, checked_power, plain_name

GEM_P = 3.0
"""The power of the pooling of all published networks."""
SIZE = 320
"""Side of the input in pixels: what the authors advise for photos that are stretched to a square."""

_FIRST, _CLASSY_FIRST = "backbone.conv1.weight", "backbone.initial_block._module.0.weight"
_CLASSY = (
    (r"backbone\.initial_block\._module\.0\.", "backbone.conv1."),
    (r"backbone\.initial_block\._module\.1\.", "backbone.bn1."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.convolutional_block\.0\.", r"backbone.layer#\1.\2.conv1."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.convolutional_block\.1\.", r"backbone.layer#\1.\2.bn1."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.convolutional_block\.3\.", r"backbone.layer#\1.\2.conv2."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.convolutional_block\.4\.", r"backbone.layer#\1.\2.bn2."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.convolutional_block\.6\.", r"backbone.layer#\1.\2.conv3."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.bn\.", r"backbone.layer#\1.\2.bn3."),
    (r"backbone\.blocks\.(\d+)\.block\1-(\d+)\.downsample\.", r"backbone.layer#\1.\2.downsample."),
    (r"embeddings\.1\.", "head."),
)
_TORCHVISION = ((r"backbone\.fc\.", "head."),)

_WIDTH, _DEPTH = "backbone.layer1.0.conv2.weight", re.compile(r"backbone\.layer3\.(\d+)\.conv1\.weight")
_ARCHS = {
    ((64, 64, 3, 3), 6): "resnet50",
    ((128, 4, 3, 3), 23): "resnext101_32x4d",
    ((256, 8, 3, 3), 23): "resnext101_32x8d",
}
"""By the shape of the first 3 × 3 convolution, and the number of blocks of the third layer."""


class SscdNet(DescribingNet):
    """An SSCD network; its tensors are named ``backbone.*`` as timm has them, and ``head.weight``, ``head.bias``.

    Args:
        arch: timm's name of the backbone.
        dim: the length of a descriptor.
        gem_p: the power of generalised-mean pooling.
    """

    gem_p: float

    def __init__(self, arch: str, dim: int, gem_p: float = GEM_P) -> None:
        super().__init__()
        self.arch, self.dim, self.gem_p = arch, dim, gem_p
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.backbone = create_backbone(arch)
        channels: int = self.backbone.feature_info.channels()[-1]  # type: ignore[operator,union-attr]
        self.head = nn.Linear(channels, dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return unit_length(self.head(generalised_mean(self.backbone(images)[-1], self.gem_p)))


def _holds(weights: Weights) -> bool:
    content = weights.content
    return isinstance(content, Mapping) and any(
        wrapper + first in content for wrapper in ("", "module.") for first in (_FIRST, _CLASSY_FIRST)
    )


def _renamed(names: Iterable[str]) -> dict[str, str]:
    """The name in `SscdNet` of each name in a file; names that no form has stay."""
    found = {}
    for name in names:
        made = name
        for old, new in (*_CLASSY, *_TORCHVISION):
            made, changed = re.subn("^" + old, new, name)
            if changed:
                break
        found[name] = re.sub(r"layer#(\d+)", lambda match: f"layer{int(match[1]) + 1}", made)
    return found


def _arch_of(tensors: Mapping[str, torch.Tensor], weights: Weights) -> str:
    blocks = sum(bool(_DEPTH.fullmatch(name)) for name in tensors)
    width = tuple(tensors[_WIDTH].shape) if _WIDTH in tensors else None
    if (width, blocks) not in _ARCHS:
        raise CheckpointError(
            f"{weights.path} is an SSCD network of a kind that is not known here: its third layer has {blocks} blocks, and its "
            f"first 3 × 3 convolution the shape {width}; known are {', '.join(_ARCHS.values())}"
        )
    return _ARCHS[width, blocks]  # type: ignore[index]  # width is in the table


def _build(weights: Weights, wishes: Wishes) -> Built:
    given = named_tensors(weights.path, weights.content)
    names = _renamed(given)
    tensors = {names[name]: value for name, value in given.items()}
    if len(tensors) < len(given):
        raise CheckpointError(
            f"{weights.path} holds some tensors twice, under the names of two forms of SSCD; get it again"
        )
    head = tensors.get("head.weight")
    if head is None or head.ndim != 2:
        raise CheckpointError(
            f"{weights.path} looks like SSCD but has no linear head: expected backbone.fc.weight or embeddings.1.weight; is it "
            "the network without its head?"
        )
    power = checked_power(GEM_P if wishes.gem_p is None else wishes.gem_p)
    net = SscdNet(_arch_of(tensors, weights), head.shape[0], power)
    # How many batches a normalisation has seen in training says nothing afterwards, and some forms leave it out.
    counts = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    load_strictly(net, {**counts, **tensors}, weights.path)
    return Built(net.eval(), plain_name(weights.path), wishes.size or SIZE)


SSCD = Family("SSCD", _holds, _build)
