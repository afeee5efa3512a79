"""CopyNCE's descriptors: a vision transformer whose class token goes through a linear head and a batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import timm
import torch
from torch import nn

from ...errors import CheckpointError, InputError
from ..checkpoint import load_strictly, named_tensors
from ..model import DescribingNet, unit_length
from .base import IMAGENET_MEAN, IMAGENET_STD, Built, Family, Weights, Wishes, plain_name

_PATCH = 16
_EPSILON = 1e-4  # of the layer normalisations, where timm has 1e-6
_ARCHS = {384: "vit_small_patch16_224", 768: "vit_base_patch16_224"}
"""By the width of a token."""
_HEAD, _TOKEN, _PLACES = "heads.linear_head.fc1.weight", "encoder.cls_token", "encoder.pos_embed"
_NAMES = (("encoder.", "backbone.vit."), ("heads.linear_head.fc1.", "head."), ("heads.linear_head.bn.", "bn."))


class _ClassToken(nn.Module):
    """A transformer without its last normalisation that gives the class token, as a list like timm's feature networks."""

    def __init__(self, arch: str, size: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=_EPSILON)
        self.vit = timm.create_model(arch, pretrained=False, num_classes=0, img_size=size, norm_layer=norm)
        self.vit.norm = nn.Identity()

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.vit.forward_features(images)[:, 0]]  # type: ignore[operator]


class CopyNceNet(DescribingNet):
    """A CopyNCE network; its tensors are named ``backbone.vit.*`` as timm has them, ``head.weight`` and ``bn.*``.

    Args:
        arch: timm's name of the transformer.
        dim: the length of a descriptor.
        size: side of the square input in pixels, which the tensors fix.
    """

    def __init__(self, arch: str, dim: int, size: int) -> None:
        super().__init__()
        self.arch, self.dim, self.gem_p = arch, dim, None
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.backbone = _ClassToken(arch, size)
        self.head = nn.Linear(int(self.backbone.vit.embed_dim), dim, bias=False)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return unit_length(self.bn(self.head(self.backbone(images)[-1])))


def _state(weights: Weights) -> object:
    return weights.content.get("model") if isinstance(weights.content, Mapping) else None


def _holds(weights: Weights) -> bool:
    state = _state(weights)
    return isinstance(state, Mapping) and any(wrapper + _TOKEN in state for wrapper in ("", "module."))


def _renamed(name: str) -> str:
    for old, new in _NAMES:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _build(weights: Weights, wishes: Wishes) -> Built:
    given = named_tensors(weights.path, _state(weights))
    if any(name not in given for name in (_HEAD, _TOKEN, _PLACES)):
        raise CheckpointError(
            f"{weights.path} looks like CopyNCE but has no {_HEAD}; expected its descriptor (the matcher compares pairs of "
            "photos, and describes none)"
        )
    head, token, places = given[_HEAD], given[_TOKEN], given[_PLACES]
    arch, side = _ARCHS.get(token.shape[-1]), math.isqrt(max(0, places.shape[1] - 1) if places.ndim == 3 else 0)
    if arch is None or not side or head.ndim != 2:
        raise CheckpointError(
            f"{weights.path} is a CopyNCE network of a kind that is not known here: tokens {tuple(token.shape)}, places "
            f"{tuple(places.shape)}; known are {', '.join(_ARCHS.values())}"
        )
    size = side * _PATCH
    if wishes.size not in (None, size):
        raise InputError(
            f"the weights in {weights.path} are for an input of {size} pixels, not {wishes.size}; leave out --size"
        )
    if wishes.gem_p is not None:
        raise InputError(f"{weights.path} is a transformer that pools no feature map; leave out --gem-p")
    net = CopyNceNet(arch, head.shape[0], size)
    load_strictly(net, {_renamed(name): value for name, value in given.items()}, weights.path)
    return Built(net.eval(), plain_name(weights.path), size, filter="bicubic")


COPYNCE = Family("CopyNCE", _holds, _build)
