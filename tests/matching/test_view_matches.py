"""Searching, joining, asking and normalising photos in several views, against statements that look at every view."""

from __future__ import annotations

import numpy as np
import pytest

import isc_fast
from isc_fast import Descriptors
from isc_fast.descriptors.store import open_descriptors
from isc_fast.descriptors.view_rows import rows_of, whole_of
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import InputError, MismatchError
from isc_fast.matching.index.changes import add_to_index, build_index
from isc_fast.matching.index.opened import OpenIndex
from isc_fast.matching.normalizing.methods import normalize_to_file
from isc_fast.matching.normalizing.smoothing import smooth_to_file
from isc_fast.matching.pairs.cross_join import CrossJoin
from isc_fast.matching.pairs.self_join import SelfJoin

VIEWS = ("whole", "left", "mirrored")
D = 8


def made(seed, count, views=("whole",), prefix="q"):
    """Unit rows of few values, so that scores tie."""
    rows = np.random.default_rng(seed).integers(-2, 3, (count * len(views), D)).astype(np.float32)
    rows[:, 0] += 5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    meta = {"engine_id": "e"} | ({"views": list(views)} if len(views) > 1 else {})
    return Descriptors(rows.reshape(count, -1), [f"{prefix}{number}" for number in range(count)], meta)


def scored(queries, references, metric="ip"):
    """Of each pair of photos the best score of their views ``(nq, nr)``, by the statement."""
    xq, xr = (side.vectors.reshape(len(side), -1, D).astype(np.float64) for side in (queries, references))
    every = np.einsum("qvd,rwd->qrvw", xq, xr)
    if metric == "l2":
        every = 2 * every - 2
    return every.max(axis=(2, 3)), every


SIDES = {
    "queries": (VIEWS, ("whole",)),
    "references": (("whole",), VIEWS),
    "both": (VIEWS, ("whole", "top")),
}


@pytest.fixture(params=SIDES)
def sides(request):
    of_queries, of_references = SIDES[request.param]
    return made(1, 40, of_queries), made(2, 90, of_references, "r")


def check(found, best, every, queries, references):
    """Scores and views are those of the statement."""
    assert found.views is not None
    for query, reference, score, view in zip(
        found.query_ids, found.reference_ids, found.scores.tolist(), found.views, strict=True
    ):
        pair = int(query[1:]), int(reference[1:])
        assert score == pytest.approx(best[pair], abs=1e-6)
        of_query, _, of_reference = view.partition(" / ")
        assert bool(of_reference) == (len(references.views) > 1)
        place = queries.views.index(of_query), references.views.index(of_reference or "whole")
        assert every[pair][place] == pytest.approx(best[pair], abs=1e-6)
    assert len(set(zip(found.query_ids, found.reference_ids, strict=True))) == len(found), "a pair stands once"


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("k", [1, 7, 200])
def test_the_best_references_of_each_query(sides, metric, k):
    best, every = scored(*sides, metric)
    found = isc_fast.search(*sides, k=k, metric=metric)
    check(found, best, every, *sides)
    assert found.query_ids == [f"q{number}" for number in range(40) for _ in range(min(k, 90))]
    np.testing.assert_allclose(found.scores.reshape(40, -1), np.sort(best)[:, ::-1][:, :k], atol=1e-6)


@pytest.mark.parametrize("threshold", [0.7, 0.95])
def test_every_pair_above_a_score(sides, threshold):
    best, every = scored(*sides)
    found = isc_fast.search(*sides, threshold=threshold)
    check(found, best, every, *sides)
    np.testing.assert_allclose(found.scores, np.sort(best[best >= threshold])[::-1], atol=1e-6)


@pytest.mark.parametrize("count", [1, 30, 500, 10_000])
def test_the_best_pairs_of_all(sides, count):
    best, every = scored(*sides)
    found = isc_fast.search(*sides, max_pairs=count)
    check(found, best, every, *sides)
    np.testing.assert_allclose(found.scores, np.sort(best.ravel())[::-1][:count], atol=1e-6)


def test_limits_together_and_labelled_queries(sides):
    best, every = scored(*sides)
    truth = isc_fast.Truth(frozenset({"q3", "q11"}), frozenset({("q3", "r1")}))
    found = isc_fast.search(*sides, labelled=truth)
    check(found, best, every, *sides)
    assert len(found) == 20, "ten for each labelled photo, however many views it has"
    wanted = np.sort(best[[3, 11]].ravel())[::-1][:20]
    np.testing.assert_allclose(found.scores, wanted, atol=1e-6)
    few = isc_fast.search(*sides, k=2, max_pairs=30, threshold=0.8)
    check(few, best, every, *sides)
    each = np.sort(best)[:, ::-1][:, :2].ravel()
    np.testing.assert_allclose(few.scores, np.sort(each[each >= 0.8])[::-1][:30], atol=1e-6)


