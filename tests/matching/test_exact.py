"""The result of a search is defined without regard to who computes it: same bits, and of equal rows the first ones."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracles import exact_byte_product, near_ties, unit_rows

import isc_fast.matching.searchers.best
import isc_fast.matching.searchers.exact
import isc_fast.matching.searchers.first_pass
from isc_fast.errors import EngineError, InputError
from isc_fast.matching.searchers.best import Best
from isc_fast.matching.searchers.byte_product import load_byte_product
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.equal_rows import distinct_pairs, same_rows
from isc_fast.matching.searchers.exact import METRICS, Block, Proposer, Queries, Wanted, found_in, scores_of

pytest.importorskip("faiss")

knn, within = CpuSearcher().knn, CpuSearcher().within


def plain(xq, xb, k, metric):
    """The definition: every score by `scores_of`, best first, equal ones by index."""
    scores = np.stack([scores_of(np.repeat(row[None], len(xb), 0), xb, metric) for row in xq])
    order = np.lexsort((np.broadcast_to(np.arange(len(xb)), scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), order


@functools.cache
def all_of_near_ties(metric, d):
    """Two sides with many near ties, and every score of theirs by the definition, computed once for each kind."""
    xq, xb = near_ties(d, 41, 2300, d)
    return xq, xb, *plain(xq, xb, 2300, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [3, 16, 64, 100])
@pytest.mark.parametrize("k", [1, 5, 40, 3000])
def test_the_same_bits_for_every_block_size_and_number_of_queries(metric, d, k):
    xq, xb, *every = all_of_near_ties(metric, d)
    expected = [side[:, :k] for side in every]
    for rows, queries in ((2300, 41), (700, 41), (64, 40), (2300, 1)):
        for start in range(0, 41, queries):
            these = slice(start, start + queries)
            found = knn(xq[these], (xb[i : i + rows] for i in range(0, 2300, rows)), k, metric)
            np.testing.assert_array_equal(found[0], expected[0][these])
            np.testing.assert_array_equal(found[1], expected[1][these])
            if start > 3:
                break


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [16, 100])
def test_above_a_score_the_pairs_are_those_of_the_definition(metric, d):
    xq, xb, scores, indices = all_of_near_ties(metric, d)
    for lowest in (scores[0, 0], scores[3, 5], np.float32(0.3 if metric == "ip" else -1.4)):
        pairs = [np.concatenate(side) for side in zip(*within(xq, [xb[:999], xb[999:]], lowest, metric), strict=True)]
        order = np.lexsort(pairs[1::-1])
        inside = np.zeros((41, 2300), np.float32)
        np.put_along_axis(inside, indices, scores, 1)
        np.testing.assert_array_equal(np.stack(pairs[:2])[:, order], np.nonzero(inside >= lowest))
        np.testing.assert_array_equal(pairs[2][order], inside[inside >= lowest])


@pytest.mark.parametrize("metric", METRICS)
def test_of_more_equal_rows_than_are_wanted_the_first_are_found(metric):
    xb = np.tile(unit_rows(4, 3, 24), (500, 1))
    _, indices = knn(xb[:3], [xb[:700], xb[700:]], 20, metric)
    np.testing.assert_array_equal(indices, np.arange(3)[:, None] + 3 * np.arange(20))


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as made:
        yield made


def proposing(noise=0.0, seen=None):
    """Neighbours by scores in double precision with noise as large as that of single precision, or larger."""

    def propose(xq, part, k):
        if seen is not None:
            seen.append((len(xq), k))
        scores = xq.astype(np.float64) @ part.T.astype(np.float64)
        scores += noise * np.random.default_rng(0).uniform(-1, 1, scores.shape)
        order = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1).astype(np.float32), order

    return propose


@pytest.mark.parametrize("widest", [13, 40, 10**6])
@pytest.mark.parametrize("k", [5, None])
def test_what_is_proposed_in_the_wrong_order_is_put_right(threads, k, widest):
    xq, xb = near_ties(7, 30, 400, 32)
    seen = []
    least = np.full(30, -np.inf if k else 0.4, np.float32)
    proposer = Proposer(proposing(4e-6, seen), widest)
    pairs = found_in(Queries(xq, "ip"), Block(0, xb, 1.001), Wanted(least, k), proposer, threads)
    scores, indices = plain(xq, xb, 400, "ip")
    if k:
        best = Best(30, k)
        best.add(pairs, 400)
        np.testing.assert_array_equal(best.indices, indices[:, :k])
        np.testing.assert_array_equal(best.scores, scores[:, :k])
    else:
        found = set(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))
        rows, places = np.nonzero(scores >= np.float32(0.4))
        assert found == set(zip(rows.tolist(), indices[rows, places].tolist(), strict=True))
        assert len(pairs[0]) == len(found)
    assert seen[0] == (30, min(13 if k else 16, widest))
    assert max(width for _, width in seen) <= widest
    assert all(count < 30 for count, _ in seen[1:]), "only those that are undecided are asked for again"


def test_arithmetic_that_is_too_coarse_is_noticed(threads):
    """As that of TF32, which some environments switch on."""
    xq, xb = unit_rows(1, 30, 32), unit_rows(2, 400, 32)
    wanted, proposer = Wanted(np.full(30, -1, np.float32), 5), Proposer(proposing(1e-3), 99)
    with pytest.raises(EngineError, match=r"off by .* NVIDIA_TF32_OVERRIDE"):
        found_in(Queries(xq, "ip"), Block(0, xb, 1.001), wanted, proposer, threads)


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_that_are_too_large_where_all_rows_are_looked_at(threads, metric):
    huge = np.full((40, 4), 1e30, np.float32)

    def propose(xq, part, k):
        return np.zeros((len(xq), k), np.float32), np.zeros((len(xq), k), np.int64)

    wanted = Wanted(np.zeros(2, np.float32), 1)
    with pytest.raises(InputError, match="unit length"):
        found_in(Queries(huge[:2], metric), Block(0, huge, 1e31), wanted, Proposer(propose, 2), threads)


def test_the_best_do_not_depend_on_the_order_of_the_parts(threads):
    xq, xb = near_ties(9, 20, 600, 16)
    expected = plain(xq, xb, 30, "ip")
    starts = list(range(0, 600, 50))
    for seed in range(4):
        best = Best(20, 30)
        for start in np.random.default_rng(seed).permutation(starts):
            part = Block(int(start), xb[start : start + 50], 1.001)
            wanted = Wanted(best.least(), 30)
            best.add(found_in(Queries(xq, "ip"), part, wanted, Proposer(proposing(1e-6), 38), threads), 50)
        np.testing.assert_array_equal(best.scores, expected[0])
        np.testing.assert_array_equal(best.indices, expected[1])


def test_the_order_of_pairs_is_that_of_three_keys():
    rng = np.random.default_rng(0)
    queries, indices = rng.integers(0, 50, 5000), rng.integers(0, 1 << 40, 5000)
    wild = np.array([0.0, -0.0, -np.inf, 1e-45, -1e-45, 3e38, -3e38, 1.0, -1.0], np.float32)
    for scores in (rng.normal(size=5000).astype(np.float32), rng.choice(wild, 5000), np.zeros(5000, np.float32)):
        expected = np.lexsort((indices, -scores, queries))
        np.testing.assert_array_equal(isc_fast.matching.searchers.best._best_first(queries, indices, scores), expected)
    assert len(isc_fast.matching.searchers.best._best_first(queries[:0], indices[:0], wild[:0])) == 0


def test_equal_rows_are_found_by_their_bits():
    rows = unit_rows(0, 3000, 7).copy()
    rows[[5, 1200, 2999]] = rows[3]
    rows[2000], rows[2001] = 0.0, -0.0
    expected = np.arange(3000)
    expected[[5, 1200, 2999]] = 3
    np.testing.assert_array_equal(same_rows(rows), expected)
    assert same_rows(rows[:0]).tolist() == []
    assert same_rows(rows[7:8]).tolist() == [0]


def test_distinct_pairs_stand_for_all():
    rng = np.random.default_rng(0)
    same_row, same_column = np.arange(9), np.arange(14)
    same_row[[4, 6]], same_column[5:11] = 2, 1
    rows, columns = np.nonzero(rng.random((9, 14)) < 0.5)
    one, other, number = distinct_pairs(rows, columns, same_row, same_column)
    np.testing.assert_array_equal(one[number], same_row[rows])
    np.testing.assert_array_equal(other[number], same_column[columns])
    assert len(one) == len(set(zip(same_row[rows].tolist(), same_column[columns].tolist(), strict=True)))


def with_blanks(queries, references, d=64):
    """A tenth of the queries and a third of the references are one and the same row, as of blank images."""
    xq, xb = unit_rows(1, queries, d).copy(), unit_rows(2, references, d).copy()
    xq[::10] = xb[::3] = unit_rows(3, 1, d)
    return xq, xb


@pytest.fixture
def scored(monkeypatch):
    """How many pairs were scored."""
    counts = [0]

    def count(xq, xb, metric):
        counts[0] += len(xq)
        return scores_of(xq, xb, metric)

    monkeypatch.setattr(isc_fast.matching.searchers.exact, "scores_of", count)
    monkeypatch.setattr(isc_fast.matching.searchers.first_pass, "scores_of", count)
    return counts


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("first_pass", [True, False])
def test_many_equal_pairs_are_scored_once(monkeypatch, scored, metric, first_pass):
    product = (load_byte_product() or exact_byte_product()) if first_pass else None
    monkeypatch.setattr(isc_fast.matching.searchers.first_pass, "load_byte_product", lambda: product)
    xq, xb = with_blanks(200, 30_000)
    expected = plain(xq, xb, 5, metric)
    scored[0] = 0
    found = knn(xq, (xb[start : start + 15_000] for start in (0, 15_000)), 5, metric)
    assert scored[0] < 100_000, "of 200,000 equal pairs"
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("metric", METRICS)
def test_many_equal_pairs_above_a_score_are_scored_once(monkeypatch, scored, metric):
    product = load_byte_product() or exact_byte_product()
    monkeypatch.setattr(isc_fast.matching.searchers.first_pass, "load_byte_product", lambda: product)
    xq, xb = with_blanks(200, 30_000)
    lowest = np.float32(0.99 if metric == "ip" else -0.01)
    [(rows, columns, scores)] = within(xq, [xb], lowest, metric)
    assert scored[0] < 20_000
    assert len(rows) == 20 * 10_000
    assert set(rows.tolist()) == set(range(0, 200, 10))
    assert set(columns.tolist()) == set(range(0, 30_000, 3))
    assert len(set(scores.tolist())) == 1
