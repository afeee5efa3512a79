"""The processes of a run: which one this is, and on which device it computes. torchrun sets the variables for it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn  # must be imported before a group exists: its functions keep that group as their default

from ...errors import InputError
from ..launched import from_environment, world_size

TIMEOUT_S = 600  # how many seconds a process waits for another before it fails


@dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        rank: its number, from 0. The first process writes files and prints.
        world_size: the number of processes in the run.
        device: the device that it computes on.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the first one, which writes files and prints."""
        return self.rank == 0


def choose_device(name: str | None) -> torch.device:
    """Return the CPU or this process's GPU. By default, it is a GPU if there is one.

    Args:
        name: ``cpu``, ``cuda`` or None for the default.

    Raises:
        InputError: there is no such device, or no GPU for this process.
    """
    if name not in (None, "cpu", "cuda"):
        raise InputError(f"there is no device {name!r}; choose cpu or cuda")
    if name == "cpu" or (name is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            "--device is cuda, but torch finds no GPU; check the driver with nvidia-smi, or give --device cpu"
        )
    local, count = from_environment("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= count:
        raise InputError(
            f"this is process {local} of its machine, which has {count} GPUs: start one process for each GPU "
            f"(torchrun --nproc-per-node={count})"
        )
    return torch.device("cuda", local)


@contextlib.contextmanager
def joined(device: str | None = None, timeout_s: float = TIMEOUT_S) -> Iterator[Process]:
    """Connect this process with the other processes of its run inside the ``with`` block.

    Without torchrun, the process is the only one of its run.

    Args:
        device: see `choose_device`.
        timeout_s: how many seconds a process waits for another before it fails.

    Raises:
        InputError: the device does not exist, or the environment holds values that torchrun does not set.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # must come before any exchange, or every process would use the first GPU
    if dist.is_initialized():  # the caller that started the group also ends it
        yield Process(dist.get_rank(), dist.get_world_size(), chosen)
        return
    if world_size() == 1:
        yield Process(0, 1, chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        yield Process(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        # Gloo's threads end with the last reference to the group, and networks in reference cycles still hold some. A thread
        # that releases its last message while the interpreter exits would abort the process (SIGABRT).
        gc.collect()
        dist.destroy_process_group()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place, and return it."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def wait_for_all() -> None:
    """Wait until every process has called this function."""
    if dist.is_initialized():
        dist.barrier()
