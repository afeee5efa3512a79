"""Exact search of two sides: the best references of each query, the best pairs of all, or every pair above a score."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..descriptors.comparing import compare
from ..descriptors.picking import rows_at
from ..descriptors.store import Descriptors
from ..descriptors.texts import ids_at, repeated_id
from ..descriptors.view_rows import rows_of
from ..errors import InputError, MismatchError
from ..progress import ProgressCallback
from .lists.matches import Matches, Truth
from .pairs.left_out import read_left_out
from .pairs.pair_search import PairSearch, Reading, limited
from .pairs.self_join import check_threshold
from .pairs.unknown_ids import warn_of_unknown
from .pairs.views import Views
from .searchers.arrays import Pairs
from .searchers.cpu_searcher import CPU
from .searchers.exact import Metric
from .searchers.searcher import Searcher, open_searcher

DEFAULT_K = 10
PAIRS_PER_LABELLED = 10
"""How many pairs for each labelled query the challenge's descriptor track is scored on."""


def search(
    queries: Descriptors,
    references: Descriptors,
    *,
    k: int | None = None,
    max_pairs: int | None = None,
    threshold: float | None = None,
    labelled: Truth | None = None,
    metric: Metric = "ip",
    device: str | Searcher = CPU,
    verdicts: str | os.PathLike[str] | None = None,
    stop_list: str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
) -> Matches:
    """Find, for every query, the references that look like copies. Exact; references are read block by block.

    Without any limit, the result holds the 10 best references of each query. Limits may be combined; each one only takes
    pairs away. Where photos were described in several views, a pair scores as its best views do, and the result says which.
    Negatives change descriptors before: `isc_fast.find_copies` normalises both sides by them and searches, in one call.

    Args:
        queries, references: ``(nq, d)`` and ``(nr, d)``; with v views ``(nq, v · d)``.
        k: best references of each query.
        max_pairs: best pairs over all queries together (the challenge's cap is 500,000).
        threshold: lowest score.
        labelled: search only the queries that this ground truth labels. Without another limit, the result holds the best
            10 × as many pairs of all: it is what the challenge's descriptor track is scored on.
        metric: ``"ip"``: the score is the inner product, which is the cosine, at most 1, for rows of length 1 (ours are; see
            `isc_fast.to_unit_length`); ``"l2"``: minus the squared distance, at most 0, which for
            unit rows is ``2 · cosine − 2``. The order is the same.
        device: what searches: ``"cpu"``, or GPUs: ``"cuda"`` (the first), ``"cuda:1"``, ``"cuda:0,1"``, ``"cuda:all"``. The
            references stream through them, part by part; pairs and scores are the same to the bit. If more than 2,048
            references of a part may count for a query, the processor finds them. It may also be a searcher that is open
            already (`isc_fast.matching.searchers.searcher.open_searcher`).
        verdicts: a file of verdicts, as a page saves it: pairs that somebody judged wrong are left out, and others take their
            places within the limits. `Matches.verdicts` marks those that are right.
        stop_list: a list of ids, of both sides, which match nothing.
        progress: called with how many references were read, and how many will be: each of them once for each block of queries.
            The best pairs of all may need more of them than was known at first.

    Returns:
        with ``k`` and no ``max_pairs``, pairs in the order of the queries, best first; otherwise best first overall.

    Raises:
        MismatchError: queries and references come from different engines or normalisations.
        InputError: a limit is out of range, a side is empty, the ground truth labels none of the queries, or a threshold
            alone gives more than `isc_fast.matching.pairs.pair_search.MOST_PAIRS` pairs.
        FormatError: the file of verdicts or the stop list is not what it should be.
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    left_out = read_left_out(verdicts, stop_list)
    check_search(queries, references, k=k, max_pairs=max_pairs, threshold=threshold, metric=metric)
    warn_of_unknown(left_out, queries.ids, references.ids)
    if labelled is not None:
        queries = _labelled(queries, labelled)
    if k is None and max_pairs is None and threshold is None:
        k, max_pairs = (DEFAULT_K, None) if labelled is None else (None, PAIRS_PER_LABELLED * len(queries))
    lowest = np.float32(-np.inf if threshold is None else threshold)
    views = Views.of(queries, references)
    reading = Reading(rows_of(references), progress)
    wanted = PairSearch(rows_of(queries), reading, views, metric, open_searcher(device))

    def found(k: int | None, max_pairs: int | None) -> Matches:
        if k is not None:
            pairs = limited(wanted.nearest(views.rows_for(k), lowest), views, k, max_pairs)
        elif max_pairs is None:
            pairs = limited(wanted.above(lowest), views, None, None)
        else:
            pairs = wanted.best_of_all(max_pairs, lowest)
        return matches_of(pairs, queries, references)

    return left_out.search(found, k, max_pairs) if left_out else found(k, max_pairs)


def matches_of(pairs: Pairs, queries: Descriptors, references: Descriptors) -> Matches:
    """Pairs of rows, one for each view of each photo, as matches."""
    views = Views.of(queries, references)
    rows, columns = views.photos(pairs)
    return Matches(ids_at(queries.ids, rows), ids_at(references.ids, columns), pairs[2], views.names(pairs))


def check_search(
    queries: Descriptors,
    references: Descriptors,
    *,
    k: int | None,
    max_pairs: int | None,
    threshold: float | None,
    metric: Metric,
) -> None:
    """See before the work that two sides can be searched with these limits; see `search`.

    Raises:
        MismatchError, InputError: they cannot.
    """
    check_counts(k, max_pairs)
    _check_sides(queries, references, metric)
    _check_threshold(threshold, metric, (queries, references))
    _check_ids(queries, references)


def check_counts(k: int | None, max_pairs: int | None) -> None:
    """See that limits of a search are in range; see `search`.

    Raises:
        InputError: one is not.
    """
    for name, limit in (("k", k), ("max_pairs", max_pairs)):
        if limit is not None and limit < 1:
            raise InputError(f"{name} must be at least 1, not {limit}")


def _check_sides(queries: Descriptors, references: Descriptors, metric: Metric) -> None:
    for side, found in (("query", queries), ("reference", references)):
        if not len(found):
            raise InputError(f"there is no {side} descriptor to search")
    compare(queries, references).require()
    normalized = queries.provenance.normalization
    by_score = normalized is not None and normalized.by_score
    if by_score and metric != "ip":
        raise MismatchError("descriptors normalised by scores are searched by inner product: use the metric ip")


def _has_unit_rows(side: Descriptors) -> bool:
    """Whether a set says that its rows have length 1: ours do, unless they are normalised by scores."""
    record = side.provenance
    return record.stamped and not (record.normalization and record.normalization.by_score)


def _check_threshold(threshold: float | None, metric: Metric, sides: Sequence[Descriptors]) -> None:
    if threshold is None:
        return
    if math.isnan(threshold):
        raise InputError("the threshold is not a number")
    if metric == "ip" and all(map(_has_unit_rows, sides)):
        check_threshold(threshold)
    if metric == "l2" and threshold > 0:
        raise InputError(
            f"with the metric l2 scores are minus squared distances, at most 0; the threshold is {threshold}"
        )


def _check_ids(queries: Descriptors, references: Descriptors) -> None:
    for side, found in (("query", queries), ("reference", references)):
        twice = repeated_id(found.ids)
        if twice is not None:
            raise InputError(f"the {side} id {twice!r} occurs twice, so its pairs could not be told apart")


def _labelled(queries: Descriptors, truth: Truth) -> Descriptors:
    """The queries that a ground truth labels, in memory."""
    rows = np.array([row for row, id_ in enumerate(queries.ids) if id_ in truth.queries], np.int64)
    if not len(rows):
        raise InputError(
            f"the ground truth labels none of the queries: ids such as {queries.ids[0]!r} against {min(truth.queries)!r}"
        )
    return replace(queries, vectors=rows_at(queries.vectors, rows), ids=ids_at(queries.ids, rows))
