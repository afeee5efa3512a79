from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes import FakeEngine
from PIL import Image

import isc_fast
from isc_fast.errors import InputError, MismatchError, OutputError
from isc_fast.runs.challenge import run_challenge
from isc_fast.runs.checks.validate import check_matches, check_submission


@pytest.fixture
def disc(tmp_path, photos):
    """A tree like DISC21: 12 references, 8 queries of which 5 are mirror copies, 20 training images."""
    root = tmp_path / "disc"
    names = {
        "query_images": "Q{:05}",
        "query_images_phase2": "Q{:05}",
        "reference_images": "R{:06}",
        "train_images": "T{:06}",
    }
    for name in names:
        (root / name).mkdir(parents=True)
    truth = ["query_id,reference_id"]
    for i in range(12):
        shutil.copy(photos[i], root / "reference_images" / f"R{i:06}.jpg")
    for phase, folder in enumerate(("query_images", "query_images_phase2")):
        for i in range(8):
            source = photos[i + phase] if i < 5 else photos[12 + i]
            query = f"Q{50_000 * phase + i:05}"
            Image.open(source).convert("L").save(root / folder / f"{query}.jpg")
            if phase == 0:
                truth.append(f"{query},{f'R{i:06}' if i < 5 else ''}")
    for i in range(20):
        shutil.copy(photos[30 + i], root / "train_images" / f"T{i:06}.jpg")
    (root / "public_ground_truth.csv").write_text("\n".join(truth) + "\n")
    return root


def test_the_whole_run(tmp_path, disc):
    out = tmp_path / "out"
    result = run_challenge(disc, "demo", out, method="nes")
    assert result.counts == {"query": 8, "query_phase2": 8, "reference": 12, "train": 20}
    assert result.problems == []
    assert result.normalized
    assert set(result.phases) == {"q", "p"}
    evaluation = result.phases["q"].evaluation
    assert evaluation is not None
    assert evaluation["kit"].micro_ap > 0.9
    assert result.phases["p"].evaluation is None, "there is no truth for phase 2"
    assert (
        json.loads((out / "evaluation.json").read_text())["protocols"]["kit"]["micro_ap"] == evaluation["kit"].micro_ap
    )
    assert "both keep the challenge's rules" in str(result)

    with h5py.File(out / "submission.h5") as file:
        assert set(file) == {"query", "query_ids", "reference", "reference_ids"}
        assert file["query"].dtype == np.float32
        assert file["query_ids"].dtype == np.dtype("S6")
        assert file["reference_ids"].dtype == np.dtype("S7")
        assert list(file["query_ids"][:2]) == [b"Q00000", b"Q00001"]
        query, reference = file["query"][:], file["reference"][:]
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, atol=1e-5)

    # The rows are NES of the extracted ones, written down again.
    train, plain = (isc_fast.read_descriptors(out / f"{name}.h5").vectors for name in ("train", "query"))
    top = np.argsort(-(train @ train.T), axis=1)[:, :10]
    weights = np.take_along_axis(train @ train.T, top, 1) ** 3
    smooth = (weights[..., None] * train[top]).sum(1)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True)
    nearest = np.argsort(-(plain @ smooth.T), axis=1)[:, :10]
    expected = plain - 0.35 * smooth[nearest].mean(1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(query, expected, atol=1e-5)

    # The CSV's score is minus the squared distance of these rows.
    matches = isc_fast.read_matches(out / "matches.csv")
    rows = {f"Q{i:05}": query[i] for i in range(8)} | {f"R{i:06}": reference[i] for i in range(12)}
    distances = [-((rows[q] - rows[r]) ** 2).sum() for q, r, _ in matches]
    np.testing.assert_allclose(matches.scores, distances, atol=2e-6)
    assert len(matches) == 80


def test_the_matching_track_has_normalised_scores(tmp_path, disc):
    """By default; the descriptor track's file has the same bytes by either method, since its rows are vectors of 256 numbers."""
    out = tmp_path / "out"
    result = run_challenge(disc, "demo", out, sets="qrt")
    assert (result.method, result.problems) == ("score", [])
    assert "the matching track's scores are lowered by what each query scores among them" in str(result)
    query, reference, train = (
        isc_fast.read_descriptors(out / f"{name}.h5") for name in ("query", "reference", "train")
    )
    expected = {}
    for row, id_ in zip(query.vectors, query.ids, strict=True):
        nearest = np.sort(train.vectors @ row)[-3:]
        scores = reference.vectors @ row - nearest.mean()
        expected |= {(id_, reference.ids[place]): scores[place] for place in np.argsort(-scores)[:10]}
    found = {(one, other): score for one, other, score in isc_fast.read_matches(out / "matches.csv")}
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[pair] for pair in found], [expected[pair] for pair in found], atol=1e-5)
    written = {name: (out / name).read_bytes() for name in ("submission.h5", "labelled.csv")}
    again = run_challenge(disc, "demo", out, sets="qrt", method="nes")
    assert {name: (out / name).read_bytes() for name in written} == written
    assert again.phases["q"].descriptor_track == result.phases["q"].descriptor_track
    assert max(isc_fast.read_matches(out / "matches.csv").scores) <= 0, "minus squared distances"
    assert "lowered" not in str(again)


