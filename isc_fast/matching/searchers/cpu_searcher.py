"""Search on the processor: by the first pass in bytes where it helps, and by faiss everywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...descriptors.store import BLOCK_ROWS
from ...machine.cores import available_cores
from .arrays import Floats, Ints, Pairs
from .best import Best
from .exact import SPARE, Block, Metric, Wanted, found_in
from .faiss_cpu import in_range, load_faiss, proposer_by
from .first_pass import FirstPass
from .inputs import BlockRows, checked_blocks, checked_queries

CPU = "cpu"
"""The device of `CpuSearcher`."""

_PAIRS_AT_ONCE = 1 << 25  # that `within` may find where all rows are equal; they take 20 bytes each, and as much again
_ROWS_BEFORE = 2048  # of references, and 256 for each neighbour, before the first pass knows what score counts


@dataclass(frozen=True)
class CpuSearcher:
    """Searches on every core of this machine; see `isc_fast.matching.searchers.searcher.Searcher`."""

    device: str = CPU

    def block_rows(self, dim: int) -> BlockRows:
        """As many as a descriptor file is read by: 16 MB at 256 dimensions."""
        return BlockRows(BLOCK_ROWS, BLOCK_ROWS)

    def knn(self, xq: Floats, blocks: Iterable[Floats], k: int, metric: Metric = "ip") -> tuple[Floats, Ints]:
        """See `Searcher.knn`."""
        best = Best(len(xq), k)
        queries = checked_queries(xq, metric)
        proposer = proposer_by(load_faiss(), metric, k + SPARE)
        enough = max(_ROWS_BEFORE, 256 * k)
        with ThreadPoolExecutor(available_cores()) as threads:
            first_pass = FirstPass(queries, threads)
            for block in checked_blocks(queries, blocks):
                for part in _growing(block, enough) if first_pass.usable else [block]:
                    pairs = None
                    # An equal score in this part has a higher index than those before, so it does not count.
                    least = np.nextafter(best.least(), np.float32(np.inf))
                    if part.start >= enough:
                        pairs = first_pass.pairs(part, least)
                    if pairs is None:
                        pairs = found_in(queries, part, Wanted(least, k), proposer, threads)
                    best.add(pairs, len(part))
        return best.scores, best.indices

    def within(
        self, xq: Floats, blocks: Iterable[Floats], lowest: np.float32, metric: Metric = "ip"
    ) -> Iterator[Pairs]:
        """See `Searcher.within`."""
        queries = checked_queries(xq, metric)
        faiss = load_faiss()
        least = np.full(len(queries.rows), lowest, np.float32)
        with ThreadPoolExecutor(available_cores()) as threads:
            first_pass = FirstPass(queries, threads)
            rows = max(1, _PAIRS_AT_ONCE // max(1, len(queries.rows)))
            for block in checked_blocks(queries, blocks):
                for first in range(0, len(block), rows):
                    part = block.cut(first, rows)
                    pairs = first_pass.pairs(part, least)
                    yield in_range(faiss, queries, part, lowest, threads) if pairs is None else pairs


def _growing(block: Block, least: int) -> Iterator[Block]:
    """Cut a block into parts of as many rows as came before, which tell what score counts, but at least so many."""
    at = 0
    while at < len(block):
        part = block.cut(at, max(block.start + at, least))
        yield part
        at += len(part)
