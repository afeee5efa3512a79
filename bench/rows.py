"""Random descriptors for the search benchmarks, some of them near copies of others, and exact searches by numpy and torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
Found = tuple[Array, Array]
"""The result of a search: scores and indices, each ``(nq, k)``."""
BLOCK = 65_536
"""The number of rows in a block of the searches by numpy and torch."""


def make_rows(queries: int, references: int, dim: int) -> tuple[Array, Array]:
    """Make unit rows of queries and references. Every hundredth reference is a near copy of a query."""
    rng = np.random.default_rng(0)
    xq, xb = (rng.standard_normal((n, dim), dtype=np.float32) for n in (queries, references))
    copies = xb[::100]
    copies *= np.float32(0.3)
    copies += xq[rng.integers(0, queries, len(copies))]
    for rows in (xq, xb):
        for part in blocks_of(rows, BLOCK):
            part /= np.linalg.norm(part, axis=1, keepdims=True)
    return xq, xb


def blocks_of(rows: Array, size: int) -> Iterator[Array]:
    """Yield rows in blocks of at most ``size`` rows."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def by_numpy(xq: Array, xb: Array, k: int) -> Found:
    """Search by products of blocks in the precision of the queries; keep the best of each block, then the best of those."""
    scores, indices = np.empty((len(xq), 0), xq.dtype), np.empty((len(xq), 0), np.int64)
    for number, block in enumerate(blocks_of(xb, BLOCK)):
        found = xq @ block.T.astype(xq.dtype, copy=False)
        near = np.argpartition(found, -min(k, len(block)), axis=1)[:, -k:]
        scores = np.concatenate([scores, np.take_along_axis(found, near, 1)], axis=1)
        indices = np.concatenate([indices, near + number * BLOCK], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(indices, order, 1)


def by_torch(queries: torch.Tensor, references: torch.Tensor, k: int) -> Found:
    """Search by products of blocks and topk in torch, on the tensors' device, and copy the answer to the host."""
    import torch

    scores, indices = [], []
    for start in range(0, len(references), BLOCK):
        block = references[start : start + BLOCK]
        found = torch.topk(queries @ block.T, min(k, len(block)), dim=1)
        scores.append(found.values)
        indices.append(found.indices + start)
    best = torch.topk(torch.cat(scores, 1), k, dim=1)
    rows = torch.gather(torch.cat(indices, 1), 1, best.indices)
    return best.values.float().cpu().numpy(), rows.cpu().numpy()


def same_ids(found: Array, expected: Array) -> float:
    """Return the share of rows in which two searches found the same references, in any order."""
    return float((np.sort(found, 1) == np.sort(expected[: len(found)], 1)).all(1).mean())
