"""Work whose pieces lie in files, so that an interrupted run goes on with those that are missing, and workers share them: joins,
whose files hold pairs, and sets that are made anew part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...descriptors.store import Descriptors
from ...errors import EngineError, InputError, require
from ...extraction.runners.account import Account
from ...extraction.runners.assignment import Assignment
from ...extraction.runners.cluster import Cluster
from ...extraction.runners.processes import carry_out
from ...extraction.runners.ray_runner import ray_workers
from ...extraction.share import Share
from ...files.homes import Home, home_of
from ...matching.pairs.pair_files import PairFiles
from ...matching.searchers.arrays import Pairs
from ...matching.searchers.cpu_searcher import CPU
from ...progress import ProgressCallback, Tally
from ..sides.describing import Progress

PARTS = "pairs.parts"
_MILLION = 1_000_000
_MOST_WORKERS = 1024


class Join(Protocol):
    """A search for pairs that is cut into pieces, such as `isc_fast.matching.pairs.search_tasks.SearchTasks`."""

    blocks: int

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a piece compares."""
        ...

    def pairs(self, number: int) -> Iterator[Pairs]:
        """The pairs of a piece."""
        ...


class BlockJoin(Join, Protocol):
    """One that is cut into blocks of rows: `isc_fast.matching.pairs.self_join.SelfJoin` and its neighbour for two sides."""

    rows: int