def test_the_earlier_view_counts_where_two_score_the_same():
    row = np.eye(1, D, dtype=np.float32)
    queries = Descriptors(np.tile(row, (1, 3)), ["q"], {"engine_id": "e", "views": list(VIEWS)})
    found = isc_fast.search(queries, Descriptors(row, ["r"], {"engine_id": "e"}))
    assert found.views == ["whole"]


def test_sets_on_the_disk_are_searched_as_those_in_memory(tmp_path, sides):
    for name, side, dtype in zip("qr", sides, (None, "float16"), strict=True):
        write_descriptors(tmp_path / name, side, dtype=dtype)
    in_memory = isc_fast.search(*(isc_fast.read_descriptors(tmp_path / name) for name in "qr"), k=5)
    with open_descriptors(tmp_path / "q") as queries, open_descriptors(tmp_path / "r") as references:
        on_disk = isc_fast.search(queries, references, k=5)
    assert list(on_disk) == list(in_memory)
    assert on_disk.views == in_memory.views


def test_a_photo_counts_once_when_it_is_evaluated(sides):
    truth = isc_fast.Truth(frozenset({"q0", "q1"}), frozenset({("q0", "r0"), ("q1", "r5")}))
    found = isc_fast.search(*sides, k=90)
    scores = isc_fast.evaluate(found, truth, protocols=["official"])["official"]
    plain = isc_fast.Matches(found.query_ids, found.reference_ids, found.scores)
    assert scores == isc_fast.evaluate(plain, truth, protocols=["official"])["official"]
    assert scores.predictions <= 2 * 90


def pairs_of(join):
    return [
        np.concatenate(column) for column in zip(*(p for n in range(join.blocks) for p in join.pairs(n)), strict=True)
    ]


