"""Which process this is among those of a run, and on which device; the variables are torchrun's."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn  # before a group is made: its functions keep the one that they find as a default, for good

from ...errors import InputError

TIMEOUT_S = 600  # how long a process waits for another before it gives up


@dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        rank: its number, from 0; the first one writes files and prints.
        world_size: how many there are.
        device: what it computes on.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"the environment's {name} is {text!r}; expected a number, as torchrun sets it") from error


def current_rank() -> int:
    """The number of this process as torchrun says it, 0 without torchrun."""
    return _from_environment("RANK", 0)


def local_world_size() -> int:
    """Processes of this run on this machine, 1 without torchrun."""
    return max(1, _from_environment("LOCAL_WORLD_SIZE", 1))


def choose_device(name: str | None) -> torch.device:
    """``cpu`` or this process's GPU; by default a GPU if there is one.

    Raises:
        InputError: a GPU was asked for and there is none for this process.
    """
    if name not in (None, "cpu", "cuda"):
        raise InputError(f"there is no device {name!r}; choose cpu or cuda")
    if name == "cpu" or (name is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("--device cuda, and torch finds no GPU; check the driver with nvidia-smi, or use --device cpu")
    local, count = _from_environment("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= count:
        raise InputError(f"this is process {local} of its machine, which has {count} GPUs: start one process for each")
    return torch.device("cuda", local)


@contextlib.contextmanager
def joined(device: str | None = None, timeout_s: float = TIMEOUT_S) -> Iterator[Process]:
    """This process, connected with the others of its run while the block lasts; alone without torchrun.

    Raises:
        InputError: the device is not there, or the environment is not torchrun's.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # before anything is sent, or every process would use the first GPU
    if dist.is_initialized():  # whoever started the group ends it
        yield Process(dist.get_rank(), dist.get_world_size(), chosen)
        return
    world_size = _from_environment("WORLD_SIZE", 1)
    if world_size == 1:
        yield Process(0, 1, chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        yield Process(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        # Gloo's threads end with the last reference to the group, and networks in circles still have some: a thread that lets
        # go of its last message while the interpreter ends would take the process with it (SIGABRT).
        gc.collect()
        dist.destroy_process_group()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()
