"""Exact search against a plain numpy brute force: every limit, metric and block size; and what must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from oracles import best_pairs, named, similarity, unit_rows

import isc_fast.matching.pairs.pair_search
from isc_fast.cli.main import main
from isc_fast.descriptors.lengths import check_lengths, to_unit_length
from isc_fast.descriptors.store import Descriptors, open_descriptors
from isc_fast.descriptors.texts import StoredIds
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import InputError, MismatchError
from isc_fast.evaluation.metrics import evaluate
from isc_fast.matching.lists.matches import Truth, read_matches
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.exact import METRICS
from isc_fast.matching.two_sides import search

pytest.importorskip("faiss")

from fake_searcher import FakeSearcher

knn, within = CpuSearcher().knn, CpuSearcher().within
QUERIES, REFERENCES = unit_rows(1, 23, 16), unit_rows(2, 150, 16)


@pytest.fixture
def small_blocks(monkeypatch):
    """Let every set of descriptors be read in blocks of a few rows."""
    whole = Descriptors.blocks

    def use(rows):
        monkeypatch.setattr(Descriptors, "blocks", lambda self, _rows=None: whole(self, rows))

    return use


def rows_of(matches):
    return [(int(q[1:]), int(r[1:]), score) for q, r, score in matches]


def assert_same_pairs(matches, expected, ordered=True):
    found = rows_of(matches)
    if not ordered:
        found.sort(key=lambda row: (-row[2], *row[:2]))
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in expected], atol=2e-6)
    assert matches.scores.dtype == np.float32


LIMITS = [
    {"k": 1},
    {"k": 7},
    {"k": 1000},
    {"max_pairs": 1},
    {"max_pairs": 90},
    {"max_pairs": 2000},
    {"max_pairs": 10**6},
    {"threshold": 0.3},
    {"threshold": -2.0},
    {"threshold": 5.0},
    {"k": 3, "max_pairs": 20},
    {"k": 3, "threshold": 0.4},
    {"max_pairs": 20, "threshold": 0.3},
    {"max_pairs": 2000, "threshold": 0.3},
    {"k": 20, "max_pairs": 60, "threshold": 0.1},
]


@pytest.mark.parametrize("rows", [1, 9, 10**6])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_equals_brute_force(monkeypatch, small_blocks, limits, metric, rows):
    small_blocks(rows)
    if rows == 9:  # and the queries a few at a time, as where the result would not fit into memory
        monkeypatch.setattr(isc_fast.matching.pairs.pair_search, "_ENTRIES", 40)
    if metric == "l2" and "threshold" in limits:
        limits = {**limits, "threshold": min(0.0, 2 * limits["threshold"] - 2)}
    found = search(named(QUERIES, "q"), named(REFERENCES), metric=metric, **limits)
    by_query = "k" in limits and "max_pairs" not in limits
    assert_same_pairs(found, best_pairs(QUERIES, REFERENCES, metric, **limits), ordered=not by_query)
    if by_query:  # then in the order of the queries, best first
        assert rows_of(found) == sorted(rows_of(found), key=lambda row: (row[0], -row[2]))


def test_ten_of_each_query_without_limits():
    assert_same_pairs(search(named(QUERIES, "q"), named(REFERENCES)), best_pairs(QUERIES, REFERENCES, k=10), False)


def test_l2_is_twice_the_cosine_minus_two():
    by_metric = [search(named(QUERIES, "q"), named(REFERENCES), k=5, metric=metric) for metric in METRICS]
    assert [row[:2] for row in rows_of(by_metric[0])] == [row[:2] for row in rows_of(by_metric[1])]
    np.testing.assert_allclose(by_metric[1].scores, 2 * by_metric[0].scores - 2, atol=2e-6)


def test_l2_of_rows_of_any_length():
    xq, xb = QUERIES * np.linspace(1, 9, 23)[:, None].astype(np.float32), REFERENCES * np.float32(4)
    assert_same_pairs(search(named(xq, "q"), named(xb), max_pairs=99, metric="l2"), best_pairs(xq, xb, "l2", None, 99))


@pytest.mark.parametrize("limits", [{"k": 3}, {"max_pairs": 5}, {"threshold": -9.0}], ids=str)
@pytest.mark.parametrize(("nq", "nr"), [(1, 1), (1, 150), (23, 1)])
def test_single_rows(limits, nq, nr):
    found = search(named(QUERIES[:nq], "q"), named(REFERENCES[:nr]), **limits)
    assert_same_pairs(found, best_pairs(QUERIES[:nq], REFERENCES[:nr], **limits), "max_pairs" in limits)


# Whole numbers, so that scores are exact and equal rows have equal scores.
COPIES = np.eye(4, dtype=np.float32)[np.random.default_rng(3).integers(0, 4, 200)] * np.float32(2)


@pytest.mark.parametrize("rows", [1, 7, 64, 10**6])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 120, 500])
def test_ties_are_ordered_by_index(rows, metric, k):
    xq = np.eye(4, dtype=np.float32)
    scores, indices = knn(xq, (COPIES[i : i + rows] for i in range(0, 200, rows)), k, metric)
    expected = similarity(xq, COPIES, metric)
    np.testing.assert_array_equal(scores, -np.sort(-expected, axis=1)[:, :k])
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, indices, 1))
    assert (np.diff(indices, axis=1)[np.diff(scores, axis=1) == 0] > 0).all()


@pytest.mark.parametrize("max_pairs", [1, 16, 17, 50, 64, 65, 199, 200, 201, 10**5])
@pytest.mark.parametrize("threshold", [None, 2.0])
def test_ties_keep_the_global_search_exact(max_pairs, threshold):
    found = search(named(np.eye(4), "q"), named(COPIES), max_pairs=max_pairs, threshold=threshold)
    expected = best_pairs(np.eye(4), COPIES, max_pairs=max_pairs, threshold=threshold)
    assert [row[2] for row in rows_of(found)] == [row[2] for row in expected]
    assert len({row[:2] for row in rows_of(found)}) == len(expected)
    assert all(COPIES[r][q] == score for q, r, score in rows_of(found))


def test_copies_without_end_do_not_widen_the_search():
    """40 queries are all copies of 300 references: 12,000 equal pairs, of which 100 are asked for."""
    searcher = FakeSearcher()
    found = search(named(np.ones((40, 2)), "q"), named(np.ones((300, 2))), max_pairs=100, device=searcher)
    assert (len(found), set(found.scores)) == (100, {2})
    assert searcher.asked == [(40, 16)]


def clump():
    """400 references that all look like query 0, which has no match, and 20 queries with one match each, less alike."""
    random = np.random.default_rng(0)
    centre, xq = np.eye(32, dtype=np.float32)[0], unit_rows(1, 21, 32).copy()
    xq[0] = centre
    copies = unit_rows(2, 20, 32) * 0.9 + 1.1 * xq[1:]
    xb = np.concatenate([centre + 0.05 * random.normal(size=(400, 32)), copies]).astype(np.float32)
    xb /= np.linalg.norm(xb, axis=1, keepdims=True)
    return (
        xq,
        xb,
        Truth(frozenset(f"q{i}" for i in range(21)), frozenset((f"q{i}", f"r{399 + i}") for i in range(1, 21))),
    )


def test_labelled_queries_alone_share_ten_pairs_each():
    """The descriptor track's search is global: a clump takes the places of true pairs that the 10 best of each query keep."""
    xq, xb, truth = clump()
    extra = np.concatenate([xb[:5], xq]).astype(np.float32)  # five queries that nobody labelled stand before
    ids = [f"unlabelled{i}" for i in range(5)] + [f"q{i}" for i in range(21)]
    queries, references = Descriptors(extra, ids), named(xb)
    found = search(queries, references, labelled=truth, metric="l2")
    assert_same_pairs(found, best_pairs(xq, xb, "l2", max_pairs=210))
    assert evaluate(found, truth)["official"].micro_ap == 0  # 400 false pairs are better than any true one
    each = search(queries, references, labelled=truth, k=10, metric="l2")
    assert len(each) == 210
    assert evaluate(each, truth)["official"].micro_ap > 0.3
    assert len(search(queries, references, labelled=truth, max_pairs=7)) == 7


