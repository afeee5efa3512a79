"""Weighted sums of neighbours' rows, a few rows at a time and on every core: the arithmetic that normalising shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...machine.cores import available_cores
from ..searchers.arrays import Floats, Ints

_STEP = 2048  # rows that are summed at a time: at 256 dimensions two arrays of 2 MB, which stay in a core's cache


def to_unit(rows: Floats) -> None:
    """Give rows the length 1, in place. A row of zeros stays as it is."""
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def add_up(table: Any, indices: Ints, weights: Floats | None, out: Floats) -> None:
    """Compute ``out ← Σ_j weights[:, j] · table[indices[:, j]]`` without the ``(rows, k, d)`` array of a plain gather.

    Args:
        table: ``(m, d)``, an array or a data set on disk. Of a data set, only the rows that are needed are read.
        indices: ``(rows, k)``.
        weights: ``(rows, k)``; None adds the rows as they are.
        out: ``(rows, d)``.
    """
    near = np.ascontiguousarray(indices.T)
    if not isinstance(table, np.ndarray) or table.dtype != np.float32:
        wanted, places = np.unique(near, return_inverse=True)
        table, near = np.asarray(table[wanted], np.float32), places.reshape(near.shape)
    rows = np.empty_like(out)
    out[:] = 0
    for j, one in enumerate(near):
        np.take(table, one, axis=0, out=rows, mode="clip")  # with "raise", numpy first fills a copy of `rows`
        if weights is not None:
            rows *= weights[:, j : j + 1]
        out += rows


def in_steps(work: Callable[..., None], dim: int, *columns: Any) -> Floats:
    """Collect what ``work(out, *columns)`` writes into ``out``, ``(n, dim)``, a few rows at a time and on every core.

    numpy releases Python's lock where it matters. Subtracting the mean of 10 negatives from 200,000 rows took 0.21 s this
    way, and 0.53 s in steps of 8192 rows on one core, which no longer fit into its cache.
    """
    made = np.empty((len(columns[0]), dim), np.float32)

    def step(start: int) -> None:
        part = slice(start, start + _STEP)
        work(made[part], *(column[part] for column in columns))

    with ThreadPoolExecutor(available_cores()) as threads:
        list(threads.map(step, range(0, len(made), _STEP)))
    return made


def stacked(blocks: Iterable[Floats], count: int, dim: int) -> Floats:
    """Blocks as one array ``(count, dim)``. It is made first, so that no row is in memory twice."""
    rows = np.empty((count, dim), np.float32)
    start = 0
    for block in blocks:
        rows[start : start + len(block)] = block
        start += len(block)
    return rows
