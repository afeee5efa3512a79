"""What every searcher must do, on every device; and what it makes cheap: a search of a set in itself."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from oracles import exact_byte_product, named, near_ties, unit_rows

import isc_fast
from isc_fast.descriptors.store import open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import InputError
from isc_fast.machine.trial_run import WORKS, Answer
from isc_fast.matching.searchers import first_pass, gpu_probe, gpu_searcher
from isc_fast.matching.searchers.exact import METRICS, scores_of
from isc_fast.matching.searchers.searcher import Searcher, open_searcher

pytest.importorskip("faiss")

from fake_faiss_gpu import FakeFaiss
from fake_searcher import FakeSearcher


def in_bytes(monkeypatch) -> Searcher:
    """The processor with its first pass, where this one's products of bytes are not exact too."""
    monkeypatch.setattr(first_pass, "load_byte_product", exact_byte_product)
    monkeypatch.setattr(first_pass, "_PART", 64)
    return open_searcher("cpu")


def by_faiss(monkeypatch) -> Searcher:
    """The processor without it."""
    monkeypatch.setattr(first_pass, "load_byte_product", lambda: None)
    return open_searcher("cpu")


def on_gpus(monkeypatch) -> Searcher:
    """Two GPUs that are imitated."""
    monkeypatch.setitem(sys.modules, "faiss", FakeFaiss(gpus=2))
    monkeypatch.setattr(gpu_probe, "_tried", lambda _device: Answer(WORKS, json.dumps([2, {0: None, 1: None}])))
    monkeypatch.setattr(gpu_searcher, "_FIRST_ROWS", 100)
    gpu_searcher._pool.cache_clear()
    return open_searcher("cuda:0,1")


MAKERS = {"in bytes": in_bytes, "by faiss": by_faiss, "on GPUs": on_gpus, "fake": lambda _: FakeSearcher(77)}


@pytest.fixture(params=MAKERS)
def searcher(request, monkeypatch):
    yield MAKERS[request.param](monkeypatch)
    gpu_searcher._pool.cache_clear()


def blocks_of(rows, size, first=0):
    return (rows[start : start + size] for start in range(first, len(rows), size))


def table(xq, xb, metric):
    """The score of every pair, by the definition."""
    return np.stack([scores_of(np.repeat(row[None], len(xb), 0), xb, metric) for row in xq])


@pytest.mark.parametrize("metric", METRICS)
def test_the_contract(searcher, metric):
    """Neighbours and pairs are those of the definition, to the bit; blocks are as large as the searcher says, or not."""
    xq, xb = near_ties(1, 50, 3000, 64)
    scores = table(xq, xb, metric)
    order = np.lexsort((np.broadcast_to(np.arange(3000), scores.shape), -scores), axis=1)[:, :7]
    lowest = np.sort(scores.ravel())[-500]
    for size in (searcher.block_rows(64).references, 1111):
        found = searcher.knn(xq, blocks_of(xb, size), 7, metric)
        np.testing.assert_array_equal(found[0], np.take_along_axis(scores, order, 1))
        np.testing.assert_array_equal(found[1], order)
        pairs = [
            np.concatenate(side) for side in zip(*searcher.within(xq, blocks_of(xb, size), lowest, metric), strict=True)
        ]
        by_row = np.lexsort(pairs[1::-1])
        np.testing.assert_array_equal(np.stack(pairs[:2])[:, by_row], np.nonzero(scores >= lowest))
        np.testing.assert_array_equal(pairs[2][by_row], scores[scores >= lowest])
    assert isinstance(searcher.device, str)
    for wrong, message in (({"k": 0}, "k must be"), ({"k": 1, "metric": "cosine"}, "no metric")):
        with pytest.raises(InputError, match=message):
            searcher.knn(xq, [xb], **wrong)


def test_an_open_searcher_is_given_back_as_it_is(searcher):
    assert open_searcher(searcher) is searcher


def self_join(searcher, rows, lowest, metric):
    """Every pair of a set that reaches a score, each once: blocks are searched from themselves on."""
    for start in range(0, len(rows), size := searcher.block_rows(rows.shape[1]).queries):
        for first, second, scores in searcher.within(
            rows[start : start + size], blocks_of(rows, size, start), lowest, metric
        ):
            once = second > first
            yield first[once] + start, second[once] + start, scores[once]


def self_neighbours(searcher, rows, k):
    """The k nearest other rows of each row: one neighbour more is asked for, and the row itself is dropped."""
    scores, indices = searcher.knn(rows, blocks_of(rows, searcher.block_rows(rows.shape[1]).references), k + 1)
    own = indices == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), k] = True  # more than k other rows are equal to it and come first
    return scores[~own].reshape(-1, k), indices[~own].reshape(-1, k)


COPIES = near_ties(5, 1, 700, 64)[1].copy()
COPIES[100:160] = COPIES[3]  # more equal rows than are asked for
COPIES[400] = COPIES[500]


@pytest.mark.parametrize("metric", METRICS)
def test_a_set_is_joined_with_itself_each_pair_once(searcher, monkeypatch, metric):
    if not isinstance(searcher, FakeSearcher):
        sizes = searcher.block_rows(64)
        monkeypatch.setattr(type(searcher), "block_rows", lambda _self, _dim: type(sizes)(250, 250))
    scores = table(COPIES, COPIES, metric)
    lowest = np.sort(scores[np.triu_indices(700, 1)])[-3000]
    found = [np.concatenate(side) for side in zip(*self_join(searcher, COPIES, lowest, metric), strict=True)]
    expected = [(a, b) for a in range(700) for b in range(a + 1, 700) if scores[a, b] >= lowest]
    order = np.lexsort(found[1::-1])
    assert list(zip(found[0][order].tolist(), found[1][order].tolist(), strict=True)) == expected
    np.testing.assert_array_equal(found[2][order], [scores[pair] for pair in expected])
    assert len(expected) >= 3000


def test_the_nearest_others_of_each_row(searcher):
    scores = table(COPIES, COPIES, "ip")
    found = self_neighbours(searcher, COPIES, 5)
    for row in range(700):
        others = sorted(
            (other for other in range(700) if other != row), key=lambda other: (-scores[row, other], other)
        )[:5]
        assert found[1][row].tolist() == others
        np.testing.assert_array_equal(found[0][row], scores[row, others])


def test_public_functions_take_an_open_searcher(searcher, tmp_path):
    """And give what they give for the name of a device, from memory and from files."""
    queries, references, train = (
        named(unit_rows(seed, n, 64), p) for seed, n, p in ((1, 90, "q"), (2, 900, "r"), (3, 300, "t"))
    )
    write_descriptors(tmp_path / "r.h5", references)
    results = []
    for device in (searcher, "cpu"):
        negatives = isc_fast.smooth_negatives(train, device=device)
        isc_fast.smooth_to_file(train, tmp_path / "n.h5", device=device)
        sides = [isc_fast.subtract_negatives(side, negatives, device=device) for side in (queries, references)]
        by_score = isc_fast.normalize_scores(queries, references, train, device=device)
        with open_descriptors(tmp_path / "r.h5") as stored, open_descriptors(tmp_path / "n.h5") as on_disk:
            isc_fast.normalize_to_file(stored, on_disk, tmp_path / "out.h5", device=device)
            pairs = [isc_fast.search(queries, stored, device=device, **limits) for limits in ({}, {"threshold": 0.3})]
        files = [(tmp_path / name).read_bytes() for name in ("n.h5", "out.h5")]
        results.append(
            [*(side.vectors.tobytes() for side in (negatives, *sides, *by_score)), *files, *map(list, pairs)]
        )
    assert results[0] == results[1]
