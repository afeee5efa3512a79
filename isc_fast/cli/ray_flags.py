"""The flags of a verb whose work a Ray cluster can do."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .share_flags import add_share_flags, share_of

if TYPE_CHECKING:
    from ..extraction.runners.cluster import Cluster


def count_or_range(text: str) -> int | tuple[int, int]:
    """Read ``8`` or ``2:8``."""
    try:
        numbers = [int(number) for number in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ArgumentTypeError(f"{text!r} is neither a number nor MIN:MAX, such as 2:8")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def add_ray_flags(parser: ArgumentParser) -> None:
    """Add which cluster computes, and with what."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="HOST:PORT",
        help="let workers on a Ray cluster compute: the one at this address; without an address that of RAY_ADDRESS, else one "
        "that runs on this machine, else one that is started for this run",
    )
    parser.add_argument(
        "--worker-cores",
        type=int,
        metavar="N",
        help="with --ray: cores of each worker (default: 1; on GPUs what the cluster has for each of them)",
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="with --ray: take workers on unlike machines too, whose descriptors differ in their last bits",
    )


def add_search_workers(parser: ArgumentParser) -> None:
    """Add who compares, for a verb whose ``--workers`` decode."""
    parser.add_argument(
        "--search-workers",
        type=count_or_range,
        metavar="N",
        help="processes that compare, which share the cores; with --search-ray MIN:MAX workers, such as 2:8",
    )
    parser.add_argument(
        "--search-ray",
        nargs="?",
        const="",
        metavar="HOST:PORT",
        help="let workers on a Ray cluster compare: the one at this address, or as --ray of isc-fast extract finds it",
    )
    add_share_flags(parser, "the comparison of descriptors")


def _cluster(
    address: str, workers: int | tuple[int, int] | None, cores: int | None = None, mixed: bool = False
) -> Cluster:
    """The cluster at an address; ``""`` is the one that `isc_fast.Cluster` finds. A number of workers is both limits of them.

    Raises:
        InputError: a number is out of range.
    """
    from ..extraction.runners.cluster import Cluster

    return Cluster(address or None, (workers, workers) if isinstance(workers, int) else workers, cores, mixed)


def search_workers_of(arguments: Namespace) -> dict[str, Any]:
    """The arguments of `isc_fast.find_duplicates` and its neighbours that the flags of `add_search_workers` say.

    Raises:
        InputError: a flag needs ``--search-ray``, flags of shares do not go together, or a number is out of range.
    """
    workers = arguments.search_workers
    share = {"search_share": share_of(arguments)}
    if arguments.search_ray is not None:
        return {**share, "search_cluster": _cluster(arguments.search_ray, workers)}
    if isinstance(workers, tuple):
        raise InputError(
            "--search-workers MIN:MAX is about workers on a Ray cluster; give --search-ray too, or leave it out"
        )
    return share if workers is None else {**share, "search_workers": workers}


def cluster_of(arguments: Namespace) -> dict[str, Any]:
    """The arguments of `isc_fast.extract` that these flags and ``--workers`` say.

    Raises:
        InputError: a flag needs ``--ray``, or a number is out of range.
    """
    workers = arguments.workers
    if arguments.ray is None:
        for flag, meant in (
            ("--workers MIN:MAX", isinstance(workers, tuple)),
            ("--worker-cores", arguments.worker_cores is not None),
            ("--mixed", arguments.mixed),
        ):
            if meant:
                raise InputError(f"{flag} is about workers on a Ray cluster; give --ray too, or leave it out")
        return {} if workers is None else {"workers": workers}
    return {"cluster": _cluster(arguments.ray, workers, arguments.worker_cores, arguments.mixed)}