def test_a_truth_of_other_queries_is_refused():
    truth = Truth(frozenset(["Q1"]), frozenset([("Q1", "R1")]))
    with pytest.raises(InputError, match=r"labels none of the queries: ids such as 'q0' against 'Q1'"):
        search(named(QUERIES, "q"), named(REFERENCES), labelled=truth)


def test_only_unfinished_queries_are_searched_again():
    searcher = FakeSearcher()
    xb = REFERENCES.copy()
    xb[:60] = QUERIES[0]  # the first query alone has more than 16 good ones
    found = search(named(QUERIES, "q"), named(xb), max_pairs=10**4, threshold=0.9, device=searcher)
    assert_same_pairs(found, best_pairs(QUERIES, xb, threshold=0.9))
    assert searcher.asked == [(23, 16), (1, 64)]


@pytest.mark.parametrize("rows", [7, 10**6])
@pytest.mark.parametrize("metric", METRICS)
def test_a_threshold_alone_is_one_search_however_many_pairs(metric, rows):
    """Every query is a copy of all of 120 references: a search for neighbours would be widened to 16, 64, 256 of them."""
    searcher = FakeSearcher(rows)
    xq, xb = np.full((40, 4), 0.5, np.float32), np.full((150, 4), 0.5, np.float32)
    xb[::5] *= np.float32(0.5)
    lowest = 0.75 if metric == "ip" else 0.0
    found = search(named(xq, "q"), named(xb), threshold=lowest, metric=metric, device=searcher)
    assert rows_of(found) == best_pairs(xq, xb, metric, threshold=lowest)
    assert len(found) == 40 * 120
    assert searcher.asked == [(min(rows, 40 - start), None) for start in range(0, 40, rows)]


