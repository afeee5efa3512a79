"""Photos of evaluation sets with a copy in a training set: shares, pairs, what goes on either side, and bad input."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from oracles import unit_rows
from pages import read_page
from PIL import Image

from isc_fast import Descriptors, find_leaks, write_descriptors
from isc_fast.cli.main import main
from isc_fast.errors import InputError
from isc_fast.files.one_run import one_run
from isc_fast.runs.sides.describing import Describing

pytest.importorskip("faiss")


@pytest.fixture
def sets(tmp_path, photos):
    """Twelve photos to train on; of one set three of five photos are copies of them, of the other one none of four."""
    train, leaky, clean = (tmp_path / name for name in ("data", "leaky", "clean"))
    for folder in (train, leaky, clean):
        folder.mkdir()
    for number, photo in enumerate(photos[:12]):
        shutil.copy(photo, train / f"t{number:02d}.jpg")
    for number in range(3):
        with Image.open(photos[number]) as image:
            image.convert("RGB").save(leaky / f"copy-{number}.jpg", quality=50)
    for number, photo in enumerate(photos[20:26]):
        shutil.copy(photo, (leaky if number < 2 else clean) / f"own-{number}.jpg")
    return train, leaky, clean


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_command_from_photos_to_lists(tmp_path, sets, capsys):
    out = tmp_path / "out"
    assert main(["leaks", "--train", str(sets[0]), "--eval", str(sets[1]), str(sets[2]), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert [(row["evaluation"], row["photos"], row["leaked"], row["share"]) for row in table(out / "leaks.csv")] == [
        ("leaky", "5", "3", "0.6"),
        ("clean", "4", "0", "0.0"),
    ]
    assert {(row["evaluation"], row["id"], row["train_id"]) for row in table(out / "pairs.csv")} == {
        ("leaky", f"copy-{number}", f"t0{number}") for number in range(3)
    }
    assert [(row["id"], row["reason"], row["other"], row["other_id"]) for row in table(out / "remove-train.csv")] == [
        (f"t0{number}", "evaluation", "leaky", f"copy-{number}") for number in range(3)
    ]
    assert [(row["id"], row["train_id"]) for row in table(out / "remove-leaky.csv")] == [
        (f"copy-{number}", f"t0{number}") for number in range(3)
    ]
    assert table(out / "remove-clean.csv") == []
    assert "leaky: 3 of 5 photos (60.0%) have a copy among the 12 of training" in printed
    assert "clean: 0 of 4 photos (0.0%)" in printed
    assert "the engine's default for 108 pairs; it rises with their number from" in printed
    page = read_page(out / "leaks.html")
    assert set(page.pairs) == {(f"copy-{number}", f"t0{number}") for number in range(3)}
    assert set(page.data["pairs"]["set"]) == {"leaky"}
    assert "<dt>leaky</dt><dd>3 of 5</dd>" in page.html
    assert json.loads((out / "leaks.json").read_text())["sets"][0]["share"] == 0.6


def as_file(path, rows, prefix, **meta):
    write_descriptors(
        path, Descriptors(np.asarray(rows, np.float32), [f"{prefix}{row}" for row in range(len(rows))], meta)
    )
    return path


def near(row, cosine, seed):
    """A unit row at that cosine from a unit row."""
    other = unit_rows(seed, 1, len(row))[0]
    other = other - (other @ row) * row
    return cosine * row + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)


@pytest.fixture
def files(tmp_path):
    """Rows t0 … t9 to train on. e0 matches t0, which matches t1; e1 matches t0 and t2, t2 better; t5 matches t4."""
    train = unit_rows(1, 10, 64).copy()
    first = near(train[0], 0.8, 11)
    train[1] = near(train[0], 0.75, 12)
    train[5] = near(train[4], 0.9, 13)
    train[2] = near(train[0], 0.2, 14)
    second = train[0] * 0.6 + train[2] * 0.66
    second = second / np.linalg.norm(second)
    return (
        as_file(tmp_path / "t.h5", train, "t"),
        as_file(tmp_path / "a.h5", [first], "a"),
        as_file(tmp_path / "b.h5", [second, *unit_rows(9, 3, 64)], "b"),
    )


def test_what_goes_by_each_recipe(tmp_path, files):
    train, one, other = files
    direct = find_leaks(train, [one, other], tmp_path / "direct", threshold=0.7)
    rows = {
        row["id"]: (row["reason"], row["other"], row["other_id"])
        for row in table(tmp_path / "direct" / "remove-train.csv")
    }
    assert rows == {"t0": ("evaluation", "a", "a0"), "t2": ("evaluation", "b", "b0")}
    assert [(one.name, one.photos, one.leaked) for one in direct.sets] == [("a", 1, 1), ("b", 4, 1)]
    assert (direct.pairs, direct.removed, direct.page) == (3, 2, None)
    assert [row["train_id"] for row in table(tmp_path / "direct" / "remove-b.csv")] == ["t2"]
    groups = find_leaks(train, [one, other], tmp_path / "groups", threshold=0.7, recipe="dinov2")
    rows = {
        row["id"]: (row["reason"], row["other"], row["other_id"])
        for row in table(tmp_path / "groups" / "remove-train.csv")
    }
    assert rows == {
        "t0": ("evaluation", "a", "a0"),
        "t1": ("group", "", ""),
        "t2": ("evaluation", "b", "b0"),
        "t5": ("train", "train", "t4"),
    }
    assert groups.removed == 4
    assert groups.sets == direct.sets


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_other_formats_replace_the_earlier_ones(tmp_path, files, form):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    find_leaks(files[0], files[1:], out, threshold=0.7)
    assert (out / "remove-train.csv").exists()
    found = find_leaks(files[0], files[1:], out, threshold=0.7, form=form, nemo=True)
    assert not list(out.glob("*.csv"))
    assert {path.name for path in found.files.values()} == {
        *(f"{name}.{form}" for name in ("leaks", "pairs", "remove-train", "remove-a", "remove-b")),
        "remove-nemo",
    }
    assert parquet.read_table(out / "remove-nemo")["id"].to_pylist() == ["t0", "t2"]
    assert not (out / "pairs.parts").exists()


def test_sets_of_one_name_are_told_apart(tmp_path, files):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        shutil.copy(files[1], tmp_path / name / "train.h5")
    found = find_leaks(
        files[0], [tmp_path / "x" / "train.h5", tmp_path / "y" / "train.h5"], tmp_path / "out", threshold=0.7
    )
    assert [one.name for one in found.sets] == ["train-2", "train-3"]
    assert [row["other"] for row in table(tmp_path / "out" / "remove-train.csv")] == ["train-2"]


def test_equal_rows_by_the_thousand(tmp_path):
    blank = unit_rows(1, 1, 64)
    train = as_file(tmp_path / "t.h5", np.repeat(blank, 3000, 0), "t")
    evaluation = as_file(tmp_path / "e.h5", np.repeat(blank, 2000, 0), "e")
    found = find_leaks(train, [evaluation], tmp_path / "out", threshold=0.7)
    assert (found.pairs, found.removed, found.sets[0].leaked) == (4999, 3000, 2000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "{data}", "--eval", "{data}"], "hold the same photos"),
        (["--train", "{data}/..", "--eval", "{leaky}"], "hold the same photos"),
        (["--train", "{data}", "--eval", "{leaky}", "{leaky}"], "hold the same photos"),
        (["--train", "{data}", "--eval", "{leaky}", "--threshold", "2"], "from -1 to 1, and was 2"),
        (["--train", "{data}", "--eval", "{leaky}", "--max-rows", "0"], "at least 1 pair, not 0"),
        (["--train", "{data}", "--eval", "{leaky}/gone"], "there is no"),
        (["--train", "{one}", "--eval", "{other}", "--threshold", "0.5"], "made by different engines"),
        (["--train", "{one}", "--eval", "{nes}", "--threshold", "0.5"], "normalise both"),
        (["--train", "{one}", "--eval", "{wide}", "--threshold", "0.5"], "dimensions"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, sets, capsys, arguments, message):
    rows = unit_rows(1, 3, 8)
    places = dict(zip(("data", "leaky", "clean"), sets, strict=True)) | {
        "one": as_file(tmp_path / "1.h5", rows, "r", engine_id="a"),
        "other": as_file(tmp_path / "2.h5", rows, "r", engine_id="b"),
        "nes": as_file(tmp_path / "3.h5", rows, "r", engine_id="a", normalization={"method": "nes"}),
        "wide": as_file(tmp_path / "4.h5", unit_rows(1, 3, 16), "r", engine_id="a"),
    }
    assert main(["leaks", *(word.format(**places) for word in arguments), "-o", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert message in line
    assert printed.out == ""
    assert not list(tmp_path.glob("out/*.csv"))


def test_wrong_words_from_python_and_two_runs(tmp_path, files):
    with pytest.raises(InputError, match="no recipe 'best'; choose one of direct, dinov2"):
        find_leaks(files[0], [files[1]], tmp_path / "out", threshold=0.5, recipe="best")
    with pytest.raises(InputError, match="no evaluation set; name at least one"):
        find_leaks(files[0], [], tmp_path / "out", threshold=0.5)
    (tmp_path / "out").mkdir()
    with one_run(tmp_path / "out"):
        assert (
            main(
                [
                    "leaks",
                    "--train",
                    str(files[0]),
                    "--eval",
                    str(files[1]),
                    "-o",
                    str(tmp_path / "out"),
                    "--threshold",
                    "0.5",
                ]
            )
            == 1
        )


def test_it_goes_on_where_it_was(tmp_path, sets, engine):
    options = {"describing": Describing(engine), "threshold": 0.9}
    first = find_leaks(sets[0], sets[1:], tmp_path / "out", **options)
    again = find_leaks(sets[0], sets[1:], tmp_path / "out", **options)
    assert [side.made.computed for side in first.sides] == [12, 5, 4]
    assert [side.made.computed for side in again.sides] == [0, 0, 0]
    assert first.sets == again.sets
