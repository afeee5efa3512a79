"""Search on GPUs, against an imitation of faiss' GPU functions: the same bits as on the processor, whatever they do."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from oracles import named, unit_rows

import isc_fast
from isc_fast.cli.main import main, make_parser
from isc_fast.descriptors.store import open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import EngineError, InputError, MissingExtraError
from isc_fast.machine.trial_run import ABSENT, BROKEN, WORKS, Answer, run_trial
from isc_fast.matching.normalizing.methods import normalize_to_file
from isc_fast.matching.normalizing.score_normalization import normalize_scores
from isc_fast.matching.normalizing.smoothing import smooth_negatives, smooth_to_file
from isc_fast.matching.normalizing.subtraction import subtract_negatives
from isc_fast.matching.searchers import gpu_probe, gpu_searcher
from isc_fast.matching.searchers.exact import METRICS
from isc_fast.matching.searchers.gpu_probe import Gpu, find_gpus, gpu_indices, try_gpus
from isc_fast.matching.searchers.gpu_searcher import in_order
from isc_fast.matching.searchers.inputs import BlockRows
from isc_fast.matching.searchers.searcher import open_searcher
from isc_fast.matching.two_sides import search
from isc_fast.runs.challenge import run_challenge
from isc_fast.runs.checks.trials import all_trials

pytest.importorskip("faiss")

from fake_faiss_gpu import FakeFaiss, slow
from oracles import near_ties

TESTS = Path(__file__).parents[1]


@pytest.fixture
def fake(monkeypatch):
    """faiss with three GPUs, found to work; small parts, so that small data are many of them."""
    made = FakeFaiss(gpus=3)
    monkeypatch.setitem(sys.modules, "faiss", made)
    answer = json.dumps([3, {0: None, 1: 10**9, 2: None}])
    monkeypatch.setattr(gpu_probe, "_tried", lambda device: Answer(WORKS, answer))
    monkeypatch.setattr(gpu_searcher, "_FIRST_ROWS", 100)
    monkeypatch.setattr(gpu_searcher, "_LEAST_BYTES", 0)
    monkeypatch.setattr(gpu_searcher, "_PART_BYTES", 350 * 4 * 32)
    gpu_searcher._pool.cache_clear()
    yield made
    gpu_searcher._pool.cache_clear()


def knn(xq, blocks, k, metric="ip", device="cpu"):
    return open_searcher(device).knn(xq, blocks, k, metric)


def within(xq, blocks, lowest, metric="ip", device="cpu"):
    return open_searcher(device).within(xq, blocks, lowest, metric)


def equal(found, expected):
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def joined(parts):
    pairs = [np.concatenate(side) for side in zip(*parts, strict=True)]
    order = np.lexsort(pairs[1::-1])
    return [side[order] for side in pairs]


DATA = {
    "unit": (unit_rows(1, 50, 32), unit_rows(2, 1500, 32)),
    "near ties": near_ties(3, 50, 1500, 32),
    "lengths": (
        unit_rows(1, 50, 32) * np.float32(7),
        unit_rows(2, 1500, 32) * np.exp(np.random.default_rng(0).normal(size=(1500, 1))).astype(np.float32),
    ),
    "all equal": (np.full((5, 32), 0.3, np.float32), np.full((1500, 32), 0.3, np.float32)),
    "zeros": (np.zeros((5, 32), np.float32), unit_rows(2, 1500, 32)),
}


@functools.cache
def on_the_processor(data, metric, k):
    """The neighbours among all of the data, which are computed once for all devices."""
    xq, xb = DATA[data]
    return knn(xq, [xb[:700], xb[700:701], xb[:0], xb[701:]], k, metric)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cuda:0,2", "cuda:all"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("k", [1, 10, 300, 9999])
def test_the_same_bits_as_on_the_processor(fake, data, metric, k, device):
    xq, xb = DATA[data]
    blocks = [xb[:700], xb[700:701], xb[:0], xb[701:]]
    equal(knn(xq, blocks, k, metric, device), on_the_processor(data, metric, k))
    used = {"cuda": {0}, "cuda:1": {1}, "cuda:0,2": {0, 2}, "cuda:all": {0, 1, 2}}[device]
    assert {call[0] for call in fake.calls} == used
    assert max(call[2] for call in fake.calls) <= 350, "no part is larger than what a GPU takes"


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", DATA)
def test_all_pairs_above_a_score(fake, data, metric, device):
    xq, xb = DATA[data]
    scores = on_the_processor(data, metric, 1500)[0]
    for lowest in (
        scores[0, 0],
        np.sort(scores.ravel())[-40],
        scores[-1, 700],
        np.float32(-np.inf),
        np.float32(np.inf),
    ):
        found = joined(within(xq, [xb[:800], xb[800:]], lowest, metric, device))
        equal(found, joined(within(xq, [xb[:800], xb[800:]], lowest, metric)))
        assert len(found[0]) == (scores >= lowest).sum()


def test_only_queries_with_more_pairs_are_searched_again(fake):
    xq, xb = unit_rows(1, 50, 32), unit_rows(2, 350, 32).copy()
    xb[:100] = xq[7]
    list(within(xq, [xb], np.float32(0.9), "ip", "cuda"))
    assert [call[1:] for call in fake.calls] == [(50, 350, 16), (1, 350, 64), (1, 350, 256)]


@pytest.mark.parametrize("metric", METRICS)
def test_more_neighbours_than_faiss_can_select(fake, monkeypatch, metric):
    monkeypatch.setattr(gpu_searcher, "WIDEST", 64)
    monkeypatch.setattr(gpu_searcher, "_FIRST_ROWS", 200)
    xq, xb = near_ties(3, 50, 1500, 32)
    blocks = [xb[i : i + 400] for i in range(0, 1500, 400)]
    for k in (56, 57, 100, 1400):
        equal(knn(xq, blocks, k, metric, "cuda:0,1"), knn(xq, blocks, k, metric))
    equal(
        joined(within(xq, blocks, np.float32(-0.2), metric, "cuda:0,1")),
        joined(within(xq, blocks, np.float32(-0.2), metric)),
    )
    assert max(call[3] for call in fake.calls) == 64


def test_a_large_k_is_not_left_to_the_processor(fake, monkeypatch):
    monkeypatch.setattr(gpu_searcher, "WIDEST", 64)
    monkeypatch.setattr(
        isc_fast.matching.searchers.exact, "_among_all_rows", lambda *_: pytest.fail("every row was looked at")
    )
    xq, xb = unit_rows(1, 50, 32), unit_rows(2, 6000, 32)
    found = knn(xq, [xb], 100, "ip", "cuda")
    monkeypatch.undo()
    equal(found, knn(xq, [xb], 100))


@pytest.mark.parametrize("late", [0, 1, 2])
def test_gpus_that_finish_out_of_order(fake, late):
    fake.before = slow(late, 30)
    xq, xb = near_ties(3, 20, 4000, 32)
    blocks = [xb[i : i + 350] for i in range(0, 4000, 350)]
    equal(knn(xq, blocks, 9, "ip", "cuda:all"), knn(xq, blocks, 9))
    counts = np.bincount([call[0] for call in fake.calls], minlength=3)
    assert counts[late] < counts.sum() / 3, "the slow GPU got as many parts as the others"
    starts = [int(pairs[1].min()) for pairs in within(xq, blocks, np.float32(-1), "ip", "cuda:all")]
    assert starts == list(range(0, 4000, 350)), "in the order of the parts"


def test_two_threads_of_each_gpu_work_at_once(fake):
    meeting = threading.Barrier(4, timeout=20)
    seen = []

    def before(gpu, call):
        if 1 <= call <= 4:
            meeting.wait()
            seen.append(gpu)

    fake.before = before
    knn(unit_rows(1, 5, 32), [unit_rows(2, 3000, 32)], 3, "ip", "cuda:0,2")
    assert sorted(seen) == [0, 0, 2, 2]
    assert all(resources.pinned == 0 for resources in fake.resources)
    made = len(fake.resources)
    knn(unit_rows(1, 5, 32), [unit_rows(2, 3000, 32)], 3, "ip", "cuda:0,2")
    assert len(fake.resources) == made == 4, "resources are kept for the next search"


def test_blocks_are_read_when_there_is_somebody_for_them(fake):
    """Not all at once: references may be larger than memory."""
    read, at_first = [], []

    def blocks():
        for start in range(0, 350 * 40, 350):
            read.append(start)
            yield unit_rows(start, 350, 32)

    hold = threading.Event()

    def before(_gpu, call):
        if call == 3:
            hold.wait(1)
            at_first.append(len(read))
        elif call == 10:
            hold.set()

    fake.before = before
    found = knn(unit_rows(1, 5, 32), blocks(), 3, "ip", "cuda:0,1")
    equal(found, knn(unit_rows(1, 5, 32), blocks(), 3))
    assert at_first[0] <= 3 + 5


def test_an_exception_on_one_gpu_ends_the_search(fake):
    def before(gpu, call):
        if gpu == 1 and call > 2:
            raise RuntimeError(
                "Error in virtual void* allocMemory(...):\n Error: 'err == cudaSuccess' failed (out of memory)"
            )
        time.sleep(0.005)

    fake.before = before
    threads = threading.active_count()
    read = []

    def blocks():
        for start in range(200):
            read.append(start)
            yield unit_rows(start, 350, 32)

    for ask in (
        lambda: knn(unit_rows(1, 5, 32), blocks(), 3, "ip", "cuda:all"),
        lambda: list(within(unit_rows(1, 5, 32), blocks(), np.float32(0.5), "ip", "cuda:all")),
    ):
        with pytest.raises(EngineError, match=r"faiss failed on GPU 1: .*out of memory.*device cpu") as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert threading.active_count() == threads, "threads are left behind"
    assert len(read) < 100
    fake.before = lambda _gpu, _call: None
    equal(*[knn(unit_rows(1, 5, 32), [unit_rows(2, 900, 32)], 3, "ip", device) for device in ("cuda:all", "cpu")])


def test_whoever_stops_early_leaves_no_threads(fake):
    threads = threading.active_count()
    pairs = within(unit_rows(1, 5, 32), [unit_rows(2, 9000, 32)], np.float32(0.1), "ip", "cuda:all")
    next(pairs)
    pairs.close()
    assert threading.active_count() == threads
    assert len(fake.calls) < 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(fake, bad):
    for side, rows in (("queries", DATA["unit"][0]), ("data base", DATA["unit"][1])):
        broken = {"queries": DATA["unit"][0], "data base": DATA["unit"][1], side: rows.copy()}
        broken[side][45, 2] = bad
        base = broken["data base"]
        with pytest.raises(InputError, match=f"row 45 of the {side}"):
            knn(broken["queries"], [base[:30], base[30:]], 4, "ip", "cuda:all")
        with pytest.raises(InputError, match=f"row 45 of the {side}"):
            list(within(broken["queries"], [base[:30], base[30:]], np.float32(0), "ip", "cuda:all"))


def test_numbers_too_large_for_a_score(fake):
    huge = np.full((2, 32), 1e30, np.float32)
    with np.errstate(over="ignore"), pytest.raises(InputError, match="unit length"):
        knn(huge, [huge], 1, "ip", "cuda")


def test_arithmetic_in_reduced_precision_is_an_error(fake):
    fake.noise = 200
    with pytest.raises(EngineError, match="NVIDIA_TF32_OVERRIDE"):
        knn(*(DATA["unit"][0], [DATA["unit"][1]]), 5, "ip", "cuda")


def test_nothing_to_search(fake):
    empty = np.empty((0, 32), np.float32)
    for sides in ((empty, [DATA["unit"][1]]), (DATA["unit"][0], []), (DATA["unit"][0], [empty])):
        equal(knn(*sides, 3, "ip", "cuda"), knn(*sides, 3))
        assert list(within(*sides, np.float32(0), "ip", "cuda")) == []
    assert fake.calls == []


def test_options_are_refused_as_on_the_processor(fake):
    for options, message in (({"k": 0}, "k must be"), ({"k": 1, "metric": "cosine"}, "no metric 'cosine'")):
        with pytest.raises(InputError, match=message):
            knn(DATA["unit"][0], [DATA["unit"][1]], device="cuda", **options)


def test_parts_are_as_large_as_there_is_room(fake, monkeypatch):
    monkeypatch.setattr(gpu_searcher, "_PART_BYTES", 256 << 20)
    monkeypatch.setattr(gpu_searcher, "_LEAST_BYTES", 16 << 20)
    assert gpu_searcher.part_rows([Gpu(0, None)], 256) == 262_144
    assert gpu_searcher.part_rows([Gpu(0, 80 << 30), Gpu(1, 1 << 30)], 256) == 65_536
    assert gpu_searcher.part_rows([Gpu(0, 1)], 256) == 16_384
    assert gpu_searcher.part_rows([Gpu(0, None)], 10**9) == 1
    assert open_searcher("cuda").block_rows(256) == BlockRows(65_536, 262_144)
    assert open_searcher("cpu").block_rows(256) == BlockRows(16_384, 16_384)


# --- what users call


QUERIES, REFERENCES = near_ties(5, 60, 1200, 32)
LIMITS = [{"k": 3}, {"max_pairs": 700}, {"threshold": 0.3}, {"k": 30, "max_pairs": 90}, {}]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_search(fake, tmp_path, limits, metric):
    if metric == "l2" and "threshold" in limits:
        limits = {"threshold": -1.4}
    write_descriptors(tmp_path / "r.h5", named(REFERENCES))
    expected = search(named(QUERIES, "q"), named(REFERENCES), metric=metric, **limits)
    with open_descriptors(tmp_path / "r.h5") as references:
        found = search(named(QUERIES, "q"), references, metric=metric, device="cuda:0,1", **limits)
    assert found.query_ids == expected.query_ids
    assert found.reference_ids == expected.reference_ids
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(found) > 50
    assert fake.calls


def test_negatives(fake, tmp_path):
    plain = named(REFERENCES, "t")
    smoothed = smooth_negatives(plain)
    assert not fake.calls
    on_gpu = smooth_negatives(plain, device="cuda:all")
    assert {call[0] for call in fake.calls} == {0, 1, 2}
    smooth_to_file(plain, tmp_path / "negatives.h5", device="cuda:1")
    assert fake.calls[-1][0] == 1
    with open_descriptors(tmp_path / "negatives.h5") as stored:
        for found in (on_gpu.vectors, stored.vectors[:]):
            np.testing.assert_array_equal(found, smoothed.vectors)
        fake.calls.clear()
        normalize_to_file(named(QUERIES, "q"), stored, tmp_path / "q.h5", device="cuda:2")
    assert {call[0] for call in fake.calls} == {2}
    expected = subtract_negatives(named(QUERIES, "q"), smoothed, iterations=1)
    with open_descriptors(tmp_path / "q.h5") as found:
        np.testing.assert_array_equal(found.vectors[:], expected.vectors)
    fake.calls.clear()
    found = subtract_negatives(named(QUERIES, "q"), smoothed, device="cuda:2", iterations=2)
    assert {call[0] for call in fake.calls} == {2}
    np.testing.assert_array_equal(
        found.vectors, subtract_negatives(named(QUERIES, "q"), smoothed, iterations=2).vectors
    )
    sides = named(QUERIES, "q"), named(REFERENCES), plain
    fake.calls.clear()
    for found, expected in zip(normalize_scores(*sides, device="cuda"), normalize_scores(*sides), strict=True):
        np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert fake.calls


def test_the_command_line(fake, tmp_path, capsys):
    """Every verb that searches hands its device on, and writes the same bytes."""

    def run(*arguments):
        fake.calls.clear()
        assert main([str(argument) for argument in arguments]) == 0
        capsys.readouterr()
        return {call[0] for call in fake.calls}

    for name, rows in (("t", REFERENCES), ("q", QUERIES), ("r", REFERENCES[::2])):
        write_descriptors(tmp_path / f"{name}.h5", named(rows, name))
    for where, device, used in (("cpu", [], set()), ("gpu", ["--device", "cuda:0,2"], {0, 2})):
        folder = tmp_path / where
        folder.mkdir()
        assert run("negatives", tmp_path / "t.h5", "-o", folder / "n.h5", *device) == used
        for side in "qr":
            made = folder / f"{side}.h5"
            given = ["--negatives", folder / "n.h5", "-o", made, *device]
            assert run("normalize", tmp_path / f"{side}.h5", *given) == used
        score = [
            "--method",
            "score",
            "--role",
            "query",
            "--negatives",
            tmp_path / "t.h5",
            "-o",
            folder / "s.h5",
            *device,
        ]
        assert run("normalize", tmp_path / "q.h5", *score) == used
        assert run("search", folder / "q.h5", folder / "r.h5", "-o", folder / "m.csv", *device) == used
    for file in ("n.h5", "q.h5", "r.h5", "s.h5"):
        with open_descriptors(tmp_path / "cpu" / file) as left, open_descriptors(tmp_path / "gpu" / file) as right:
            np.testing.assert_array_equal(left.vectors[:], right.vectors[:])
    assert (tmp_path / "cpu" / "m.csv").read_bytes() == (tmp_path / "gpu" / "m.csv").read_bytes()
    assert main(["search", str(tmp_path / "q.h5"), str(tmp_path / "r.h5"), "-o", "m.csv", "--device", "cuda:7"]) == 1
    assert "error: cuda:7 names GPU 7, and faiss sees 3" in capsys.readouterr().err


def test_the_challenge(fake, tmp_path, photos):
    root = tmp_path / "disc"
    for name, some in (("query", photos[:3]), ("reference", photos[:9]), ("train", photos[10:25])):
        folder = root / f"{name}_images"
        folder.mkdir(parents=True)
        for photo in some:
            (folder / photo.name).symlink_to(photo)
    given = make_parser().parse_args(["challenge", "x", "--engine", "e", "-o", "o", "--search-device", "cuda:1"])
    engine = FakeEngine(dim=256)
    run_challenge(root, engine, tmp_path / "gpu", search_device=given.search_device)
    assert {call[0] for call in fake.calls} == {1}
    fake.calls.clear()
    run_challenge(root, engine, tmp_path / "cpu")
    assert not fake.calls
    for file in ("matches.csv", "steps.json"):
        assert (tmp_path / "gpu" / file).read_bytes() == (tmp_path / "cpu" / file).read_bytes()
    with pytest.raises(EngineError, match="names GPU 5"):
        run_challenge(root, engine, tmp_path / "new", search_device="cuda:5")
    assert not (tmp_path / "new").exists(), "before anything is described"


# --- jobs in order


def test_jobs_give_their_results_in_order_and_no_more_run_than_threads():
    running, most = [], []

    def job(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0.02 if number % 3 == 0 else 0.001)
        running.remove(number)
        return number

    jobs = (lambda number=number: job(number) for number in range(30))
    assert list(in_order(jobs, 4, first_alone=True)) == list(range(30))
    assert max(most) <= 4


def test_the_first_job_is_done_before_the_second_is_taken():
    done, taken = [], []

    def jobs():
        for number in range(4):
            taken.append(list(done))
            yield lambda number=number: time.sleep(0.02) or number

    for number in in_order(jobs(), 3, first_alone=True):
        done.append(number)
    assert taken[1] == [0]
    assert done == [0, 1, 2, 3]


# --- names of devices, and trying faiss out


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cuda", (0,)), ("cuda:1", (1,)), ("cuda:2,0", (2, 0)), ("cuda:0,cuda:1", (0, 1)), ("cuda:all", (0, 1, 2))],
)
def test_names_of_devices(text, expected):
    assert gpu_indices(text, 3) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "no device 'gpu'.*choose cpu, cuda"),
        ("cuda:", "no device"),
        ("cuda:-1", "no device"),
        ("cuda:0,,1", "no device"),
        ("cuda:0,all", "no device"),
        ("cuda:²", "no device"),
        ("cpu:0", "no device"),
        ("", "no device ''"),
        ("cuda:1,1", "names a GPU twice"),
        ("cuda:1,3", "names GPU 3, and faiss sees 3, counted from 0"),
    ],
)
def test_names_of_no_devices(text, message):
    with pytest.raises(EngineError, match=message):
        gpu_indices(text, 3)


def test_a_wrong_name_is_refused_before_anything_is_tried(monkeypatch):
    monkeypatch.setattr(gpu_probe, "_tried", lambda _device: pytest.fail("it was tried"))
    with pytest.raises(EngineError, match="no device 'gpu'"):
        search(named(QUERIES, "q"), named(REFERENCES), device="gpu")


def test_faiss_without_gpu_support_is_said_and_never_the_processor_used(monkeypatch):
    """The faiss that is really installed here."""
    import faiss

    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this faiss has GPU support")
    gpu_probe._tried.cache_clear()
    calls = (
        lambda: knn(QUERIES, [REFERENCES], 1, "ip", "cuda"),
        lambda: list(within(QUERIES, [REFERENCES], np.float32(0), "ip", "cuda:all")),
        lambda: search(named(QUERIES, "q"), named(REFERENCES), device="cuda:0,1"),
        lambda: smooth_negatives(named(REFERENCES), device="cuda"),
        lambda: subtract_negatives(named(QUERIES), named(REFERENCES), device="cuda"),
        lambda: try_gpus("cuda"),
    )
    for call in calls:
        with pytest.raises(
            EngineError, match=r"built without GPU support; run: pip uninstall -y faiss-cpu && pip install"
        ):
            call()


def test_doctor_says_whether_faiss_works_on_gpus(imitation):
    (trial,) = [trial for trial in all_trials() if trial.name == "faiss, GPU"]
    imitation.write_text(LIBRARY)
    found = run_trial(trial.function)
    assert found.state == WORKS
    assert re.fullmatch(r"faiss [\d.]+, neighbours found on 2 GPUs", found.detail)
    imitation.write_text(LIBRARY + "del made.StandardGpuResources")
    found = run_trial(trial.function)
    assert (found.state, found.detail) == (BROKEN, "this faiss is built without GPU support")
    assert found.repair == "pip uninstall -y faiss-cpu && pip install 'isc-fast[gpu]'"


def test_the_imitation_has_the_names_and_parameters_of_the_real_wrapper():
    wrappers = pytest.importorskip("faiss.gpu_wrappers")
    ours = inspect.signature(FakeFaiss().knn_gpu)
    theirs = inspect.signature(wrappers.knn_gpu)
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


@pytest.fixture
def imitation(tmp_path, monkeypatch):
    """Let another process import a faiss of our making: gives its folder's file, to be written to."""
    folder = tmp_path / "library"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(sys.modules, "faiss", FakeFaiss(gpus=2))  # of this process
    gpu_probe._tried.cache_clear()
    yield folder / "faiss.py"
    gpu_probe._tried.cache_clear()


