"""What an exact result is, whichever library and device compute it: how a pair is scored, and why no better pair is missing.

`scores_of` defines the score of two rows. It gives the same number for the same two rows, wherever they stand. faiss sums the
same products in another order, on the processor and on a GPU. Its scores are equally good, but they differ in the last bits,
and neighbours that are so close would come out in another order. So faiss only proposes pairs, and `scores_of` scores them.
Any two ways to sum d products in single precision differ by at most

    (d + 8) · 2⁻²³ · ‖q‖ ‖b‖

This is twice the usual bound for a sum of d terms. For squared distances, (‖q‖ + ‖b‖)² takes the place of the norms. A row
that faiss did not name scores at most as high as the last row that it did name. If that last score plus the bound is below
what counts, no row is missing. Otherwise, mostly where many rows are equal, faiss is asked for more neighbours, and in the
end every row is compared. The result is the same to the bit for every device, block size and number of threads. Equal scores
are ordered by index.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...errors import EngineError, InputError
from .arrays import Doubles, Floats, Ints, Pairs, join
from .best import best_of_each
from .equal_rows import distinct_pairs, same_rows

Metric = Literal["ip", "l2"]
METRICS: tuple[Metric, ...] = ("ip", "l2")
TOO_LARGE = "descriptors so large that their scores do not fit into float32; use rows of unit length"
SPARE = 8
"""How many more neighbours than k are asked for. The score of the last one tells whether a row can be missing."""

Propose = Callable[[Floats, Floats, int], tuple[Floats, Ints]]
"""Takes queries ``(n, d)``, rows ``(m, d)`` and k ≤ m; gives scores and indices of each query's k best rows, ``(n, k)``."""

_LENGTHS = 1024
_PAIRS = 1 << 15  # scored at a time: two arrays of 32 MB at 256 dimensions
_TABLE = 1 << 22  # scores in one table where every row is compared: 16 MB
_FIRST = 16  # neighbours that are asked for first where every pair above a score is wanted
_GROWTH = 4


def scores_of(xq: Floats, xb: Floats, metric: Metric) -> Floats:
    """Score each row against the row beside it. The same two rows give the same score, wherever they stand."""
    if metric == "l2":
        xq = xb = xq - xb
    scores: Floats = np.einsum("ij,ij->i", xq, xb)
    return scores if metric == "ip" else -scores


