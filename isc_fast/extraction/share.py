"""Which shards one job of several computes: jobs of an array, or the tasks of one job, that share nothing but a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import InputError

_ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
_TASKS = ("SLURM_PROCID", "SLURM_NTASKS")


@dataclass(frozen=True)
class Share:
    """One of several equal shares of an extraction.

    Attributes:
        index: of the share, ``0 ≤ index < count``.
        count: number of shares.

    Raises:
        InputError: there is no such share.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"there is no share {self.index} of {self.count}: they are counted from 0, so the last one is {self.count - 1}; "
                "give --shard-index below --num-shards"
            )

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The share of this process by what Slurm says: of a job array, of the tasks that ``srun`` started, or of both.

        Raises:
            InputError: this is no job of Slurm's, or its array has gaps that are not all alike.
        """
        index, count = 0, 1
        if _ARRAY[0] in environment:
            task, least, count = (_number(environment, name) for name in _ARRAY)
            step = _number(environment, "SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environment else 1
            index, gap = divmod(task - least, max(step, 1))
            if gap or not 0 <= index < count:
                raise InputError(
                    f"the task {task} is not one of {count} that begin with {least} and are {step} apart; say which share it is: "
                    "--shard-index and --num-shards"
                )
        if all(name in environment for name in _TASKS):
            process, tasks = (_number(environment, name) for name in _TASKS)
            index, count = index * tasks + process, count * tasks
        elif _ARRAY[0] not in environment:
            raise InputError(
                f"neither {_ARRAY[0]} nor {_TASKS[0]} is set, so this is no job of Slurm's; leave out --slurm, or give "
                "--shard-index and --num-shards"
            )
        return cls(index, count)

    def shards(self, count: int) -> range:
        """Which of so many shards belong to this share: consecutive ones, so that what lies together is read by one job."""
        return range(count * self.index // self.count, count * (self.index + 1) // self.count)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isascii() or not text.isdecimal():
        raise InputError(f"{name} is {text!r}, not a number; give --shard-index and --num-shards")
    return int(text)
