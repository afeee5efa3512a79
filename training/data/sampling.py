"""Which samples a step trains on: from (seed, epoch, step) alone, for any number of processes and after any interruption."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..stages import Stage

Key = tuple[int, int]
"""(epoch, number of the sample): all that decides what a sample's views look like, with the seed."""


def steps_per_epoch(stage: Stage, samples: int) -> int:
    """Steps of an epoch, as the published run counted them: padded to its processes, incomplete steps dropped."""
    share, rest = divmod(stage.batch_size, stage.reference_world_size)
    if rest:  # a batch that those processes could not have shared
        return samples // stage.batch_size
    return -(-samples // stage.reference_world_size) // share


def epoch_order(seed: int, epoch: int, samples: int, needed: int) -> npt.NDArray[np.int64]:
    """The samples of an epoch in order, ``int64 (needed,)``: every one once, then from the front again."""
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    return np.resize(order, needed)


class KeySampler:
    """Lists of keys, one for each step of this process, for a DataLoader as its ``batch_sampler``."""

    def __init__(self, stage: Stage, samples: int, *, seed: int, rank: int, world_size: int) -> None:
        self._stage, self._samples, self._seed = stage, samples, seed
        self._rank, self._share = rank, stage.batch_size // world_size
        self.epoch, self.first_step = 0, 0

    def __len__(self) -> int:
        return steps_per_epoch(self._stage, self._samples) - self.first_step

    def __iter__(self) -> Iterator[list[Key]]:
        steps, batch = steps_per_epoch(self._stage, self._samples), self._stage.batch_size
        order = epoch_order(self._seed, self.epoch, self._samples, steps * batch)
        for step in range(self.first_step, steps):
            start = step * batch + self._rank * self._share
            yield [(self.epoch, int(number)) for number in order[start : start + self._share]]
