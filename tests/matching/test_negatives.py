"""Normalisation by negatives against float64 versions of the formulas, and the stamps that keep files apart."""

from __future__ import annotations

import os

import h5py
import numpy as np
import oracles
import pytest
from oracles import named, unit_rows

import isc_fast.matching.normalizing.row_sums
import isc_fast.matching.searchers.cpu_searcher
from isc_fast.descriptors.store import Descriptors, load_descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import InputError, MismatchError
from isc_fast.items import Failure
from isc_fast.matching.normalizing.methods import normalize_to_file
from isc_fast.matching.normalizing.score_normalization import normalize_scores
from isc_fast.matching.normalizing.smoothing import smooth_negatives, smooth_to_file
from isc_fast.matching.normalizing.subtraction import subtract_negatives
from isc_fast.matching.two_sides import search

pytest.importorskip("faiss")

from fake_searcher import FakeSearcher

ROWS, REFERENCES, NEGATIVES = unit_rows(1, 31, 24), unit_rows(2, 53, 24), unit_rows(3, 80, 24)
OURS = {"engine_id": "a" * 40, "plan_id": "p"}


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


@pytest.fixture(params=[1, 7, None], ids="rows={}".format)
def small_blocks(request, monkeypatch):
    """Work in blocks of so many rows."""
    if request.param:
        monkeypatch.setattr(isc_fast.matching.searchers.cpu_searcher, "BLOCK_ROWS", 2 * request.param + 1)
        monkeypatch.setattr(isc_fast.matching.normalizing.row_sums, "_STEP", request.param)


@pytest.mark.parametrize("options", [{}, {"k": 1}, {"k": 4, "power": 1}, {"power": 2}, {"k": 500}], ids=str)
def test_smoothing(options, small_blocks):
    found = smooth_negatives(named(NEGATIVES, "t", **OURS), **options)
    close(found.vectors, oracles.smoothed(NEGATIVES, **options))
    assert list(found.ids) == [f"t{i}" for i in range(80)]
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"k": 1}, {"k": 3, "beta": 1.5}, {"iterations": 3}, {"beta": 0.0}, {"k": 80}, {"k": 500, "iterations": 2}],
    ids=str,
)
def test_nes(options, small_blocks):
    found = subtract_negatives(named(ROWS, "q", **OURS), named(NEGATIVES), **options)
    close(found.vectors, oracles.subtracted(ROWS, NEGATIVES, **options))
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"k": 4, "power": 1}], ids=str)
def test_smoothing_into_a_file(tmp_path, options, small_blocks):
    """The same bits, whether the negatives are in memory or on disk."""
    plain = named(NEGATIVES, "t", **OURS)
    expected = smooth_negatives(plain, **options)
    write_descriptors(tmp_path / "plain.h5", plain)
    with open_descriptors(tmp_path / "plain.h5") as lazy:
        for given in (plain, lazy):
            smooth_to_file(given, tmp_path / "out.h5", **options)
            found = load_descriptors(tmp_path / "out.h5")
            np.testing.assert_array_equal(found.vectors, expected.vectors)
            assert (found.ids, found.meta) == (list(expected.ids), expected.meta)
        in_memory = smooth_negatives(lazy, **options)
        assert isinstance(in_memory.vectors, np.ndarray)
    np.testing.assert_array_equal(in_memory.vectors, expected.vectors)
    assert list(in_memory.ids) == list(expected.ids), "they outlast the file"


def test_negatives_on_disk_give_the_same_bits(tmp_path, small_blocks):
    """As plain rows, as rows in half precision, and where a row is among the nearest of many."""
    plain = {"n": NEGATIVES, "half": NEGATIVES.astype(np.float16), "few": NEGATIVES[:3]}
    for name, rows in plain.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["vectors"] = rows
        with h5py.File(tmp_path / f"{name}.h5") as file:
            lazy = Descriptors(file["vectors"], [f"r{i}" for i in range(len(rows))])
            found, in_memory = (subtract_negatives(named(ROWS), side).vectors for side in (lazy, named(rows)))
            np.testing.assert_array_equal(found, in_memory)
            found, in_memory = (normalize_scores(named(ROWS), named(ROWS), side)[0] for side in (lazy, named(rows)))
            np.testing.assert_array_equal(found.vectors, in_memory.vectors)


