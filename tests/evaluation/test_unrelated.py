"""How high negatives score among themselves, and the threshold that follows from it without labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles import normalized_scores, unit_rows

from isc_fast.descriptors.store import Descriptors
from isc_fast.errors import InputError
from isc_fast.evaluation import unrelated
from isc_fast.evaluation.tails import COUNTED
from isc_fast.evaluation.unrelated import Unrelated, check_count
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher

DIM = 16


def named(rows, views=()):
    return Descriptors(rows, [f"n{row}" for row in range(len(rows))], {"views": [*views]} if views else {})


def of(rows, views=()):
    return Unrelated.of(named(rows, views), CpuSearcher())


def stated(rows):
    """The normalised score of each two rows, in which neither of them is among the negatives, falling; said the long way."""
    found = []
    for query in range(len(rows)):
        for reference in range(len(rows)):
            if query != reference:
                others = np.delete(rows, [query, reference], axis=0)
                found.append(normalized_scores(rows[[query]], rows[[reference]], others, 3, 1.0).item())
    return np.sort(found)[::-1]


def test_each_pair_is_normalised_by_all_other_negatives():
    rows = unit_rows(1, 120, DIM)
    expected, found = stated(rows), of(rows)
    assert (found.negatives, found.pairs) == (120, 120 * 119)
    np.testing.assert_allclose(found.tail, expected[expected > 0], atol=1e-5)
    for threshold in expected[[COUNTED + 3, COUNTED + 20]] + 1e-4:
        assert found.false_share(threshold) == pytest.approx((expected >= threshold).mean())


def test_beyond_what_was_counted_the_share_falls_as_the_highest_do():
    found = of(unit_rows(1, 300, DIM))
    start = found.tail[COUNTED - 1]
    scale = (found.tail[:COUNTED] - start).mean()
    assert found.false_share(start + 0.1) == pytest.approx(COUNTED / found.pairs * math.exp(-0.1 / scale))


def test_the_threshold_is_the_lowest_with_so_few_wrong_pairs():
    found = of(unit_rows(1, 400, DIM))
    threshold = found.threshold(500, 1e6)
    assert 0 < threshold < 0.9
    assert threshold == round(threshold, 2)
    assert 1e6 * found.false_share(threshold) <= 1 < 1e6 * found.false_share(threshold - 0.01)
    assert found.threshold(100_000, 1e6) < threshold, "one wrong pair for each 1,000 photos"
    assert found.threshold(500, 1e7) > threshold, "more pairs, more of them by chance"
    assert found.threshold(500, 10) == 0, "a query that is no nearer than its nearest negatives is no copy"
    assert "at most 1 wrong pair expected among 9 pairs, if their photos are as" in found.in_words(500, "9 pairs")
    assert "at most 100 wrong pairs expected" in found.in_words(100_000, "9 pairs")


def test_as_many_wrong_pairs_are_found_as_are_expected():
    """Other photos of the same kind: 1,000 queries against 1,000 references, at a score that 50 pairs should reach."""
    rows = unit_rows(3, 3000, DIM)
    negatives, queries, references = rows[:1000], rows[1000:2000], rows[2000:]
    found = of(negatives)
    threshold = next(at for at in np.arange(0, 1, 0.001) if 1e6 * found.false_share(at) <= 50)
    reached = (normalized_scores(queries, references, negatives, 3, 1.0) >= threshold).sum()
    assert 25 <= reached <= 100


def test_of_many_negatives_some_are_compared_with_all(monkeypatch):
    monkeypatch.setattr(unrelated, "_MOST", 200)
    rows = unit_rows(1, 800, DIM)
    found = of(rows)
    assert found.pairs == 200 * 799
    assert found.threshold(10, 1e5) == pytest.approx(of(rows).threshold(10, 1e5), abs=0.05)


def test_rows_that_are_equal():
    """A row is not its own neighbour, also where many equal ones stand before it."""
    assert of(np.repeat(unit_rows(1, 1, DIM), 150, axis=0)).threshold(10, 1e9) == 0


def test_copies_among_the_negatives_raise_the_threshold_and_are_named():
    rows = unit_rows(1, 300, 64)
    twice = np.concatenate([rows, rows[:5]])
    assert of(twice).threshold(10, 1e5) > of(rows).threshold(10, 1e5)
    with pytest.raises(InputError, match="these 305 negatives do among themselves: they hold copies of each other"):
        of(twice).threshold(10, 1e8)


def test_negatives_that_are_alike_are_counted():
    rows = unit_rows(1, 300, 64)
    twice = np.concatenate([rows, rows[:5]])
    searcher = CpuSearcher()
    found = Unrelated.of(named(twice), searcher, 0.9)
    assert found.alike == 10
    assert "; 10 of these are as like another one as copies are (a cosine of 0.90 and above)" in found.in_words(
        10, "9 pairs"
    )
    assert "alike" not in of(rows).in_words(10, "9 pairs")
    assert Unrelated.of(named(rows), searcher, 0.9).alike == 0
    same = np.repeat(rows[:1], 150, axis=0)
    with pytest.raises(
        InputError, match=r"150 of the 150 negatives are as like another one as copies are, at a cosine of 0\.90"
    ):
        Unrelated.of(named(same), searcher, 0.9)


def test_of_views_the_whole_photo_counts():
    rows = unit_rows(1, 300, DIM)
    both = np.concatenate([rows, unit_rows(2, 300, DIM)], axis=1)
    np.testing.assert_array_equal(of(both, ["whole", "mirrored"]).tail, of(rows).tail)


def test_too_few():
    with pytest.raises(InputError, match="99 negatives are too few to tell a threshold by, expected at least 100"):
        of(unit_rows(1, 99, DIM))
    check_count(100)
