"""The flags of a verb whose work the jobs of an array share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..extraction.share import Share


def add_share_flags(parser: ArgumentParser, of: str = "a folder's parts") -> None:
    """Add which share this job computes; ``of`` names what is shared."""
    parser.add_argument("--shard-index", type=int, metavar="I", help=f"compute only this share of {of}, counted from 0")
    parser.add_argument("--num-shards", type=int, metavar="N", help="number of shares; other jobs compute the others")
    parser.add_argument(
        "--slurm", action="store_true", help="take the share of this task of a Slurm job array, or of srun's tasks"
    )


def share_of(arguments: Namespace) -> Share | None:
    """The share of this job; None for everything.

    Raises:
        InputError: the flags do not go together, or there is no such share.
    """
    from ..extraction.share import Share

    index, count = arguments.shard_index, arguments.num_shards
    if arguments.slurm:
        if (index, count) != (None, None):
            raise InputError(
                "--slurm says which share this is, and so do --shard-index and --num-shards: leave one out"
            )
        return Share.of_slurm()
    if (index is None) != (count is None):
        raise InputError("--shard-index and --num-shards go together: which share this is, and of how many")
    return None if index is None else Share(index, count)