def test_sums_of_rows_do_not_depend_on_steps(monkeypatch):
    rows, negatives = unit_rows(5, 5000, 24), named(NEGATIVES)
    expected = subtract_negatives(named(rows), negatives).vectors
    for size in (1, 999, 10**6):
        monkeypatch.setattr(isc_fast.matching.normalizing.row_sums, "_STEP", size)
        np.testing.assert_array_equal(subtract_negatives(named(rows), negatives).vectors, expected)
    searcher = FakeSearcher(1024)
    np.testing.assert_array_equal(subtract_negatives(named(rows), negatives, device=searcher).vectors, expected)
    assert searcher.asked == [(1024, 10)] * 4 + [(904, 10)]


@pytest.mark.parametrize("make", [np.asfortranarray, lambda rows: rows.astype(np.float64)])
def test_negatives_in_any_layout(make):
    found = subtract_negatives(named(ROWS), Descriptors(make(NEGATIVES), list(map(str, range(80))))).vectors
    close(found, oracles.subtracted(ROWS, NEGATIVES))
    close(
        smooth_negatives(Descriptors(make(NEGATIVES), list(map(str, range(80))))).vectors, oracles.smoothed(NEGATIVES)
    )


def test_nes_with_smoothed_negatives():
    found = subtract_negatives(named(ROWS), smooth_negatives(named(NEGATIVES)))
    close(found.vectors, oracles.subtracted(ROWS, oracles.smoothed(NEGATIVES)))


def test_a_row_that_vanishes_stays_finite():
    """One negative, equal to the descriptor, all of it subtracted: the zero row has no direction."""
    rows = np.eye(3, dtype=np.float32)
    found = subtract_negatives(named(rows), named(rows[:1]), beta=1).vectors
    np.testing.assert_array_equal(found[0], 0)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("options", [{}, {"k": 1, "beta": 0.5}, {"k": 80}, {"k": 500, "beta": 2.0}], ids=str)
def test_inner_products_are_normalised_scores(options, small_blocks):
    queries, references = normalize_scores(named(ROWS, "q", **OURS), named(REFERENCES), named(NEGATIVES), **options)
    assert (queries.dim, references.dim) == (25, 25)
    np.testing.assert_array_equal(queries.vectors[:, :24], ROWS)
    np.testing.assert_array_equal(references.vectors[:, :24], REFERENCES)
    full = {"k": 3, "beta": 1.0, **options}
    close(queries.vectors @ references.vectors.T, oracles.normalized_scores(ROWS, REFERENCES, NEGATIVES, **full))


def test_search_gives_normalised_scores():
    found = search(*normalize_scores(named(ROWS, "q"), named(REFERENCES), named(NEGATIVES)), max_pairs=30)
    expected = oracles.normalized_scores(ROWS, REFERENCES, NEGATIVES, 3, 1.0)
    order = np.argsort(-expected, axis=None)[:30]
    assert [(q, r) for q, r, _ in found] == [(f"q{i // 53}", f"r{i % 53}") for i in order]
    close(found.scores, expected.ravel()[order])


def test_what_is_passed_on_and_stamped():
    failures = [Failure("x", "x.jpg", "decode", "cut short")]
    rows = Descriptors(ROWS, [f"q{i}" for i in range(31)], OURS, failures)
    smooth = smooth_negatives(named(NEGATIVES, **OURS), k=5)
    assert smooth.meta == {**OURS, "smoothing": {"k": 5, "power": 3, "source": named(NEGATIVES).content_id()}}
    made = subtract_negatives(rows, smooth, k=7, beta=0.5, iterations=2)
    stamp = made.meta["normalization"]
    assert {k: stamp[k] for k in ("method", "k", "beta", "iterations")} == {
        "method": "nes",
        "k": 7,
        "beta": 0.5,
        "iterations": 2,
    }
    assert stamp["smoothing"] == smooth.meta["smoothing"]
    assert stamp["negatives"] == smooth.content_id()
    assert stamp["negatives"] != subtract_negatives(rows, named(NEGATIVES)).meta["normalization"]["negatives"]
    for side in (made, *normalize_scores(rows, rows, named(NEGATIVES))):
        assert {key: side.meta[key] for key in OURS} == OURS
        assert (list(side.ids), list(side.failures)) == (list(rows.ids), failures)
    assert rows.meta == OURS