@pytest.mark.parametrize("count", range(10, 24))
def test_a_pair_found_once_stays_found(count):
    """The same product differs by an ulp between a large and a small batch; seen as 15 pairs where 16 were asked for."""

    class Drifting(FakeSearcher):
        def knn(self, xq, blocks, k, metric="ip"):
            scores, indices = super().knn(xq, blocks, k, metric)
            for _ in self.asked[1:]:
                scores = np.nextafter(scores, np.float32(-np.inf))
            return scores, indices

    searcher = Drifting()
    xb = REFERENCES.copy()
    xb[:40] = np.float32(0.99) * QUERIES[0] + np.float32(0.1) * unit_rows(5, 40, 16)
    found = search(named(QUERIES, "q"), named(xb), max_pairs=count, device=searcher)
    assert {row[:2] for row in rows_of(found)} == {row[:2] for row in best_pairs(QUERIES, xb, max_pairs=count)}
    assert len(found) == count
    assert (len(searcher.asked) > 1) == (count > 16)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 2, 16, 100])
def test_a_threshold_includes_the_score_itself(metric, count):
    """Also one that no decimal number is equal to, and of neighbours one ulp apart."""
    scores = knn(QUERIES, [REFERENCES], 150, metric)[0]
    lowest = np.sort(scores.ravel())[-count]
    for given, expected in (
        (lowest, scores >= lowest),
        (np.nextafter(lowest, np.float32(9)), scores > lowest),
        (np.nextafter(lowest, np.float32(-9)), scores >= np.nextafter(lowest, np.float32(-9))),
    ):
        found = search(named(QUERIES, "q"), named(REFERENCES), threshold=float(given), metric=metric)
        assert len(found) == expected.sum()
        assert found.scores.min(initial=np.inf) >= given


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1, 13, 150])
@pytest.mark.parametrize("lowest", [-np.inf, -1.5, -0.2, 0.0, 0.3, np.inf])
def test_within_over_blocks(metric, rows, lowest):
    read = []

    def blocks():
        for start in range(0, 150, rows):
            read.append(start)
            yield REFERENCES[start : start + rows]

    parts = list(within(QUERIES, blocks(), np.float32(lowest), metric))
    assert len(parts) == len(read) == -(-150 // rows)
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    expected = similarity(QUERIES, REFERENCES, metric)
    order = np.lexsort(found[1::-1])
    np.testing.assert_array_equal(np.stack(found[:2])[:, order], np.nonzero(expected >= lowest))
    np.testing.assert_allclose(found[2][order], expected[expected >= lowest], atol=2e-6)
    assert [column.dtype for column in found] == [np.int64, np.int64, np.float32]


def test_within_of_nothing():
    empty = np.empty((0, 16), np.float32)
    assert [
        list(within(*sides, np.float32(0))) for sides in ((empty, [REFERENCES]), (QUERIES, []), (QUERIES, [empty]))
    ] == [
        [],
        [],
        [],
    ]
    (pairs,) = within(QUERIES, [empty, REFERENCES, empty], np.float32(0.2))
    assert len(pairs[0]) == (similarity(QUERIES, REFERENCES) >= 0.2).sum()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1, 2, 13, 149, 150, 151])
