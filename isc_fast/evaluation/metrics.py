"""Evaluation: micro average precision and recall, in each protocol that published numbers use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, InputError
from ..matching.lists.matches import Matches, Truth

PROTOCOLS: dict[str, str] = {
    "kit": "the 500,000 best predictions; queries without ground truth count",
    "official": "the best 10 × labelled queries; queries without ground truth are dropped",
    "per-query": "the 10 best of each query; queries without ground truth count",
}
KIT_CAP = 500_000
PER_QUERY_CAP = 10
RANKS = (1, 10)
PRECISION = 0.9


@dataclass(frozen=True)
class Scores:
    """The figures of one protocol.

    Attributes:
        protocol: one of `PROTOCOLS`.
        micro_ap: micro average precision, from 0 to 1.
        recall_at_p90: the largest recall at a precision of at least 90 %, or None if no score reaches that precision.
        threshold_at_p90: the score at which that recall is reached, or None.
        recall_at_rank: for ranks 1 and 10, the share of true pairs among the best 1 or 10 predictions of their query.
        predictions: number of predictions that this protocol scored.
        queries: number of labelled queries.
        positives: number of true pairs in the ground truth.
    """

    protocol: str
    micro_ap: float
    recall_at_p90: float | None
    threshold_at_p90: float | None
    recall_at_rank: dict[int, float]
    predictions: int
    queries: int
    positives: int


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one protocol, from the best prediction down; all columns ``(n,)``.

    Attributes:
        scores: of the predictions; they fall.
        correct: which predictions are right.
        precision, recall: of all predictions up to each.
    """

    scores: npt.NDArray[np.floating[Any]]
    correct: npt.NDArray[np.bool_]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """The figures of each protocol that the caller asked for, by its name."""

    by_protocol: dict[str, Scores]

    def __getitem__(self, protocol: str) -> Scores:
        return self.by_protocol[protocol]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {name: asdict(scores) for name, scores in self.by_protocol.items()}

    def __str__(self) -> str:
        ranks = "  ".join(f"recall@{rank:<2}" for rank in RANKS)
        lines = [f"{'protocol':<10} {'µAP':>7}  {'R@P90':>7}  {'threshold':>9}  {ranks}  predictions"]
        for name, s in self.by_protocol.items():
            recall = "–" if s.recall_at_p90 is None else f"{s.recall_at_p90:.4f}"
            threshold = "–" if s.threshold_at_p90 is None else f"{s.threshold_at_p90:.4f}"
            at_rank = "  ".join(f"{s.recall_at_rank[rank]:>9.4f}" for rank in RANKS)
            lines.append(f"{name:<10} {s.micro_ap:>7.4f}  {recall:>7}  {threshold:>9}  {at_rank}  {s.predictions:>11}")
        any_scores = next(iter(self.by_protocol.values()))
        lines.append(f"{any_scores.positives} true pairs, {any_scores.queries} labelled queries")
        return "\n".join(lines)


def _codes(ids: Sequence[str]) -> npt.NDArray[np.int64]:
    table: dict[str, int] = {}
    return np.fromiter((table.setdefault(id_, len(table)) for id_ in ids), np.int64, len(ids))


@dataclass(frozen=True)
class _Predictions:
    """Columns of predictions, each ``(n,)``. Scores fall; among equal scores, wrong predictions stand first."""

    query: npt.NDArray[np.int64]
    score: npt.NDArray[np.floating[Any]]
    correct: npt.NDArray[np.bool_]
    labelled: npt.NDArray[np.bool_]

    def take(self, which: npt.NDArray[Any] | slice) -> _Predictions:
        return _Predictions(self.query[which], self.score[which], self.correct[which], self.labelled[which])


def _in_order(matches: Matches, truth: Truth) -> _Predictions:
    pairs = list(zip(matches.query_ids, matches.reference_ids, strict=True))
    if len(set(pairs)) != len(pairs):
        seen: set[tuple[str, str]] = set()
        twice = next(pair for pair in pairs if pair in seen or seen.add(pair))  # type: ignore[func-returns-value]
        raise FormatError(f"the pair {twice[0]!r}, {twice[1]!r} is predicted twice; each pair may occur only once")
    correct = np.fromiter((pair in truth.pairs for pair in pairs), bool, len(pairs))
    labelled = np.fromiter((query in truth.queries for query in matches.query_ids), bool, len(pairs))
    if len(pairs) and not labelled.any():
        raise InputError(
            f"no query of the matches is in the ground truth: ids such as {matches.query_ids[0]!r} against "
            f"{min(truth.queries)!r}; extract with ids that fit (isc-fast extract --ids stem)"
        )
    columns = _Predictions(_codes(matches.query_ids), np.asarray(matches.scores), correct, labelled)
    return columns.take(np.lexsort((correct, -columns.score)))


def check_references(matches: Matches, truth: Truth) -> None:
    """See that some reference of the ground truth occurs in the matches, for files that may have ids of two kinds.

    `evaluate` does not ask for that: where few predictions are made, all of them may be wrong.

    Raises:
        InputError: none does.
    """
    references = {reference for _, reference in truth.pairs}
    if len(matches) and references.isdisjoint(matches.reference_ids):
        raise InputError(
            f"no reference of the ground truth is in the matches: ids such as {matches.reference_ids[0]!r} against "
            f"{min(references)!r}; extract with ids that fit (isc-fast extract --ids stem)"
        )


