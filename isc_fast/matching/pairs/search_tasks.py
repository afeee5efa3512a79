"""A search that is cut into tasks: a block of queries in a run of references each, whose pairs are a file of their own.

What a task gives depends on the two sides, the limits and the cut alone: not on who computes it, or when. It is the k best
references of each query in its run, or every pair above a threshold. Scores do not depend on what else is searched
(`isc_fast.matching.searchers.exact`), so all tasks together hold every pair that counts in the whole search, with the same
bits, and `SearchTasks.merged` gives what one search of everything gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...descriptors.manifest import starts_of
from ...descriptors.store import BLOCK_ROWS, Descriptors
from ...descriptors.view_rows import rows_between, rows_of
from ..searchers.arrays import Floats, Ints, Pairs, join
from ..searchers.best import best_of_each
from ..searchers.cpu_searcher import CPU
from ..searchers.exact import Metric
from ..searchers.searcher import Searcher, open_searcher
from .pair_files import PairFiles
from .pair_search import MOST_PAIRS, PairSearch, Reading, too_many_pairs
from .views import Views

QUERY_ROWS = 4 * BLOCK_ROWS
"""Rows of a block of queries. Each block needs all references once."""
MOST_REFERENCE_ROWS = 32 * BLOCK_ROWS
"""Rows of a run of references: a task of both has 3·10¹⁰ pairs, some two minutes of one core. The run is read once for every
16,384 queries: 512 MB of 256 numbers, which stay in the cache of the system, or of those that are fetched from a bucket."""
TASKS = 64
"""So many tasks there are at least, where the runs do not become smaller than `BLOCK_ROWS`, so that several workers have work."""


@dataclass(frozen=True)
class Cut:
    """Where a search is cut.

    Attributes:
        queries: photos of a block of queries.
        starts: the first photo of each run of references, rising from 0.
    """

    queries: int
    starts: Sequence[int]


def cut_of(
    queries: Descriptors, references: Descriptors, ends: Sequence[int] | None = None, size: int | None = None
) -> Cut:
    """Cut a search, in the same way whoever computes it.

    Args:
        queries, references: both sides.
        ends: where the references' part files end; a run is cut at one of these only, so that each part is read for one run.
        size: photos of a run at least; by default as many as make `TASKS` tasks.
    """
    block = max(1, QUERY_ROWS // len(queries.views))
    if size is None:
        runs = -(-TASKS // -(-len(queries) // block))
        rows = -(-len(references) * len(references.views) // runs)
        rows = min(-(-rows // BLOCK_ROWS) * BLOCK_ROWS, MOST_REFERENCE_ROWS)
        size = max(1, rows // len(references.views))
    return Cut(block, starts_of(len(references), size, ends))


@dataclass(frozen=True)
class Limits:
    """Which pairs count.

    Attributes:
        k: best references of each query; None where every pair counts that reaches the threshold.
        threshold: lowest score, or None.
        metric: of the scores.
    """

    k: int | None
    threshold: float | None
    metric: Metric = "ip"

    @property
    def lowest(self) -> np.float32:
        """The lowest score, as scores are."""
        return np.float32(-np.inf if self.threshold is None else self.threshold)


class SearchTasks:
    """The tasks of a search; see the module's text. `isc_fast.runs.tasks.joining` computes them.

    Task number ``run · blocks of queries + block``: those that follow each other read the same references.

    Args:
        queries, references: two sides that may be compared; they may be open on disk.
        limits: which pairs count.
        cut: where the search is cut.
        device: what searches; see `isc_fast.search`. It is opened for the first task.

    Attributes:
        blocks: number of tasks.
    """

    def __init__(
        self, queries: Descriptors, references: Descriptors, limits: Limits, cut: Cut, device: str | Searcher = CPU
    ) -> None:
        self._queries, self._references, self._limits = queries, references, limits
        self._views, self._device = Views.of(queries, references), device
        self._of_queries = [*range(0, len(queries), cut.queries), len(queries)]
        self._of_references = [*cut.starts, len(references)]
        self._count = len(self._of_queries) - 1
        self.blocks = self._count * len(cut.starts)

    def _task(self, number: int) -> tuple[int, int, int, int]:
        """First and end of the queries and of the references of a task, as photos."""
        run, block = divmod(number, self._count)
        return *self._of_queries[block : block + 2], *self._of_references[run : run + 2]

    def comparisons(self, number: int) -> int:
        """How many pairs of rows a task compares."""
        first, end, start, stop = self._task(number)
        return (end - first) * (stop - start) * self._views.count

    def pairs(self, number: int) -> Iterator[Pairs]:
        """The pairs of a task: row numbers of both sides and scores, each ``(pairs,)``. With views, ``v · photo + view``.

        Raises:
            InputError: a number in a row is not finite, or there are more than `MOST_PAIRS`.
            EngineError, MissingExtraError: see `isc_fast.search`.
        """
        first, end, start, stop = self._task(number)
        queries = rows_of(rows_between(self._queries, first, end))
        references = Reading(rows_of(rows_between(self._references, start, stop)), None)
        self._device = open_searcher(self._device)
        search = PairSearch(queries, references, self._views, self._limits.metric, self._device)
        if self._limits.k is None:
            rows, columns, scores = search.above(self._limits.lowest)
        else:
            rows, columns, scores = search.nearest(self._views.rows_for(self._limits.k), self._limits.lowest)
        yield rows + first * len(self._views.queries), columns + start * len(self._views.references), scores

    def merged(self, files: PairFiles) -> Pairs:
        """All pairs that count in the whole search, the queries in order, of each the best first.

        Args:
            files: of all tasks.

        Raises:
            InputError: a threshold alone gives more than `MOST_PAIRS` pairs.
            DamageError: a file is damaged.
        """
        if self._limits.k is None and len(files) > MOST_PAIRS:
            raise too_many_pairs(self._some_rows(files), rows_of(self._queries).ids, self._limits.lowest)
        merged = [_NONE]
        for block in range(self._count):
            found = [_NONE]
            for task in range(block, self.blocks, self._count):
                found += files.of(task)
            pairs = join(found)
            k = self._limits.k
            merged.append(best_of_each(pairs, len(pairs[0]) if k is None else self._views.rows_for(k)))
        return join(merged)

    def _some_rows(self, files: PairFiles) -> Ints:
        """The query rows of the first pairs, a few more than may be."""
        rows: list[Ints] = []
        for found, _, _ in files:
            rows.append(found)
            if sum(map(len, rows)) > MOST_PAIRS:
                break
        return np.concatenate(rows)


_NO_ROWS: Ints = np.empty(0, np.int64)
_NO_SCORES: Floats = np.empty(0, np.float32)
_NONE: Pairs = (_NO_ROWS, _NO_ROWS, _NO_SCORES)
