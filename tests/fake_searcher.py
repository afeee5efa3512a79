"""A searcher for tests. It searches on the processor, takes blocks of any size, and remembers its searches."""

from __future__ import annotations

from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.inputs import BlockRows


class FakeSearcher:
    """See `isc_fast.matching.searchers.searcher.Searcher`.

    Attributes:
        asked: (number of queries, k) of each search; k is None if the search was for every pair above a score.
    """

    device = "fake"

    def __init__(self, rows: int = 16_384) -> None:
        self._rows, self._real = rows, CpuSearcher()
        self.asked: list[tuple[int, int | None]] = []

    def block_rows(self, dim):
        return BlockRows(self._rows, self._rows)

    def knn(self, xq, blocks, k, metric="ip"):
        self.asked.append((len(xq), k))
        return self._real.knn(xq, blocks, k, metric)

    def within(self, xq, blocks, lowest, metric="ip"):
        self.asked.append((len(xq), None))
        yield from self._real.within(xq, blocks, lowest, metric)
