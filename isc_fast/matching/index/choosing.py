"""How many lists a query has to look into: as few as keep the promised recall on a sample of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..searchers.arrays import Floats, Ints
from ..searchers.exact import scores_of
from ..searchers.searcher import Searcher
from .candidates import Candidates
from .measured import Recall

_FEW = 128
"""Queries that are asked first."""


@dataclass(frozen=True)
class Sample:
    """Rows that are asked for, and their true k best among all others.

    Attributes:
        rows: ``float32 (n, d)``.
        numbers: of these rows in the segment ``(n,)``.
        best: numbers of the true best ``int64 (n, k)``.
        least: the score of the last of them ``(n,)``.
        tied: whether a row that is not among them has that score too ``(n,)``.
    """

    rows: Floats
    numbers: Ints
    best: Ints
    least: Floats
    tied: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Floats, numbers: Ints, blocks: Iterable[Floats], k: int, searcher: Searcher) -> Sample:
        """Search exactly. A row is not counted as its own neighbour."""
        scores, found = searcher.knn(rows, blocks, k + 2)
        other = found != numbers[:, None]
        other[other.all(axis=1), -1] = False  # so many rows equal it that it is not among them itself
        wide = found.shape[1] - 1
        found, scores = found[other].reshape(-1, wide), scores[other].reshape(-1, wide)
        k = min(k, wide)
        tied = scores[:, k] == scores[:, k - 1] if wide > k else np.zeros(len(rows), bool)
        return cls(rows, numbers, found[:, :k], scores[:, k - 1], tied)

    def first(self, count: int) -> Sample:
        """So many of the rows."""
        return Sample(self.rows[:count], self.numbers[:count], self.best[:count], self.least[:count], self.tied[:count])


def measure(
    candidates: Candidates, sample: Sample, read: Callable[[Ints], Floats], *, nprobe: int, spread: int
) -> Recall:
    """Which share of the true best is among the candidates.

    Scores come from the stored rows, so a row that is a candidate is found. One that is not is made up for by a candidate
    of the same score, as where many rows are equal; ``read`` gives the rows of these.
    """
    k = sample.best.shape[1]
    found = candidates.find(sample.rows, k, nprobe=nprobe, spread=spread, alive=None)
    found[found == sample.numbers[:, None]] = -1
    share = np.array([np.isin(best, named).mean() for best, named in zip(sample.best, found, strict=True)])
    for query in np.flatnonzero((share < 1) & sample.tied).tolist():
        named = found[query][found[query] >= 0]
        rows = read(named)
        scores = scores_of(np.broadcast_to(sample.rows[query], rows.shape), rows, "ip")
        share[query] = min(k, np.count_nonzero(scores >= sample.least[query])) / k
    return Recall.of(float(share.mean()), len(share), k, of_all=len(share) == candidates.rows)


def settle(
    candidates: Candidates, sample: Sample, read: Callable[[Ints], Floats], *, spread: int, promised: float
) -> tuple[int, Recall]:
    """The least number of lists, of a few that are tried, whose recall is what was promised, and that recall.

    What counts is the lower end of its interval.

    Raises:
        InputError: even all lists do not find so many.
    """
    best: Recall | None = None
    few = sample.first(_FEW)
    for nprobe in _numbers(candidates.lists):
        # Most numbers are too small, which a few queries show.
        if nprobe < candidates.lists and measure(candidates, few, read, nprobe=nprobe, spread=spread).high < promised:
            continue
        best = measure(candidates, sample, read, nprobe=nprobe, spread=spread)
        if best.low >= promised:
            return nprobe, best
    raise InputError(
        f"a recall of {promised:g} was promised, and the finest lists that fit find {best}; give a larger --memory, or promise a "
        "lower --recall"
    )


def _numbers(lists: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, … and all of them."""
    step = 1
    while step < lists:
        yield step
        if step >= 2 and step * 3 // 2 < lists:
            yield step * 3 // 2
        step *= 2
    yield lists
