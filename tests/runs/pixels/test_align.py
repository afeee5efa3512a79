"""Alignments: copies are found in their originals, where they are; other photos are not; matches are ranked anew."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageOps

import isc_fast
from isc_fast import Matches
from isc_fast.cli.main import main
from isc_fast.errors import InputError, MissingExtraError, OutputError
from isc_fast.evaluation.edits.held_out import HELD_OUT_EDITS
from isc_fast.progress import what_is_kept
from isc_fast.review.alignment import FEWEST_INLIERS, Features, align, align_either, find_features
from isc_fast.review.evidence import draw_evidence
from isc_fast.runs.pixels import align as module
from isc_fast.runs.pixels.align import align_matches, align_photos

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def images(photos):
    opened = []
    for path in photos[:8]:
        with Image.open(path) as image:
            opened.append(image.convert("RGB"))
    return opened


def both(image):
    return find_features(image), find_features(image, mirrored=True)


def test_a_crop_lies_where_it_was_cut(images):
    for image in images:
        width, height = image.size
        box = round(0.2 * width), round(0.3 * height), round(0.8 * width), round(0.9 * height)
        found = align(find_features(image.crop(box).resize((500, 400))), find_features(image))
        assert found is not None
        corners = [(0.2, 0.3), (0.8, 0.3), (0.8, 0.9), (0.2, 0.9)]
        assert np.abs(found.outline() - corners).max() < 0.02
        assert found.inliers >= FEWEST_INLIERS
        inside = found.reference_points
        assert (inside > np.array([0.18, 0.28])).all()
        assert (inside < np.array([0.82, 0.92])).all()


def test_a_mirrored_photo_is_found_in_its_mirror_image_alone(images):
    mirrored = ImageOps.mirror(images[0])
    assert align(find_features(mirrored), find_features(images[0])) is None
    found = align_either(both(mirrored), find_features(images[0]))
    assert found is not None
    assert found.mirrored
    assert np.abs(found.query_points[:, 0] - (1 - found.reference_points[:, 0])).max() < 0.02


def test_other_photos_do_not_align(images):
    features = [both(image) for image in images]
    for number, query in enumerate(features):
        for other, reference in enumerate(features):
            assert (align_either(query, reference[0]) is not None) == (number == other)


@pytest.mark.parametrize("kind", ["collage4", "overlay", "off_screen", "lens", "meme", "stretch"])
def test_edits_that_hide_a_photo_from_a_network(images, kind):
    copy = HELD_OUT_EDITS[kind](images[1], images[4:7], Random(3))
    assert align_either(both(copy), find_features(images[1])) is not None
    assert align_either(both(copy), find_features(images[2])) is None


def test_pictures_without_detail_give_no_alignment(images):
    plain = Image.new("RGB", (300, 200), "red")
    for query, reference in ((plain, images[0]), (images[0], plain), (plain, plain)):
        assert align_either(both(query), find_features(reference)) is None
    tiny = images[0].resize((1, 1))
    assert align_either(both(tiny), find_features(tiny)) is None


def test_points_at_one_place_are_one_piece_of_evidence():
    """A pattern that repeats at one spot, or two photos that share a small logo, are no copies."""
    rng = np.random.default_rng(0)
    vectors = np.abs(rng.standard_normal((60, 128))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    apart = rng.uniform(20, 280, (60, 2)).astype(np.float32)
    assert align(Features(apart, vectors, (300, 300)), Features(apart, vectors, (300, 300))) is not None
    speck = (150 + apart / 100).astype(np.float32)
    assert align(Features(speck, vectors, (300, 300)), Features(speck, vectors, (300, 300))) is None


def test_the_drawing_shows_the_outline(images):
    copy = HELD_OUT_EDITS["overlay"](images[1], images[4:7], Random(3))
    found = align_either(both(images[1]), find_features(copy))
    sheet = draw_evidence(images[1], copy, found)
    assert sheet.height == 420
    green = (np.asarray(sheet) == (16, 185, 129)).all(axis=2)
    columns = np.flatnonzero(green.any(axis=0))
    assert len(columns) > 100
    assert columns.min() > sheet.width * 0.25  # in the second picture, not in the first


@pytest.fixture
def sides(tmp_path, photos, images):
    for name in ("queries", "references"):
        (tmp_path / name).mkdir()
    for photo in photos[:5]:
        (tmp_path / "references" / photo.name).symlink_to(photo)
    for number in (0, 1):
        copy = HELD_OUT_EDITS["collage4"](images[number], images[5:8], Random(number))
        copy.save(tmp_path / "queries" / f"copy{number}.jpg", quality=90)
    (tmp_path / "queries" / "broken.jpg").write_bytes(b"no photo")
    names = [photo.stem for photo in photos[:5]]
    pairs = [("copy0", 3, 0.8), ("copy0", 0, 0.2), ("copy1", 1, 0.5), ("copy1", 2, 0.9), ("broken", 1, 0.3)]
    return Matches(
        [q for q, _, _ in pairs], [names[r] for _, r, _ in pairs], np.array([s for *_, s in pairs], np.float32)
    )


def test_matches_that_align_stand_first(tmp_path, sides, photos):
    names = [photo.stem for photo in photos[:5]]
    inputs = str(tmp_path / "queries"), str(tmp_path / "references")
    found = align_matches(
        sides, *inputs, tmp_path / "a.csv", evidence=tmp_path / "e.jsonl", pictures=tmp_path / "pictures"
    )
    ranked = [
        (query, reference, round(score, 3)) for query, reference, score in isc_fast.read_matches(tmp_path / "a.csv")
    ]
    assert ranked == [
        ("copy1", names[1], 1.5),
        ("copy0", names[0], 1.2),
        ("copy1", names[2], 0.9),
        ("copy0", names[3], 0.8),
        ("broken", names[1], 0.3),
    ]
    assert set(found.alignments) == {("copy1", names[1]), ("copy0", names[0])}
    assert (found.looked_at, list(found.unread)) == (5, ["broken"])
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [(line["query_id"], line["reference_id"], round(line["score"], 3)) for line in lines] == [
        ("copy1", names[1], 0.5),
        ("copy0", names[0], 0.2),
    ]
    assert all(len(line["outline"]) == 4 and line["inliers"] >= FEWEST_INLIERS for line in lines)
    assert sorted(os.listdir(tmp_path / "pictures")) == ["0001.png", "0002.png"]


def test_only_the_best_matches_are_looked_at(tmp_path, sides):
    inputs = str(tmp_path / "queries"), str(tmp_path / "references")
    found = align_matches(sides, *inputs, tmp_path / "a.jsonl", top=1)
    assert (len(found.alignments), found.looked_at) == (0, 3)


def test_the_command_line(tmp_path, sides, capsys):
    isc_fast.write_matches(tmp_path / "m.csv", sides)
    given = ["--queries", str(tmp_path / "queries"), "--references", str(tmp_path / "references")]
    command = ["align", str(tmp_path / "m.csv"), *given, "-o", str(tmp_path / "a.csv")]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "2 of 5 pairs align, of 2 queries" in printed.out
    assert "1 photos cannot be read, so their pairs stay as they are: broken" in printed.err
    assert "resuming" not in printed.err, "an alignment begins at nothing"
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["aligned"] == 2
    (tmp_path / "notes").write_text("mine")
    for more, words in (
        (["--ids", "path"], "is not among the queries"),
        (["--top", "0"], "must be at least 1"),
        (["--inliers", "5"], "at least 6 features must agree, not 5"),
        (["--pictures", str(tmp_path / "queries")], "the same command reads it"),
        (["--pictures", str(tmp_path / "m.csv")], "the same command reads it"),
        (["--pictures", str(tmp_path)], "is not empty"),
        (["--pictures", str(tmp_path / "notes")], "is a file"),
    ):
        assert main([*command, *more]) == 1
        assert words in capsys.readouterr().err


def test_find_looks_at_pixels_too(tmp_path, sides, photos, capsys):
    names = [photo.stem for photo in photos[:5]]
    command = ["find", str(tmp_path / "queries"), "--in", str(tmp_path / "references"), "-o", str(tmp_path / "out")]
    assert main([*command, "--threshold", "0.95"]) == 0
    assert "0 pairs" in capsys.readouterr().out
    assert main([*command, "--threshold", "0.95", "--align"]) == 0
    printed = capsys.readouterr().out
    assert "2 pairs; 2 of 2 queries match one of 5" in printed
    assert "2 of the pairs align" in printed
    found = isc_fast.read_matches(tmp_path / "out" / "matches.csv")
    assert {(query, reference) for query, reference, _ in found} == {("copy0", names[0]), ("copy1", names[1])}
    assert min(found.scores) > 1
    assert main([*command[:3], str(tmp_path / "out" / "references.h5"), *command[4:], "--align"]) == 1
    assert "descriptors were given" in capsys.readouterr().err


@pytest.fixture
def stop_at(monkeypatch):
    """Interrupt the run when it comes to a query; gives the queries that were looked at, in order."""
    looked, plain = list[str](), module._aligned
    stop = list[str]()

    def aligned(matches, rows, *more):
        query = matches.query_ids[rows[0]]
        looked.append(query)
        if query in stop:
            raise KeyboardInterrupt
        return plain(matches, rows, *more)

    def begin(query):
        looked.clear()
        stop[:] = [query] if query else []
        return looked

    monkeypatch.setattr(module, "_aligned", aligned)
    return begin


def aligned_again(folder, matches, name):
    inputs = str(folder / "queries"), str(folder / "references")
    return align_matches(matches, *inputs, folder / f"{name}.csv", evidence=folder / f"{name}.jsonl")


def test_an_interrupted_alignment_goes_on_with_the_queries_that_are_left(tmp_path, sides, stop_at, capsys):
    broken_first = replace(sides, scores=np.array([0.8, 0.2, 0.5, 0.9, 0.99], np.float32))
    whole = aligned_again(tmp_path, broken_first, "whole")
    kept = tmp_path / "a.csv.aligning.jsonl"
    stop_at("copy0")
    with pytest.raises(KeyboardInterrupt) as stopped:
        aligned_again(tmp_path, broken_first, "a")
    assert what_is_kept(stopped.value) == "the pixels of 2 of 3 queries are kept"
    assert main(["info", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "unfinished alignment"
    with kept.open("a") as stream:
        stream.write('{"query": 2, "fou')  # as a power cut leaves it
    looked = stop_at(None)
    again = aligned_again(tmp_path, broken_first, "a")
    assert looked == ["copy0"]
    assert (list(again.unread), again.looked_at) == (["broken"], 5)
    assert again.alignments.keys() == whole.alignments.keys()
    for suffix in (".csv", ".jsonl"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not kept.exists()


@pytest.mark.parametrize("change", ["pairs", "photo"])
def test_what_was_seen_of_others_is_not_taken(tmp_path, sides, photos, stop_at, change):
    stop_at("copy0")
    with pytest.raises(KeyboardInterrupt):
        aligned_again(tmp_path, sides, "a")
    if change == "pairs":
        sides = sides.take([0, 1, 2, 4])
    else:
        os.utime(tmp_path / "queries" / "copy1.jpg", ns=(10**18, 10**18))
    looked = stop_at(None)
    aligned_again(tmp_path, sides, "a")
    assert sorted(looked) == ["broken", "copy0", "copy1"]


def test_somebodys_file_stays(tmp_path, sides):
    mine = tmp_path / "a.csv.aligning.jsonl"
    mine.write_text("my notes\n")
    with pytest.raises(OutputError, match="is not isc-fast's"):
        aligned_again(tmp_path, sides, "a")
    assert mine.read_text() == "my notes\n"


def test_an_interrupted_find_goes_on_with_the_queries_that_are_left(tmp_path, sides, stop_at, capsys):
    command = ["find", str(tmp_path / "queries"), "--in", str(tmp_path / "references"), "-o", str(tmp_path / "out")]
    stop_at("copy1")
    assert main([*command, "--align"]) == 130
    words = "interrupted: the pixels of 1 of 2 queries are kept; run the same command again\n"
    assert capsys.readouterr().err.endswith(words)
    looked = stop_at(None)
    assert main([*command, "--align"]) == 0
    assert looked == ["copy1"]
    assert "align: resuming, 1 of 2 queries are done" in capsys.readouterr().err
    assert not (tmp_path / "out" / "aligning.jsonl").exists()


def test_two_photos(tmp_path, photos, images):
    ImageOps.mirror(images[0]).save(tmp_path / "m.png")
    found = align_photos(str(tmp_path / "m.png"), str(photos[0]))
    assert found is not None
    assert found.mirrored
    assert align_photos(str(photos[0]), str(photos[1])) is None
    with pytest.raises(InputError, match="a photo cannot be read"):
        align_photos(str(tmp_path / "none.jpg"), str(photos[0]))


def test_without_opencv(tmp_path, sides, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"isc-fast\[evidence\]"):
        align_matches(sides, str(tmp_path / "queries"), str(tmp_path / "references"), tmp_path / "a.csv")
