"""Folding batch normalisation into the layer before it, in torch, so that the folded weights can be rounded."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...networks.model import DescribingNet
from ..agree import cosines
from ..verify import describe

_SAME = 0.99999

_Layer = nn.Conv2d | nn.Linear
_Norm = nn.BatchNorm1d | nn.BatchNorm2d


def _pairs(net: DescribingNet, pixels: npt.NDArray[np.uint8]) -> list[tuple[_Layer, _Norm]]:
    """Find the layers whose output goes straight into a normalisation, by running the network once."""
    made: list[tuple[torch.Tensor, _Layer]] = []
    pairs: list[tuple[_Layer, _Norm]] = []
    calls: dict[nn.Module, int] = {}

    def after(module: nn.Module, _: object, output: torch.Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, _Layer):
            made.append((output, module))
        elif isinstance(module, _Norm):
            pairs.extend((layer, module) for tensor, layer in made if tensor is inputs[module])

    def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        inputs[module] = args[0]

    inputs: dict[nn.Module, torch.Tensor] = {}
    handles = []
    for module in net.modules():
        if isinstance(module, _Layer | _Norm):
            handles.append(module.register_forward_hook(after))
            handles.append(module.register_forward_pre_hook(before))
    try:
        describe(net, pixels)
    finally:
        for handle in handles:
            handle.remove()
    return [(layer, norm) for layer, norm in pairs if calls[layer] == 1 and calls[norm] == 1]


def _fold(layer: _Layer, norm: _Norm) -> None:
    """Move the normalisation into the layer and leave an exact identity in its place."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return
    weight = layer.weight.double()
    factor = torch.rsqrt(variance.double() + norm.eps)
    if norm.affine:
        factor = factor * norm.weight.double()
    bias = layer.bias.double() if layer.bias is not None else torch.zeros_like(factor)
    offset = norm.bias.double() if norm.affine else torch.zeros_like(factor)
    bias = (bias - mean.double()) * factor + offset
    layer.weight.data = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).float()
    layer.bias = nn.Parameter(bias.float(), requires_grad=False)
    norm.eps = 0.0  # with a variance of 1 the division is by exactly 1
    mean.zero_()
    variance.fill_(1.0)
    if norm.affine:
        norm.weight.data.fill_(1.0)
        norm.bias.data.zero_()


def fold_norms(net: DescribingNet, pixels: npt.NDArray[np.uint8]) -> DescribingNet:
    """Copy the network with every batch normalisation folded into the convolution or linear layer before it.

    The copy computes the same up to the rounding of float32. Folding is wrong where something else uses the layer's output
    too. So the copy is compared with the network; where they differ, an unfolded copy is returned.

    Args:
        net: the network, in evaluation mode.
        pixels: a few photos ``uint8 (n, h, w, 3)``. On noise a deep network can turn rounding into large differences.
    """
    folded = copy.deepcopy(net).eval()
    pairs = _pairs(folded, pixels)
    with torch.no_grad():
        for layer, norm in pairs:
            _fold(layer, norm)
    agree = cosines(describe(folded, pixels), describe(net, pixels)).min() > _SAME
    return folded if agree else copy.deepcopy(net).eval()