def test_a_method_needs_training_images(tmp_path, disc):
    with pytest.raises(InputError, match="the method 'score' needs training images, which are the negatives"):
        run_challenge(disc, FakeEngine(dim=64), tmp_path / "out", sets="qr", method="score")
    with pytest.raises(InputError, match="no method 'whiten'"):
        run_challenge(disc, FakeEngine(dim=64), tmp_path / "out", method="whiten")
    assert not (tmp_path / "out").exists()
    assert run_challenge(disc, FakeEngine(dim=64), tmp_path / "out", sets="qr").method is None


def test_both_tracks_are_scored(tmp_path, disc):
    """The descriptor track's pairs come from one search of all labelled queries, the matching track's from one for each."""
    (disc / "query_images" / "Q00007.jpg").rename(disc / "query_images" / "Q99999.jpg")  # a query that nobody labelled
    truth = disc / "public_ground_truth.csv"
    truth.write_text(truth.read_text().replace("Q00007,\n", ""))
    for i in range(12, 30):
        shutil.copy(disc / "reference_images" / "R000000.jpg", disc / "reference_images" / f"R{i:06}.jpg")
    result = run_challenge(disc, "demo", tmp_path / "out", sets="qrt").phases["q"]
    assert result.evaluation is not None
    assert result.descriptor_track is not None
    pairs = isc_fast.read_matches(tmp_path / "out" / "labelled.csv")
    assert len(pairs) == 70
    query, reference = (
        isc_fast.read_descriptors(tmp_path / "out" / "submission.h5", which=side) for side in ("query", "reference")
    )
    scores = query.vectors[:7] @ reference.vectors.T
    best = np.sort(scores.ravel())[::-1][:70]
    np.testing.assert_allclose(pairs.scores, 2 * best - 2, atol=2e-6)
    expected = isc_fast.evaluate(pairs, isc_fast.read_truth(truth))["official"]
    assert result.descriptor_track == expected
    assert result.descriptor_track.micro_ap != result.evaluation["official"].micro_ap
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["descriptor_track"]["micro_ap"] == expected.micro_ap
    text = str(run_challenge(disc, "demo", tmp_path / "out", sets="qrt"))
    assert f"descriptor  {expected.micro_ap:>6.4f}" in text
    assert "the rows above score the matching track's file" in text


def test_the_download_s_own_layout_gives_the_same(tmp_path, disc):
    engine, limit = FakeEngine(dim=64), 6
    run_challenge(disc, engine, tmp_path / "one", limit=limit)
    (disc / "references_1").mkdir()
    for number in (1, 4):
        name = f"R{number:06}.jpg"
        shutil.move(disc / "reference_images" / name, disc / "references_1" / name)
    for name, other in (
        ("query_images", "dev_queries"),
        ("query_images_phase2", "final_queries"),
        ("reference_images", "references_0"),
        ("train_images", "train"),
        ("public_ground_truth.csv", "dev_queries_groundtruth.csv"),
    ):
        (disc / name).rename(disc / other)
    result = run_challenge(disc, engine, tmp_path / "two", limit=limit)
    assert result.counts == {"query": 6, "query_phase2": 6, "reference": 6, "train": 6}
    assert result.phases["q"].evaluation is not None
    ids = isc_fast.read_descriptors(tmp_path / "two" / "submission.h5", which="reference").ids
    assert list(ids) == ["R000000", "R000002", "R000003", "R000005", "R000006", "R000007"], "the first six by path"


