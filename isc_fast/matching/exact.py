"""What an exact result is, whoever computes it: the score of a pair, and the proof that no better pair is missing.

The score of two rows is what `scores_of` makes of them, the same wherever they stand. faiss, on the processor or on a GPU,
sums in other orders: its scores are as good, differ in the last bits, and would order neighbours that are that close in
another way. So it only proposes. Of the sum of d products, any two ways to compute it in single precision are at most

    (d + 8) · 2⁻²³ · ‖q‖ ‖b‖

apart (twice the usual bound for a sum of d terms; for squared distances (‖q‖ + ‖b‖)² takes the norms' place). A row that
faiss did not name has at most the last score that it did name; where that, plus this distance, is below what counts, no
row is missing. Where it is not (many equal rows, mostly), more neighbours are asked for, and in the end all rows are looked
at. The result is the same to the bit for every device, block size and number of threads; equal scores come by index.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, InputError

Metric = Literal["ip", "l2"]
METRICS: tuple[Metric, ...] = ("ip", "l2")
TOO_LARGE = "descriptors so large that their scores are no float32 numbers; use rows of unit length"
SPARE = 8
"""Neighbours asked for beyond the k that are wanted: the last of them tells whether one can be missing."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pairs = tuple[Ints, Ints, Floats]
"""Query rows, reference rows and scores of pairs, each ``(n,)``."""
Propose = Callable[[Floats, Floats, int], tuple[Floats, Ints]]
"""Queries ``(n, d)``, rows ``(m, d)`` and k ≤ m → the k best rows of each query and their scores, best first, ``(n, k)``."""

_LENGTHS = 1024
_PAIRS = 1 << 15  # scored at a time: two arrays of 32 MB at 256 dimensions
_TABLE = 1 << 22  # scores of one table where every row is looked at, 16 MB
_FIRST = 16  # neighbours asked for first where all above a score are wanted
_GROWTH = 4


def scores_of(xq: Floats, xb: Floats, metric: Metric) -> Floats:
    """Of each row with the row beside it; the same for the same two rows, wherever they stand."""
    if metric == "l2":
        xq = xb = xq - xb
    scores: Floats = np.einsum("ij,ij->i", xq, xb)
    return scores if metric == "ip" else -scores


