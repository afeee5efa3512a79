"""Exact search of two sides: the best references of each query, the best pairs of all, or every pair above a score."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..descriptors.comparing import compare
from ..descriptors.picking import rows_at
from ..descriptors.store import Descriptors
from ..descriptors.texts import ids_at, repeated_id
from ..descriptors.view_rows import rows_of
from ..errors import InputError, MismatchError
from ..items import Vectors
from ..progress import ProgressCallback
from .arrays import Ints, Pairs, join
from .cpu_searcher import CPU
from .exact import Metric
from .left_out import read_left_out
from .matches import Matches, Truth
from .searcher import Searcher, open_searcher
from .self_join import check_threshold
from .views import Views

DEFAULT_K = 10
PAIRS_PER_LABELLED = 10
"""How many pairs for each labelled query the challenge's descriptor track is scored on."""
MOST_PAIRS = 5_000_000
"""Pairs that a threshold alone may give. Four thousand copies of a blank page would be 16 million."""
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
            already (`isc_fast.matching.searcher.open_searcher`).
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
            alone gives more than `MOST_PAIRS` pairs.
        FormatError: the file of verdicts or the stop list is not what it should be.
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    _check_counts(k, max_pairs)
    left_out = read_left_out(verdicts, stop_list)
    _check_sides(queries, references, metric)
    _check_threshold(threshold, metric, (queries, references))
    _check_ids(queries, references)
    if labelled is not None:
        queries = _labelled(queries, labelled)
    if k is None and max_pairs is None and threshold is None:
        k, max_pairs = (DEFAULT_K, None) if labelled is None else (None, PAIRS_PER_LABELLED * len(queries))
    lowest = np.float32(-np.inf if threshold is None else threshold)
    views = Views.of(queries, references)
    reading = _Reading(rows_of(references), progress)
    wanted = _Search(rows_of(queries), reading, views, metric, open_searcher(device))

    def found(k: int | None, max_pairs: int | None) -> Matches:
        if k is not None:
            pairs = wanted.nearest(views.rows_for(k), lowest)
            pairs = views.best_of_each(pairs, k) if views.several else pairs
            if max_pairs is not None:
                pairs = _best(pairs, max_pairs)
        elif max_pairs is None:
            pairs = _best(views.best(wanted.above(lowest)), None)
        else:
            pairs = wanted.best_overall(max_pairs, lowest)
        rows, columns = views.photos(pairs)
        return Matches(ids_at(queries.ids, rows), ids_at(references.ids, columns), pairs[2], views.names(pairs))

    return left_out.search(found, k, max_pairs) if left_out else found(k, max_pairs)


def _check_counts(k: int | None, max_pairs: int | None) -> None:
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


def _keep(pairs: Pairs, which: npt.NDArray[np.bool_] | Ints) -> Pairs:
    return pairs[0][which], pairs[1][which], pairs[2][which]


def _best(pairs: Pairs, count: int | None) -> Pairs:
    """The best pairs first; equal scores in the order of queries, then references."""
    order = np.lexsort((pairs[1], pairs[0], -pairs[2]))
    return _keep(pairs, order[:count])


class _Reading:
    """References that are read again and again, and how much of that is done.

    Args:
        descriptors: the references.
        callback: see ``progress`` of `search`.
    """

    def __init__(self, descriptors: Descriptors, callback: ProgressCallback | None) -> None:
        self.dim, self._descriptors, self._callback = descriptors.dim, descriptors, callback
        self._done = self._total = 0

    def __len__(self) -> int:
        return len(self._descriptors)

    def expect(self, times: int) -> None:
        """They will be read so many times more."""
        self._total += times * len(self)
        self._tell(0)

    def blocks(self, rows: int) -> Iterator[Vectors]:
        """They are read once: see `Descriptors.blocks`."""
        for block in self._descriptors.blocks(rows):
            yield block
            self._tell(len(block))

    def _tell(self, rows: int) -> None:
        self._done += rows
        if self._callback:
            self._callback(self._done, self._total, 0)


