"""The start of a small network on little data: its head is fitted in closed form to the stage's own views."""

from __future__ import annotations

import torch
import torch.distributed as dist

from ...networks.model import DescriptorNet
from ..data.dataset import SampleDataset, make_loader
from ..data.inputs import InputMaker
from ..data.sampling import KeySampler
from ..stages import Stage
from .distributed import Process
from .whitening import pooled_features, set_whitened_head


def begin_with_whitened_head(
    net: DescriptorNet, dataset: SampleDataset, stage: Stage, process: Process, *, workers: int, seed: int
) -> None:
    """Fit the head to the moderate and hard views of an epoch that training never reaches.

    All processes get the same head.
    """
    net.to(process.device).eval()
    sampler = KeySampler(stage, len(dataset), seed=seed, rank=process.rank, world_size=process.world_size)
    sampler.epoch = stage.epochs
    inputs = InputMaker(net, dataset, process.device)
    moderate, hard = [], []
    for batch in make_loader(dataset, sampler, workers=workers, pin=False):
        images, _ = inputs(batch)
        count = len(batch.keys)
        features = torch.from_numpy(pooled_features(net, images[: 2 * count]))  # the negatives come after the views
        moderate.append(features[:count])
        hard.append(features[count:])
    pair = torch.stack([torch.cat(moderate), torch.cat(hard)]).to(process.device)
    everyone = [pair]
    if process.world_size > 1:
        everyone = [torch.empty_like(pair) for _ in range(process.world_size)]
        dist.all_gather(everyone, pair)
    photos, views_of = torch.cat(everyone, dim=1).cpu().numpy()
    set_whitened_head(net, photos, views_of)