def _of_protocol(all_predictions: _Predictions, truth: Truth, protocol: str) -> _Predictions:
    if protocol == "kit":
        return all_predictions.take(slice(KIT_CAP))
    if protocol == "official":
        return all_predictions.take(all_predictions.labelled).take(slice(PER_QUERY_CAP * len(truth.queries)))
    by_query = np.argsort(all_predictions.query, kind="stable")
    grouped = all_predictions.query[by_query]
    first = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]]) if len(grouped) else np.empty(0, np.int64)
    place = np.arange(len(grouped)) - np.repeat(first, np.diff(np.r_[first, len(grouped)]))
    return all_predictions.take(np.sort(by_query[place < PER_QUERY_CAP]))


def _ranks(predictions: _Predictions) -> npt.NDArray[np.int64]:
    """Count, for each correct prediction, how many others of its query score at least as high."""
    if not len(predictions.query):
        return np.empty(0, np.int64)
    by_query = np.argsort(predictions.query, kind="stable")  # within a query, scores still fall
    query, score = predictions.query[by_query], predictions.score[by_query]
    other_query = query[1:] != query[:-1]
    first = _runs(other_query)[:, 0]  # the first place of the query
    last = _runs(other_query | (score[1:] != score[:-1]))[:, 1]  # the last place among equal scores of the query
    ranks: npt.NDArray[np.int64] = (last - first)[predictions.correct[by_query]]
    return ranks


def _runs(breaks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return where the run of each place begins and ends, ``(n, 2)``.

    Args:
        breaks: for each of the n − 1 pairs of neighbours, whether a new run begins between them; n is at least 1.
    """
    starts = np.flatnonzero(np.r_[True, breaks])
    ends = np.r_[starts[1:] - 1, len(breaks)]
    return np.repeat(np.stack([starts, ends], axis=1), ends - starts + 1, axis=0)


def _curve(predictions: _Predictions, positives: int) -> Curve:
    correct = predictions.correct
    hits = np.cumsum(correct)
    return Curve(predictions.score, correct, hits / np.arange(1, len(correct) + 1), hits / positives)


def curve_of(matches: Matches, truth: Truth, protocol: str = "kit") -> Curve:
    """Precision and recall over all predictions of a protocol, which `evaluate` draws its figures from.

    Args:
        matches, truth: see `evaluate`.
        protocol: one of `PROTOCOLS`.

    Raises:
        FormatError, InputError: see `evaluate`.
    """
    _check(matches, truth, (protocol,))
    return _curve(_of_protocol(_in_order(matches, truth), truth, protocol), len(truth.pairs))


def _score(predictions: _Predictions, truth: Truth, protocol: str) -> Scores:
    positives = len(truth.pairs)
    curve = _curve(predictions, positives)
    correct, precision, recall = curve.correct, curve.precision, curve.recall
    precise = np.flatnonzero(precision >= PRECISION)
    best = precise[np.argmax(recall[precise])] if len(precise) else None
    ranks = _ranks(predictions)
    return Scores(
        protocol=protocol,
        micro_ap=float(precision[correct].sum() / positives),
        recall_at_p90=None if best is None else float(recall[best]),
        threshold_at_p90=None if best is None else float(predictions.score[best]),
        recall_at_rank={rank: float((ranks < rank).sum() / positives) for rank in RANKS},
        predictions=len(correct),
        queries=len(truth.queries),
        positives=positives,
    )


def evaluate(matches: Matches, truth: Truth, *, protocols: Sequence[str] = tuple(PROTOCOLS)) -> Evaluation:
    """Score predictions against the ground truth.

    Predictions are sorted by falling score; among equal scores, wrong ones stand first. With ``precision_i = tp_i / i``
    and ``recall_i = tp_i / P`` (P is the number of true pairs in the ground truth), µAP is
    ``Σ (recall_i − recall_{i−1}) · precision_i``.

    Args:
        matches: the predictions; each pair stands in them at most once.
        truth: labelled queries and true pairs. A query is "without ground truth" if the truth does not list it at all.
            A query that it lists without a reference is labelled.
        protocols: some of `PROTOCOLS`. They score different predictions, so that their µAP differs too.

    Raises:
        FormatError: a pair is predicted twice, or a score is not a number.
        InputError: a protocol is unknown, there is no true pair, no query of the matches is in the ground truth.
    """
    _check(matches, truth, protocols)
    ordered = _in_order(matches, truth)
    return Evaluation({name: _score(_of_protocol(ordered, truth, name), truth, name) for name in protocols})


def _check(matches: Matches, truth: Truth, protocols: Sequence[str]) -> None:
    if not protocols:
        raise InputError(f"no protocol is given; choose some of {', '.join(PROTOCOLS)}")
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise InputError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    if not truth.pairs:
        raise InputError("the ground truth holds no true pair, so there is nothing to find")
    if np.isnan(matches.scores).any():
        raise FormatError("a score of the matches is not a number (nan)")