def test_score_stamps_tell_the_sides_apart():
    """Queries [q, s] against queries, or references [r, 1] against references, would give numbers without meaning."""
    sides = normalize_scores(named(ROWS, "q", **OURS), named(REFERENCES, **OURS), named(NEGATIVES, **OURS), k=4)
    expected = {"method": "score", "role": "query", "k": 4, "beta": 1.0, "negatives": named(NEGATIVES).content_id()}
    assert sides[0].meta["normalization"] == expected
    # Nothing to redo on the side of the references when negatives or numbers change.
    assert sides[1].meta["normalization"] == {"method": "score", "role": "reference"}
    for queries, references in ((0, 0), (1, 1), (1, 0)):
        with pytest.raises(MismatchError, match=r"by score .*role=.*by score .*role="):
            search(sides[queries], sides[references])


def test_other_parameters_give_other_stamps():
    stamps = [
        subtract_negatives(named(ROWS), negatives, **options).meta["normalization"]
        for negatives in (named(NEGATIVES), named(NEGATIVES[1:]), smooth_negatives(named(NEGATIVES)))
        for options in ({}, {"k": 9}, {"beta": 0.3}, {"iterations": 2})
    ]
    assert all(a != b for i, a in enumerate(stamps) for b in stamps[:i])


NES_OPTIONS = {"k": 4, "beta": 0.7, "iterations": 2}


@pytest.mark.parametrize("on_disk", [False, True])
def test_to_file(tmp_path, on_disk, small_blocks):
    failures = [Failure("x", "x.jpg", "decode", "cut short")]
    rows = Descriptors(ROWS, [f"q{i}" for i in range(31)], OURS, failures)
    plain = named(NEGATIVES, **OURS)
    negatives = smooth_negatives(plain)
    queries, references = normalize_scores(rows, named(REFERENCES, **OURS), plain, k=5, beta=0.25)
    expected = {
        "nes": (rows, negatives, NES_OPTIONS, subtract_negatives(rows, negatives, **NES_OPTIONS)),
        "score": (rows, plain, {"k": 5, "beta": 0.25}, queries),
        "score-references": (named(REFERENCES, **OURS), None, {"k": 5, "beta": 0.25}, references),
    }
    for name, (side, against, options, made) in expected.items():
        write_descriptors(tmp_path / "in.h5", side)
        with open_descriptors(tmp_path / "in.h5") as lazy:
            given = lazy if on_disk else side
            method = name.partition("-")[0]
            normalize_to_file(given, against, tmp_path / "out.h5", method=method, **options)
        found = load_descriptors(tmp_path / "out.h5")
        np.testing.assert_allclose(found.vectors, made.vectors, atol=1e-6)
        assert (found.ids, found.failures, found.meta) == (list(side.ids), list(side.failures), made.meta)
    assert sorted(os.listdir(tmp_path)) == ["in.h5", "out.h5"]


def test_the_defaults_of_a_file_are_those_of_the_functions(tmp_path):
    normalize_to_file(named(ROWS), named(NEGATIVES), tmp_path / "nes.h5")
    assert load_descriptors(tmp_path / "nes.h5").meta == subtract_negatives(named(ROWS), named(NEGATIVES)).meta
    normalize_to_file(named(ROWS), named(NEGATIVES), tmp_path / "score.h5", method="score")
    queries, _ = normalize_scores(named(ROWS), named(ROWS), named(NEGATIVES))
    assert load_descriptors(tmp_path / "score.h5").meta == queries.meta


def test_no_rows_at_all(tmp_path):
    none = named(np.empty((0, 24)))
    assert subtract_negatives(none, named(NEGATIVES)).vectors.shape == (0, 24)
    assert [side.vectors.shape for side in normalize_scores(none, none, named(NEGATIVES))] == [(0, 25), (0, 25)]
    normalize_to_file(none, named(NEGATIVES), tmp_path / "out.h5")
    assert load_descriptors(tmp_path / "out.h5").vectors.shape == (0, 24)


def test_inputs_stay_as_they_are():
    """The reference solution changes its input; here the arrays could be changed, and are not."""
    arrays = [rows.copy() for rows in (ROWS, REFERENCES, NEGATIVES)]
    metas = [dict(OURS) for _ in arrays]
    sides = [named(rows, **meta) for rows, meta in zip(arrays, metas, strict=True)]
    smooth_negatives(sides[2])
    subtract_negatives(sides[0], sides[2], iterations=2)
    normalize_scores(*sides)
    for rows, before, side in zip(arrays, (ROWS, REFERENCES, NEGATIVES), sides, strict=True):
        np.testing.assert_array_equal(rows, before)
        assert side.meta == OURS


