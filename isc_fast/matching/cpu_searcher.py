"""Exact nearest neighbours over blocks: by faiss, and for many queries by a first pass in bytes that loses nothing.

What an exact result is stands in `isc_fast.matching.exact`; on a GPU the work is done by `isc_fast.matching.gpu_searcher`.

The first pass rounds both sides to integers of one byte, whose products a processor sums four times as fast as those of
floats. What all rows have in common, about their mean c, is subtracted before: it would take up most of the byte's range. Let
d = b − c, and q̂ and d̂ be what q and d were rounded to. Then, by the inequality of Cauchy and Schwarz,

    q·b = q·c + q̂·d̂ + (d − d̂)·q + (q − q̂)·d̂ ≤ q·c + q̂·d̂ + ‖d − d̂‖ ‖q‖ + ‖q − q̂‖ ‖d̂‖

with q̂·d̂ known exactly, being a sum of integers. A pair whose right side does not reach the lowest score that still
counts cannot count either; of the others (about 100 for each query, of a million) the score is computed in full. So the
result is that of comparing all scores in single precision, whatever the data; only how many are left depends on it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, require
from ..machine.cores import available_cores
from .exact import (
    METRICS,
    SPARE,
    Best,
    Doubles,
    Floats,
    Ints,
    Metric,
    Pairs,
    Propose,
    Queries,
    distinct_pairs,
    found_in,
    join,
    same_rows,
    scores_of,
)
from .gpu_searcher import QUERY_ROWS, open_search, part_rows

CPU = "cpu"

_COARSE_QUERIES = 32  # for fewer, rounding the references costs more than it saves
_COARSE_ROWS = 2048  # of references, and 256 for each neighbour, before the first pass knows what score counts
_TILE = 2048  # queries × 1024 references: 8 MB of sums, which stay in the cache
_PART = 1024
_MANY = 256  # where more than one pair in so many is left over, equal rows are looked for
_DENSE = 32  # where more than one pair in so many is left over, faiss is faster


def _require_finite(rows: Floats, what: str, first: int = 0) -> None:
    """A query with NaN or infinity matches nothing, and faiss answers with the row −1, which would name a wrong id."""
    if not np.isfinite(rows).all():
        row = first + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InputError(f"row {row} of the {what} holds NaN or infinity; extract it again")


def _check_metric(metric: Metric) -> None:
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}")


def _faiss() -> ModuleType:
    faiss = require("faiss", "cpu")
    faiss.omp_set_num_threads(available_cores())
    return faiss


def _checked(xq: Floats, xb_blocks: Iterable[Floats]) -> Iterator[tuple[int, Floats, float]]:
    """(first row, contiguous block, length of its longest row or a little more) of blocks with something to search."""
    start = 0
    for block in xb_blocks:
        if block.shape[1] != xq.shape[1]:
            raise InputError(f"queries have {xq.shape[1]} dimensions and the data base has {block.shape[1]}")
        rows = np.ascontiguousarray(block, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            longest = float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max(initial=0), dtype=np.float64)) * 1.001 + 1e-18
        if not np.isfinite(longest):
            _require_finite(rows, "data base", start)
        if len(rows) and len(xq):
            yield start, rows, longest
        start += len(rows)


@functools.cache
def _byte_product() -> Callable[[Any, Any], Any] | None:
    """uint8 ``(m, d)``, int8 ``(d, n)`` → int32 ``(m, n)``, by ONNX Runtime; None where that is not exact.

    Processors without instructions for it (VNNI) add pairs of products in 16 bits, and cut off what is too large.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except (ImportError, OSError):
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # the threads are ours
    session = runtime.InferenceSession(_BYTE_MODEL, options, providers=["CPUExecutionProvider"])

    def product(a: Any, b: Any) -> Any:
        return session.run(None, {"a": a, "b": b})[0]

    a, b = np.full((64, 256), 255, np.uint8), np.full((256, 64), 127, np.int8)
    b[:, ::2] = -127
    return product if (product(a, b) == a.astype(np.int32) @ b.astype(np.int32)).all() else None


