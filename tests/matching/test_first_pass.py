"""The first pass in bytes rules out pairs and loses none: on every kind of data, and where rounding hurts most."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracles import exact_byte_product, similarity, unit_rows

import isc_fast.matching.searchers.byte_product
from isc_fast.matching.searchers import cpu_searcher
from isc_fast.matching.searchers import first_pass as module
from isc_fast.matching.searchers.byte_product import load_byte_product
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.exact import METRICS, Block, Queries
from isc_fast.matching.searchers.first_pass import FirstPass

pytest.importorskip("faiss")

knn, within = CpuSearcher().knn, CpuSearcher().within
WIDE_QUERIES, WIDE = unit_rows(11, 60, 96), unit_rows(12, 900, 96)


@pytest.fixture(params=[127, 63])
def first_pass(request, monkeypatch):
    """Let the first pass work on small data too; gives what it was asked for: (rows, pairs it gave or None).

    It runs with the bytes of processors that sum products in 32 bits (127), and of those that do so in 16 (63).
    """
    product = load_byte_product()
    if product is None or product.largest != request.param:
        product = exact_byte_product(request.param)
    monkeypatch.setattr(module, "load_byte_product", lambda: product)
    for name, size in {"_QUERIES": 1, "_TILE": 16, "_PART": 32}.items():
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(cpu_searcher, "_ROWS_BEFORE", 40)
    asked = []
    compare = FirstPass._compare

    def recorded(self, block, lowest, product):
        found = compare(self, block, lowest, product)
        asked.append((len(block), None if found is None else len(found[0])))
        return found

    monkeypatch.setattr(FirstPass, "_compare", recorded)
    return asked


def spread(rows, seed):
    """The same directions at lengths from a tenth to ten."""
    return rows * np.exp(np.random.default_rng(seed).uniform(-2.3, 2.3, (len(rows), 1))).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


UNLIKE = unit_rows(13, 1, 96)

FIRST_PASS_DATA = {
    "unit": (WIDE_QUERIES, WIDE),
    "lengths": (spread(WIDE_QUERIES, 1), spread(WIDE, 2)),
    "tiny": (WIDE_QUERIES * np.float32(1e-9), WIDE * np.float32(1e-9)),
    "large": (WIDE_QUERIES * np.float32(1e6), WIDE * np.float32(1e6)),
    "far from zero": (WIDE_QUERIES + np.float32(1), WIDE + np.float32(1)),
    "nearly alike": (unit(WIDE_QUERIES / 4 + UNLIKE), unit(WIDE / 4 + UNLIKE)),
    "of two kinds": (WIDE_QUERIES, WIDE + UNLIKE * np.where(np.arange(900)[:, None] < 450, 1, -1)),
    "one number stands out": (
        WIDE_QUERIES + 3 * np.eye(60, 96, dtype=np.float32),
        WIDE + 3 * np.eye(900, 96, dtype=np.float32),
    ),
    "zeros": (np.where(np.arange(60)[:, None] % 7, WIDE_QUERIES, 0), np.where(np.arange(900)[:, None] % 3, WIDE, 0)),
}


@pytest.mark.parametrize("rows", [900, 333])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", FIRST_PASS_DATA)
def test_the_first_pass_loses_nothing(first_pass, data, metric, rows):
    xq, xb = (np.ascontiguousarray(side, np.float32) for side in FIRST_PASS_DATA[data])
    scores, indices = knn(xq, (xb[i : i + rows] for i in range(0, 900, rows)), 2, metric)
    exact = similarity(xq, xb, metric)
    of_found = np.take_along_axis(exact, indices, 1)
    size = np.abs(exact).max(axis=1, keepdims=True)
    np.testing.assert_allclose(of_found, -np.sort(-exact, axis=1)[:, :2], atol=float(2e-6 * size.max()))
    np.testing.assert_allclose(scores, of_found, atol=float(2e-6 * size.max()))
    assert first_pass, "it was not used"
    lowest = np.float32(np.sort(exact.ravel())[-300])
    found = list(within(xq, (xb[i : i + rows] for i in range(0, 900, rows)), lowest, metric))
    pairs = set(zip(*(np.concatenate(column).tolist() for column in list(zip(*found, strict=True))[:2]), strict=True))
    for slack in (-1, 1):
        sure = set(zip(*(side.tolist() for side in np.nonzero(exact >= lowest + slack * 2e-6 * size)), strict=True))
        assert pairs <= sure if slack < 0 else pairs >= sure


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("rounded", "middle"), [("references", 0), ("queries", 0), ("references", 4), ("queries", -4)])
def test_the_first_pass_bears_the_worst_rounding(first_pass, metric, rounded, middle):
    """Every number but one lies halfway between two steps, and the other side points where that hurts most."""
    largest = 127 if rounded == "references" else module.load_byte_product().largest
    halfway = ((np.arange(96) % largest + 0.5 - np.arange(96) % 2) / 128).astype(
        np.float32
    )  # rounded down, all of them
    halfway[0] = largest / 128  # the largest number, so that a step is 1/128
    ones = np.ones(96, np.float32)
    one, other = (halfway, ones) if rounded == "references" else (ones, halfway)
    xb = np.zeros((64, 96), np.float32)
    xb[5] = one
    if metric == "l2":
        xb[np.arange(64) != 5] = -one  # as long, since the bound is for the shortest
        middle = 0
    xb += np.float32(middle)  # and measured from there, without rounding
    lowest = similarity(other[None], xb[5:6], metric).astype(np.float32)[0]
    with ThreadPoolExecutor(1) as threads:
        made = FirstPass(Queries(other[None], metric), threads)
        made.measure_from(np.full(96, middle, np.float32))
        rows, columns, scores = made.pairs(Block(0, xb, 20.0), lowest)
    assert (rows.tolist(), columns.tolist(), scores.tolist()) == ([0], [5], lowest.tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_the_first_pass_do_not_depend_on_the_company(first_pass, metric):
    """Neither on blocks nor on other queries; and of equal rows, the first comes first."""
    xb = np.concatenate([WIDE, WIDE[::-1]])
    whole = knn(WIDE_QUERIES, [xb], 2, metric)
    for rows, queries in ((1800, 7), (70, 60), (500, 1)):
        blocks = [xb[i : i + rows] for i in range(0, 1800, rows)]
        found = [knn(WIDE_QUERIES[i : i + queries], blocks, 2, metric) for i in range(0, 60, queries)]
        np.testing.assert_array_equal(np.concatenate([scores for scores, _ in found]), whole[0])
        np.testing.assert_array_equal(np.concatenate([indices for _, indices in found]), whole[1])
    np.testing.assert_array_equal(whole[0][:, 0], whole[0][:, 1])
    np.testing.assert_array_equal(whole[1].sum(axis=1), 1799)
    assert (whole[1][:, 0] < 900).all()


def test_what_all_references_have_in_common_takes_nothing_of_a_byte(first_pass, monkeypatch):
    """As where scores are normalised: one more dimension, in which all references are 1."""
    real, scored = module.scores_of, []
    monkeypatch.setattr(module, "scores_of", lambda *args: scored.append(len(args[0])) or real(*args))

    def left(xq, xb):
        """Pairs that the first pass could not rule out."""
        scored.clear()
        knn(xq, [xb], 2)
        assert first_pass[-1][1] is not None
        return sum(scored)

    plain = left(WIDE_QUERIES, WIDE)
    assert 120 < plain < 54_000 / 4
    queries = np.pad(WIDE_QUERIES, ((0, 0), (0, 1)), constant_values=-0.3)
    assert left(queries, np.pad(WIDE, ((0, 0), (0, 1)), constant_values=1)) < 1.1 * plain
    assert left(WIDE_QUERIES, WIDE + 2 * UNLIKE) < 1.1 * plain


def test_dense_data_are_left_to_faiss(first_pass):
    """Rows that are alike, but not equal."""
    alike = np.tile(WIDE_QUERIES[:1], (650, 1)) + np.float32(1e-4) * unit_rows(14, 650, 96)
    xb = np.concatenate([WIDE[:600], alike[50:], WIDE[600:]])
    scores, indices = knn(alike[:50], [xb], 2)
    exact = similarity(alike[:50], xb)
    np.testing.assert_allclose(np.take_along_axis(exact, indices, 1), -np.sort(-exact, axis=1)[:, :2], atol=1e-6)
    np.testing.assert_allclose(scores, 1, atol=1e-3)
    assert first_pass[-1][1] is None
    assert sum(found is None for _, found in first_pass) == 1, "once it knows, it does not try again"
    assert len(next(within(alike[:50], [xb], np.float32(0.9)))[0]) == 50 * 600


def test_equal_rows_are_not_left_to_faiss(first_pass):
    xb = np.concatenate([WIDE[:600], np.tile(WIDE_QUERIES[:1], (600, 1)), WIDE[600:]])
    scores, indices = knn(np.tile(WIDE_QUERIES[:1], (50, 1)), [xb], 2)
    np.testing.assert_array_equal(indices, [[600, 601]] * 50)
    np.testing.assert_allclose(scores, 1, atol=1e-6)
    assert all(found is not None for _, found in first_pass)
    assert len(next(within(np.tile(WIDE_QUERIES[:1], (50, 1)), [xb], np.float32(0.9)))[0]) == 50 * 600


def test_where_the_first_pass_is_not_used(first_pass, monkeypatch):
    knn(WIDE_QUERIES, [WIDE[:40]], 2)
    knn(WIDE_QUERIES[:, :63], [WIDE[:, :63]], 2)
    knn(WIDE_QUERIES, [WIDE], 300)
    monkeypatch.setattr(module, "_QUERIES", 61)
    knn(WIDE_QUERIES, [WIDE], 2)
    assert first_pass == []
    for size in (np.float32(1e-18), np.float32(1e17)):  # squares that float32 cannot hold
        monkeypatch.setattr(module, "_QUERIES", 1)
        _, indices = knn(WIDE_QUERIES, [WIDE * size], 2)
        np.testing.assert_array_equal(indices, np.argsort(-similarity(WIDE_QUERIES, WIDE), axis=1)[:, :2])
    assert [found for _, found in first_pass] == [None, None]


@pytest.mark.parametrize("trouble", ["absent", "inexact"])
def test_without_exact_products_of_bytes(first_pass, monkeypatch, trouble):
    """As where ONNX Runtime is not installed, or the processor cuts off sums of pairs."""
    import onnxruntime

    expected = knn(WIDE_QUERIES, [WIDE], 2)
    used = len(first_pass)
    if trouble == "absent":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    else:

        class Saturating(onnxruntime.InferenceSession):
            def run(self, *arguments):
                return [np.minimum(result, 2**15) for result in super().run(*arguments)]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Saturating)
    monkeypatch.setattr(module, "load_byte_product", load_byte_product)
    load_byte_product.cache_clear()
    try:
        assert load_byte_product() is None
        found = knn(WIDE_QUERIES, [WIDE], 2)
    finally:
        load_byte_product.cache_clear()
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    assert used
    assert len(first_pass) == used


def test_the_model_of_the_first_pass_is_what_it_says():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(isc_fast.matching.searchers.byte_product._MODEL)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("MatMulInteger", ["a", "b"], ["y"])
    types = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.INT32]