@pytest.mark.parametrize("k", [1, 10, 149, 150, 400])
def test_knn_over_blocks(metric, rows, k):
    read = []

    def blocks():
        for start in range(0, 150, rows):
            read.append(start)
            yield REFERENCES[start : start + rows]

    scores, indices = knn(QUERIES, blocks(), k, metric)
    expected = similarity(QUERIES, REFERENCES, metric)
    order = np.argsort(-expected, axis=1)[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), atol=2e-6)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int64)
    assert read == list(range(0, 150, rows))  # once each


def test_knn_of_nothing():
    empty = np.empty((0, 16), np.float32)
    assert [a.shape for a in knn(empty, [REFERENCES], 3)] == [(0, 0), (0, 0)]
    assert [a.shape for a in knn(QUERIES, [], 3)] == [(23, 0), (23, 0)]
    scores, indices = knn(QUERIES, [empty, REFERENCES[:2], empty, REFERENCES[2:], empty], 3)
    np.testing.assert_array_equal(indices, knn(QUERIES, [REFERENCES], 3)[1])
    assert scores.shape == (23, 3)


def test_descriptors_on_disk_are_searched_alike(tmp_path, small_blocks):
    small_blocks(11)
    for name, rows in (("q", QUERIES), ("r", REFERENCES)):
        write_descriptors(tmp_path / f"{name}.h5", named(rows, name))
    with open_descriptors(tmp_path / "q.h5") as queries, open_descriptors(tmp_path / "r.h5") as references:
        for limits in ({"k": 4}, {"max_pairs": 700}, {"threshold": 0.2}):
            found = search(queries, references, **limits)
            assert rows_of(found) == rows_of(search(named(QUERIES, "q"), named(REFERENCES), **limits))
        assert not isinstance(references.vectors, np.ndarray)


def test_of_ids_on_disk_only_those_of_the_pairs_are_read(tmp_path, monkeypatch):
    write_descriptors(tmp_path / "r.h5", named(REFERENCES))
    read = []
    at = StoredIds.at
    monkeypatch.setattr(StoredIds, "read", lambda *rows: pytest.fail(f"ids {rows} were read"))
    monkeypatch.setattr(StoredIds, "at", lambda self, rows: read.append(rows.tolist()) or at(self, rows))
    with open_descriptors(tmp_path / "r.h5") as references:
        found = search(named(QUERIES[:2], "q"), references, k=2)
    assert rows_of(found) == rows_of(search(named(QUERIES[:2], "q"), named(REFERENCES), k=2))
    assert read == [sorted({row[1] for row in rows_of(found)})]


@pytest.mark.parametrize("limits", [{"k": 2}, {"max_pairs": 50}, {"threshold": 0.2}], ids=str)
def test_many_queries_are_searched_a_few_at_a_time(limits):
    searcher = FakeSearcher(5)
    found = search(named(QUERIES, "q"), named(REFERENCES), device=searcher, **limits)
    assert_same_pairs(found, best_pairs(QUERIES, REFERENCES, **limits), "k" not in limits)
    assert [count for count, _ in searcher.asked][:5] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", METRICS)
