"""The start of a small network on little data: its head is fitted in closed form to the stage's own views."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist

from ...engines.protocol import Engine
from ...networks.model import DescriptorNet
from ..data.dataset import SampleDataset, make_loader
from ..data.inputs import InputMaker
from ..data.sampling import KeySampler
from ..stages import Stage
from .distributed import Process
from .head_fit import HeadFit
from .whitening import pooled_features, set_whitened_head

_FITTED_VIEWS = 20_000
"""A head is fitted to a teacher on so many views at most, over all processes. Its 100,000 numbers need no more."""


def begin_with_whitened_head(
    net: DescriptorNet, dataset: SampleDataset, stage: Stage, process: Process, *, workers: int, seed: int
) -> None:
    """Fit the head to the moderate and hard views of an epoch that training never reaches.

    All processes get the same head.
    """
    moderate, hard = [], []
    for count, images, _ in _views_before(net, dataset, stage, process, workers=workers, seed=seed):
        # The negatives come after the views.
        features = torch.from_numpy(pooled_features(net, images[: 2 * count]))
        moderate.append(features[:count])
        hard.append(features[count:])
    pair = torch.stack([torch.cat(moderate), torch.cat(hard)]).to(process.device)
    everyone = [pair]
    if process.world_size > 1:
        everyone = [torch.empty_like(pair) for _ in range(process.world_size)]
        dist.all_gather(everyone, pair)
    photos, views_of = torch.cat(everyone, dim=1).cpu().numpy()
    set_whitened_head(net, photos, views_of)


def begin_with_fitted_head(
    net: DescriptorNet,
    dataset: SampleDataset,
    stage: Stage,
    process: Process,
    teacher: Engine,
    *,
    workers: int,
    seed: int,
) -> None:
    """Fit the head to the teacher's descriptors of the views of an epoch that training never reaches.

    All processes get the same head.
    """
    fit: HeadFit | None = None
    for _, images, rows in _views_before(net, dataset, stage, process, workers=workers, seed=seed, teacher=teacher):
        features = torch.from_numpy(pooled_features(net, images))
        fit = fit or HeadFit(features.shape[1], stage.dim)
        fit.add(features, rows.cpu())
        if fit.views * process.world_size >= _FITTED_VIEWS:
            break
    if fit is not None:
        fit.set_head(net, process.device)


def _views_before(
    net: DescriptorNet,
    dataset: SampleDataset,
    stage: Stage,
    process: Process,
    *,
    workers: int,
    seed: int,
    teacher: Engine | None = None,
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Give the batches of an epoch that training never reaches: the number of samples, the images and their labels."""
    net.to(process.device).eval()
    sampler = KeySampler(stage, len(dataset), seed=seed, rank=process.rank, world_size=process.world_size)
    sampler.epoch = stage.epochs
    inputs = InputMaker(net, dataset, process.device, teacher=teacher)
    for batch in make_loader(dataset, sampler, workers=workers, pin=False):
        yield len(batch.keys), *inputs(batch)