def test_queries_in_views_are_for_the_matching_track(tmp_path, disc):
    """The descriptor track allows one row of a query: its file is that of a run without views."""
    out, plain = tmp_path / "out", tmp_path / "plain"
    result = run_challenge(disc, "demo", out, sets="qrt", views="5,mirror", method="nes")
    run_challenge(disc, "demo", plain, sets="qrt", method="nes")
    assert result.problems == []
    views = [
        isc_fast.read_descriptors(out / name).views for name in ("query.h5", "query-normalized.h5", "reference.h5")
    ]
    assert [len(names) for names in views] == [10, 10, 1]
    one, other = (isc_fast.read_descriptors(folder / "submission.h5", which="query") for folder in (out, plain))
    assert list(one.ids) == list(other.ids)
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)
    track, alone = (isc_fast.read_matches(folder / "matches.csv") for folder in (out, plain))
    sides = [isc_fast.read_descriptors(out / f"{name}-normalized.h5") for name in ("query", "reference")]
    expected = isc_fast.search(*sides, k=10, max_pairs=500_000, metric="l2")
    assert {(q, r): s for q, r, s in track} == {(q, r): s for q, r, s in expected}
    assert track.scores.max() > alone.scores.max() or (track.scores.mean() > alone.scores.mean())
    with pytest.raises(MismatchError, match="with --views 5,mirror, not whole"):
        run_challenge(disc, "demo", out, sets="qrt")


def test_every_step_resumes(tmp_path, disc):
    out = tmp_path / "out"
    engine = FakeEngine(dim=64)
    run_challenge(disc, engine, out)
    calls = len(engine.calls)
    before = {name: (out / name).stat().st_mtime_ns for name in os.listdir(out) if name.endswith((".h5", ".csv"))}
    run_challenge(disc, engine, out)
    after = {name: (out / name).stat().st_mtime_ns for name in before}
    assert len(engine.calls) == calls, "nothing is described twice"
    assert before == after, "nothing is written twice"
    (out / "negatives.h5").unlink()
    (out / "query-normalized.h5").unlink()
    bytes_before = (out / "submission.h5").read_bytes()
    run_challenge(disc, engine, out)
    assert (out / "query-normalized.h5").exists()
    assert (out / "submission.h5").read_bytes() == bytes_before


@pytest.mark.parametrize("theirs", ["matches.csv", "notes.txt", "submission.h5"])
def test_a_folder_of_somebody_is_left_as_it_is(tmp_path, disc, theirs):
    out = tmp_path / "out"
    out.mkdir()
    (out / theirs).write_text("mine")
    with pytest.raises(OutputError, match=f"holds '{theirs}', and isc-fast challenge writes only to a folder of its"):
        run_challenge(disc, FakeEngine(dim=64), out, sets="qr")
    assert [path.name for path in out.iterdir()] == [theirs]


def test_another_engine_needs_a_word_and_then_replaces_everything(tmp_path, disc):
    out = tmp_path / "out"
    run_challenge(disc, FakeEngine(dim=64), out)
    submission = (out / "submission.h5").read_bytes()
    with pytest.raises(MismatchError, match="by another engine"):
        run_challenge(disc, FakeEngine(dim=64, seed=1), out)
    run_challenge(disc, FakeEngine(dim=64, seed=1), out, overwrite=True)
    assert (out / "submission.h5").read_bytes() != submission


def test_subsets_and_dry_runs(tmp_path, disc):
    engine = FakeEngine(dim=64)
    only = run_challenge(disc, engine, tmp_path / "q", sets="q")
    assert (only.counts, only.phases) == ({"query": 8}, {})
    dry = run_challenge(disc, engine, tmp_path / "dry", sets="qrt", limit=4)
    assert dry.counts == {"query": 4, "reference": 4, "train": 4}
    assert dry.problems == []
    (tmp_path / "subset.txt").write_text("R000003\nR000001.jpg\n\nR000002\n")
    part = run_challenge(disc, engine, tmp_path / "part", sets="qr", reference_subset=tmp_path / "subset.txt")
    assert part.counts["reference"] == 3
    assert not part.normalized
    assert "without normalisation" in str(part)
    (tmp_path / "wrong.txt").write_text("R000001\nR999999\n")
    with pytest.raises(InputError, match=r"1 of the 2 ids .* are not in"):
        run_challenge(disc, engine, tmp_path / "part", reference_subset=tmp_path / "wrong.txt")
    with pytest.raises(InputError, match="no set 'x'"):
        run_challenge(disc, engine, tmp_path / "x", sets="qx")
    shutil.rmtree(disc / "train_images")
    with pytest.raises(InputError, match="has no folder training_images or train_images"):
        run_challenge(disc, engine, tmp_path / "x", sets="qrt")


