"""Search on a real GPU: ``pytest -m gpu tests/matching/test_gpu_search.py``. Skipped where faiss sees none.

None of these has run yet: they were written on a machine without a GPU. They tell what the imitation in
`tests/fake_faiss_gpu.py` cannot: whether faiss' sums stay within the bound of single precision, and how many GPUs work at once.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from oracles import named, unit_rows

from isc_fast.errors import IscFastError
from isc_fast.machine.trial_run import WORKS, run_trial
from isc_fast.matching.normalizing.smoothing import smooth_negatives
from isc_fast.matching.normalizing.subtraction import subtract_negatives
from isc_fast.matching.searchers import exact
from isc_fast.matching.searchers.exact import METRICS
from isc_fast.matching.searchers.gpu_probe import find_gpus, try_gpus, try_gpus_as_json
from isc_fast.matching.searchers.searcher import open_searcher
from isc_fast.matching.two_sides import search
from isc_fast.runs.checks.trials import all_trials

pytest.importorskip("faiss")

import faiss
from oracles import near_ties


def _count() -> int:
    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    try:
        return len(find_gpus("cuda:all"))
    except IscFastError:
        return 0


_GPUS = _count()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not _GPUS, reason="needs an NVIDIA GPU that faiss works on")]

DEVICES = ["cuda", "cuda:all"]
DATA = {
    "unit": lambda: (unit_rows(1, 2000, 256), unit_rows(2, 200_000, 256)),
    "near ties": lambda: near_ties(3, 2000, 100_000, 256),
    "odd": lambda: (unit_rows(4, 33, 77), unit_rows(5, 70_001, 77)),
    "all equal": lambda: (np.full((3, 64), 0.1, np.float32), np.full((5000, 64), 0.1, np.float32)),
}


def _equal(found, expected):
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_trying_out():
    count, free = try_gpus("cuda:all")
    assert count == len(free) == _GPUS
    assert [gpu.number for gpu in find_gpus("cuda:all")] == list(range(_GPUS))
    (trial,) = [trial for trial in all_trials() if trial.name == "faiss, GPU"]
    assert run_trial(trial.function).state == WORKS
    assert json.loads(run_trial(try_gpus_as_json, "cuda").detail)[0] == _GPUS


def test_tf32_that_an_environment_asks_for_is_noticed(monkeypatch):
    """Or it changes nothing. What it must not do is to go unnoticed and to change results."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    found = run_trial(try_gpus_as_json, "cuda")
    assert found.state == WORKS or "other neighbours" in found.detail


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("k", [1, 10, 500, 3000])
def test_the_same_bits_as_on_the_processor(data, metric, k, device):
    xq, xb = DATA[data]()
    xq = xq[: 2000 if k <= 10 else 50]
    blocks = [xb[i : i + 30_000] for i in range(0, len(xb), 30_000)]
    _equal(*[open_searcher(on).knn(xq, blocks, k, metric) for on in (device, "cpu")])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", DATA)
def test_all_pairs_above_a_score(data, metric, device):
    xq, xb = DATA[data]()
    lowest = np.sort(open_searcher().knn(xq[:50], [xb], 100, metric)[0].ravel())[2000 if len(xq) >= 50 else 100]
    sides = []
    for on in (device, "cpu"):
        pairs = [np.concatenate(side) for side in zip(*open_searcher(on).within(xq, [xb], lowest, metric), strict=True)]
        order = np.lexsort(pairs[1::-1])
        sides.append([side[order] for side in pairs])
    _equal(*sides)


def test_faiss_proposes_what_is_wanted(monkeypatch):
    """On ordinary data hardly a query is left to the processor."""
    left = []
    real = exact._among_all_rows
    monkeypatch.setattr(exact, "_among_all_rows", lambda *given: left.append(len(given[1])) or real(*given))
    xq, xb = DATA["unit"]()
    open_searcher("cuda").knn(xq, [xb], 10)
    assert not left


@pytest.mark.parametrize("limits", [{"k": 5}, {"max_pairs": 5000}, {"threshold": 0.25}], ids=str)
def test_search(limits):
    xq, xb = (named(rows, prefix) for rows, prefix in zip(near_ties(8, 900, 40_000, 256), "qr", strict=True))
    found, expected = (search(xq, xb, device=device, **limits) for device in ("cuda:all", "cpu"))
    assert (found.query_ids, found.reference_ids) == (expected.query_ids, expected.reference_ids)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_negatives():
    plain, queries = named(unit_rows(6, 40_000, 256)), named(unit_rows(7, 5000, 256), "q")
    smoothed = [smooth_negatives(plain, device=device) for device in ("cuda:all", "cpu")]
    _equal(smoothed[0].vectors, smoothed[1].vectors)
    made = [subtract_negatives(queries, smoothed[1], device=device) for device in ("cuda:all", "cpu")]
    _equal(made[0].vectors, made[1].vectors)