SMOOTHED = {"smoothing": {"k": 10}}
NORMALISED = {"normalization": {"method": "nes", "k": 10}}
METHODS = {
    "nes": lambda rows, negatives, _path, **options: subtract_negatives(rows, negatives, **options),
    "score": lambda rows, negatives, _path, **options: normalize_scores(rows, rows, negatives, **options),
    "nes to file": lambda rows, negatives, path, **options: normalize_to_file(rows, negatives, path, **options),
    "score to file": lambda rows, negatives, path, **options: normalize_to_file(
        rows, negatives, path, method="score", **options
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("rows", "negatives", "options", "error", "message"),
    [
        (named(ROWS, **NORMALISED), named(NEGATIVES), {}, InputError, r"normalised already \(nes\)"),
        (named(ROWS), named(NEGATIVES, **NORMALISED), {}, InputError, "negatives must be plain .*normalised already"),
        (named(ROWS), named(np.empty((0, 24))), {}, InputError, "no negatives"),
        (named(ROWS), named(NEGATIVES), {"k": 0}, InputError, "k must be at least 1, not 0"),
        (named(ROWS), named(NEGATIVES), {"beta": np.nan}, InputError, "beta must be a number, not nan"),
        (named(ROWS), named(NEGATIVES[:, :8]), {}, MismatchError, "24 dimensions and the negatives have 8"),
        (named(ROWS, engine_id="e1"), named(NEGATIVES, engine_id="e2"), {}, MismatchError, r"engine \(e2\).*\(e1\)"),
    ],
    ids=["rows twice", "negatives normalised", "empty", "k", "beta", "dimensions", "engines"],
)
def test_refusals(tmp_path, method, rows, negatives, options, error, message):
    with pytest.raises(error, match=message):
        METHODS[method](rows, negatives, tmp_path / "out.h5", **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("method", ["score", "score to file"])
def test_scores_take_plain_negatives(tmp_path, method):
    with pytest.raises(InputError, match="smoothed"):
        METHODS[method](named(ROWS), named(NEGATIVES, **SMOOTHED), tmp_path / "out.h5")


@pytest.mark.parametrize(
    ("negatives", "options", "message"),
    [
        (named(NEGATIVES, **SMOOTHED), {}, "smoothed already"),
        (named(NEGATIVES, **NORMALISED), {}, "normalised already"),
        (named(np.empty((0, 24))), {}, "no negatives"),
        (named(NEGATIVES), {"k": 0}, "k must be at least 1"),
        (named(NEGATIVES), {"power": 0}, "power must be at least 1"),
    ],
)
def test_smoothing_refuses(tmp_path, negatives, options, message):
    with pytest.raises(InputError, match=message):
        smooth_negatives(negatives, **options)
    with pytest.raises(InputError, match=message):
        smooth_to_file(negatives, tmp_path / "out.h5", **options)
    assert os.listdir(tmp_path) == []


def test_files_refuse_what_the_functions_cannot_be_asked(tmp_path):
    out = tmp_path / "out.h5"
    with pytest.raises(InputError, match="needs negatives"):
        normalize_to_file(named(ROWS), None, out)
    with pytest.raises(InputError, match="no method 'whiten'; choose one of nes, score"):
        normalize_to_file(named(ROWS), named(NEGATIVES), out, method="whiten")
    with pytest.raises(InputError, match="normalised already"):
        normalize_to_file(named(ROWS, **NORMALISED), None, out, method="score")
    with pytest.raises(InputError, match="iterations must be at least 1"):
        normalize_to_file(named(ROWS), named(NEGATIVES), out, iterations=0)
    assert os.listdir(tmp_path) == []


def test_normalised_sides_are_searched_together_or_not_at_all():
    rows, negatives = named(ROWS, **OURS), smooth_negatives(named(NEGATIVES, **OURS))
    made = subtract_negatives(rows, negatives)
    assert len(search(made, subtract_negatives(named(REFERENCES, **OURS), negatives), k=1)) == 31
    for other in (
        named(REFERENCES, **OURS),
        subtract_negatives(named(REFERENCES, **OURS), named(NEGATIVES, **OURS)),
        subtract_negatives(named(REFERENCES, **OURS), negatives, beta=0.3),
    ):
        with pytest.raises(MismatchError, match="normalise both with the same negatives, or neither"):
            search(made, other)