# In the other process the folder of our `faiss` comes first; the real one is loaded from behind it.
LIBRARY = f"""
import os, sys, time
here = sys.path.pop(sys.path.index(os.path.dirname(__file__)))
del sys.modules["faiss"]
sys.path.insert(0, {str(TESTS)!r})
from fake_faiss_gpu import FakeFaiss
made = FakeFaiss(gpus=2)
sys.modules["faiss"] = made
"""


def test_trying_out_in_another_process(imitation):
    imitation.write_text(LIBRARY)
    assert [gpu.number for gpu in find_gpus("cuda:all")] == [0, 1]
    assert [gpu.number for gpu in find_gpus("cuda:1")] == [1]
    with pytest.raises(EngineError, match="names GPU 2, and faiss sees 2"):
        find_gpus("cuda:2")
    imitation.write_text("raise SystemExit('tried again')")
    assert find_gpus("cuda:1")[0].number == 1, "once for each name and process"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("made.knn_gpu = lambda *a, **b: os.abort()", r"ended the whole process \(SIGABRT\)"),
        (
            "made.knn_gpu = lambda *a, **b: (os.write(2, b'CUDA error 209 no kernel image\\n'), os.abort())",
            r"SIGABRT\): CUDA error 209 no kernel image",
        ),
        ("made.get_num_gpus = os.abort", r"ended the whole process \(SIGABRT\)"),
        ("made.gpus = 0", "faiss sees no GPU"),
        ("made.noise = 1e4", "other neighbours on GPU 0 than numpy"),
        ("made.knn_gpu = lambda *a, **b: time.sleep(600)", "gave no answer within 5 s"),
        ("raise ImportError('libcublas.so.13: cannot open')", "libcublas.so.13.*pip install --force-reinstall"),
    ],
)
def test_a_faiss_that_does_not_work_is_one_line(imitation, monkeypatch, code, message):
    if "sleep" in code:
        monkeypatch.setattr(gpu_probe, "TIMEOUT_S", 5)
    imitation.write_text(LIBRARY + code)
    with pytest.raises(EngineError, match=f"faiss does not work on cuda:0,1: .*{message}") as caught:
        search(named(QUERIES, "q"), named(REFERENCES), device="cuda:0,1")
    assert "\n" not in str(caught.value)