def test_a_join_of_two_collections(sides):
    queries, references = sides
    best, every = scored(*sides)
    join = CrossJoin(queries, references, 0.93)
    rows, columns, scores = found = pairs_of(join)
    photos = list(zip(*map(np.ndarray.tolist, join.views.photos(tuple(found))), strict=True))
    assert sorted(photos) == sorted(zip(*map(np.ndarray.tolist, np.nonzero(best >= 0.93)), strict=True))
    v, w = len(queries.views), len(references.views)
    for row, column, score in zip(rows.tolist(), columns.tolist(), scores.tolist(), strict=True):
        assert every[row // v, column // w, row % v, column % w] == pytest.approx(score, abs=1e-6)
        assert score == pytest.approx(best[row // v, column // w], abs=1e-6)


def test_equal_photos_are_joined_as_equal_rows_are():
    """Of equal photos each is paired with the first of the other side, and the first with each."""
    queries, references = made(1, 6, VIEWS), made(2, 5, ("whole",), "r")
    queries.vectors[3] = queries.vectors[1]
    references.vectors[4] = references.vectors[0] = queries.vectors[1][D : 2 * D]
    join = CrossJoin(queries, references, 0.9999)
    found = tuple(pairs_of(join))
    assert set(zip(*map(np.ndarray.tolist, join.views.photos(found)), strict=True)) == {(1, 0), (1, 4), (3, 0)}
    assert join.views.names(found) == ["left"] * 3


def test_an_index_is_asked_in_views(tmp_path):
    queries, references = made(1, 300, VIEWS), made(2, 90, ("whole",), "r")
    build_index(references, tmp_path / "index")
    best, every = scored(queries, references)
    index = OpenIndex(tmp_path / "index")
    found = index.query(queries, k=4, threshold=None)
    exact = isc_fast.search(queries, references, k=4)
    assert (found.query_ids, found.views) == (exact.query_ids, exact.views)
    np.testing.assert_array_equal(found.scores, exact.scores)
    check(found, best, every, queries, references)
    high = index.query(queries, k=90, threshold=0.90037)
    assert len(high) == int((best >= 0.90037).sum())
    index.close()


def test_whole_photos_are_what_an_index_and_a_join_in_itself_hold(tmp_path):
    words = (
        r"hold 3 views of each photo \(--views whole,left,mirrored\), and whole photos are compared here; extract them"
    )
    with pytest.raises(MismatchError, match=words):
        SelfJoin(made(1, 5, VIEWS), 0.5)
    with pytest.raises(MismatchError, match=words):
        build_index(made(1, 5, VIEWS), tmp_path / "index")
    build_index(made(1, 5), tmp_path / "index")
    with pytest.raises(MismatchError, match=words):
        add_to_index(tmp_path / "index", made(2, 5, VIEWS, "r"))


def test_normalising_goes_descriptor_by_descriptor(tmp_path):
    queries, negatives = made(1, 40, VIEWS), made(3, 60, prefix="n")
    every = rows_of(queries)
    alone = Descriptors(every.vectors[:], [f"{n}" for n in range(120)], every.meta)
    smooth = isc_fast.smooth_negatives(negatives, k=4)
    by_row = isc_fast.subtract_negatives(alone, smooth)
    found = isc_fast.subtract_negatives(queries, smooth)
    assert (found.views, found.vectors.shape) == (VIEWS, (40, 3 * D))
    np.testing.assert_array_equal(found.vectors.reshape(-1, D), by_row.vectors)
    references = made(2, 30, prefix="r")
    (scored_q, scored_r), (row_q, _) = (
        isc_fast.normalize_scores(side, references, negatives) for side in (queries, alone)
    )
    assert (scored_q.dim, scored_q.width, scored_r.dim) == (D + 1, 3 * (D + 1), D + 1)
    np.testing.assert_array_equal(scored_q.vectors.reshape(-1, D + 1), row_q.vectors)
    assert len(isc_fast.search(scored_q, scored_r, k=1)) == 40
    write_descriptors(tmp_path / "q.h5", queries)
    with open_descriptors(tmp_path / "q.h5") as on_disk:
        normalize_to_file(on_disk, smooth, tmp_path / "n.h5")
    np.testing.assert_array_equal(isc_fast.read_descriptors(tmp_path / "n.h5").vectors, found.vectors)
    with pytest.raises(MismatchError, match="normalise both with the same negatives"):
        isc_fast.search(found, references)


def test_each_view_of_a_negative_is_a_negative(tmp_path):
    negatives = made(3, 20, VIEWS, "n")
    every = rows_of(negatives)
    plain = Descriptors(every.vectors[:], [f"{n}" for n in range(60)], every.meta)
    smooth, by_row = isc_fast.smooth_negatives(negatives, k=4), isc_fast.smooth_negatives(plain, k=4)
    assert smooth.views == VIEWS
    np.testing.assert_array_equal(smooth.vectors.reshape(-1, D), by_row.vectors)
    queries = made(1, 10)
    np.testing.assert_array_equal(
        isc_fast.subtract_negatives(queries, smooth).vectors, isc_fast.subtract_negatives(queries, by_row).vectors
    )
    write_descriptors(tmp_path / "n.h5", negatives)
    with open_descriptors(tmp_path / "n.h5") as on_disk:
        smooth_to_file(on_disk, tmp_path / "s.h5", k=4)
    np.testing.assert_array_equal(isc_fast.read_descriptors(tmp_path / "s.h5").vectors, smooth.vectors)


def test_rows_of_views_are_read_where_they_are_asked_for():
    queries = made(1, 11, VIEWS)
    flat = queries.vectors.reshape(33, D)
    rows = rows_of(queries)
    assert (len(rows), rows.dim, rows.views) == (33, D, ("whole",))
    assert list(rows.ids) == [f"q{row // 3}" for row in range(33)]
    assert rows.ids[5:20] == [f"q{row // 3}" for row in range(5, 20)]
    for wanted in (slice(None), slice(4, 9), slice(5, 5), slice(30, 40), slice(0, 33, 4), np.array([7, 32, 0, 7])):
        np.testing.assert_array_equal(rows.vectors[wanted], flat[wanted])
    np.testing.assert_array_equal(np.asarray(rows.vectors), flat)
    whole = whole_of(queries)
    np.testing.assert_array_equal(np.asarray(whole.vectors), flat[::3])
    np.testing.assert_array_equal(whole.vectors[np.array([3, 1])], flat[[9, 3]])
    assert (whole.views, whole.dim, list(whole.ids)) == (("whole",), D, list(queries.ids))
    plain = made(1, 4)
    assert rows_of(plain) is plain
    assert whole_of(plain) is plain


def test_queries_must_have_a_row():
    empty = Descriptors(np.empty((0, 3 * D), np.float32), [], {"engine_id": "e", "views": list(VIEWS)})
    with pytest.raises(InputError, match="there is no query descriptor"):
        isc_fast.search(empty, made(1, 2))
