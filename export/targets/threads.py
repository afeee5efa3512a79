"""How many threads torch uses for an export, found by trying, because a wrong number can be a hundred times slower."""

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
    """Give torch as many threads as help inside the block, and its own number again afterwards.

    Torch's threads wait for each other in a spin. On two cores, one of which another program kept busy, two threads took 2.8 s
    for what one does in 0.04 s. So torch gets one thread, unless one is slow and all cores are faster.

    Args:
        run: what is tried; it runs once or twice.
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
