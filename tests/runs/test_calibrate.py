"""``isc-fast calibrate``: from a user's photos to thresholds."""

from __future__ import annotations

import json

import pytest
from fakes import FakeEngine

import isc_fast
from isc_fast.assets import DEMO_NEGATIVES
from isc_fast.cli.main import main
from isc_fast.errors import InputError, MismatchError
from isc_fast.evaluation.calibration import Task
from isc_fast.evaluation.calibration_file import read_calibration
from isc_fast.runs.calibrate import calibrate


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    made = tmp_path_factory.mktemp("calibrate") / "photos"
    made.mkdir()
    for photo in photos[:26]:
        (made / photo.name).symlink_to(photo)
    (made / "broken.jpg").write_bytes(b"no photo")
    return made


def test_thresholds_of_ones_own_photos(folder, tmp_path, capsys):
    out = tmp_path / "calibration.json"
    assert main(["calibrate", str(folder), "-o", str(out), "--copies", "3", "--json"]) == 0
    printed = capsys.readouterr()
    made = json.loads(printed.out)
    assert (made["photos"], made["unread"], made["copies"]) == (21, 1, 63)
    assert made["strangers"] == 5, "a fifth of those that can be read"
    assert "1 photos cannot be read" in printed.err
    assert made["pairs"] == 27 * 26 / 2
    found = made["thresholds"]["0.9"]
    assert 0.2 < found["threshold"] < 0.9
    assert found["interval"][0] <= found["precision"] <= found["interval"][1]
    assert found["precision"] >= 0.9
    calibration = read_calibration(out)
    assert calibration.threshold(0.9, Task.within(27)) == pytest.approx(found["threshold"], abs=0.01)
    pytest.importorskip("matplotlib")
    plot = ["--plot", str(tmp_path / "p.svg")]
    assert main(["calibrate", str(folder), "-o", str(out), "--copies", "2", "--references", "1000000", *plot]) == 0
    printed = capsys.readouterr()
    assert "42 copies of 21 photos, and 10 of 5 strangers, which have no original here; for 27" in printed.out
    assert "for 27 with 1000000 photos" in printed.out
    assert "no threshold gives a precision of" in printed.out
    assert (tmp_path / "p.svg").stat().st_size > 10_000


def test_it_holds_for_descriptors_of_that_engine(folder, tmp_path):
    made = calibrate(str(folder), tmp_path / "c.json", copies=1)
    engine = isc_fast.load_engine("demo")
    isc_fast.extract(str(folder), engine, tmp_path / "photos.h5")
    with isc_fast.open_descriptors(tmp_path / "photos.h5") as descriptors:
        assert made.calibration.check(descriptors).remarks == ()
    with_negatives = calibrate(str(folder), tmp_path / "n.json", copies=1, negatives=DEMO_NEGATIVES)
    descriptors = isc_fast.read_descriptors(tmp_path / "photos.h5")
    normalized = isc_fast.subtract_negatives(descriptors, isc_fast.read_descriptors(DEMO_NEGATIVES))
    assert with_negatives.calibration.check(normalized).remarks == ()


def test_it_holds_for_normalised_scores(folder, photos, tmp_path, capsys):
    """With the queries' negatives, and references of any: their rows are the same. For plain descriptors it does not hold."""
    queries, references, train = (str(tmp_path / f"{name}.h5") for name in "qrt")
    engine = isc_fast.load_engine("demo")
    for some, file in ((photos[:5], queries), (photos[:26], references), (photos[30:60], train)):
        isc_fast.extract([str(photo) for photo in some], engine, file, ids="stem")
    out = str(tmp_path / "n.json")
    assert main(["calibrate", str(folder), "--negatives", train, "--copies", "2", "-o", out]) == 0
    made = read_calibration(out)
    plain = isc_fast.read_descriptors(references)
    sides = isc_fast.normalize_scores(isc_fast.read_descriptors(queries), plain, isc_fast.read_descriptors(train))
    assert [made.check(side).remarks for side in sides] == [(), ()]
    assert made.left_out == calibrate(str(folder), tmp_path / "c.json", copies=2).calibration.left_out
    for other in (
        plain,
        isc_fast.normalize_scores(isc_fast.read_descriptors(queries), plain, isc_fast.read_descriptors(train), k=2)[0],
    ):
        with pytest.raises(MismatchError, match="isc-fast calibrate makes one for them"):
            made.check(other)
    find = ["find", queries, "--in", references, "-o", str(tmp_path / "out"), "--negatives", train]
    wanted = ["--calibration", out, "--precision", "0.9", "--share", "0.5"]
    capsys.readouterr()
    assert main([*find, *wanted]) == 0
    printed = capsys.readouterr().out
    assert "5 pairs; 5 of 5 queries match one of 26" in printed
    assert "n.json for 130 pairs" in printed
    assert main([*find, *wanted, "--method", "nes"]) == 1
    assert "isc-fast calibrate makes one for them" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        calibrate(str(folder), tmp_path / name, engine=FakeEngine(), copies=1, sample=25, seed=seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample": 5}, "sample must be at least"),
        ({"copies": 0}, "copies must be at least 1"),
        ({"copies": 21}, "at most 20"),
        ({"share": 0}, "share must lie above 0"),
        ({"references": 0}, "references must be at least 1"),
    ],
)
def test_numbers_out_of_range(folder, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        calibrate(str(folder), tmp_path / "c.json", engine=FakeEngine(), **options)
    assert not (tmp_path / "c.json").exists()


def test_too_few_photos(photos, tmp_path, capsys):
    assert main(["calibrate", *map(str, photos[:5]), "-o", str(tmp_path / "c.json")]) == 1
    assert "5 photos can be read, which are too few to calibrate with" in capsys.readouterr().err
    assert main(["calibrate", str(photos[0]), "-o", str(tmp_path / "none" / "c.json")]) == 1
    assert "its folder does not exist" in capsys.readouterr().err