class Queries:
    """Queries ``float32 (n, d)`` and their lengths ``float64 (n,)``."""

    def __init__(self, rows: Floats, metric: Metric) -> None:
        self.rows, self.metric = rows, metric
        self.length: Doubles = np.empty(len(rows))
        for start in range(0, len(rows), _LENGTHS):  # so that the doubles stay in the cache
            part = slice(start, start + _LENGTHS)
            self.length[part] = np.linalg.norm(rows[part].astype(np.float64), axis=1)

    def apart(self, longest: float) -> Doubles:
        """How much two computations of a score can differ ``(n,)``, for rows of at most that length."""
        dim = self.rows.shape[1]
        total = self.length * longest if self.metric == "ip" else (self.length + longest) ** 2
        apart: Doubles = (dim + 8) * 2.0**-23 * total + dim * 2.0**-124  # plus what is too small for single precision
        return apart

    def scores(self, queries: Ints, rows: Floats, columns: Ints, threads: ThreadPoolExecutor) -> Floats:
        """Score pairs: the query ``queries[i]`` against ``rows[columns[i]]``, for each i.

        Raises:
            InputError: a score does not fit into float32.
        """
        made = np.empty(len(queries), np.float32)

        def score(start: int) -> None:
            these = slice(start, start + _PAIRS)
            with np.errstate(over="ignore", invalid="ignore"):
                made[these] = scores_of(self.rows[queries[these]], rows[columns[these]], self.metric)

        list(threads.map(score, range(0, len(queries), _PAIRS)))
        if not np.isfinite(made).all():
            raise InputError(TOO_LARGE)
        return made


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a data base.

    Attributes:
        start: number of the first row in the whole data base.
        rows: ``float32 (m, d)``, contiguous.
        longest: length of the longest row, or a little more.
    """

    start: int
    rows: Floats
    longest: float

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, first: int, count: int) -> Block:
        """At most so many rows of this block, from its row ``first`` on."""
        return Block(self.start + first, self.rows[first : first + count], self.longest)

    def numbered(self, pairs: Pairs) -> Pairs:
        """The same pairs, with the row numbers of the whole data base instead of those of this block."""
        return pairs[0], pairs[1] + self.start, pairs[2]


@dataclass(frozen=True)
class Wanted:
    """Which pairs count: those that reach the least score of their query and are among its k best.

    Attributes:
        least: the lowest score that counts for each query ``(n,)``; may be −∞.
        k: None where every pair counts that reaches the least score.
    """

    least: Floats | Doubles
    k: int | None = None


@dataclass(frozen=True)
class Proposer:
    """What proposes neighbours by scores that are only about right, and the largest k that it takes."""

    propose: Propose
    widest: int


def found_in(queries: Queries, block: Block, wanted: Wanted, proposer: Proposer, threads: ThreadPoolExecutor) -> Pairs:
    """Every pair of a block that counts, with the row numbers of the whole data base.

    The result may hold a few more pairs, which reach the least score but are not among the k best of their query.

    Args:
        queries: n of them.
        block: holds at least one row.
        wanted: which pairs count.
        proposer: names neighbours, whose scores are then computed again.
        threads: compute the scores.

    Raises:
        InputError: a score does not fit into float32.
        EngineError: the proposer computes in less than single precision.
    """
    (query, column, about), undecided, least = _proposed(queries, block, wanted, proposer)
    scores = queries.scores(query, block.rows, column, threads)
    excess = np.abs(scores.astype(np.float64) - about) - queries.apart(block.longest)[query]
    if (excess > 0).any():
        raise EngineError(
            f"faiss' scores are off by {excess.max():.1e} more than single precision can be; unset NVIDIA_TF32_OVERRIDE and "
            "similar variables, or use the device cpu"
        )
    keep = scores >= wanted.least[query]
    found = block.numbered((query[keep], column[keep], scores[keep]))
    if not len(undecided):
        return found
    return join([found, _among_all_rows(queries, undecided, block, Wanted(least, wanted.k), threads)])


def _proposed(queries: Queries, block: Block, wanted: Wanted, proposer: Proposer) -> tuple[Pairs, Ints, Doubles]:
    """Ask for ever more neighbours, until no row that counts can be missing or the proposer gives no more.

    Returns:
        the pairs that may count, with the proposer's scores; the queries for which a row may still be missing; and the
        lowest score that counts for each query, as far as it is known now.
    """
    apart, rows, k = queries.apart(block.longest), block.rows, wanted.k
    widest = min(proposer.widest, len(rows))
    width = min(_FIRST if k is None else k + SPARE, widest)
    undecided: Ints = np.arange(len(queries.rows))
    least = wanted.least.astype(np.float64)
    found: list[Pairs] = []
    while True:
        asked = queries.rows if len(undecided) == len(queries.rows) else queries.rows[undecided]
        scores, columns = proposer.propose(asked, rows, width)
        if (columns < 0).any() or not np.isfinite(scores).all():
            raise InputError(TOO_LARGE)
        doubt = apart[undecided]
        if k is not None and k <= width:  # no pair counts that is worse than the k-th best of this block
            least[undecided] = np.maximum(least[undecided], scores[:, k - 1] - doubt)
        enough = least[undecided] - doubt
        missing = (scores[:, -1] >= enough) & (width < len(rows))
        places = np.nonzero((scores >= enough[:, None]) & ~missing[:, None])
        found.append((undecided[places[0]], columns[places], scores[places]))
        undecided = undecided[missing]
        if not len(undecided) or width == widest:
            return join(found), undecided, least
        width = min(width * _GROWTH, widest)


def _among_all_rows(queries: Queries, which: Ints, block: Block, wanted: Wanted, threads: ThreadPoolExecutor) -> Pairs:
    """Every pair that counts, for some of the queries, from a comparison with every row of a block."""
    part, least = block.rows, wanted.least
    enough = least - queries.apart(block.longest)
    step = max(1, _TABLE // len(part))
    squares = np.einsum("ij,ij->i", part, part) if queries.metric == "l2" else None
    found: list[Pairs] = []
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
        rows, columns = np.nonzero(about >= enough[these, None])
        if len(rows) > _PAIRS:
            same = same_rows(part) if same is None else same
            one, other, number = distinct_pairs(rows, columns, same_rows(xq), same)
            scores = queries.scores(these[one], part, other, threads)[number]
        else:
            scores = queries.scores(these[rows], part, columns, threads)
        keep = scores >= least[these[rows]]
        pairs = block.numbered((these[rows][keep], columns[keep], scores[keep]))
        found.append(pairs if wanted.k is None else best_of_each(pairs, wanted.k))
    return join(found)
