"""Exact neighbours by faiss on one or several GPUs: the data base streams through them, a part at a time.

Parts go to whichever GPU is free; two threads for each GPU, so that while it computes, the next part is read and the scores
of the last one are computed again on the processor, as `isc_fast.matching.exact` wants it. Results are taken in the order of the
parts. Queries for whom faiss' at most 2,048 neighbours of a part are not enough (of which more rows reach the threshold, or
are equal) are searched for in that part by the processor. For k above 2,040, parts are made small, so that this is rare.

It has not run on a GPU so far: written from faiss' sources and their Python wrappers, and tested against an imitation.
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

from ..errors import EngineError, require
from ..machine.cores import available_cores
from .exact import SPARE, Best, Floats, Ints, Metric, Pairs, Propose, Queries, found_in
from .gpu_probe import Gpu, find_gpus

WIDEST = 2048
"""The most neighbours that faiss selects on a GPU."""
QUERY_ROWS = 65_536
"""Queries in one search: for fewer, the data base is read and copied faster than it is needed."""

_PART_BYTES = 256 << 20  # of the data base on a GPU at a time, by each of its two threads, if there is room
_LEAST_BYTES = 16 << 20
_SHARE = 16  # of the free memory
_FIRST_ROWS = 16_384  # of the first part, after which it is known what score counts
_THREADS = 2  # for each GPU

T = TypeVar("T")
Part = tuple[int, Floats, float]
"""Its first row in the data base, its rows, and the length of the longest of them or more."""


def part_rows(gpus: Iterable[Gpu], dim: int) -> int:
    """Rows of the data base that go to a GPU at a time."""
    room = min([_PART_BYTES, *(gpu.free // _SHARE for gpu in gpus if gpu.free is not None)])
    return max(1, max(room, _LEAST_BYTES) // (4 * dim))


class _Pool:
    """What faiss needs on a GPU, made when it is first needed, used by one thread at a time, and kept: it takes 0.1 s."""

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
    atexit.register(pool.clear)  # while CUDA is still there
    return pool


def _propose_on(number: int, resources: Any, metric: Metric) -> Propose:
    faiss = require("faiss", "gpu")
    kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2

    def propose(xq: Floats, part: Floats, k: int) -> tuple[Floats, Ints]:
        try:
            scores, indices = faiss.knn_gpu(resources, xq, part, k, metric=kind, device=number)
        except RuntimeError as error:  # such as memory that is used up; what CUDA itself meets ends the process
            said = " ".join(str(error).split())[:300]
            raise EngineError(
                f"faiss failed on GPU {number}: {said}; free memory of that GPU, or use the device cpu"
            ) from error
        return scores if metric == "ip" else -scores, indices

    return propose


@dataclass(frozen=True)
class GpuSearch:
    """Searches on some GPUs; see `isc_fast.matching.cpu_searcher` for what they mean.

    Attributes:
        gpus: at least one.
    """

    gpus: tuple[Gpu, ...]

    def knn(self, queries: Queries, blocks: Iterable[Part], k: int) -> Best:
        """The k best rows of each query.

        Raises:
            EngineError: faiss fails on a GPU.
            InputError: scores that are no float32 numbers, and whatever the blocks raise.
        """
        best = Best(len(queries.rows), k)
        if k + SPARE <= WIDEST:
            parts = self._parts(blocks, _FIRST_ROWS, 1.0)
        else:  # so few rows that hardly more of them than faiss can select may count, once k have been seen
            parts = self._parts(blocks, WIDEST, WIDEST / (2 * k * self._threads))
        for (row, part, _), pairs in self._run(parts, queries, best.least, k):
            best.add((pairs[0], pairs[1] + row, pairs[2]), len(part))
        return best

    def within(self, queries: Queries, blocks: Iterable[Part], lowest: np.float32) -> Iterator[Pairs]:
        """For each part, every pair that reaches the lowest score. Raises as `knn` does."""
        least = np.full(len(queries.rows), lowest, np.float32)
        for (row, _, _), pairs in self._run(self._parts(blocks), queries, lambda: least, None):
            yield pairs[0], pairs[1] + row, pairs[2]

    @property
    def _threads(self) -> int:
        return _THREADS * len(self.gpus)

    def _parts(self, blocks: Iterable[Part], first: int | None = None, growth: float = 1.0) -> Iterator[Part]:
        """Blocks cut to what a GPU takes at a time; with a first size, each to a share of the rows before it."""
        for start, block, longest in blocks:
            most = part_rows(self.gpus, block.shape[1])
            at = 0
            while at < len(block):
                rows = most if first is None else min(most, max(first, int((start + at) * growth)))
                yield start + at, block[at : at + rows], longest
                at += rows

    def _run(
        self, parts: Iterator[Part], queries: Queries, least: Callable[[], Floats], k: int | None
    ) -> Iterator[tuple[Part, Pairs]]:
        """What is found in each part, in their order; what score counts is asked when a part is begun."""
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for _ in range(_THREADS):
            for gpu in self.gpus:
                free.put(gpu.number)
        scoring = ThreadPoolExecutor(available_cores())

        def search(part: Part, counts: Floats) -> tuple[Part, Pairs]:
            number = free.get()
            resources = _pool(number).take()
            try:
                propose = _propose_on(number, resources, queries.metric)
                return part, found_in(queries, part[1], part[2], counts, k, propose, WIDEST, scoring)
            finally:
                _pool(number).give(resources)
                free.put(number)

        with scoring:
            jobs = (functools.partial(search, part, least()) for part in parts)
            yield from in_order(jobs, self._threads, first_alone=k is not None)


def in_order(jobs: Iterator[Callable[[], T]], threads: int, *, first_alone: bool) -> Iterator[T]:
    """What jobs return, in their order, with so many of them running.

    A job is taken from the iterator by the caller's thread when a thread is free for it. Where one raises, those that run
    are waited for, no other is begun, and the exception goes to the caller.
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


def open_search(device: str) -> GpuSearch | None:
    """The search on a device; None for ``"cpu"``.

    Raises:
        EngineError: it is no device's name, or faiss does not work there.
        MissingExtraError: faiss is not installed.
    """
    return None if device == "cpu" else GpuSearch(find_gpus(device))
