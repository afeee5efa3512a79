"""An imitation of faiss' GPU functions for tests on machines without a GPU. Everything else in it is the real faiss.

It changes scores by as much as another order of summation can change them, and selects and orders neighbours by these
scores. Among equal scores it keeps any. It checks what faiss or its authors forbid: two threads that use the same
resources at once, more than 2,048 neighbours, more neighbours than rows, arrays that are not contiguous float32 rows,
and a GPU that does not exist. `tests/matching/test_gpu_searcher.py` compares names and parameters with the real Python
wrapper, which faiss-cpu contains too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import faiss as real
import numpy as np


class FakeFaiss(ModuleType):
    """The module ``faiss``, as if it were built with GPU support.

    Attributes:
        gpus: the number of GPUs.
        noise: the error of the scores, as a share of what single precision allows; 1 is the worst case.
        calls: (GPU, queries, rows, k) of each search, in the order in which the searches began.
        resources: all resources that were made.
        before: called with (GPU, number of the call) before each search; it may sleep or raise.
    """

    def __init__(self, gpus: int = 1, noise: float = 0.45) -> None:
        super().__init__("faiss")
        self.gpus, self.noise = gpus, noise
        self.calls: list[tuple[int, int, int, int]] = []
        self.resources: list[Any] = []
        self.before: Callable[[int, int], None] = lambda _gpu, _call: None
        self._lock = threading.Lock()
        fake = self

        class StandardGpuResources:
            def __init__(self) -> None:
                self.busy = threading.Lock()
                self.pinned: int | None = None
                fake.resources.append(self)

            def setPinnedMemory(self, size: int) -> None:
                assert not self.busy.locked()
                self.pinned = size

        self.StandardGpuResources = StandardGpuResources

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def get_num_gpus(self) -> int:
        return self.gpus

    def knn_gpu(
        self,
        res: Any,
        xq: Any,
        xb: Any,
        k: int,
        D: Any = None,
        I: Any = None,  # noqa: E741
        metric: int = real.METRIC_L2,
        device: int = -1,
        use_cuvs: bool = False,
        vectorsMemoryLimit: int = 0,
        queriesMemoryLimit: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        assert (D, I, use_cuvs, vectorsMemoryLimit, queriesMemoryLimit) == (None, None, False, 0, 0)
        assert 0 <= device < self.gpus
        assert 0 < k <= 2048
        for rows in (xq, xb):
            assert rows.dtype == np.float32
            assert rows.flags.c_contiguous
            assert len(rows)
        assert xq.shape[1] == xb.shape[1]
        assert k <= len(xb), "faiss names the row −1 where there are too few"
        assert res.busy.acquire(blocking=False), "resources are used by two threads at once"
        try:
            with self._lock:
                number = len(self.calls)
                self.calls.append((device, len(xq), len(xb), k))
            self.before(device, number)
            return self._search(xq, xb, k, metric, number)
        finally:
            res.busy.release()

    def _search(self, xq: Any, xb: Any, k: int, metric: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        wide, base = xq.astype(np.float64), xb.astype(np.float64)
        scores = wide @ base.T
        long_q, long_b = np.linalg.norm(wide, axis=1)[:, None], np.linalg.norm(base, axis=1).max()
        unit = self.noise * xq.shape[1] * 2.0**-24
        if metric == real.METRIC_L2:
            scores = 2 * scores - long_q**2 - (base**2).sum(axis=1)
            size = (long_q + long_b) ** 2
        else:
            assert metric == real.METRIC_INNER_PRODUCT
            size = long_q * long_b
        rng = np.random.default_rng(number)
        scores += unit * size * rng.uniform(-1, 1, scores.shape)
        if metric == real.METRIC_L2:
            scores = np.minimum(scores, 0)  # faiss gives no squared distance below 0 either
        with np.errstate(over="ignore"):
            scores = scores.astype(np.float32)
        order = np.lexsort((rng.uniform(size=scores.shape), -scores), axis=1)[:, :k]
        found = np.take_along_axis(scores, order, 1)
        return (-found if metric == real.METRIC_L2 else found), order


def slow(gpu: int, milliseconds: float) -> Callable[[int, int], None]:
    """Return a function for `FakeFaiss.before` that makes one GPU slower than the others."""
    return lambda device, _call: time.sleep(milliseconds / 1000 if device == gpu else 0)
