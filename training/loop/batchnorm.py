"""Batch normalisation over the batches of all processes.

``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` silently drops the activation that timm fuses into its normalisation layers,
and refuses a processor. timm's own conversion is right on a GPU; for gloo on a processor there is `AllReduceStatistics`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import nn

_Net = TypeVar("_Net", bound=nn.Module)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; what each did with it flows back to all."""

    @staticmethod
    def forward(_context: Any, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def _normalize(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """What ``BatchNorm*d.forward`` computes in training, with the mean and variance of all processes' inputs."""
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    values = x.float()
    count = values.new_full((1,), values.numel() / values.shape[1])
    totals = torch.cat([values.sum(axes), values.square().sum(axes), count])
    totals = _Sum.apply(totals)
    (total, squares), count = totals[:-1].chunk(2), totals[-1]
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    with torch.no_grad():
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean.detach(), layer.momentum)
        layer.running_var.lerp_(variance.detach() * (count / (count - 1)), layer.momentum)
    result: torch.Tensor = (values - mean.view(shape)) * torch.rsqrt(variance + layer.eps).view(shape)
    result = (result * layer.weight.view(shape) + layer.bias.view(shape)).to(x.dtype)
    return result


class AllReduceStatistics:
    """Mixed into a batch normalisation layer: in training, the statistics are those of all processes together."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the layer's own, with shared statistics in training."""
        layer: Any = self
        if not layer.training:
            normalized: torch.Tensor = super().forward(x)  # type: ignore[misc]
            return normalized
        x = _normalize(layer, x)
        return layer.act(layer.drop(x)) if isinstance(layer, BatchNormAct2d) else x


class _Shared1d(AllReduceStatistics, nn.BatchNorm1d):
    pass


class _Shared2d(AllReduceStatistics, nn.BatchNorm2d):
    pass


class _SharedAct2d(AllReduceStatistics, BatchNormAct2d):
    pass


_SHARED = {nn.BatchNorm1d: _Shared1d, nn.BatchNorm2d: _Shared2d, BatchNormAct2d: _SharedAct2d}


def share_statistics(net: _Net, device: torch.device) -> _Net:
    """The network with every batch normalisation layer seeing the whole batch; names of its tensors stay the same."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return net
    if device.type == "cuda":
        shared: _Net = convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        return shared
    for layer in net.modules():
        # The class is exchanged, not the object: parameters, activation and everything else stay as they are.
        if type(layer) in _SHARED:
            layer.__class__ = _SHARED[type(layer)]
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(layer, AllReduceStatistics):
            raise TypeError(f"{type(layer).__name__} has no counterpart that shares its statistics")
    return net


def batch_norms(net: nn.Module) -> list[Any]:
    """Every batch normalisation layer of a network."""
    return [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@contextlib.contextmanager
def kept_statistics(net: nn.Module) -> Iterator[None]:
    """While the block lasts, batches are normalised by their own statistics and leave the running ones as they are."""
    layers = batch_norms(net)
    before = [(layer.momentum, layer.num_batches_tracked.clone()) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.num_batches_tracked.copy_(count)