def same_rows(rows: Floats) -> Ints:
    """Of each row, one that is equal to it in every bit ``(n,)``: the first one, but in a case that hardly occurs itself."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64)
    _, first, inverse = np.unique(np.einsum("ij,j->i", bits, factors), return_index=True, return_inverse=True)
    same: Ints = first[inverse]
    for start in range(0, len(rows) if len(first) < len(rows) else 0, _LENGTHS):
        part = slice(start, start + _LENGTHS)
        if (bits[part] != bits[same[part]]).any():
            return np.arange(len(rows))
    return same


def distinct_pairs(rows: Ints, columns: Ints, same_row: Ints, same_column: Ints) -> tuple[Ints, Ints, Ints]:
    """Pairs that stand for all pairs, where rows that are equal make equal pairs, as blank images do.

    Args:
        rows, columns: of the pairs ``(n,)``.
        same_row, same_column: `same_rows` of both sides; memory holds a table of all their pairs.

    Returns:
        rows and columns of the pairs that stand for others, and which one stands for each pair ``(n,)``.
    """
    keys = same_row[rows] * len(same_column) + same_column[columns]
    number = np.zeros(len(same_row) * len(same_column), np.int32)
    number[keys] = 1
    distinct = np.flatnonzero(number)
    number[distinct] = np.arange(len(distinct))
    return distinct // len(same_column), distinct % len(same_column), number[keys]


def join(parts: list[Pairs]) -> Pairs:
    """All pairs of several lists."""
    rows, columns, scores = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)


class Queries:
    """Queries ``float32 (n, d)`` and their lengths."""

    def __init__(self, rows: Floats, metric: Metric) -> None:
        self.rows, self.metric = rows, metric
        self.length: Doubles = np.empty(len(rows))
        for start in range(0, len(rows), _LENGTHS):  # so that the doubles stay in the cache
            part = slice(start, start + _LENGTHS)
            self.length[part] = np.linalg.norm(rows[part].astype(np.float64), axis=1)

    def apart(self, longest: float) -> Doubles:
        """How far two computations of a score can be apart ``(n,)``, with rows of at most that length."""
        dim = self.rows.shape[1]
        total = self.length * longest if self.metric == "ip" else (self.length + longest) ** 2
        apart: Doubles = (dim + 8) * 2.0**-23 * total + dim * 2.0**-124  # and what is too small for single precision
        return apart

    def scores(self, rows: Ints, part: Floats, columns: Ints, threads: ThreadPoolExecutor) -> Floats:
        """Of pairs of a query and a row of the part."""
        made = np.empty(len(rows), np.float32)

        def score(start: int) -> None:
            these = slice(start, start + _PAIRS)
            with np.errstate(over="ignore", invalid="ignore"):
                made[these] = scores_of(self.rows[rows[these]], part[columns[these]], self.metric)

        list(threads.map(score, range(0, len(rows), _PAIRS)))
        if not np.isfinite(made).all():
            raise InputError(TOO_LARGE)
        return made


def found_in(
    queries: Queries,
    part: Floats,
    longest: float,
    least: Floats,
    k: int | None,
    propose: Propose,
    widest: int,
    threads: ThreadPoolExecutor,
) -> Pairs:
    """Every pair of a part of the data base that counts: at least the least score, and among the k best of its query.

    A few more may be among them that reach the least score but are not among the k best.

    Args:
        queries: n of them.
        part: ``float32 (m, d)``, m > 0.
        longest: length of the part's longest row, or more.
        least: lowest score that counts, of each query, ``(n,)``; may be −∞.
        k: or None for all that reach the least score.
        propose: neighbours by scores that are only about right.
        widest: the largest k that it can be asked for.
        threads: for scoring.

    Raises:
        InputError: scores that are no float32 numbers.
        EngineError: what proposes computes in less than single precision.
    """
    apart = queries.apart(longest)
    widest = min(widest, len(part))
    width = min(_FIRST if k is None else k + SPARE, widest)
    open_: Ints = np.arange(len(queries.rows))
    least64 = least.astype(np.float64)
    parts: list[Pairs] = []
    while True:
        scores, columns = propose(queries.rows if len(open_) == len(queries.rows) else queries.rows[open_], part, width)
        if (columns < 0).any() or not np.isfinite(scores).all():
            raise InputError(TOO_LARGE)
        doubt = apart[open_]
        if k is not None and k <= width:  # the k-th best of this part alone
            least64[open_] = np.maximum(least64[open_], scores[:, k - 1] - doubt)
        wanted = least64[open_] - doubt
        missing = (scores[:, -1] >= wanted) & (width < len(part))
        rows, places = np.nonzero((scores >= wanted[:, None]) & ~missing[:, None])
        parts.append((open_[rows], columns[rows, places], scores[rows, places]))
        open_ = open_[missing]
        if not len(open_) or width == widest:
            break
        width = min(width * _GROWTH, widest)
    query, column, about = join(parts)
    exact = queries.scores(query, part, column, threads)
    off = np.abs(exact.astype(np.float64) - about) - apart[query]
    if (off > 0).any():
        raise EngineError(
            f"faiss' scores are off by {off.max():.1e} more than single precision can be; unset NVIDIA_TF32_OVERRIDE and the "
            "like, or use the device cpu"
        )
    keep = exact >= least[query]
    found = query[keep], column[keep], exact[keep]
    if not len(open_):
        return found
    return join([found, _all_rows(queries, open_, part, apart, least64, k, threads)])


def _all_rows(
    queries: Queries,
    which: Ints,
    part: Floats,
    apart: Doubles,
    least: Doubles,
    k: int | None,
    threads: ThreadPoolExecutor,
) -> Pairs:
    """Of some queries, the k best (or all) of a part that reach the least score, from the scores of all its rows."""
    step = max(1, _TABLE // len(part))
    squares = np.einsum("ij,ij->i", part, part) if queries.metric == "l2" else None
    parts: list[Pairs] = []
    same: Ints | None = None
    for start in range(0, len(which), step):
        these = which[start : start + step]
        xq = queries.rows[these]
        with np.errstate(over="ignore", invalid="ignore"):
            about = xq @ part.T
            if squares is not None:
                about = 2 * about - squares - np.einsum("ij,ij->i", xq, xq)[:, None]
        if not np.isfinite(about).all():
            raise InputError(TOO_LARGE)
        rows, columns = np.nonzero(about >= (least - apart)[these, None])
        if len(rows) > _PAIRS:
            same = same_rows(part) if same is None else same
            one, other, number = distinct_pairs(rows, columns, same_rows(xq), same)
            scores = queries.scores(these[one], part, other, threads)[number]
        else:
            scores = queries.scores(these[rows], part, columns, threads)
        keep = scores >= least[these[rows]]
        pairs = these[rows][keep], columns[keep], scores[keep]
        parts.append(pairs if k is None else _best_of_each(pairs, k))
    return join(parts)


def _best_first(queries: Ints, indices: Ints, scores: Floats) -> Ints:
    """The order of pairs by query, then from the best score down, equal scores by index."""
    # A float's bits rise with it if those of negative ones are flipped and positive ones put above them. One key for both
    # sorts several times as fast as three keys do; 0.0 is added since -0.0 is equal to it.
    bits = (scores + np.float32(0)).view(np.uint32)
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys = queries.astype(np.uint64) << np.uint64(32) | falling
    order: Ints = np.argsort(keys)
    keys = keys[order]
    equal = keys[1:] == keys[:-1]
    tied = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
    order[tied] = order[tied][np.lexsort((indices[order[tied]], keys[tied]))]
    return order


def _best_of_each(pairs: Pairs, k: int) -> Pairs:
    order = _best_first(*pairs)
    query = pairs[0][order]
    first = np.searchsorted(query, query)
    order = order[np.arange(len(order)) - first < k]
    return pairs[0][order], pairs[1][order], pairs[2][order]


class Best:
    """The k best rows of each query so far; what it holds does not depend on the order in which parts come.

    Attributes:
        scores: ``float32 (n, k)``, falling along each row; fewer columns where fewer rows were seen.
        indices: ``int64 (n, k)``.
    """

    def __init__(self, count: int, k: int) -> None:
        self.k, self.seen = k, 0
        self.scores: Floats = np.empty((count, 0), np.float32)
        self.indices: Ints = np.empty((count, 0), np.int64)

    def least(self) -> Floats:
        """The lowest score that still counts, of each query ``(n,)``."""
        if self.seen >= self.k:
            return self.scores[:, -1]
        return np.full(len(self.scores), -np.inf, np.float32)

    def add(self, pairs: Pairs, rows: int) -> None:
        """Put in what was found in a part of so many rows; its k best of each query are among the pairs, if they count."""
        first = not self.seen
        more = min(self.k, self.seen + rows) - self.scores.shape[1]
        if more:
            fill = ((0, 0), (0, more))
            self.scores = np.pad(self.scores, fill, constant_values=-np.inf)
            self.indices = np.pad(self.indices, fill, constant_values=np.iinfo(np.int64).max)
        self.seen += rows
        if not len(pairs[0]):
            return
        queries, places = np.unique(pairs[0], return_inverse=True)
        width = self.scores.shape[1]
        if first and np.bincount(places).min() >= width:  # nothing of what is in the table is left
            query, index, score = places, pairs[1], pairs[2]
        else:
            query = np.concatenate([np.repeat(np.arange(len(queries)), width), places])
            score = np.concatenate([self.scores[queries].ravel(), pairs[2]])
            index = np.concatenate([self.indices[queries].ravel(), pairs[1]])
        order = _best_first(query, index, score)
        counts = np.bincount(query, minlength=len(queries))
        best = order[(np.cumsum(counts) - counts)[:, None] + np.arange(width)]
        self.scores[queries], self.indices[queries] = score[best], index[best]