# ONNX: y = MatMulInteger(a, b), as onnx.helper makes it with opset 17 and IR version 8.
_BYTE_MODEL = (
    b'\x08\x08:P\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x0f\n\x01a\x12\n\n\x08\x08\x02\x12\x04\n\x00\n\x00'
    b"Z\x0f\n\x01b\x12\n\n\x08\x08\x03\x12\x04\n\x00\n\x00b\x0f\n\x01y\x12\n\n\x08\x08\x06\x12\x04\n\x00\n\x00B\x04\n\x00\x10\x11"
)


@dataclass(frozen=True)
class _Tile:
    """Some queries rounded to ``step · bytes``, how far they are from that, how long they are, and which are the same."""

    first: int
    rows: Floats
    same: Ints
    bytes: npt.NDArray[np.int8]
    step: Doubles
    error: Doubles
    length: Doubles


def _tiles(xq: Floats) -> Iterator[_Tile]:
    for first in range(0, len(xq), _TILE):
        rows = xq[first : first + _TILE]
        exact = rows.astype(np.float64)
        step = np.maximum(np.abs(exact).max(axis=1, keepdims=True), 1e-30) / 127
        rounded = np.rint(exact / step)
        error, length = np.linalg.norm(exact - rounded * step, axis=1), np.linalg.norm(exact, axis=1)
        as_bytes = np.ascontiguousarray(rounded.T.astype(np.int8))
        yield _Tile(first, rows, same_rows(rows), as_bytes, step[:, 0], error, length)


class _FirstPass:
    """Queries made ready for the first pass in bytes, and the threads that do it."""

    def __init__(self, xq: Floats, metric: Metric, product: Callable[[Any, Any], Any], threads: ThreadPoolExecutor):
        self.metric, self._product, self._threads = metric, product, threads
        self._tiles = list(_tiles(xq))
        self._centre: Floats | None = None
        self._at_centre: list[Doubles] = []

    def measure_from(self, centre: Floats) -> None:
        """What is subtracted from all rows before they are rounded, ``(d,)``."""
        self._centre = centre
        self._at_centre = [tile.rows.astype(np.float64) @ centre for tile in self._tiles]

    def pairs(self, block: Floats, lowest: Floats) -> Pairs | None:
        """Every pair that reaches the lowest score of its query ``(nq,)``, or None if too many may: ask faiss."""
        if self._centre is None:  # any row would do; the closer to all rows, the fewer pairs are left
            with np.errstate(over="ignore", invalid="ignore"):  # rows that large are left to faiss
                self.measure_from(block.mean(axis=0))
        parts = self._threads.map(
            lambda start: self._part(block[start : start + _PART], start, lowest), range(0, len(block), _PART)
        )
        found: list[Pairs] = []
        for part in parts:
            if part is None:
                return None
            found.extend(part)
        return join(found)

    def _part(self, xb: Floats, start: int, lowest: Floats) -> list[Pairs] | None:
        assert self._centre is not None
        squares = np.einsum("ij,ij->i", xb, xb)
        # One in a thousand for what is lost in computing these in single precision, up to 16,384 dimensions.
        longest, shortest = np.sqrt(squares.max()) * 1.001, np.sqrt(squares.min()) * 0.999
        whole = longest + np.abs(self._centre).max()
        if whole and not 1e-15 < whole < 1e15:  # squares that single precision cannot hold
            return None
        from_centre = xb - self._centre
        largest = max(from_centre.max(), -from_centre.min(), whole * np.float32(1e-6), np.float32(1e-15))
        step = np.float32(largest / 127)
        rounded = np.rint(from_centre / step)
        as_bytes = rounded.astype(np.int8).view(np.uint8)
        as_bytes ^= 128  # the same as adding 128
        rounded *= step
        rounded -= from_centre
        farthest = np.sqrt(np.einsum("ij,ij->i", from_centre, from_centre).max()) * 1.001
        error = np.sqrt(np.einsum("ij,ij->i", rounded, rounded).max()) * 1.001 + 1e-6 * farthest
        found = []
        same: Ints | None = None
        for tile, at_centre in zip(self._tiles, self._at_centre, strict=True):
            low = lowest[tile.first : tile.first + len(tile.rows)].astype(np.float64)
            unit = xb.shape[1] * 2.0**-23  # how much a score in single precision can be off, of what is summed
            if self.metric == "ip":
                wanted = low - unit * tile.length * longest
            else:
                wanted = (low + tile.length**2 + shortest**2) / 2 - unit * (tile.length + longest) ** 2
            wanted -= at_centre + error * tile.length + tile.error * (farthest + error)
            least = np.floor(np.clip(wanted / float(step) / tile.step, -(2.0**30), 2.0**30))
            least += 128 * tile.bytes.sum(axis=0, dtype=np.int64)
            sums = self._product(as_bytes, tile.bytes)
            left = np.flatnonzero(sums >= least.astype(np.int32))
            columns, rows = np.divmod(left, len(tile.rows))
            if len(left) * _MANY > sums.size:
                same = same_rows(xb) if same is None else same
                one, other, number = distinct_pairs(rows, columns, tile.same, same)
                if len(one) * _DENSE > sums.size:
                    return None
                scores = scores_of(tile.rows[one], xb[other], self.metric)[number]
            else:
                scores = scores_of(tile.rows[rows], xb[columns], self.metric)
            keep = scores >= lowest[tile.first + rows]
            found.append((rows[keep] + tile.first, columns[keep] + start, scores[keep]))
        return found


