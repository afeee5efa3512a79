"""The folder of known copies that the benchmark of dedup makes, and what it says of pairs."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture
def folders(tmp_path, photos):
    for name, some in (("one", photos[:14]), ("two", photos[14:30])):
        (tmp_path / name).mkdir()
        for photo in some:
            shutil.copy(photo, tmp_path / name / photo.name)
    return tmp_path / "one", tmp_path / "two"


def test_two_fifths_are_photos_and_half_of_these_have_three_copies(tmp_path, folders):
    from dedup_set import GROUPS, group_of, make_large, origin

    trained = tmp_path / "trained"
    trained.mkdir()
    known = sorted(folders[0].iterdir())[:10]
    for path in known:
        (trained / path.name).touch()
    for out in ("made", "again"):
        make_large(tmp_path / out, folders, 40, trained)
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    copies = [name for name in files if group_of(name)]
    assert (len(files), len(copies)) == (40, 24)
    for photo in {origin(name) for name in copies}:
        assert sorted(group_of(name) for name in copies if origin(name) == photo) == sorted(GROUPS)
    with_copies = {
        content for name, content in files.items() if not group_of(name) and origin(name) in map(origin, copies)
    }
    assert with_copies.isdisjoint({path.read_bytes() for path in known}), "a photo that was trained on has copies"
    assert sum(origin(name).startswith("0-") for name in copies) == 3 * 4, "the first folder's photos come first"
    two = [name.split(".")[1].split("-")[1:] for name in copies if group_of(name) == "two"]
    assert all(len(kinds) == 2 for kinds in two)
    for name in files:
        with Image.open(tmp_path / "made" / name) as image:
            image.load()


def test_too_few_photos_are_said(tmp_path, folders):
    from dedup_set import make_large

    with pytest.raises(SystemExit, match="200 files take 90 photos, 40 of them to be edited; there are 30, 30"):
        make_large(tmp_path / "made", folders, 200)


NAMES = [
    "0-1.jpg",
    "0-1.light-trim.jpg",
    "0-1.two-crop-text.jpg",
    "0-2.jpg",
    "0-3.jpg",
    "1-4.jpg",
    "1-4.light-mirror.jpg",
]


def test_what_pairs_are_worth():
    from dedup_set import found_in

    said = found_in(NAMES, [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[2]), (NAMES[3], NAMES[4])])
    assert said == {
        "precision": pytest.approx(2 / 3),
        "recall": 0.5,  # of four pairs of one photo
        "copies_found": pytest.approx(1 / 3),  # a pair of two copies finds none of them
        "copies: light": 0.5,
        "copies: two": 0,
        "kind: mirror": 0,
        "kind: trim": 1,
        "folder: 0": 0.5,
        "folder: 1": 0,
    }
    assert found_in(NAMES, [])["precision"] == 0


@pytest.mark.parametrize(
    ("least", "threshold", "pairs"),
    [(1, 0.9, 1), (0.75, 0.7, 4), (0.6, 0.6, 5)],
)
def test_the_lowest_threshold_of_a_precision(least, threshold, pairs):
    """Pairs of one score are taken together: of the two at 0.8, one is wrong."""
    from dedup import at_precision

    wrong = (NAMES[3], NAMES[4])
    scored = [
        (NAMES[0], NAMES[2], 0.8),
        (*wrong, 0.6),
        (NAMES[0], NAMES[1], 0.9),
        (NAMES[0], NAMES[3], 0.8),
        (NAMES[5], NAMES[6], 0.7),
    ]
    said = at_precision(NAMES, scored, least)
    assert (said["threshold"], said["pairs"]) == (threshold, pairs)
    none = at_precision(NAMES, [(*wrong, 0.5)], 0.9)
    assert math.isnan(none["threshold"])
    assert (none["pairs"], none["recall"]) == (0, 0)


def test_hashes_are_compared_in_blocks_and_taken_again(tmp_path, monkeypatch):
    import dedup_ways
    import numpy as np

    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (7, 64)).astype(bool)
    bits[5] = bits[1]
    bits[5, :3] ^= True
    (tmp_path / "in").mkdir()
    for row in range(7):
        (tmp_path / "in" / f"{row}.jpg").touch()
    monkeypatch.setattr(dedup_ways, "_BLOCK", 2)
    for hashed in (lambda path: bits[int(path.stem)], None):
        found = [*dedup_ways.close_hashes(tmp_path / "in", hashed, 3, tmp_path)]
        assert found == [("1.jpg", "5.jpg", -3.0)]
    every = [*dedup_ways.close_hashes(tmp_path / "in", None, 64, tmp_path)]
    assert {(a, b): -score for a, b, score in every} == {
        (f"{a}.jpg", f"{b}.jpg"): (bits[a] != bits[b]).sum() for a in range(7) for b in range(a + 1, 7)
    }
