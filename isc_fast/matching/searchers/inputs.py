"""Both sides of a search: how many rows come at a time, and what is checked before they are searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .arrays import Floats
from .exact import METRICS, Block, Metric, Queries


@dataclass(frozen=True)
class BlockRows:
    """How many rows of each side are best given to a searcher at a time. The result does not depend on it."""

    queries: int
    references: int


def _require_finite(rows: Floats, what: str, first: int = 0) -> None:
    """A row with NaN or infinity matches nothing, and faiss answers such a query with the row −1, which would name a wrong id."""
    if not np.isfinite(rows).all():
        row = first + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InputError(f"row {row} of the {what} holds NaN or infinity; extract it again")


def checked_queries(xq: Floats, metric: Metric) -> Queries:
    """Make queries ``(n, d)`` contiguous float32 rows.

    Raises:
        InputError: the metric is unknown, or a number is not finite.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}")
    rows = np.ascontiguousarray(xq, np.float32)
    _require_finite(rows, "queries")
    return Queries(rows, metric)


def checked_blocks(queries: Queries, blocks: Iterable[Floats]) -> Iterator[Block]:
    """Number the blocks of a data base and make them contiguous float32 rows. Blocks with nothing to search are left out.

    Raises:
        InputError: the dimensions differ from the queries', or a number is not finite.
    """
    start, dim = 0, queries.rows.shape[1]
    for block in blocks:
        if block.shape[1] != dim:
            raise InputError(f"queries have {dim} dimensions and the data base has {block.shape[1]}")
        rows = np.ascontiguousarray(block, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            longest = float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max(initial=0), dtype=np.float64)) * 1.001 + 1e-18
        if not np.isfinite(longest):
            _require_finite(rows, "data base", start)
        if len(rows) and len(queries.rows):
            yield Block(start, rows, longest)
        start += len(rows)
