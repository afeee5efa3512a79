"""The choice of the samples that a step trains on.

It follows from the seed, the epoch and the step alone. Therefore it is the same for any number of processes, and after any
interruption.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..stages import Stage

Key = tuple[int, int]
"""(epoch, number of the sample). Together with the seed, the key decides what the views of the sample look like."""


def steps_per_epoch(stage: Stage, samples: int) -> int:
    """Return the number of steps in an epoch, as the published run counts them.

    The samples are padded to a multiple of that run's processes. An incomplete last step is dropped.
    """
    share, rest = divmod(stage.batch_size, stage.reference_world_size)
    if rest:  # the processes of the published run could not share such a batch
        return samples // stage.batch_size
    return -(-samples // stage.reference_world_size) // share


def epoch_order(seed: int, epoch: int, samples: int, needed: int) -> npt.NDArray[np.int64]:
    """Return the order of the samples in an epoch, ``int64 (needed,)``.

    Every sample comes once. If more samples are needed, the order starts again from its front.
    """
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    return np.resize(order, needed)


class KeySampler:
    """Gives the keys of this process's samples, one list for each step. A DataLoader uses it as its ``batch_sampler``."""

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
