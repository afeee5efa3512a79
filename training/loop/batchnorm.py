"""Batch normalisation with the statistics of all processes together.

``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` silently drops the activation that timm fuses into its normalisation layers,
and it does not work on a CPU. On a GPU, timm's own conversion is right. On a CPU, `AllReduceStatistics` replaces it.
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
    """The sum of a tensor over all processes. The backward pass sums the gradients over all processes too."""

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
    """Compute what ``BatchNorm*d.forward`` computes in training, but with the mean and the variance over all processes."""
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
    """A mix-in for batch normalisation layers. In training, the layer uses the statistics of all processes together."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Do the same as the layer's own ``forward``, with shared statistics in training."""
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
    """Let every batch normalisation layer of the network see the batches of all processes.

    The names of the network's tensors stay the same.

    Raises:
        TypeError: the network has a batch normalisation layer of an unknown class.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return net
    if device.type == "cuda":
        shared: _Net = convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        return shared
    for layer in net.modules():
        # Only the class of the layer changes. Its parameters, its activation and everything else stay as they are.
        if type(layer) in _SHARED:
            layer.__class__ = _SHARED[type(layer)]
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(layer, AllReduceStatistics):
            raise TypeError(f"{type(layer).__name__} has no counterpart that shares its statistics")
    return net


def batch_norms(net: nn.Module) -> list[Any]:
    """Return every batch normalisation layer of a network."""
    return [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@contextlib.contextmanager
def kept_statistics(net: nn.Module) -> Iterator[None]:
    """Keep the running statistics unchanged inside the ``with`` block. Batches are still normalised by their own statistics."""
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
