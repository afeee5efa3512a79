"""µAP and its companions against tables worked by hand, and against the slow oracle."""

from __future__ import annotations

import json

import numpy as np
import oracles
import pytest

from isc_fast.errors import FormatError, InputError
from isc_fast.evaluation import metrics
from isc_fast.evaluation.metrics import PROTOCOLS, evaluate
from isc_fast.matching.lists.matches import Matches, Truth


def table(*rows):
    queries, references, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Matches(list(queries), list(references), np.array(scores, np.float32))


def truth(*pairs, distractors=()):
    return Truth(frozenset({query for query, _ in pairs} | set(distractors)), frozenset(pairs))


def column(query, count, start=1.0, prefix="x"):
    """Wrong predictions of one query, with scores that fall by 1/256."""
    return [(query, f"{prefix}{i}", start - i / 256) for i in range(count)]


# P = 4 true pairs; q4 is a distractor.
#  i  score  pair    true  precision  recall
#  1   0.9   q1, a   yes      1/1      1/4
#  2   0.8   q4, a   no       1/2      1/4
#  3   0.7   q1, b   yes      2/3      2/4
#  4   0.6   q2, d   no       2/4      2/4
#  5   0.5   q2, c   yes      3/5      3/4
# µAP = (1 + 2/3 + 3/5) / 4 = 17/30. Precision 0.9 holds at i = 1 only. Ranks within the query: a 0, b 1 (behind a),
# c 1 (behind d), d never found: recall@1 = 1/4, recall@10 = 3/4.
WORKED = [("q2", "c", 0.5), ("q1", "a", 0.9), ("q2", "d", 0.6), ("q4", "a", 0.8), ("q1", "b", 0.7)]
WORKED_TRUTH = truth(("q1", "a"), ("q1", "b"), ("q2", "c"), ("q3", "d"), distractors=["q4"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_worked_table(protocol):
    found = evaluate(table(*WORKED), WORKED_TRUTH)[protocol]
    assert found.micro_ap == pytest.approx(17 / 30, abs=1e-12)
    assert found.recall_at_p90 == 0.25
    assert found.threshold_at_p90 == np.float32(0.9)
    assert found.recall_at_rank == {1: 0.25, 10: 0.75}
    assert (found.protocol, found.predictions, found.queries, found.positives) == (protocol, 5, 4, 4)


# Three equal scores, one of them right: it is counted third. precision 1/3, P = 1.
# The rank of a: two others score at least as high, so rank 2.
def test_wrong_ones_come_first_among_equals():
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        rows = [("q1", "a", 0.5), ("q1", "b", 0.5), ("q2", "a", 0.5)]
        found = evaluate(table(*(rows[i] for i in order)), truth(("q1", "a"), distractors=["q2"]))["kit"]
        assert found.micro_ap == pytest.approx(1 / 3)
        assert found.recall_at_p90 is None
        assert found.recall_at_rank == {1: 0.0, 10: 1.0}


# Zero and minus zero are one score. The right one has the "larger" sign and must still come second.
def test_minus_zero_ties_with_zero():
    found = evaluate(table(("q", "a", 0.0), ("q", "b", -0.0)), truth(("q", "a")))["kit"]
    assert found.micro_ap == 0.5
    assert found.recall_at_rank[1] == 0


# Nine right ones with a wrong one in second place: at i = 10 the precision is exactly 9/10, which counts.
def test_precision_of_exactly_90_percent_counts():
    right = [(f"q{i}", "a", 0.9 - i / 100) for i in range(9)]
    found = evaluate(table(("q0", "b", 0.895), *right), truth(*(row[:2] for row in right)))["kit"]
    assert found.recall_at_p90 == 1
    assert found.threshold_at_p90 == np.float32(0.9 - 8 / 100)
    # One more wrong one before the last right one: 9/11 there, 8/9 before; the best point is the first, 1/1.
    found = evaluate(table(("q0", "b", 0.895), ("q0", "c", 0.825), *right), truth(*(row[:2] for row in right)))["kit"]
    assert found.recall_at_p90 == pytest.approx(1 / 9)


# Ten right, then one wrong: precision 10/11 ≥ 0.9 with the same recall. The threshold is the tenth's score: the
# smallest set that reaches the recall. The recall counts what was never retrieved (P = 20).
def test_threshold_is_the_highest_that_reaches_the_recall():
    right = [(f"q{i}", "a", 1 - i / 64) for i in range(10)]
    missed = [("q0", f"missed{i}") for i in range(10)]
    found = evaluate(table(*right, ("q0", "b", 0.5)), truth(*(row[:2] for row in right), *missed))["kit"]
    assert (found.recall_at_p90, found.threshold_at_p90) == (0.5, 1 - 9 / 64)
    assert found.micro_ap == 0.5


def test_p90_not_reached():
    result = evaluate(table(("q", "b", 0.9), ("q", "a", 0.8)), truth(("q", "a")))
    assert result["kit"].recall_at_p90 is None
    assert result["kit"].threshold_at_p90 is None
    assert "–" in str(result)
    assert json.loads(json.dumps(result.to_dict()))["kit"]["recall_at_p90"] is None


# The best prediction is of a query that the truth does not list: wrong in two protocols, not there in the third.
def test_queries_without_ground_truth():
    result = evaluate(table(("unknown", "a", 0.9), ("q", "a", 0.8)), truth(("q", "a")))
    assert {name: result[name].micro_ap for name in PROTOCOLS} == {"kit": 0.5, "official": 1.0, "per-query": 0.5}
    assert {name: result[name].predictions for name in PROTOCOLS} == {"kit": 2, "official": 1, "per-query": 2}


# Two labelled queries, one of them a distractor: the official cap is 20. 30 unlabelled ones stand above and do not use
# it up. A right one in the 20th place has precision 1/20; a 21st place, by score or by a tie with wrong ones, is cut.
@pytest.mark.parametrize(("score", "expected"), [(0.85, 1 / 20), (0.825, 0.0), (0.75, 0.0)])
def test_official_cap(score, expected):
    wrong = [("d", f"x{i}", 0.875) for i in range(19)] + [("d", "x19", 0.825)]
    rows = [*column("unknown", 30, 2.0), *wrong, ("q", "a", score)]
    found = evaluate(table(*rows), truth(("q", "a"), distractors=["d"]))["official"]
    assert found.micro_ap == pytest.approx(expected)
    assert found.predictions == 20


# The 10 best of each query. q's right one in the tenth place stays (precision 10/20 overall: nine of q above it, ten
# of the other query above them), in the eleventh, by score or by a tie, it is gone. The other query keeps its own ten.
@pytest.mark.parametrize(("above", "score", "expected"), [(9, 0.5, 1 / 20), (10, 0.5, 0.0), (10, 1 - 9 / 256, 0.0)])
def test_per_query_cap(above, score, expected):
    rows = [*column("q", above), ("q", "a", score), *column("other", 13, 3.0)]
    found = evaluate(table(*rows), truth(("q", "a")))["per-query"]
    assert found.micro_ap == pytest.approx(expected)
    assert found.predictions == 20


def test_kit_cap_of_half_a_million():
    count = 500_000
    queries = [f"q{i % 1000}" for i in range(count)]
    scores = np.r_[np.linspace(1, 0.5, count, dtype=np.float32), np.float32(0.5)]
    rows = Matches([*queries, "q0"], [f"r{i}" for i in range(count + 1)], scores)
    # The right one is last, with the score of the last wrong one: place 500,001. Every query has 10 better ones.
    result = evaluate(rows, truth(("q0", f"r{count}"), *((f"q{i}", "never") for i in range(1000))))
    assert (result["kit"].predictions, result["kit"].micro_ap) == (count, 0)
    assert (result["official"].predictions, result["per-query"].predictions) == (10_000, 10_000)


def test_a_pair_predicted_twice():
    rows = [("q", "a", 0.9), ("q", "b", 0.8), ("unknown", "c", 0.7), ("unknown", "c", 0.6)]
    for protocol in PROTOCOLS:
        with pytest.raises(FormatError, match=r"'unknown', 'c' .*twice"):
            evaluate(table(*rows), truth(("q", "a")), protocols=[protocol])
    assert evaluate(table(("q", "a", 1), ("q", "b", 1), ("p", "a", 1)), truth(("q", "a")))["kit"].predictions == 3


def test_no_predictions():
    result = evaluate(table(), WORKED_TRUTH)
    for name in PROTOCOLS:
        found = result[name]
        assert (found.micro_ap, found.recall_at_p90, found.recall_at_rank) == (0, None, {1: 0, 10: 0})
        assert (found.predictions, found.queries, found.positives) == (0, 4, 4)
    assert "4 true pairs, 4 labelled queries" in str(result)


@pytest.mark.parametrize(
    ("rows", "answers", "protocols", "message"),
    [
        ([("a/Q1.jpg", "R1", 1)], [("Q1", "R1")], ["kit"], r"no query.*'a/Q1\.jpg'.*'Q1'.*--ids stem"),
        ([("Q1", "R1", 1)], [("Q1", "R1")], ["kit", "best"], r"'best'.*kit, official, per-query"),
        ([("Q1", "R1", 1)], [("Q1", "R1")], [], "no protocol"),
        ([("Q1", "R1", 1)], [], ["kit"], "no true pair"),
        ([("Q1", "R1", np.nan)], [("Q1", "R1")], ["kit"], "nan"),
    ],
)
def test_refusals(rows, answers, protocols, message):
    with pytest.raises((InputError, FormatError), match=message):
        evaluate(table(*rows), truth(*answers), protocols=protocols)


def test_only_what_was_asked_for_is_scored_and_named():
    result = evaluate(table(*WORKED), WORKED_TRUTH, protocols=["official"])
    assert list(result.by_protocol) == list(result.to_dict()) == ["official"]
    assert "official" in str(result)
    assert "kit" not in str(result)


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_slow_version(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(metrics, "KIT_CAP", 40)
    n_queries, n_references = rng.integers(1, 8), rng.integers(2, 25)
    every = [(f"q{q}", f"r{r}") for q in range(n_queries) for r in range(n_references)]
    chosen = rng.permutation(len(every))[: rng.integers(1, len(every) + 1)]
    levels = rng.choice([2, 5, 1000])
    rows = [(*every[i], float(np.float32(rng.integers(levels) / levels - 0.5))) for i in chosen]
    # Some queries unlabelled, some distractors, some true pairs never predicted; at least one query in common.
    labelled = {rows[0][0]} | {f"q{q}" for q in range(n_queries) if rng.random() < 0.7}
    likely = {(q, r) for q, r, score in rows if q in labelled and rng.random() < 0.2 + 0.6 * (score > 0.2)}
    pairs = likely | {(rows[0][0], "never")} if seed % 2 or not likely else likely
    result = evaluate(table(*rows), truth(*pairs, distractors=labelled))
    for protocol in PROTOCOLS:
        found, expected = result[protocol], oracles.evaluation(rows, labelled, pairs, protocol, kit_cap=40)
        assert found.micro_ap == pytest.approx(expected["micro_ap"], abs=1e-12)
        assert (found.recall_at_p90, found.threshold_at_p90) == expected["at_p90"]
        assert found.recall_at_rank == pytest.approx(expected["at_rank"])
        assert found.predictions == expected["predictions"]


def test_references_that_occur_nowhere_are_ids_of_another_kind():
    predicted = table(("q1", "photos/a", 0.9), ("q2", "photos/c", 0.8))
    with pytest.raises(
        InputError, match=r"no reference of the ground truth .*'photos/a' against 'a'; extract with ids"
    ):
        metrics.check_references(predicted, truth(("q1", "a"), ("q2", "c")))
    metrics.check_references(predicted, truth(("q1", "photos/a"), ("q2", "c")))
    metrics.check_references(table(), truth(("q1", "a")))