class Pieces(Protocol):
    """Work that is cut into pieces, each of which becomes a file: `PairPieces`, or `isc_fast.runs.tasks.part_tasks.PartTasks`.

    Attributes:
        blocks: number of pieces.
        place: the folder of the files, or its address, for other processes.
    """

    blocks: int
    place: str

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a piece compares."""
        ...

    def missing(self, among: Sequence[int]) -> list[int]:
        """Those of some pieces whose files are not there."""
        ...

    def write(self, number: int) -> None:
        """Compute a piece and write its file, unless somebody else has done it meanwhile.

        Raises:
            OutputError: the file cannot be written.
            IscFastError: see what computes.
        """
        ...


class PairPieces:
    """The pieces of a join, whose files hold pairs; see `Pieces`."""

    def __init__(self, join: Join, files: PairFiles) -> None:
        self._join, self._files = join, files
        self.blocks, self.place = join.blocks, files.home.absolute

    def comparisons(self, number: int) -> int:
        """See `Pieces`."""
        return self._join.comparisons(number)

    def missing(self, among: Sequence[int]) -> list[int]:
        """See `Pieces`."""
        return self._files.missing(among)

    def write(self, number: int) -> None:
        """See `Pieces`."""
        self._files.write(number, self._join.pairs(number))


@dataclass(frozen=True)
class Workers:
    """Who compares: this process; worker processes on this machine; or workers on a Ray cluster.

    Attributes:
        processes: how many on this machine, which share its cores; None for this one alone.
        cluster: the Ray cluster whose workers compare, instead.
        share: they compute only this share of the pieces; other jobs, on this machine or on others, compute the others.

    Raises:
        InputError: a number is out of range, or processes and a cluster are given.
    """

    processes: int | None = None
    cluster: Cluster | None = None
    share: Share | None = None

    def __post_init__(self) -> None:
        if self.processes is not None and not 1 <= self.processes <= _MOST_WORKERS:
            raise InputError(f"the number of workers must be from 1 to {_MOST_WORKERS}, not {self.processes}")
        if self.processes is not None and self.cluster is not None:
            raise InputError("a cluster says itself how many workers it has; give it, or a number of workers")

    @property
    def elsewhere(self) -> bool:
        """Whether others than this process compare."""
        return self.processes is not None or self.cluster is not None

    def mine(self, pieces: int) -> range:
        """Which of so many pieces this job computes."""
        return range(pieces) if self.share is None else self.share.shards(pieces)

    def check(self, device: object) -> None:
        """See that they can compare on a device.

        Raises:
            InputError: they cannot.
            MissingExtraError: they are those of a cluster, and Ray is not installed.
        """
        if self.cluster is not None:
            require("ray", "ray")
        if self.processes is not None and device != CPU:
            raise InputError(
                f"workers search on the processor, and one process uses all GPUs of {device}; leave out the workers, or the "
                "device"
            )
        if self.cluster is not None and device not in (CPU, "cuda"):
            raise InputError(f"on a cluster the device is cpu or cuda, of which each worker has one, not {device}")


@dataclass(frozen=True)
class Recipe:
    """What tells a worker how to open the same join; see `isc_fast.runs.tasks.join_tool`.

    Attributes:
        device: what searches: ``"cpu"``, or on a cluster ``"cuda"``.
        begin: the message.
    """

    device: str
    begin: Mapping[str, Any]


HERE = Workers()


def place_of(output: Path | str, threshold: float, *sets: Descriptors) -> Home:
    """Where the files of a join lie in an output: the name depends on the rows and on the threshold alone."""
    words = [*(found.content_id() for found in sets), repr(np.float32(threshold))]
    return home_of(output).within(f"{PARTS}/{hashlib.sha256(' '.join(words).encode()).hexdigest()[:24]}")


def compute(
    join: BlockJoin,
    place: Home,
    progress: Progress | None,
    step: str = "compare",
    workers: Workers = HERE,
    recipe: Callable[[Home], Recipe] | None = None,
) -> PairFiles:
    """Compute the pieces of a join that are missing, one file each; of a share, those that are its own.

    Args:
        join: what is computed.
        place: see `place_of`.
        progress: is told millions of pairs of rows that were compared.
        step: its name for that.
        workers: who compares.
        recipe: given the home of the pieces, how others open the join; not needed where this process compares.

    Raises:
        OutputError: a file cannot be written.
        IscFastError: what the join raises.
    """
    inside = place.within(f"blocks-of-{join.rows}")  # devices have blocks of their own
    files = PairFiles(inside, join.blocks)
    tell = progress(step) if progress else None
    told = recipe(inside) if recipe and workers.elsewhere else None
    compute_pieces(PairPieces(join, files), workers.mine(join.blocks), tell, workers, told)
    return files


def compute_pieces(
    pieces: Pieces,
    numbers: Sequence[int],
    tell: ProgressCallback | None,
    workers: Workers = HERE,
    recipe: Recipe | None = None,
) -> int:
    """Compute those of some pieces that are missing; returns how many they were.

    Args:
        pieces: what is computed.
        numbers: of some of them.
        tell: is told millions of pairs of rows that were compared, of how many.
        workers: who compares.
        recipe: how others open them; not needed where this process compares.

    Raises:
        OutputError: a file cannot be written.
        IscFastError: what the work raises, here or in a worker; or too many workers died.
    """
    missing = pieces.missing(numbers)
    sizes = {piece: -(-pieces.comparisons(piece) // _MILLION) for piece in numbers}
    tally = Tally(sum(sizes.values()), sum(sizes[piece] for piece in missing), tell)
    if workers.elsewhere and missing:
        assert recipe is not None
        _by_workers(pieces, missing, tally, workers, recipe, sizes.__getitem__)
        return len(missing)
    tally.begin()
    for piece in missing:
        pieces.write(piece)
        tally.add(sizes[piece], 0)
    return len(missing)


def _by_workers(
    pieces: Pieces,
    missing: Sequence[int],
    tally: Tally,
    workers: Workers,
    recipe: Recipe,
    size: Callable[[int], int],
) -> None:
    job = {"tool": "isc_fast.runs.tasks.join_tool", "device": recipe.device}
    begin = {**recipe.begin, "place": pieces.place}
    assignment = Assignment(job, begin, missing, lambda piece, _: {"shard": piece, "size": size(piece)}, _refuse_undone)
    if workers.cluster is None:
        carry_out(assignment, ["cpu"] * (workers.processes or 1), tally)
        return
    with ray_workers(workers.cluster, job) as on_ray:
        on_ray.carry_out(assignment, tally)


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


def fresh(place: Home, pieces: int) -> PairFiles:
    """Files of pairs in a folder that is emptied first, since what is there is never replaced."""
    place.remove_folder("")
    return PairFiles(place, pieces)


def remove(output: Path | str) -> None:
    """Remove the pieces of this and of earlier joins from an output, when everything is written."""
    home_of(output).remove_folder(PARTS)
