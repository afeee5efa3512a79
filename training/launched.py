"""Which process of a run this one is, as torchrun says in the environment. It needs no torch."""

from __future__ import annotations

import os

from ..errors import InputError


def from_environment(name: str, default: int) -> int:
    """Return a number that torchrun sets, or the default without torchrun.

    Raises:
        InputError: it is not a number.
    """
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"the environment's {name} is {text!r}; expected a number, as torchrun sets it") from error


def current_rank() -> int:
    """Return the number of this process, as torchrun sets it, or 0 without torchrun."""
    return from_environment("RANK", 0)


def local_world_size() -> int:
    """Return the number of this run's processes on this machine, or 1 without torchrun."""
    return max(1, from_environment("LOCAL_WORLD_SIZE", 1))


def world_size() -> int:
    """Return the number of processes in this run, or 1 without torchrun."""
    return max(1, from_environment("WORLD_SIZE", 1))
