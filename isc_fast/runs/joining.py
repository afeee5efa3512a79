"""Joins whose pairs lie in files, so that an interrupted run goes on with the pieces that are missing, and workers share them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..descriptors.store import Descriptors
from ..errors import EngineError, InputError
from ..extraction.runners.account import Account
from ..extraction.runners.assignment import Assignment
from ..extraction.runners.cluster import Cluster
from ..extraction.runners.processes import carry_out
from ..extraction.runners.ray_runner import ray_workers
from ..matching.arrays import Pairs
from ..matching.cpu_searcher import CPU
from ..matching.pair_files import PairFiles
from ..progress import ProgressCallback, Tally
from .describing import Progress

PARTS = "pairs.parts"
_MILLION = 1_000_000
_MOST_WORKERS = 1024


class Join(Protocol):
    """A search for pairs that is cut into pieces, such as `isc_fast.matching.search_tasks.SearchTasks`."""

    blocks: int

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a piece compares."""
        ...

    def pairs(self, number: int) -> Iterator[Pairs]:
        """The pairs of a piece."""
        ...


class BlockJoin(Join, Protocol):
    """One that is cut into blocks of rows: `isc_fast.matching.self_join.SelfJoin` and its neighbour for two sides."""

    rows: int


@dataclass(frozen=True)
class Crew:
    """Who compares: this process; worker processes on this machine; or workers on a Ray cluster.

    Attributes:
        workers: how many processes, which share the cores of this machine; None for this one alone.
        cluster: the Ray cluster whose workers compare, instead.

    Raises:
        InputError: a number is out of range, or both are given.
    """

    workers: int | None = None
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and not 1 <= self.workers <= _MOST_WORKERS:
            raise InputError(f"the number of workers must be from 1 to {_MOST_WORKERS}, not {self.workers}")
        if self.workers is not None and self.cluster is not None:
            raise InputError("a cluster says itself how many workers it has; give it, or a number of workers")

    @property
    def elsewhere(self) -> bool:
        """Whether others than this process compare."""
        return self.workers is not None or self.cluster is not None

    def check(self, device: object) -> None:
        """See that they can compare on a device.

        Raises:
            InputError: they cannot.
        """
        if self.workers is not None and device != CPU:
            raise InputError(
                f"workers search on the processor, and one process uses all GPUs of {device}; leave out the workers, or the "
                "device"
            )
        if self.cluster is not None and device not in (CPU, "cuda"):
            raise InputError(f"on a cluster the device is cpu or cuda, of which each worker has one, not {device}")


@dataclass(frozen=True)
class Recipe:
    """What tells a worker how to open the same join; see `isc_fast.runs.join_tool`.

    Attributes:
        device: what searches: ``"cpu"``, or on a cluster ``"cuda"``.
        begin: the message.
    """

    device: str
    begin: Mapping[str, Any]


HERE = Crew()


def place_of(folder: Path, threshold: float, *sets: Descriptors) -> Path:
    """Where the files of a join lie: the name depends on the rows and on the threshold alone."""
    words = [*(found.content_id() for found in sets), repr(np.float32(threshold))]
    return folder / PARTS / hashlib.sha256(" ".join(words).encode()).hexdigest()[:24]


def compute(
    join: BlockJoin,
    place: Path,
    progress: Progress | None,
    step: str = "compare",
    crew: Crew = HERE,
    recipe: Callable[[Path], Recipe] | None = None,
) -> PairFiles:
    """Compute the pieces of a join that are missing, one file each.

    Args:
        join: what is computed.
        place: see `place_of`.
        progress: is told millions of pairs of rows that were compared.
        step: its name for that.
        crew: who compares.
        recipe: given the folder of the pieces, how others open the join; not needed where this process compares.

    Raises:
        OutputError: a file cannot be written.
        IscFastError: what the join raises.
    """
    inside = place / f"blocks-of-{join.rows}"  # devices have blocks of their own
    files = PairFiles(inside, join.blocks)
    tell = progress(step) if progress else None
    compute_pieces(join, files, range(join.blocks), tell, crew, recipe(inside) if recipe and crew.elsewhere else None)
    return files


def compute_pieces(
    join: Join,
    files: PairFiles,
    pieces: Sequence[int],
    tell: ProgressCallback | None,
    crew: Crew = HERE,
    recipe: Recipe | None = None,
) -> int:
    """Compute those of some pieces that are missing; returns how many they were.

    Args:
        join: what is computed.
        files: take the pairs.
        pieces: their numbers.
        tell: is told millions of pairs of rows that were compared, of how many.
        crew: who compares.
        recipe: how others open the join; not needed where this process compares.

    Raises:
        OutputError: a file cannot be written.
        IscFastError: what the join raises, here or in a worker; or too many workers died.
    """
    missing = files.missing(pieces)
    sizes = {piece: _millions(join, piece) for piece in pieces}
    tally = Tally(sum(sizes.values()), sum(sizes[piece] for piece in missing), tell)
    if crew.elsewhere and missing:
        assert recipe is not None
        _by_workers(files, missing, tally, crew, recipe, sizes.__getitem__)
        return len(missing)
    tally.begin()
    for piece in missing:
        files.write(piece, join.pairs(piece))
        tally.add(sizes[piece], 0)
    return len(missing)


def _millions(join: Join, piece: int) -> int:
    return -(-join.comparisons(piece) // _MILLION)


def _by_workers(
    files: PairFiles, missing: Sequence[int], tally: Tally, crew: Crew, recipe: Recipe, size: Callable[[int], int]
) -> None:
    job = {"tool": "isc_fast.runs.join_tool", "device": recipe.device}
    begin = {**recipe.begin, "place": files.home.absolute, "pieces": files.pieces}
    assignment = Assignment(job, begin, missing, lambda piece, _: {"shard": piece, "size": size(piece)}, _refuse_undone)
    if crew.cluster is None:
        carry_out(assignment, ["cpu"] * (crew.workers or 1), tally)
        return
    with ray_workers(crew.cluster, job) as workers:
        workers.carry_out(assignment, tally)


def _refuse_undone(account: Account) -> None:
    """Raise an error where a run that has ended did not do all pieces.

    Raises:
        EngineError: it did not.
    """
    rest = f"{account.undone} others are not done either" if account.undone else "all else is done"
    if account.left:
        piece, how = min(account.left.items())
        raise EngineError(
            f"{account.most_deaths} processes ended over the task {piece} ({how}); {rest}; what is done is kept: run the same "
            "command again, with fewer workers if the memory was too small"
        )
    if account.undone:
        raise EngineError(
            f"{account.last_death}, and no other is left; what is done is kept: run the same command again, with fewer workers "
            "if the memory was too small"
        )


def fresh(place: Path, pieces: int) -> PairFiles:
    """Files of pairs in a folder that is emptied first, since what is there is never replaced."""
    shutil.rmtree(place, ignore_errors=True)
    return PairFiles(place, pieces)


def remove(folder: Path) -> None:
    """Remove the pieces of this and of earlier joins from an output folder, when everything is written."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
