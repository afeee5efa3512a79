"""How many threads torch should use here: tried, because a wrong number is not a little slower but a hundred times."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from ...machine.cores import available_cores

_FAST_ENOUGH_S = 0.5


def _seconds(run: Callable[[], object]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


@contextlib.contextmanager
def best_threads(run: Callable[[], object]) -> Iterator[None]:
    """Inside the block torch has as many threads as help, found by trying on ``run``; then its own number again.

    Torch's threads wait for each other in a spin. On two cores, of which another program kept one busy, two threads
    took 2.8 s for what one does in 0.04 s. So it is one thread, unless that is slow and all cores are faster.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_s = _seconds(run)
        cores = available_cores()
        if cores > 1 and one_s > _FAST_ENOUGH_S:
            torch.set_num_threads(cores)
            if _seconds(run) > one_s:
                torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