def test_numbers_that_are_not_finite(bad, metric):
    """faiss answers such a query with the row −1, which is a valid Python index: of the wrong reference."""
    for side, rows in (("queries", QUERIES), ("data base", REFERENCES)):
        broken = {"queries": QUERIES, "data base": REFERENCES, side: rows.copy()}
        broken[side][5, 2] = bad
        base = broken["data base"]
        with pytest.raises(InputError, match=f"row 5 of the {side} .*extract"):
            knn(broken["queries"], [base[:3], base[3:]], 4, metric)
        with pytest.raises(InputError, match=f"row 5 of the {side} .*extract"):
            list(within(broken["queries"], [base[:3], base[3:]], np.float32(0), metric))


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_too_large_for_a_score(metric):
    huge = np.full((2, 4), 1e30, np.float32)
    with pytest.raises(InputError, match="unit length"):
        knn(huge, [-huge], 1, metric)
    if metric == "ip":  # pairs that are infinitely far apart reach no threshold
        with pytest.raises(InputError, match="unit length"):
            list(within(huge, [huge], np.float32(0.5), metric))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1, not 0"),
        ({"k": -3}, "k must be at least 1, not -3"),
        ({"max_pairs": 0}, "max_pairs must be at least 1, not 0"),
        ({"metric": "cosine"}, "no metric 'cosine'; choose one of ip, l2"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        search(named(QUERIES, "q"), named(REFERENCES), **options)


@pytest.mark.parametrize("side", ["query", "reference"])
def test_an_empty_side(side):
    sides = {"query": QUERIES, "reference": REFERENCES, side: np.empty((0, 16))}
    with pytest.raises(InputError, match=f"no {side} descriptor"):
        search(named(sides["query"], "q"), named(sides["reference"]))


NES = {"method": "nes", "k": 10, "beta": 0.35, "iterations": 1, "negatives": "0123456789abcdef"}
SCORE = {"method": "score", "k": 3, "beta": 1.0}
OURS = {"engine_id": "e1"}


@pytest.mark.parametrize(
    ("query", "reference", "message"),
    [
        ({"engine_id": "aaaa"}, {"engine_id": "bbbb"}, r"different engines \(aaaa and bbbb\); extract both"),
        ({**OURS, "normalization": NES}, OURS, r"by nes .*references by nothing; normalise both .*, or neither"),
        (OURS, {**OURS, "normalization": NES}, "queries are normalised by nothing and references by nes"),
        (
            {**OURS, "normalization": NES},
            {**OURS, "normalization": {**NES, "negatives": "fedcba9876543210"}},
            "negatives 0123456789ab.*negatives fedcba987654",
        ),
        ({**OURS, "normalization": NES}, {**OURS, "normalization": {**NES, "beta": 0.5}}, "beta=0.35.*beta=0.5"),
        ({**OURS, "normalization": NES}, {**OURS, "normalization": SCORE}, "by nes .* by score"),
    ],
)
def test_sides_that_do_not_belong_together(query, reference, message):
    with pytest.raises(MismatchError, match=message):
        search(named(QUERIES, "q", **query), named(REFERENCES, **reference))


def test_sides_that_belong_together():
    same = {**OURS, "normalization": NES}
    for query, reference in ((same, dict(same)), (OURS, OURS), (same, {}), ({}, OURS), ({"plan_id": "x"}, OURS)):
        assert len(search(named(QUERIES, "q", **query), named(REFERENCES, **reference), k=1)) == 23


def test_different_dimensions():
    with pytest.raises(MismatchError, match="queries have 16 dimensions and references 8"):
        search(named(QUERIES, "q"), named(REFERENCES[:, :8]))
    with pytest.raises(InputError, match="queries have 16 dimensions and the data base has 8"):
        knn(QUERIES, [REFERENCES[:, :8]], 1)
    with pytest.raises(InputError, match="queries have 16 dimensions and the data base has 8"):
        list(within(QUERIES, [REFERENCES[:, :8]], np.float32(0)))


def test_normalised_scores_are_searched_by_inner_product_only():
    stamps = [{"method": "score", "role": "query", "k": 3}, {"method": "score", "role": "reference"}]
    sides = [named(rows, normalization=stamp) for rows, stamp in zip((QUERIES, REFERENCES), stamps, strict=True)]
    with pytest.raises(MismatchError, match="metric ip"):
        search(*sides, metric="l2")
    assert len(search(*sides, k=1)) == 23
    for wrong in ((sides[0], sides[0]), (sides[1], sides[0])):
        with pytest.raises(MismatchError, match="queries are normalised by"):
            search(*wrong)


def test_smoothed_negatives_are_no_references():
    with pytest.raises(MismatchError, match="references are smoothed negatives"):
        search(named(QUERIES), named(REFERENCES, smoothing={"k": 10}))


def test_thresholds_that_cannot_be_meant():
    with pytest.raises(InputError, match="not a number"):
        search(named(QUERIES), named(REFERENCES), threshold=float("nan"))
    with pytest.raises(InputError, match="at most 0"):
        search(named(QUERIES), named(REFERENCES), threshold=0.5, metric="l2")
    for threshold in (1.5, -1.01):
        with pytest.raises(InputError, match=f"the threshold is a cosine, from -1 to 1, and was {threshold}"):
            search(named(QUERIES, engine_id="e"), named(REFERENCES, engine_id="e"), threshold=threshold)
    search(named(3 * QUERIES), named(REFERENCES), threshold=1.5)  # of foreign rows, nobody knows the length


def test_ids_that_occur_twice_are_refused():
    twice = Descriptors(QUERIES, ["same"] * len(QUERIES))
    with pytest.raises(InputError, match="the query id 'same' occurs twice"):
        search(twice, named(REFERENCES))
    with pytest.raises(InputError, match="the reference id 'same' occurs twice"):
        search(named(REFERENCES), twice)


def test_inputs_stay_as_they_are():
    """`unit_rows` are read-only; here writable ones, in column order and float64, must come out as they went in."""
    for make in (np.array, np.asfortranarray, lambda rows: rows.astype(np.float64)):
        xq, xb = make(QUERIES), make(REFERENCES)
        found = search(Descriptors(xq, [f"q{i}" for i in range(23)]), Descriptors(xb, [f"r{i}" for i in range(150)]))
        assert_same_pairs(found, best_pairs(QUERIES, REFERENCES, k=10), False)
        np.testing.assert_array_equal(xq, QUERIES)
        np.testing.assert_array_equal(xb, REFERENCES)


def test_a_threshold_alone_does_not_pair_all_blank_pages(monkeypatch):
    """Twenty equal rows are 400 pairs."""
    rows = unit_rows(3, 60, 16).copy()
    rows[40:] = rows[40]
    pages = Descriptors(rows, [f"p{row}" for row in range(60)])
    assert len(search(pages, pages, threshold=0.999)) == 440
    monkeypatch.setattr(isc_fast.matching.pairs.pair_search, "MOST_PAIRS", 100)
    with pytest.raises(
        InputError, match=r"more than 100 pairs reach the threshold 0\.999; 20 of .* 'p40'.* give also -k or"
    ):
        search(pages, pages, threshold=0.999)
    assert len(search(pages, pages, threshold=0.999, max_pairs=440)) == 440
    assert len(search(pages, pages, threshold=0.999, k=3)) == 100


@pytest.mark.parametrize("length", [0.0, 0.98, 3.0, np.nan])
def test_foreign_descriptors_of_another_length_are_no_cosines(length):
    rows = unit_rows(3, 5, 16)
    good = Descriptors(rows, [*"abcde"])
    long = Descriptors(np.concatenate([rows[:4], rows[4:] * np.float32(length)]), [*"abcde"])
    check_lengths(good, "query")
    remedy = "--unit-length" if length > 0 else "no direction; leave it out: isc-fast remove"
    with pytest.raises(InputError, match=rf"the query descriptor 'e' has length .*, not 1.*{remedy}"):
        check_lengths(long, "query")
    stamped = Descriptors(long.vectors, long.ids, {"normalization": {"method": "score", "role": "reference"}})
    check_lengths(stamped, "reference")  # that is what score normalisation makes


def test_descriptors_are_made_unit_length_on_request():
    rows = unit_rows(3, 5, 16)
    made = to_unit_length(Descriptors(rows * np.float32(7), [*"abcde"], {"x": 1}))
    np.testing.assert_allclose(made.vectors, rows, atol=1e-6)
    assert (made.ids, made.meta) == ([*"abcde"], {"x": 1})
    for value in (0.0, np.inf):
        with pytest.raises(InputError, match=r"the descriptor 'e' has length .*, so it has no direction"):
            to_unit_length(Descriptors(np.concatenate([rows[:4], rows[4:] * 0 + np.float32(value)]), [*"abcde"]))


@pytest.mark.parametrize("limits", [{"k": 3}, {"threshold": 0.3}, {"max_pairs": 50}, {"k": 3, "max_pairs": 4}])
def test_progress_counts_what_was_read_of_the_references(limits):
    queries, references = named(unit_rows(0, 40, 8), "q"), named(unit_rows(1, 300, 8), "r")
    told = []
    found = search(queries, references, progress=lambda *counts: told.append(counts), **limits)
    assert list(found) == list(search(queries, references, **limits))
    assert told[0] == (0, 300, 0)
    assert told[-1][0] == told[-1][1] > 0
    assert told[-1][1] % 300 == 0
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_search_prints_progress_and_json(tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("q.h5", "r.h5")]
    for file, prefix, seed, count in zip(files, "qr", (0, 1), (4, 60), strict=True):
        write_descriptors(file, named(unit_rows(seed, count, 8), prefix))
    for name in ("m.csv", "m.jsonl", "m.parquet"):
        output = str(tmp_path / name)
        assert main(["search", *files, "-o", output, "-k", "2", "--json"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out) == {"matches": output, "pairs": 8, "queries": 4, "references": 60}
        assert "search: 60/60 100%" in printed.err
        assert len(read_matches(output)) == 8