@dataclass(frozen=True)
class _Search:
    """Two sides that may be compared, with a row for each view of each photo, and what searches them."""

    queries: Descriptors
    references: _Reading
    views: Views
    metric: Metric
    searcher: Searcher

    def nearest(self, k: int, lowest: np.float32, rows: Ints | None = None) -> Pairs:
        """The k best references of each query that reach the lowest score; of the given queries only, if rows are given."""
        rows = np.arange(len(self.queries)) if rows is None else rows
        at_once = self.searcher.block_rows(self.references.dim)
        step = min(at_once.queries, max(1, _ENTRIES // min(k, len(self.references))))
        parts: list[Pairs] = []
        self.references.expect(-(-len(rows) // step))
        for start in range(0, len(rows), step):
            these = rows[start : start + step]
            blocks = self.references.blocks(at_once.references)
            scores, indices = self.searcher.knn(self.queries.vectors[these], blocks, k, self.metric)
            pairs = (np.repeat(these, scores.shape[1]), indices.ravel(), scores.ravel())
            parts.append(_keep(pairs, pairs[2] >= lowest))
        return join(parts)

    def above(self, lowest: np.float32) -> Pairs:
        """Every pair that reaches the lowest score. Beside the pairs, memory holds two blocks.

        Raises:
            InputError: there are more than `MOST_PAIRS`.
        """
        at_once = self.searcher.block_rows(self.references.dim)
        parts: list[Pairs] = []
        start = found = 0
        self.references.expect(-(-len(self.queries) // at_once.queries))
        for block in self.queries.blocks(at_once.queries):
            blocks = self.references.blocks(at_once.references)
            for rows, columns, scores in self.searcher.within(block, blocks, lowest, self.metric):
                parts.append((rows + start, columns, scores))
                found += len(rows)
                if found > MOST_PAIRS:
                    raise InputError(self._too_many(parts, lowest))
            start += len(block)
        return join(parts)

    def _too_many(self, parts: list[Pairs], lowest: np.float32) -> str:
        counts = np.bincount(np.concatenate([rows for rows, _, _ in parts]))
        most = int(counts.argmax())
        return (
            f"more than {MOST_PAIRS} pairs reach the threshold {lowest:g}; {counts[most]} of those found so far are of the query "
            f"{self.queries.ids[most]!r}: equal pictures, such as blank pages, pair with each other; give also -k or "
            "--max-pairs (in Python k or max_pairs), or a higher threshold"
        )

    def best_overall(self, max_pairs: int, lowest: np.float32) -> Pairs:
        """The best pairs of all queries together, exactly, from nearest-neighbour searches alone.

        If a query's last neighbour is still good enough to count, the query may have more of them. Only such queries are
        searched again, for more neighbours. A pair that was found once stays: the same pair may score an ulp lower in another
        batch, and must not drop out for that.
        """
        k = min(_FIRST_K, len(self.references))
        pairs = _best(self.nearest(k, lowest), None)
        while k < len(self.references):
            cut, beating = lowest, pairs[0]
            counted = self._counted(pairs)
            if len(counted[2]) >= max_pairs:
                cut = counted[2][max_pairs - 1]
                pairs = _keep(pairs, pairs[2] >= cut)
                # There are enough pairs that only equal the cut. Fetching every one of them could mean all copies of a blank
                # picture times all others.
                beating = pairs[0][pairs[2] > cut]
            # All k neighbours of such a query beat the cut, so the next one may beat it too.
            unfinished = np.flatnonzero(np.bincount(beating, minlength=len(self.queries)) >= k)
            if not len(unfinished):
                break
            k = min(k * _GROWTH, len(self.references))
            more = self.nearest(k, cut, unfinished)
            known = np.isin(self._number(more), self._number(pairs))
            pairs = _best(join([pairs, _keep(more, ~known)]), None)
        return _keep(counted := self._counted(pairs), np.arange(len(counted[2]))[:max_pairs])

    def _counted(self, pairs: Pairs) -> Pairs:
        """Pairs of rows, best first, as pairs of photos, best first."""
        return _best(self.views.best(pairs), None) if self.views.several else pairs

    def _number(self, pairs: Pairs) -> Ints:
        """One number for each pair."""
        return pairs[0] * len(self.references) + pairs[1]