def _first_pass(xq: Floats, metric: Metric, threads: ThreadPoolExecutor) -> _FirstPass | None:
    """The first pass in bytes, where it pays and is exact."""
    if len(xq) < _COARSE_QUERIES or not 64 <= xq.shape[1] <= 16_384:
        return None
    product = _byte_product()
    return None if product is None else _FirstPass(xq, metric, product, threads)


def _queries(xq: Floats, metric: Metric) -> Queries:
    rows = np.ascontiguousarray(xq, np.float32)
    _require_finite(rows, "queries")
    return Queries(rows, metric)


def _parts(start: int, block: Floats, least: int) -> Iterator[tuple[int, Floats]]:
    """A block in parts of as many rows as came before, which tell what score counts, but at least so many."""
    at = 0
    while at < len(block):
        rows = max(start + at, least)
        yield start + at, block[at : at + rows]
        at += rows


def rows_at_once(device: str, dim: int, rows: int) -> tuple[int, int]:
    """How many queries, and how many rows of the data base, are best given at a time: on the processor so many of both.

    Raises:
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    gpus = open_search(device)
    return (QUERY_ROWS, part_rows(gpus.gpus, dim)) if gpus else (rows, rows)


def _propose_by(faiss: ModuleType, metric: Metric) -> Propose:
    kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2

    def propose(xq: Floats, part: Floats, k: int) -> tuple[Floats, Ints]:
        scores, indices = faiss.knn(xq, part, k, kind)
        return scores if metric == "ip" else -scores, indices

    return propose


def knn(
    xq: Floats, xb_blocks: Iterable[Floats], k: int, metric: Metric = "ip", device: str = CPU
) -> tuple[Floats, Ints]:
    """The k most similar rows of a data base that is read once, block by block.

    Memory holds one block and the result. Equal scores are ordered by index.

    Args:
        xq: queries ``float32 (nq, d)``.
        xb_blocks: the data base, ``float32 (m, d)`` each.
        k: neighbours of each query; where the data base has fewer rows, the result has fewer columns.
        metric: ``"ip"``: inner product; ``"l2"``: minus the squared Euclidean distance. Higher is always more alike.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"cuda:0,1"``, ``"cuda:all"``; the result is the same to the bit.

    Returns:
        scores ``float32 (nq, k)``, falling along each row, and indices ``int64 (nq, k)`` into the whole data base.

    Raises:
        InputError: k is below 1, the metric is unknown, the dimensions differ, or a number is not finite.
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    _check_metric(metric)
    queries = _queries(xq, metric)
    gpus = open_search(device)
    if gpus:
        best = gpus.knn(queries, _checked(queries.rows, xb_blocks), k)
        return best.scores, best.indices
    propose = _propose_by(_faiss(), metric)
    best = Best(len(xq), k)
    with ThreadPoolExecutor(available_cores()) as threads:
        coarse = _first_pass(queries.rows, metric, threads)
        enough = max(_COARSE_ROWS, 256 * k)
        for start, block, longest in _checked(queries.rows, xb_blocks):
            for row, part in _parts(start, block, enough if coarse else len(block)):
                pairs = None
                # An equal score comes later in the order, since its row does.
                least = np.nextafter(best.least(), np.float32(np.inf))
                if coarse and row >= enough and len(part) >= _PART:
                    pairs = coarse.pairs(part, least)
                    if pairs is None:
                        coarse = None
                if pairs is None:
                    pairs = found_in(queries, part, longest, least, k, propose, k + SPARE, threads)
                best.add((pairs[0], pairs[1] + row, pairs[2]), len(part))
    return best.scores, best.indices


