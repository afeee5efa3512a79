"""Exact search: the best references of each query, the best pairs of all, or every pair above a score."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..descriptors.store import BLOCK_ROWS, Descriptors, check_comparable, ids_at, repeated_id
from ..errors import InputError, MismatchError
from .exact import Ints, Metric, Pairs, join
from .cpu_searcher import CPU, knn, rows_at_once, within
from .matches import Matches

DEFAULT_K = 10
_FIRST_K = 16
_GROWTH = 4
_ENTRIES = 1 << 25  # of one result (queries × k), 400 MB with the indices


def search(
    queries: Descriptors,
    references: Descriptors,
    *,
    k: int | None = None,
    max_pairs: int | None = None,
    threshold: float | None = None,
    metric: Metric = "ip",
    device: str = CPU,
) -> Matches:
    """Find, for every query, the references that look like copies. Exact; references are read block by block.

    With no limit given, the 10 best of each query. Limits may be combined; each only takes pairs away.

    Args:
        queries, references: ``(nq, d)`` and ``(nr, d)``.
        k: best references of each query.
        max_pairs: best pairs over all queries together (the challenge's cap is 500,000).
        threshold: lowest score.
        metric: ``"ip"``: the score is the cosine, at most 1; ``"l2"``: minus the squared distance, at most 0, which for
            unit rows is ``2 · cosine − 2``. The order is the same.
        device: what searches: ``"cpu"``, or GPUs: ``"cuda"`` (the first), ``"cuda:1"``, ``"cuda:0,1"``, ``"cuda:all"``. The
            references stream through them, part by part; pairs and scores are the same to the bit. Where more than 2,048
            references of a part may count for a query, the processor finds them. Not run on a GPU so far.

    Returns:
        with ``k`` and no ``max_pairs``, pairs in the order of the queries, best first; else best first overall.

    Raises:
        MismatchError: queries and references come from different engines or normalisations.
        InputError: a limit is out of range, or a side is empty.
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    for name, limit in (("k", k), ("max_pairs", max_pairs)):
        if limit is not None and limit < 1:
            raise InputError(f"{name} must be at least 1, not {limit}")
    for side, found in (("query", queries), ("reference", references)):
        if not len(found):
            raise InputError(f"there is no {side} descriptor to search")
    check_comparable(queries, references)
    by_score = (queries.meta.get("normalization") or {}).get("method") == "score"
    if by_score and metric != "ip":
        raise MismatchError("descriptors normalised by scores are searched by inner product: use the metric ip")
    if threshold is not None and math.isnan(threshold):
        raise InputError("the threshold is not a number")
    if threshold is not None and metric == "l2" and threshold > 0:
        raise InputError(
            f"with the metric l2 scores are minus squared distances, at most 0; the threshold is {threshold}"
        )
    for side, found in (("query", queries), ("reference", references)):
        twice = repeated_id(found.ids)
        if twice is not None:
            raise InputError(f"the {side} id {twice!r} occurs twice, so its pairs could not be told apart")
    if k is None and max_pairs is None and threshold is None:
        k = DEFAULT_K
    lowest = np.float32(-np.inf if threshold is None else threshold)
    if k is not None:
        pairs = _nearest(queries, references, k, lowest, metric, device)
        if max_pairs is not None:
            pairs = _best(pairs, max_pairs)
    elif max_pairs is None:
        pairs = _best(_above(queries, references, lowest, metric, device), None)
    else:
        pairs = _best_overall(queries, references, max_pairs, lowest, metric, device)
    rows, columns, scores = pairs
    return Matches(ids_at(queries.ids, rows), ids_at(references.ids, columns), scores)


def _keep(pairs: Pairs, which: npt.NDArray[np.bool_] | Ints) -> Pairs:
    return pairs[0][which], pairs[1][which], pairs[2][which]


def _best(pairs: Pairs, count: int | None) -> Pairs:
    """The best pairs first; equal scores in the order of queries, then references."""
    order = np.lexsort((pairs[1], pairs[0], -pairs[2]))
    return _keep(pairs, order[:count])


def _nearest(
    queries: Descriptors,
    references: Descriptors,
    k: int,
    lowest: np.float32,
    metric: Metric,
    device: str,
    rows: Ints | None = None,
) -> Pairs:
    """The k best of each query (or of those queries alone) that reach the lowest score."""
    rows = np.arange(len(queries)) if rows is None else rows
    most, block_rows = rows_at_once(device, references.dim, BLOCK_ROWS)
    step = min(most, max(1, _ENTRIES // min(k, len(references))))
    parts: list[Pairs] = []
    for start in range(0, len(rows), step):
        these = rows[start : start + step]
        scores, indices = knn(queries.vectors[these], references.blocks(block_rows), k, metric, device)
        pairs = (np.repeat(these, scores.shape[1]), indices.ravel(), scores.ravel())
        parts.append(_keep(pairs, pairs[2] >= lowest))
    return join(parts)


def _above(queries: Descriptors, references: Descriptors, lowest: np.float32, metric: Metric, device: str) -> Pairs:
    """Every pair that reaches the lowest score; beside them, memory holds two blocks."""
    parts: list[Pairs] = []
    start = 0
    query_rows, block_rows = rows_at_once(device, references.dim, BLOCK_ROWS)
    for block in queries.blocks(query_rows):
        for rows, columns, scores in within(block, references.blocks(block_rows), lowest, metric, device):
            parts.append((rows + start, columns, scores))
        start += len(block)
    return join(parts)


def _best_overall(
    queries: Descriptors, references: Descriptors, max_pairs: int, lowest: np.float32, metric: Metric, device: str
) -> Pairs:
    """The best pairs of all queries together, exactly, from nearest-neighbour searches alone.

    Where a query's last neighbour is still good enough to count, it may have more: search again, wider, for those only.
    A pair once found stays: the same pair may score an ulp lower in another batch, and must not drop out for that.
    """
    k = min(_FIRST_K, len(references))
    pairs = _best(_nearest(queries, references, k, lowest, metric, device), None)
    while k < len(references):
        cut, beating = lowest, pairs[0]
        if len(pairs[2]) >= max_pairs:
            cut = pairs[2][max_pairs - 1]
            pairs = _keep(pairs, pairs[2] >= cut)
            # Of pairs that only equal the cut there are enough: fetching every one could mean all copies of a blank
            # picture times all others.
            beating = pairs[0][pairs[2] > cut]
        # All k neighbours of such a query beat the cut, so the next one might.
        unfinished = np.flatnonzero(np.bincount(beating, minlength=len(queries)) >= k)
        if not len(unfinished):
            break
        k = min(k * _GROWTH, len(references))
        more = _nearest(queries, references, k, cut, metric, device, unfinished)
        known = np.isin(more[0] * len(references) + more[1], pairs[0] * len(references) + pairs[1])
        pairs = _best(join([pairs, _keep(more, ~known)]), None)
    return _keep(pairs, np.arange(len(pairs[2]))[:max_pairs])
