"""A first pass in bytes, which rules out most pairs on the processor and loses none that counts.

The first pass rounds both sides to integers of one byte. A processor sums products of bytes four times as fast as products of
floats. What all rows have in common would take up most of a byte's range, so their mean c, or a row near it, is subtracted
before rounding. Let d = b − c, and let q̂ and d̂ be the rounded q and d. The inequality of Cauchy and Schwarz gives

    q·b = q·c + q̂·d̂ + (d − d̂)·q + (q − q̂)·d̂ ≤ q·c + q̂·d̂ + ‖d − d̂‖ ‖q‖ + ‖q − q̂‖ ‖d̂‖

The product q̂·d̂ is known exactly, because it is a sum of integers. If the right side does not reach the lowest score that
still counts, the pair cannot count. The score of every other pair is computed in full; of a million references, about 100
are left for each query. So the result equals that of comparing all scores in single precision, whatever the data are. The
data only decide how many pairs are left, and with them how long the pass takes.

The code allows in addition for what single precision loses when the lengths, the distances and the scores are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Doubles, Floats, Ints, Pairs, join
from .byte_product import ByteProduct, load_byte_product
from .equal_rows import distinct_pairs, same_rows
from .exact import Block, Metric, Queries, scores_of

LEAST_DIM, MOST_DIM = 64, 16_384
_QUERIES = 32  # for fewer queries, rounding the references costs more than it saves
_TILE = 1024  # queries × 1024 references: 4 MB of sums, which stay in the cache; of 2048, a tenth slower
_PART = 1024
_MANY = 256  # if more than one pair in 256 is left, equal rows are looked for
_FEW = 8  # if one query in 8 may have a pair, all are looked at
_DENSE = 32  # if more than one distinct pair in 32 is left, faiss is faster


@dataclass(frozen=True)
class _Tile:
    """Some queries and their rounded form.

    Attributes:
        first: number of the first query.
        rows: ``float32 (n, d)``.
        same: what `same_rows` gives for them.
        bytes: ``int8 (d, n)``; ``step · bytes`` is the rounded form.
        shift: what the shift of the references by 128 adds to each query's sums ``(n,)``.
        step: one for each query ``(n,)``.
        error: distance of each query from its rounded form ``(n,)``.
        length: of each query ``(n,)``.
    """

    first: int
    rows: Floats
    same: Ints
    bytes: npt.NDArray[np.int8]
    shift: Ints
    step: Doubles
    error: Doubles
    length: Doubles


def _tiles(xq: Floats, largest: int) -> Iterator[_Tile]:
    """Round queries to signed bytes of at most that size."""
    for first in range(0, len(xq), _TILE):
        rows = xq[first : first + _TILE]
        exact = rows.astype(np.float64)
        step = np.maximum(np.abs(exact).max(axis=1, keepdims=True), 1e-30) / largest
        rounded = np.rint(exact / step)
        error, length = np.linalg.norm(exact - rounded * step, axis=1), np.linalg.norm(exact, axis=1)
        as_bytes = np.ascontiguousarray(rounded.T.astype(np.int8))
        shift = 128 * as_bytes.sum(axis=0, dtype=np.int64)
        yield _Tile(first, rows, same_rows(rows), as_bytes, shift, step[:, 0], error, length)


@dataclass(frozen=True)
class _Part:
    """Some references and their rounded form. The lengths and distances are upper or lower bounds for all of them.

    Attributes:
        rows: ``float32 (m, d)``.
        bytes: ``uint8 (m, d)``; ``centre + step · (bytes − 128)`` is the rounded form.
        step: the same for all.
        longest, shortest: length of the longest row or more, and of the shortest row or less.
        farthest: distance from the centre of the farthest row, or more.
        error: largest distance of a row from its rounded form, or more.
    """

    rows: Floats
    bytes: npt.NDArray[np.uint8]
    step: float
    longest: float
    shortest: float
    farthest: float
    error: float

    @cached_property
    def same(self) -> Ints:
        """What `same_rows` gives for them."""
        return same_rows(self.rows)


def _rounded(xb: Floats, centre: Floats) -> _Part | None:
    """Round references to bytes; None if single precision cannot hold their squares."""
    squares = np.einsum("ij,ij->i", xb, xb)
    # One part in a thousand covers what single precision loses in these lengths, for up to 16,384 dimensions.
    longest, shortest = np.sqrt(squares.max()) * 1.001, np.sqrt(squares.min()) * 0.999
    whole = longest + np.abs(centre).max()
    if whole and not 1e-15 < whole < 1e15:
        return None
    from_centre = xb - centre
    largest = max(from_centre.max(), -from_centre.min(), whole * np.float32(1e-6), np.float32(1e-15))
    step = np.float32(largest / 127)
    rounded = np.rint(from_centre / step)
    as_bytes = rounded.astype(np.int8).view(np.uint8)
    as_bytes ^= 128  # the same as adding 128
    rounded *= step
    rounded -= from_centre
    farthest = np.sqrt(np.einsum("ij,ij->i", from_centre, from_centre).max()) * 1.001
    error = np.sqrt(np.einsum("ij,ij->i", rounded, rounded).max()) * 1.001 + 1e-6 * farthest
    return _Part(xb, as_bytes, float(step), longest, shortest, farthest, error)


class FirstPass:
    """Queries that are made ready for the first pass, and the threads that compute it."""

    def __init__(self, queries: Queries, threads: ThreadPoolExecutor) -> None:
        pays = len(queries.rows) >= _QUERIES and LEAST_DIM <= queries.rows.shape[1] <= MOST_DIM
        self._product = load_byte_product() if pays else None
        self._metric, self._threads = queries.metric, threads
        self._tiles = [] if self._product is None else list(_tiles(queries.rows, self._product.largest))
        self._centre: Floats = np.empty(0, np.float32)  # not known before the first block
        self._at_centre: list[Doubles] = []

    @property
    def usable(self) -> bool:
        """Whether the pass can still help.

        It pays for so many queries of this length, this processor computes it exactly, and no block so far left too many pairs.
        """
        return self._product is not None

    def measure_from(self, centre: Floats) -> None:
        """Set what is subtracted from all references before they are rounded, ``(d,)``."""
        self._centre = centre
        self._at_centre = [tile.rows.astype(np.float64) @ centre for tile in self._tiles]

    def pairs(self, block: Block, lowest: Floats) -> Pairs | None:
        """Every pair that reaches the lowest score of its query ``(nq,)``, with the row numbers of the whole data base.

        The result is None where the pass does not help: ask faiss instead. It does not help for fewer than 1024 rows. If
        too many pairs are left, the pass is not usable from then on.
        """
        if self._product is None or len(block) < _PART:
            return None
        pairs = self._compare(block, lowest, self._product)
        if pairs is None:
            self._product = None
        return pairs

    def _compare(self, block: Block, lowest: Floats, product: ByteProduct) -> Pairs | None:
        if not len(self._centre):  # any row would do; the closer it is to all rows, the fewer pairs are left
            with np.errstate(over="ignore", invalid="ignore"):  # faiss gets rows that are so large
                self.measure_from(block.rows.mean(axis=0))
        parts = [block.cut(start, _PART) for start in range(0, len(block), _PART)]
        rounded = list(self._threads.map(lambda part: _rounded(part.rows, self._centre), parts))
        # One piece of work for each part and tile: a search of many queries has few parts at a time, and many cores want work.
        work = [
            (part, made, number)
            for part, made in zip(parts, rounded, strict=True)
            for number in range(len(self._tiles))
        ]
        found: list[Pairs] = []
        for pairs in self._threads.map(lambda one: self._of_tile(one[0], one[1], one[2], lowest, product), work):
            if pairs is None:
                return None
            found.append(pairs)
        return join(found)

    def _of_tile(
        self, block: Block, part: _Part | None, number: int, lowest: Floats, product: ByteProduct
    ) -> Pairs | None:
        if part is None:
            return None
        tile = self._tiles[number]
        low = lowest[tile.first : tile.first + len(tile.rows)]
        sums = product.multiply(part.bytes, tile.bytes)
        columns, rows = _reaching(sums, _least_sums(tile, self._at_centre[number], part, low, self._metric))
        if len(rows) * _MANY > sums.size:
            one, other, pair = distinct_pairs(rows, columns, tile.same, part.same)
            if len(one) * _DENSE > sums.size:
                return None
            scores = scores_of(tile.rows[one], part.rows[other], self._metric)[pair]
        else:
            scores = scores_of(tile.rows[rows], part.rows[columns], self._metric)
        keep = scores >= low[rows]
        return block.numbered((rows[keep] + tile.first, columns[keep], scores[keep]))


def _reaching(sums: Any, least: Any) -> tuple[Ints, Ints]:
    """The places ``(reference, query)`` of all sums ``int32 (m, n)`` that reach the least sum of their query ``(n,)``.

    For most queries no sum does. Which ones are left, the largest sum of each tells in half the time of a comparison of all.
    """
    queries = np.flatnonzero(sums.max(axis=0) >= least)
    if len(queries) * _FEW > sums.shape[1]:
        columns, rows = np.divmod(np.flatnonzero(sums >= least), sums.shape[1])
        return columns, rows
    columns, places = np.divmod(np.flatnonzero(sums[:, queries] >= least[queries]), max(1, len(queries)))
    return columns, queries[places]


def _least_sums(tile: _Tile, at_centre: Doubles, part: _Part, lowest: Floats, metric: Metric) -> Any:
    """The least sum of products of bytes at which a pair may reach the lowest score of its query, ``int32 (n,)``.

    Args:
        tile: the queries.
        at_centre: their products with the centre ``(n,)``.
        part: the references.
        lowest: score of each query that counts ``(n,)``.
        metric: of the scores.
    """
    low = lowest.astype(np.float64)
    unit = (
        tile.rows.shape[1] * 2.0**-23
    )  # how much a score in single precision can be off, as a share of what is summed
    if metric == "ip":
        wanted = low - unit * tile.length * part.longest
    else:
        wanted = (low + tile.length**2 + part.shortest**2) / 2 - unit * (tile.length + part.longest) ** 2
    wanted -= at_centre + part.error * tile.length + tile.error * (part.farthest + part.error)
    least = np.floor(np.clip(wanted / part.step / tile.step, -(2.0**30), 2.0**30))
    least += tile.shift
    return least.astype(np.int32)