def test_tf32_is_noticed_when_trying_out(monkeypatch):
    """Rounded to 10 bits after the point, as tensor cores do where an environment asks for it."""

    def rounded(rows):
        return ((rows.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)

    made = FakeFaiss()
    exact = made._search
    made._search = lambda xq, xb, *rest: exact(rounded(xq), rounded(xb), *rest)
    monkeypatch.setitem(sys.modules, "faiss", made)
    with pytest.raises(EngineError, match="other neighbours on GPU 0 than numpy"):
        try_gpus("cuda")
    made._search = exact
    assert try_gpus("cuda") == (1, {0: None}) or isinstance(try_gpus("cuda")[1][0], int)


def test_wrong_rows_are_noticed_when_trying_out(monkeypatch):
    made = FakeFaiss()
    exact = made._search

    def shifted(*arguments):
        scores, indices = exact(*arguments)
        return scores, indices + 1

    made._search = shifted
    monkeypatch.setitem(sys.modules, "faiss", made)
    with pytest.raises(EngineError, match="other neighbours"):
        try_gpus("cuda")


def test_without_faiss_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"isc-fast\[gpu\]"):
        search(named(QUERIES, "q"), named(REFERENCES), device="cuda")
    monkeypatch.setitem(sys.modules, "faiss", FakeFaiss())
    for state, error in ((ABSENT, MissingExtraError), (BROKEN, EngineError)):
        monkeypatch.setattr(gpu_probe, "_tried", lambda _device, state=state: Answer(state, "faiss is not installed"))
        with pytest.raises(error, match="faiss is not installed; "):
            find_gpus("cuda")