def test_a_bad_image_breaks_a_rule_and_not_the_run(tmp_path, disc):
    (disc / "query_images" / "Q00003.jpg").write_bytes(b"")
    result = run_challenge(disc, FakeEngine(dim=64), tmp_path / "out", sets="qr")
    assert result.failures == {"query": 1, "reference": 0}
    assert result.problems == ["query: 1 of 8 images have no descriptor: Q00003"]


def test_a_mended_image_reaches_the_submission(tmp_path, disc, photos):
    victim = disc / "query_images" / "Q00003.jpg"
    good = victim.read_bytes()
    victim.write_bytes(b"")
    out = tmp_path / "out"
    assert run_challenge(disc, FakeEngine(dim=64), out, sets="qrt").problems
    assert run_challenge(disc, FakeEngine(dim=64), out, sets="qrt").problems, "its file is as it was"
    victim.write_bytes(good)
    again = run_challenge(disc, FakeEngine(dim=64), out, sets="qrt")
    assert again.problems == []
    assert again.failures["query"] == 0
    assert "Q00003" in isc_fast.read_descriptors(out / "submission.h5", which="query").ids
    assert "Q00003" in isc_fast.read_matches(out / "matches.csv").query_ids


def test_a_dry_run_is_scored_on_its_own_images(tmp_path, disc):
    dry = run_challenge(disc, "demo", tmp_path / "dry", sets="qr", limit=3).phases["q"]
    assert dry.evaluation is not None
    assert dry.evaluation["kit"].positives == 3
    assert dry.evaluation["kit"].micro_ap > 0.9
    assert "only 3 of the 5 true pairs in public_ground_truth.csv" in str(dry.note)


def test_one_truth_for_two_phases_scores_the_one_it_is_of(tmp_path, disc):
    truth = disc / "public_ground_truth.csv"
    result = run_challenge(disc, FakeEngine(dim=64), tmp_path / "out", ground_truth=truth)
    assert result.phases["q"].evaluation is not None
    assert result.phases["p"].evaluation is None


def test_which_truth(tmp_path, disc):
    engine = FakeEngine(dim=64)
    shutil.copy(disc / "public_ground_truth.csv", disc / "dev_truth.csv")
    with pytest.raises(InputError, match="several files could be the ground truth"):
        run_challenge(disc, engine, tmp_path / "out", sets="qr")
    chosen = run_challenge(disc, engine, tmp_path / "out", sets="qr", ground_truth=disc / "dev_truth.csv")
    assert chosen.phases["q"].evaluation is not None


def test_the_rules(tmp_path):
    path = tmp_path / "s.h5"

    def problems(query, query_ids, reference=None, reference_ids=(b"R1",)):
        with h5py.File(path, "w") as file:
            file["query"], file["query_ids"] = query, np.array(query_ids)
            file["reference"] = np.zeros((1, query.shape[1]), np.float32) if reference is None else reference
            file["reference_ids"] = np.array(reference_ids)
        return check_submission(path, query_ids=["Q1", "Q2"], reference_ids=["R1"])

    good = np.zeros((2, 4), np.float32)
    assert problems(good, [b"Q1", b"Q2"]) == []
    assert problems(good, [b"Q2", b"Q1"]) == ["query: the rows are not sorted by id"]
    assert problems(good, [b"Q1", b"Q3"]) == [
        "query: 1 of 2 images have no descriptor: Q2",
        "query: 1 ids are no images of the data set: Q3",
    ]
    assert problems(good.astype(np.float64), [b"Q1", b"Q2"]) == ["query: float64 (2, 4); expected float32 (n, d)"]
    assert problems(np.full((2, 4), np.nan, np.float32), [b"Q1", b"Q2"])[0].startswith("query: descriptors from row 0")
    assert "300 dimensions; at most 256" in problems(np.zeros((2, 300), np.float32), [b"Q1", b"Q2"])[0]
    assert problems(good, [b"Q1", b"Q1"])[0] == "query: 1 ids occur more than once"
    assert problems(good, [b"Q1", b"Q2"], np.zeros((1, 5), np.float32)) == [
        "queries have 4 dimensions and references 5"
    ]

    csv = Path(tmp_path / "m.csv")
    csv.write_text("query_id,reference_id,score\nQ1,R1,-0.5\nQ1,R1,-0.6\nQ9,R1,-inf\n")
    found = check_matches(csv, query_ids=["Q1"], reference_ids=["R1"])
    assert [problem.partition(": ")[2] for problem in found] == [
        "a pair stands there more than once",
        "1 query ids are no images of the set: Q9",
        "a score is not finite",
    ]
