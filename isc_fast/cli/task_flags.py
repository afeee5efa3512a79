"""The flags of a verb whose work is cut into tasks where its output is a folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ..errors import InputError
from .ray_flags import add_ray_flags, cluster_of, count_or_range
from .share_flags import add_share_flags, share_of

_FLAGS = ("workers", "shard_index", "num_shards", "slurm", "ray", "worker_cores", "mixed")


def add_task_flags(parser: ArgumentParser) -> None:
    """Add who computes the tasks."""
    parser.add_argument(
        "--workers",
        type=count_or_range,
        metavar="N",
        help="with -o FOLDER/: processes that compute, which share the cores; with --ray MIN:MAX workers, such as 2:8",
    )
    add_share_flags(parser, "the tasks")
    add_ray_flags(parser)


def tasks_of(arguments: Namespace) -> dict[str, Any]:
    """The arguments ``workers``, ``cluster`` and ``share`` of the functions that cut their work into tasks.

    Raises:
        InputError: flags do not go together, or a number is out of range.
    """
    return {"share": share_of(arguments), **cluster_of(arguments)}


def refuse_task_flags(arguments: Namespace, *others: str) -> None:
    """Refuse the flags of tasks, and others, where the output is a file.

    Raises:
        InputError: one is given.
    """
    for name in (*others, *_FLAGS):
        if getattr(arguments, name) not in (None, False):
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} is about work in tasks, whose output is a folder: -o FOLDER/, with a slash")
