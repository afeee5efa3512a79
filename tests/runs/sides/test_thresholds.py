"""Thresholds by a wanted precision: the verbs take a calibration in the place of a number, and refuse one that does not hold."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import isc_fast
from isc_fast.assets import DEMO_NEGATIVES
from isc_fast.cli.main import main
from isc_fast.errors import FormatError, InputError
from isc_fast.evaluation.calibration import Task
from isc_fast.evaluation.calibration_file import read_calibration
from isc_fast.runs.calibrate import calibrate
from isc_fast.runs.sides.thresholds import AtPrecision


@pytest.fixture(scope="module")
def scene(tmp_path_factory, photos):
    """Photos, three copies of some of them, and a calibration of the photos."""
    folder = tmp_path_factory.mktemp("thresholds")
    for name in ("queries", "references"):
        (folder / name).mkdir()
    for number, photo in enumerate(photos[:30]):
        (folder / "references" / photo.name).symlink_to(photo)
        if number < 3:
            with Image.open(photo) as image:
                image.convert("RGB").save(folder / "queries" / f"copy-{photo.stem}.jpg", quality=40)
    calibrate(str(folder / "references"), folder / "c.json", copies=4)
    calibrate(str(folder / "references"), folder / "n.json", copies=2, negatives=DEMO_NEGATIVES)
    return folder


def test_every_verb_takes_the_threshold_of_a_calibration(scene, tmp_path, capsys):
    queries, references, given = str(scene / "queries"), str(scene / "references"), str(scene / "c.json")
    precision = ["--calibration", given, "--precision", "0.95", "--share", "0.1"]
    found = read_calibration(given)
    assert main(["find", queries, "--in", references, "-o", str(tmp_path / "f"), "--json", *precision]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["threshold"] == found.threshold(0.95, Task.between(3, 30, 0.1))
    assert made["pairs"] >= 3
    assert main(["dedup", references, "-o", str(tmp_path / "d"), *precision]) == 0
    printed = capsys.readouterr().out
    assert (
        f"threshold {found.threshold(0.95, Task.within(30, 0.1)):g}: {given} for 30 photos, of which 10% are copies"
        in printed
    )
    assert main(["leaks", "--train", references, "--eval", queries, "-o", str(tmp_path / "l"), *precision]) == 0
    assert f"{given} for 90 pairs" in capsys.readouterr().out
    for page in ("f/matches", "l/leaks"):
        text = (tmp_path / f"{page}.html").read_text()
        chances = json.loads(text.partition('"probability":')[2].partition("]")[0] + "]")
        assert all(0 <= chance <= 1 for chance in chances)
        assert max(chances) > 0.5
    files = [str(tmp_path / "f" / f"{side}.h5") for side in ("queries", "references")]
    assert main(["search", *files, "-o", str(tmp_path / "m.csv"), *precision]) == 0
    assert f"threshold {made['threshold']:g}: {given} for 90 pairs" in capsys.readouterr().err
    assert min(isc_fast.read_matches(tmp_path / "m.csv").scores) >= made["threshold"]


def test_normalised_descriptors_need_a_calibration_of_such(scene, tmp_path, capsys):
    command = ["find", str(scene / "queries"), "--in", str(scene / "references"), "-o", str(tmp_path / "f")]
    negatives = ["--negatives", str(DEMO_NEGATIVES), "--precision", "0.9", "--share", "0.2"]
    assert main([*command, *negatives, "--calibration", str(scene / "c.json")]) == 1
    assert "isc-fast calibrate makes one for them" in capsys.readouterr().err
    assert main([*command, *negatives, "--calibration", str(scene / "n.json")]) == 0
    assert "n.json for 90 pairs" in capsys.readouterr().out


def test_from_python(scene, tmp_path):
    wanted = AtPrecision(read_calibration(scene / "c.json"), precision=0.9, share=0.1)
    found = isc_fast.find_duplicates(str(scene / "references"), tmp_path / "d", threshold=wanted)
    assert found.said.startswith("the calibration for 30 photos")
    with pytest.raises(InputError, match="a precision must lie between 0 and 1"):
        AtPrecision(scene / "c.json", precision=1.0)
    with pytest.raises(InputError, match="share must lie above 0"):
        AtPrecision(scene / "c.json", share=0)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(FormatError, match="is no calibration"):
        AtPrecision(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precision", "0.9"], "--precision needs a calibration"),
        (["--calibration", "c.json", "--threshold", "0.5"], "both name a threshold"),
        (["--calibration", "none.json"], "cannot read none.json"),
    ],
)
def test_flags_that_do_not_go_together(scene, tmp_path, capsys, flags, words):
    assert main(["dedup", str(scene / "references"), "-o", str(tmp_path / "d"), *flags]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
