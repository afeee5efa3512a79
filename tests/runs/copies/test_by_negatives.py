"""`find --negatives`: one command gives the matches of `normalize` and `search`, by either method, and its own threshold."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
from helpers_search import DIM
from oracles import unit_rows

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import InputError
from isc_fast.evaluation.unrelated import Unrelated, among_negatives
from isc_fast.matching.pairs import search_tasks
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher

OURS = {"engine_id": "e1"}
QUERIES, REFERENCES, NEGATIVES = (unit_rows(seed, count, DIM) for seed, count in ((1, 30), (2, 90), (3, 300)))


@pytest.fixture
def files(tmp_path):
    """Queries, of which the first ten are noisy copies of references, references, and plain and smoothed negatives."""
    queries = QUERIES.copy()
    queries[:10] = REFERENCES[:10] + 0.6 * queries[:10]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for name, rows in (("q", queries), ("r", REFERENCES), ("n", NEGATIVES)):
        write_descriptors(
            tmp_path / f"{name}.h5", Descriptors(rows, [f"{name}{row}" for row in range(len(rows))], OURS)
        )
    assert main(["negatives", str(tmp_path / "n.h5"), "-o", str(tmp_path / "s.h5")]) == 0
    return {name: str(tmp_path / f"{name}.h5") for name in "qrns"}


def find(files, output, *more):
    return main(["find", files["q"], "--in", files["r"], "-o", str(output), *more])


def test_scores_are_lowered_by_the_mean_of_the_nearest_negatives(files, tmp_path):
    assert find(files, tmp_path / "out", "--negatives", files["n"], "--threshold", "-0.1", "-k", "90") == 0
    queries, references = (isc_fast.read_descriptors(files[name]).vectors for name in "qr")
    expected = {}
    for row, query in enumerate(queries):
        nearest = sorted((float(query @ negative) for negative in NEGATIVES), reverse=True)[:3]
        for column, reference in enumerate(references):
            score = float(query @ reference) - sum(nearest) / 3
            if score >= -0.1:
                expected[f"q{row}", f"r{column}"] = score
    found = {
        (query, reference): score for query, reference, score in isc_fast.read_matches(tmp_path / "out/matches.csv")
    }
    assert found.keys() == expected.keys()
    assert len(found) > 20
    np.testing.assert_allclose([found[pair] for pair in found], [expected[pair] for pair in found], atol=1e-5)


@pytest.mark.parametrize("workers", [(), ("--search-workers", "2")], ids=["here", "by workers"])
@pytest.mark.parametrize("method", ["score", "nes"])
def test_the_matches_of_two_calls_and_a_search(files, tmp_path, method, workers):
    limits = ["-k", "4", "--threshold", "-0.2"]
    role = {"q": ["--role", "query"], "r": ["--role", "reference"]} if method == "score" else {"q": [], "r": []}
    for name in "qr":
        against = [] if role[name] == ["--role", "reference"] else ["--negatives", files["n"]]
        command = [
            "normalize",
            files[name],
            "--method",
            method,
            *role[name],
            *against,
            "-o",
            str(tmp_path / f"{name}2"),
        ]
        assert main(command) == 0
    assert main(["search", str(tmp_path / "q2"), str(tmp_path / "r2"), *limits, "-o", str(tmp_path / "m.csv")]) == 0
    assert find(files, tmp_path / "out", "--negatives", files["n"], "--method", method, *limits, *workers) == 0
    assert (tmp_path / "out" / "matches.csv").read_bytes() == (tmp_path / "m.csv").read_bytes()


def test_the_method_follows_the_negatives(files, tmp_path, capsys):
    for negatives, method in (("n", "score"), ("s", "nes")):
        given = ["--negatives", files[negatives], "--threshold", "0.2"]
        assert find(files, tmp_path / method, *given) == 0
        assert f"normalised by {method}\n" in capsys.readouterr().out
        assert find(files, tmp_path / f"{method}-said", *given, "--method", method, "--json") == 0
        assert json.loads(capsys.readouterr().out)["method"] == method
        one, other = (tmp_path / name / "matches.csv" for name in (method, f"{method}-said"))
        assert one.read_bytes() == other.read_bytes()
    assert find(files, tmp_path / "plain", "--threshold", "0.2", "--json") == 0
    assert "method" not in json.loads(capsys.readouterr().out)


def test_the_negatives_tell_the_threshold(files, tmp_path, capsys):
    expected = Unrelated.of(isc_fast.read_descriptors(files["n"]), CpuSearcher()).threshold(120, 2700)
    assert 0.05 < expected < 0.5
    for more in ([], ["--search-workers", "2"]):
        assert find(files, tmp_path / "out", "--negatives", files["n"], *more) == 0
        printed = capsys.readouterr().out
        assert (
            f"threshold {expected:g}: at most 1 wrong pair expected among 2700 pairs, if their photos are as" in printed
        )
        found = isc_fast.read_matches(tmp_path / "out" / "matches.csv")
        assert min(found.scores) >= expected
        right = {(f"q{row}", f"r{row}") for row in range(10)}
        pairs = {(query, reference) for query, reference, _ in found}
        assert len(pairs & right) >= 9
        assert len(pairs - right) <= 2


def _note(seen, _step):
    return lambda done, *_: seen.append(done)


def test_another_method_is_another_job(files, tmp_path, monkeypatch):
    """What an interrupted run has computed is taken by the same run again, and by none with another method."""
    monkeypatch.setattr(search_tasks, "QUERY_ROWS", 10)
    out, parts = tmp_path / "out", tmp_path / "out" / "pairs.parts"

    def interrupt(done, *_):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isc_fast.find_copies(
            files["q"],
            files["r"],
            out,
            negatives=files["n"],
            threshold=0.1,
            search_workers=1,
            progress=lambda _: interrupt,
        )
    (begun,) = parts.iterdir()
    done = {path.name for path in begun.glob("*.pairs")}
    assert done
    shutil.copytree(out, tmp_path / "again")
    for method, folder in (("nes", out), ("score", tmp_path / "again")):
        options = {"negatives": files["n"], "method": method, "threshold": 0.1}
        alone = isc_fast.find_copies(files["q"], files["r"], tmp_path / method, **options)
        computed: list[int] = []
        tell = partial(_note, computed)
        made = isc_fast.find_copies(files["q"], files["r"], folder, search_workers=1, progress=tell, **options)
        assert made.matches.read_bytes() == alone.matches.read_bytes()
        assert (computed[0] > 0) == (method == "score"), "it begins with what is there"
        assert not (folder / "pairs.parts").exists()


REFUSED = {
    "smoothed": (
        ["--negatives", "s", "--method", "score"],
        "these negatives are smoothed; score normalisation takes plain",
    ),
    "normalised": (
        ["--negatives", "x"],
        "negatives must be plain or smoothed descriptors, and these are normalised already",
    ),
    "another engine": (["--negatives", "e", "--threshold", "0.2"], "the negatives were made by another engine"),
    "fewer than k": (
        ["--negatives", "two", "--threshold", "0.2"],
        "takes the 3 nearest negatives of each query, and there are 2",
    ),
    "none": (["--negatives", "none", "--method", "nes"], "there are no negatives"),
    "too few for a threshold": (["--negatives", "few"], "50 negatives are too few to tell a threshold by"),
    "subtracted, no threshold": (
        ["--negatives", "s"],
        "default threshold does not hold with negatives that are subtracted",
    ),
    "no matches": (["--negatives", "n", "-k", "0"], "k must be at least 1, not 0"),
    "no negatives": (["--method", "score"], "the method says what becomes of negatives; give them: --negatives FILE"),
    "an array of jobs": (
        ["--negatives", "n", "--num-shards", "2", "--shard-index", "0"],
        "isc-fast normalize QUERIES --method score --role query --negatives FILE -o parts/",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(files, tmp_path, capsys, case):
    for name, count, meta in (
        ("x", 300, {**OURS, "normalization": {"method": "nes", "k": 10}}),
        ("e", 300, {"engine_id": "e2", "engine": {"name": "other"}}),
        ("two", 2, OURS),
        ("few", 50, OURS),
        ("none", 0, OURS),
    ):
        files[name] = str(tmp_path / f"{name}.h5")
        write_descriptors(files[name], Descriptors(NEGATIVES[:count], [f"n{row}" for row in range(count)], meta))
    flags, words = REFUSED[case]
    capsys.readouterr()
    assert find(files, tmp_path / "out", *(files.get(flag, flag) for flag in flags)) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert (said.err.count("\n"), said.out) == (1, "")


def test_there_is_no_such_method(files, tmp_path):
    with pytest.raises(InputError, match="no method 'whiten'; choose one of nes, score"):
        isc_fast.find_copies(files["q"], files["r"], tmp_path / "out", negatives=files["n"], method="whiten")


def test_photos_in_views_with_verdicts_and_pixels(tmp_path, photos):
    """All that `find` does with scores it does with normalised ones: each view is a query, and aligned pairs rise by 1."""
    pytest.importorskip("cv2")
    folders = {"q": photos[:3], "r": photos[:6], "t": photos[20:50]}
    for name, some in folders.items():
        (tmp_path / name).mkdir()
        for photo in some:
            (tmp_path / name / photo.name).symlink_to(photo)
    isc_fast.extract(tmp_path / "t", isc_fast.load_engine("demo"), tmp_path / "t.h5")
    options = {"negatives": tmp_path / "t.h5", "threshold": 0.3}
    made = isc_fast.find_copies(tmp_path / "q", tmp_path / "r", tmp_path / "out", views="5", **options)
    assert made.method == "score"
    assert {(query, reference) for query, reference, _ in isc_fast.read_matches(made.matches)} >= {
        (photo.stem, photo.stem) for photo in photos[:3]
    }
    plain = [isc_fast.read_descriptors(tmp_path / "out" / f"{name}.h5") for name in ("queries-views-5", "references")]
    sides = isc_fast.normalize_scores(*plain, isc_fast.read_descriptors(tmp_path / "t.h5"))
    expected = isc_fast.search(*sides, k=10, threshold=0.3)
    found = isc_fast.read_matches(made.matches)
    assert [*found] == [(query, reference, pytest.approx(score, abs=1e-6)) for query, reference, score in expected]
    judged = tmp_path / "judged.csv"
    judged.write_text(f"query_id,reference_id,verdict\n{photos[0].stem},{photos[0].stem},wrong\n")
    aligned = isc_fast.find_copies(
        tmp_path / "q", tmp_path / "r", tmp_path / "out", align=True, verdicts=judged, **options
    )
    scores = {(query, reference): score for query, reference, score in isc_fast.read_matches(aligned.matches)}
    assert (photos[0].stem, photos[0].stem) not in scores
    assert aligned.aligned == 2
    assert all(1 < scores[photo.stem, photo.stem] < 2 for photo in photos[1:3])


def overlapping(files, tmp_path, count):
    """Negatives of which so many are references."""
    rows = np.concatenate([NEGATIVES, REFERENCES[:count]])
    path = tmp_path / f"with{count}.h5"
    write_descriptors(path, Descriptors(rows, [f"n{row}" for row in range(len(rows))], OURS))
    return str(path)


@pytest.mark.parametrize("method", ["score", "nes"])
def test_references_among_the_negatives_are_said(files, tmp_path, capsys, method):
    """Copies of such a reference are lowered by the reference itself."""
    options = ["--method", method, "--threshold", "0.3", "--negatives"]
    assert find(files, tmp_path / "out", *options, overlapping(files, tmp_path, 12)) == 0
    said = (
        "of the 90 references, 12 are negatives too, or copies of one, such as r0, r1, r2; copies of these references"
    )
    assert said in capsys.readouterr().err
    assert find(files, tmp_path / "out", *options, overlapping(files, tmp_path, 2)) == 0
    assert "negatives too" not in capsys.readouterr().err
    assert find(files, tmp_path / "other", *options, overlapping(files, tmp_path, 60)) == 1
    assert "of the 90 references, 60 are negatives too" in capsys.readouterr().err
    assert find(files, tmp_path / "third", *options, files["r"]) == 1
    assert "negatives are photos that match nothing, so give others" in capsys.readouterr().err


def test_of_many_references_a_sample_tells():
    rows = unit_rows(4, 5000, DIM)
    references = Descriptors(rows, [f"r{row}" for row in range(5000)], OURS)
    negatives = Descriptors(np.concatenate([NEGATIVES, rows[::4]]), [f"n{row}" for row in range(1550)], OURS)
    found, looked_at = among_negatives(references, negatives, 0.9999, CpuSearcher())
    assert looked_at == 1024
    assert 150 < len(found) < 350
    assert (found % 4 == 0).all(), "every fourth reference is a negative"
    strangers = Descriptors(NEGATIVES, negatives.ids[:300], OURS)
    assert len(among_negatives(references, strangers, 0.9999, CpuSearcher())[0]) == 0


def test_smoothed_negatives_are_like_no_single_photo(files, tmp_path, capsys):
    """The mean of ten rows is near to each of them, and says nothing of one."""
    rows = np.repeat(unit_rows(9, 30, DIM), 10, axis=0) + 0.1 * unit_rows(8, 300, DIM)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for name, some in (("kinds", rows[::2]), ("refs", rows[1::2])):
        ids = [f"{name}{row}" for row in range(len(some))]
        write_descriptors(tmp_path / f"{name}.h5", Descriptors(some, ids, OURS))
    assert main(["negatives", str(tmp_path / "kinds.h5"), "-k", "5", "-o", str(tmp_path / "smooth.h5")]) == 0
    command = ["find", files["q"], "--in", str(tmp_path / "refs.h5"), "-o", str(tmp_path / "out")]
    assert main([*command, "--negatives", str(tmp_path / "smooth.h5"), "--threshold", "0.3"]) == 0
    assert "negatives too" not in capsys.readouterr().err
