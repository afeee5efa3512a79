"""A program for torchrun: it trains a small linear network for five steps, and rank 0 writes the results to a file."""

import sys

import numpy as np
import torch
from helpers_training import check_no_gloo_thread
from torch.nn.parallel import DistributedDataParallel

from isc_fast.training.loop.distributed import joined
from isc_fast.training.loop.losses import CrossBatchMemory, contrastive_loss, gather, gradient_scale


def train(rank: int, world: int) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 4, bias=False)
    network = DistributedDataParallel(linear) if world > 1 else linear
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
    memory = CrossBatchMemory(19, 4)
    losses = []
    for step in range(5):
        random = np.random.default_rng(step)
        images, numbers = random.normal(size=(8, 6)).astype(np.float32), random.integers(0, 3, 8)
        for first, again in ((0, 1), (2, 6)):  # one image stands twice in the same process, another one in both
            images[again], numbers[again] = images[first], numbers[first]
        inputs, labels = (torch.from_numpy(values).chunk(world)[rank] for values in (images, numbers))
        vectors = torch.nn.functional.normalize(network(inputs))
        loss = contrastive_loss(*gather(vectors, labels), memory, pos_margin=0.0, neg_margin=1.0).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss * gradient_scale(world, 4)).backward()
        optimizer.step()
    if rank == 0:
        weight = linear.weight.detach().numpy()
        np.savez(sys.argv[1], losses=losses, weight=weight, memory=memory.vectors.numpy(), labels=memory.labels.numpy())


def main() -> None:
    with joined("cpu") as process:
        train(process.rank, process.world_size)
    check_no_gloo_thread()


if __name__ == "__main__":
    main()
