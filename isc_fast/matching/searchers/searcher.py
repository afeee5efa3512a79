"""What searches: opened once for a device, and then passed on as an object.

A searcher knows its device and how many rows it takes at a time. Its results are exact and the same to the bit for every
implementation, as `exact` defines them. `cpu_searcher` searches on the processor and `gpu_searcher` on GPUs. Both sides are
plain arrays and may be the same rows: a self-join searches each block of a set in the blocks from itself on, and drops the
pairs of the first one that are not above the diagonal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from .arrays import Floats, Ints, Pairs
from .cpu_searcher import CPU, CpuSearcher
from .exact import Metric
from .gpu_searcher import open_gpus
from .inputs import BlockRows


class Searcher(Protocol):
    """Finds the most similar rows of a data base.

    Attributes:
        device: its name: ``"cpu"``, ``"cuda"``, ``"cuda:0,1"``, …
    """

    @property
    def device(self) -> str: ...

    def block_rows(self, dim: int) -> BlockRows:
        """How many rows of so many dimensions are best given at a time."""
        ...

    def knn(self, xq: Floats, blocks: Iterable[Floats], k: int, metric: Metric = "ip") -> tuple[Floats, Ints]:
        """Find the k most similar rows of a data base that is read once, block by block.

        Memory holds a few blocks and the result. Equal scores are ordered by index.

        Args:
            xq: queries ``float32 (nq, d)``.
            blocks: the data base, ``float32 (m, d)`` each.
            k: neighbours of each query. If the data base has fewer rows, the result has fewer columns.
            metric: ``"ip"``: inner product; ``"l2"``: minus the squared Euclidean distance. Higher is always more alike.

        Returns:
            scores ``float32 (nq, k)``, falling along each row, and indices ``int64 (nq, k)`` into the whole data base.

        Raises:
            InputError: k is below 1, the metric is unknown, the dimensions differ, or a number is not finite.
            EngineError: faiss fails on the device.
            MissingExtraError: faiss is not installed.
        """
        ...

    def within(
        self, xq: Floats, blocks: Iterable[Floats], lowest: np.float32, metric: Metric = "ip"
    ) -> Iterator[Pairs]:
        """Find every pair that reaches the lowest score, in a data base that is read once, block by block.

        Args:
            xq: queries ``float32 (nq, d)``.
            blocks: the data base, ``float32 (m, d)`` each.
            lowest: score, as `knn` gives it.
            metric: see `knn`.

        Yields:
            query rows, rows of the whole data base, and scores, each ``(pairs,)``, for each block or part of one.

        Raises:
            InputError: the metric is unknown, the dimensions differ, or a number is not finite.
            EngineError: faiss fails on the device.
            MissingExtraError: faiss is not installed.
        """
        ...


def open_searcher(device: str | Searcher = CPU) -> Searcher:
    """Open what searches on a device, and try out that it works. A searcher that is open already is given back.

    Args:
        device: ``"cpu"``, or GPUs: ``"cuda"`` (the first), ``"cuda:1"``, ``"cuda:0,1"``, ``"cuda:all"``.

    Raises:
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed; for the processor, the first search says so.
    """
    if not isinstance(device, str):
        return device
    return CpuSearcher() if device == CPU else open_gpus(device)
