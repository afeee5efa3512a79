"""A verb's output folder: what somebody else keeps there is never replaced or removed."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from isc_fast.cli.main import main
from isc_fast.errors import OutputError
from isc_fast.files.atomic import make_folder
from isc_fast.files.own_folder import OwnFolder


def test_a_folder_of_somebody_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "remove-nemo").mkdir()
    (tmp_path / "remove-nemo" / "holiday.jpg").write_bytes(b"a photo")
    with pytest.raises(
        OutputError, match=r"holds 'remove-nemo', and isc-fast dedup writes only to a folder of its own"
    ):
        OwnFolder(tmp_path, "dedup.json", "photos.h5")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    "text", ["{}", "[]", "no JSON", '{"written": ["../photo.jpg"]}', '{"written": ["/etc/x"]}', '{"written": [1]}']
)
def test_a_record_that_is_not_ours_is_no_record(tmp_path, text):
    (tmp_path / "dedup.json").write_text(text)
    with pytest.raises(OutputError, match="the folder is somebody's"):
        OwnFolder(tmp_path, "dedup.json", "photos.h5")
    assert (tmp_path / "dedup.json").read_text() == text


def test_only_what_the_last_run_wrote_is_removed(tmp_path):
    (tmp_path / "photos.h5").write_text("what an unfinished run left")
    (tmp_path / "photos.h5.parts").mkdir()
    own = OwnFolder(tmp_path, "dedup.json", "photos.h5")
    assert not (tmp_path / "dedup.json").exists(), "a run that fails before it writes leaves nothing"
    own.clear()
    (tmp_path / "pairs.csv").write_text("ours")
    (tmp_path / "remove-nemo").mkdir()
    (tmp_path / "remove-nemo" / "part.0.parquet").write_text("ours")
    own.finish({"photos": 3}, [tmp_path / "pairs.csv", tmp_path / "remove-nemo", tmp_path.parent / "elsewhere"])
    assert json.loads((tmp_path / "dedup.json").read_text()) == {
        "photos": 3,
        "written": ["pairs.csv", "remove-nemo/part.0.parquet"],
    }
    (tmp_path / "keep.jsonl").write_text("theirs")
    (tmp_path / "remove-nemo" / "holiday.jpg").write_text("theirs")
    OwnFolder(tmp_path, "dedup.json", "photos.h5")  # a run that was interrupted here
    OwnFolder(tmp_path, "dedup.json", "photos.h5").clear()
    OwnFolder(tmp_path, "dedup.json", "photos.h5")  # and one that was interrupted while it wrote
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["dedup.json", "holiday.jpg", "keep.jsonl", "photos.h5"]


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("dedup", ["PHOTOS"]),
        ("find", ["PHOTOS", "--in", "PHOTOS"]),
        ("leaks", ["--train", "PHOTOS", "--eval", "OTHER"]),
    ],
)
def test_a_verb_does_not_write_among_photos(tmp_path, capsys, verb, arguments):
    photos, other, third = tmp_path / "photos", tmp_path / "other", tmp_path / "third"
    for folder, colour in ((photos, "red"), (other, "blue"), (third, "green")):
        folder.mkdir()
        Image.new("RGB", (20, 20), colour).save(folder / f"{colour}.png")
        (folder / "keep.csv").write_text("mine")
    places = {"PHOTOS": str(photos), "OTHER": str(other)}
    said = {photos: "the same command reads it", third: f"isc-fast {verb} writes only to a folder of its own"}
    for output, words in said.items():
        assert main([verb, *(places.get(text, text) for text in arguments), "-o", str(output)]) == 1
        assert words in capsys.readouterr().err
    assert sorted(path.name for path in photos.iterdir()) == ["keep.csv", "red.png"]
    assert sorted(path.name for path in third.iterdir()) == ["green.png", "keep.csv"]


def test_an_empty_name_is_not_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="empty name"):
        make_folder("")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("remove", ["rows.h5", "--ids", "ids.txt"]),
        ("merge", ["rows.h5", "more.h5"]),
        ("convert", ["rows.h5", "--unit-length"]),
        ("report", ["matches.csv", "--queries", ".", "--references", "."]),
    ],
)
def test_no_output_takes_the_place_of_a_photo(tmp_path, monkeypatch, capsys, verb, arguments):
    import numpy as np

    from isc_fast import Descriptors, write_descriptors

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20), "red").save("one.jpg")
    before = (tmp_path / "one.jpg").read_bytes()
    write_descriptors("rows.h5", Descriptors(np.eye(2, dtype=np.float32), ["one", "two"]))
    write_descriptors("more.h5", Descriptors(np.eye(2, dtype=np.float32), ["three", "four"]))
    (tmp_path / "ids.txt").write_text("two\n")
    (tmp_path / "matches.csv").write_text("query_id,reference_id,score\none,one,1.0\n")
    assert main([verb, *arguments, "-o", "one.jpg"]) == 1
    assert "cannot write one.jpg" in capsys.readouterr().err
    assert (tmp_path / "one.jpg").read_bytes() == before
