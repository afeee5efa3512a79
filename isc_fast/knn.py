"""Exact nearest neighbours over blocks, by faiss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from .cores import available_cores
from .errors import InputError, require

Metric = Literal["ip", "l2"]
METRICS: tuple[Metric, ...] = ("ip", "l2")

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def _require_finite(rows: Floats, what: str, first: int = 0) -> None:
    """A query with NaN or infinity matches nothing, and faiss answers with the row −1, which would name a wrong id."""
    if not np.isfinite(rows).all():
        row = first + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InputError(f"row {row} of the {what} holds NaN or infinity; extract it again")


def knn(xq: Floats, xb_blocks: Iterable[Floats], k: int, metric: Metric = "ip") -> tuple[Floats, Ints]:
    """The k most similar rows of a data base that is read once, block by block.

    Memory holds one block and the result. Equal scores are ordered by index.

    Args:
        xq: queries ``float32 (nq, d)``.
        xb_blocks: the data base, ``float32 (m, d)`` each.
        k: neighbours of each query; where the data base has fewer rows, the result has fewer columns.
        metric: ``"ip"``: inner product; ``"l2"``: minus the squared Euclidean distance. Higher is always more alike.

    Returns:
        scores ``float32 (nq, k)``, falling along each row, and indices ``int64 (nq, k)`` into the whole data base.

    Raises:
        InputError: k is below 1, the metric is unknown, the dimensions differ, or a number is not finite.
        MissingExtraError: faiss is not installed.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}")
    faiss = require("faiss", "cpu")
    faiss.omp_set_num_threads(available_cores())
    kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2
    sign = np.float32(1 if metric == "ip" else -1)
    xq = np.ascontiguousarray(xq, np.float32)
    _require_finite(xq, "queries")
    scores: Floats = np.empty((len(xq), 0), np.float32)
    indices: Ints = np.empty((len(xq), 0), np.int64)
    start = 0
    for block in xb_blocks:
        if block.shape[1] != xq.shape[1]:
            raise InputError(f"queries have {xq.shape[1]} dimensions and the data base has {block.shape[1]}")
        _require_finite(block, "data base", start)
        if len(block) and len(xq):
            found, where = faiss.knn(xq, np.ascontiguousarray(block, np.float32), min(k, len(block)), kind)
            if (where < 0).any():
                raise InputError(
                    "descriptors so large that their scores are no float32 numbers; use rows of unit length"
                )
            scores = np.concatenate([scores, found * sign], axis=1)
            indices = np.concatenate([indices, where + start], axis=1)
            order = np.lexsort((indices, -scores), axis=1)[:, :k]
            scores, indices = np.take_along_axis(scores, order, 1), np.take_along_axis(indices, order, 1)
        start += len(block)
    return scores, indices
