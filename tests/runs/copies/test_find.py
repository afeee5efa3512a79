"""One command for two sides: photos or descriptors in, pairs and a page out."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from fakes import FakeEngine
from pages import read_page
from PIL import Image

from isc_fast import Descriptors, read_matches, write_descriptors
from isc_fast.assets import DEMO_NEGATIVES
from isc_fast.cli.main import main
from isc_fast.errors import InputError, MismatchError
from isc_fast.runs.copies.find import find_copies
from isc_fast.runs.sides.describing import Describing, descriptors_among


@pytest.fixture
def sides(tmp_path, photos):
    """Eight originals; three copies of the first three, and a photo of which there is no original."""
    queries, references = tmp_path / "queries", tmp_path / "references"
    queries.mkdir()
    references.mkdir()
    for number, photo in enumerate(photos[:8]):
        (references / photo.name).symlink_to(photo)
        if number < 3:
            with Image.open(photo) as image:
                image.convert("RGB").save(queries / f"copy-{photo.stem}.jpg", quality=40)
    (queries / photos[20].name).symlink_to(photos[20])
    return queries, references


def test_photos_in_pairs_and_page_out(tmp_path, sides, photos, capsys):
    out = tmp_path / "out"
    assert main(["find", str(sides[0]), "--in", str(sides[1]), "-o", str(out)]) == 0
    printed = capsys.readouterr()
    found = read_matches(out / "matches.csv")
    assert {(query, reference) for query, reference, _ in found} == {
        (f"copy-{photo.stem}", photo.stem) for photo in photos[:3]
    }
    assert "3 pairs; 3 of 4 queries match one of 8" in printed.out
    assert "the engine's default for 32 pairs; it rises with their number from" in printed.out
    page = read_page(out / "matches.html")
    assert set(page.pairs) == {(f"copy-{photo.stem}", photo.stem) for photo in photos[:3]}
    assert all(picture is not None for picture in page.pictures.values())
    assert json.loads((out / "find.json").read_text())["pairs"] == 3
    assert (out / "queries.h5").exists()
    assert not (out / "queries.h5.parts").exists()


def test_it_goes_on_where_it_was_and_says_what_changed(tmp_path, sides, engine):
    describing = Describing(engine)
    first = find_copies(*sides, tmp_path / "out", describing=describing, threshold=0.5)
    again = find_copies(*sides, tmp_path / "out", describing=describing, threshold=0.5)
    assert first.sides[0].made is not None
    assert again.sides[0].made is not None
    assert (first.sides[0].made.computed, again.sides[0].made.computed) == (4, 0)
    Image.new("RGB", (40, 40), "red").save(sides[0] / "new.png")
    changed = find_copies(*sides, tmp_path / "out", describing=describing, threshold=0.5)
    assert changed.queries == 5
    assert changed.sides[0].made is not None
    assert changed.sides[1].made is not None
    assert changed.sides[0].made.note == "1 new, 0 changed, 0 gone, 4 as they were"
    assert (changed.sides[0].made.computed, changed.sides[1].made.computed) == (1, 0)
    other = FakeEngine(seed=1)
    with pytest.raises(MismatchError, match="by another engine"):
        find_copies(*sides, tmp_path / "out", describing=Describing(other), threshold=0.5)
    replaced = find_copies(*sides, tmp_path / "out", describing=Describing(other, overwrite=True), threshold=0.5)
    assert replaced.sides[1].made is not None
    assert replaced.sides[1].made.computed == 8


def test_descriptors_are_taken_as_they_are(tmp_path, sides, capsys):
    assert main(["find", str(sides[0]), "--in", str(sides[1]), "-o", str(tmp_path / "out")]) == 0
    files = [str(tmp_path / "out" / f"{name}.h5") for name in ("queries", "references")]
    before = (tmp_path / "out" / "matches.csv").read_bytes()
    capsys.readouterr()
    assert main(["find", files[0], "--in", files[1], "-o", str(tmp_path / "again"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (tmp_path / "again" / "matches.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path / "again")) == ["find.json", "matches.csv"]
    assert printed["page"] is None


def test_negatives_are_subtracted_from_both_sides(tmp_path, sides):
    out = tmp_path / "out"
    result = find_copies(*sides, out, negatives=DEMO_NEGATIVES, threshold=0.3)
    assert result.matched == 3
    assert (out / "references-normalized.h5").exists()
    with pytest.raises(InputError, match="does not hold with negatives"):
        find_copies(*sides, out, negatives=DEMO_NEGATIVES)


def test_an_id_that_no_csv_holds_goes_to_json_lines(tmp_path, sides, engine):
    (sides[0] / "one, two.jpg").symlink_to(next(sides[1].iterdir()).resolve())
    result = find_copies(*sides, tmp_path / "out", describing=Describing(engine), threshold=0.9)
    assert result.matches.name == "matches.jsonl"
    assert "one, two" in read_matches(result.matches).query_ids


def test_descriptors_without_a_default_ask_for_a_threshold(tmp_path):
    rows = np.eye(4, dtype=np.float32)
    write_descriptors(tmp_path / "a.h5", Descriptors(rows, list("abcd")))
    with pytest.raises(InputError, match="name no engine that carries a default threshold; choose one"):
        find_copies(tmp_path / "a.h5", tmp_path / "a.h5", tmp_path / "out")
    found = find_copies(tmp_path / "a.h5", tmp_path / "a.h5", tmp_path / "out", threshold=0.5)
    assert found.pairs == 4


@pytest.mark.parametrize(("threshold", "words"), [(1.5, "from -1 to 1"), (float("nan"), "from -1 to 1")])
def test_a_threshold_outside_the_scale(tmp_path, sides, threshold, words):
    with pytest.raises(InputError, match=words):
        find_copies(*sides, tmp_path / "out", threshold=threshold)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows", [0, -1])
def test_a_page_shows_at_least_one_pair(tmp_path, sides, rows):
    with pytest.raises(InputError, match=f"the page must show at least 1 pair, not {rows}"):
        find_copies(*sides, tmp_path / "out", threshold=0.5, max_rows=rows)
    assert not (tmp_path / "out").exists()


def test_descriptors_among_photos_are_refused(tmp_path, sides):
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(InputError, match="stands among 1 other inputs"):
        descriptors_among([sides[0], tmp_path / "a.h5"])
    assert descriptors_among([sides[0]]) is None
    assert descriptors_among(tmp_path / "a.h5") == tmp_path / "a.h5"


def test_one_folder_on_both_sides_is_said(tmp_path, photos, capsys):
    """Through a link too; two folders are not one because they hold the same photos."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(photos[0].read_bytes())
    one, two, link = (str(tmp_path / name) for name in ("one", "two", "link"))
    (tmp_path / "link").symlink_to("one")
    note = f"note: {one} is on both sides, so each of its photos matches itself; to find the copies within it: isc-fast dedup"
    assert main(["find", one, "--in", two, link, "-o", str(tmp_path / "out")]) == 0
    assert f"{note} {one} -o FOLDER" in capsys.readouterr().err
    assert main(["find", one, "--in", two, "-o", str(tmp_path / "other")]) == 0
    assert "both sides" not in capsys.readouterr().err