def within(
    xq: Floats, xb_blocks: Iterable[Floats], lowest: np.float32, metric: Metric = "ip", device: str = CPU
) -> Iterator[Pairs]:
    """Every pair that reaches the lowest score, of a data base that is read once, block by block.

    Args:
        xq: queries ``float32 (nq, d)``.
        xb_blocks: the data base, ``float32 (m, d)`` each.
        lowest: score, as `knn` gives it.
        metric, device: see `knn`.

    Yields:
        for each block, or part of one that GPUs take: rows of the queries, rows of the whole data base, and scores, each
        ``(pairs,)``.

    Raises:
        InputError: the metric is unknown, the dimensions differ, or a number is not finite.
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    _check_metric(metric)
    queries = _queries(xq, metric)
    gpus = open_search(device)
    if gpus:
        yield from gpus.within(queries, _checked(queries.rows, xb_blocks), lowest)
        return
    faiss = _faiss()
    with ThreadPoolExecutor(available_cores()) as threads:
        coarse = _first_pass(queries.rows, metric, threads)
        for start, block, longest in _checked(queries.rows, xb_blocks):
            pairs = None
            if coarse and len(block) >= _PART:
                pairs = coarse.pairs(block, np.full(len(queries.rows), lowest, np.float32))
                if pairs is None:
                    coarse = None
            if pairs is None:
                pairs = _in_range(faiss, queries, block, longest, lowest, threads)
            yield pairs[0], pairs[1] + start, pairs[2]


def _in_range(
    faiss: ModuleType, queries: Queries, block: Floats, longest: float, lowest: np.float32, threads: ThreadPoolExecutor
) -> Pairs:
    """Every pair of a block that reaches the lowest score, proposed by faiss' range search."""
    xq, ip = queries.rows, queries.metric == "ip"
    search = faiss.range_search_inner_product if ip else faiss.range_search_L2sqr
    # faiss gives what is strictly better than the radius, by scores that are a little off.
    reach = float(lowest) - float(queries.apart(longest).max())
    radius = float(np.nextafter(np.float32(reach if ip else -reach), np.float32(-np.inf if ip else np.inf)))
    result = faiss.RangeSearchResult(len(xq))
    search(faiss.swig_ptr(xq), faiss.swig_ptr(block), xq.shape[1], len(xq), len(block), radius, result)
    limits = faiss.rev_swig_ptr(result.lims, len(xq) + 1).astype(np.int64)
    columns = faiss.rev_swig_ptr(result.labels, int(limits[-1])).astype(np.int64)
    rows = np.repeat(np.arange(len(xq)), np.diff(limits))
    scores = queries.scores(rows, block, columns, threads)
    keep = scores >= lowest
    return rows[keep], columns[keep], scores[keep]
