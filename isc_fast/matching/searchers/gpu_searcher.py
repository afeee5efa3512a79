"""Search on one or several GPUs by faiss: the data base streams through them, a part at a time.

A part goes to whichever GPU is free. Each GPU has two threads, so that while it computes, the next part is read and the scores
of the last part are computed again on the processor, as `isc_fast.matching.searchers.exact` requires. Results are taken in the
order of the parts. faiss selects at most 2,048 neighbours of a part on a GPU. Where more rows of a part may count for a query,
because they reach the threshold or are equal, the processor compares that query with every row of the part. For k above 2,040,
parts are made small, so that this is rare.

It is written from faiss' sources and their Python wrappers, and tested against an imitation (`docs/gpu.md`).
"""

from __future__ import annotations

import atexit
import functools
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...errors import EngineError, require
from ...machine.cores import available_cores
from .arrays import Floats, Ints, Pairs
from .best import Best
from .exact import SPARE, Block, Metric, Proposer, Queries, Wanted, found_in
from .gpu_probe import Gpu, find_gpus
from .inputs import BlockRows, checked_blocks, checked_queries

WIDEST = 2048
"""The most neighbours that faiss selects on a GPU."""
QUERY_ROWS = 65_536
"""Queries in one search. For fewer, reading and copying the data base takes longer than searching it."""

_PART_BYTES = 256 << 20  # of the data base on a GPU at a time, for each of its two threads, if there is room
_LEAST_BYTES = 16 << 20
_SHARE = 16  # a part takes at most one part in 16 of the free memory
_FIRST_ROWS = 16_384  # of the first part; after it, the scores that count are known
_THREADS = 2  # for each GPU

T = TypeVar("T")


def part_rows(gpus: Iterable[Gpu], dim: int) -> int:
    """How many rows of the data base go to a GPU at a time."""
    room = min([_PART_BYTES, *(gpu.free // _SHARE for gpu in gpus if gpu.free is not None)])
    return max(1, max(room, _LEAST_BYTES) // (4 * dim))


class _Pool:
    """What faiss needs on a GPU. Making it takes 0.1 s, so it is made at its first use and kept for one thread at a time."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take(self) -> Any:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            resources = require("faiss", "gpu").StandardGpuResources()
            resources.setPinnedMemory(0)  # 256 MB that this search never uses
            return resources

    def give(self, resources: Any) -> None:
        self._free.put(resources)

    def clear(self) -> None:
        while not self._free.empty():
            self._free.get_nowait()


@functools.cache
def _pool(number: int) -> _Pool:
    pool = _Pool()
    atexit.register(pool.clear)  # CUDA is still loaded then
    return pool


def _proposer_on(number: int, resources: Any, metric: Metric) -> Proposer:
    faiss = require("faiss", "gpu")
    kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2

    def propose(xq: Floats, part: Floats, k: int) -> tuple[Floats, Ints]:
        try:
            scores, indices = faiss.knn_gpu(resources, xq, part, k, metric=kind, device=number)
        except RuntimeError as error:  # such as used-up memory; an error of CUDA itself ends the process
            said = " ".join(str(error).split())[:300]
            raise EngineError(
                f"faiss failed on GPU {number}: {said}; free memory of that GPU, or use the device cpu"
            ) from error
        return scores if metric == "ip" else -scores, indices

    return Proposer(propose, WIDEST)


@dataclass(frozen=True)
class GpuSearcher:
    """Searches on some GPUs; see `isc_fast.matching.searchers.searcher.Searcher`.

    Attributes:
        device: the name that stands for them.
        gpus: at least one.
    """

    device: str
    gpus: tuple[Gpu, ...]

    def block_rows(self, dim: int) -> BlockRows:
        """As many queries as keep a GPU busy, and as many references as it takes at a time."""
        return BlockRows(QUERY_ROWS, part_rows(self.gpus, dim))

    def knn(self, xq: Floats, blocks: Iterable[Floats], k: int, metric: Metric = "ip") -> tuple[Floats, Ints]:
        """See `Searcher.knn`."""
        best = Best(len(xq), k)
        queries = checked_queries(xq, metric)
        whole = checked_blocks(queries, blocks)
        if k + SPARE <= WIDEST:
            parts = self._parts(whole, _FIRST_ROWS, 1.0)
        else:  # once k rows are seen, hardly more rows of so small a part count than faiss can select
            parts = self._parts(whole, WIDEST, WIDEST / (2 * k * self._threads))
        for part, pairs in self._run(parts, queries, best.least, k):
            best.add(pairs, len(part))
        return best.scores, best.indices

    def within(
        self, xq: Floats, blocks: Iterable[Floats], lowest: np.float32, metric: Metric = "ip"
    ) -> Iterator[Pairs]:
        """See `Searcher.within`."""
        queries = checked_queries(xq, metric)
        least = np.full(len(queries.rows), lowest, np.float32)
        parts = self._parts(checked_blocks(queries, blocks))
        for _, pairs in self._run(parts, queries, lambda: least, None):
            yield pairs

    @property
    def _threads(self) -> int:
        return _THREADS * len(self.gpus)

    def _parts(self, blocks: Iterable[Block], first: int | None = None, growth: float = 1.0) -> Iterator[Block]:
        """Cut blocks to what a GPU takes at a time. With a first size, each part is at most a share of the rows before it."""
        for block in blocks:
            most = part_rows(self.gpus, block.rows.shape[1])
            at = 0
            while at < len(block):
                rows = most if first is None else min(most, max(first, int((block.start + at) * growth)))
                part = block.cut(at, rows)
                yield part
                at += len(part)

    def _run(
        self, parts: Iterator[Block], queries: Queries, least: Callable[[], Floats], k: int | None
    ) -> Iterator[tuple[Block, Pairs]]:
        """What is found in each part, in their order. When a part is begun, ``least`` tells what score counts."""
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for _ in range(_THREADS):
            for gpu in self.gpus:
                free.put(gpu.number)
        scoring = ThreadPoolExecutor(available_cores())

        def search(part: Block, wanted: Wanted) -> tuple[Block, Pairs]:
            number = free.get()
            resources = _pool(number).take()
            try:
                proposer = _proposer_on(number, resources, queries.metric)
                return part, found_in(queries, part, wanted, proposer, scoring)
            finally:
                _pool(number).give(resources)
                free.put(number)

        with scoring:
            jobs = (functools.partial(search, part, Wanted(least(), k)) for part in parts)
            yield from in_order(jobs, self._threads, first_alone=k is not None)


def in_order(jobs: Iterator[Callable[[], T]], threads: int, *, first_alone: bool) -> Iterator[T]:
    """Run jobs on so many threads, and give what they return, in the order of the jobs.

    The caller's thread takes a job from the iterator when a thread is free for it. If a job raises, the jobs that run are
    waited for, no other job is begun, and the caller gets the exception.

    Args:
        jobs: taken one at a time.
        threads: how many jobs run at once.
        first_alone: finish the first job before the second one is taken.
    """
    pool = ThreadPoolExecutor(threads)
    running: deque[Future[T]] = deque()
    allowed = 1 if first_alone else threads
    try:
        while True:
            if len(running) >= allowed:
                yield running.popleft().result()
                allowed = threads
            job = next(jobs, None)
            if job is None:
                break
            running.append(pool.submit(job))
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def open_gpus(device: str) -> GpuSearcher:
    """Open the search on the GPUs that a name stands for, after faiss was tried out on each of them.

    Raises:
        EngineError: it is not the name of a device, or faiss does not work there.
        MissingExtraError: faiss is not installed.
    """
    return GpuSearcher(device, find_gpus(device))
