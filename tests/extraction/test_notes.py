"""Images of one single colour: they are described, and the ledger notes them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from fakes import FakeEngine
from images import encode, noise
from PIL import Image

from isc_fast.assets import DEMO_ENGINE
from isc_fast.cli.main import main
from isc_fast.decoders.base import one_colour
from isc_fast.descriptors.store import load_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.extraction.pipeline import extract
from isc_fast.items import NOTED


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "photos"
    made.mkdir()
    for number in range(5):
        (made / f"photo{number}.png").write_bytes(encode(noise(40, 30, seed=number), "PNG"))
    (made / "blank.jpg").write_bytes(encode(Image.new("RGB", (64, 48), (10, 200, 30)), "JPEG"))
    (made / "clear.png").write_bytes(encode(np.zeros((9, 9, 4), np.uint8), "PNG"))
    (made / "nearly.png").write_bytes(encode(_nearly(), "PNG"))
    (made / "broken.png").write_bytes(b"no image")
    return made


def _nearly() -> np.ndarray:
    page = np.full((32, 32, 3), 128, np.uint8)
    page[20, 21] = 0
    return page


def test_they_are_described_and_noted(folder, tmp_path):
    made = extract(folder, FakeEngine(), tmp_path / "out.h5", batch_size=2, shard_size=4)
    assert [note.id for note in made.notes] == ["blank", "clear"]
    assert {note.stage for note in made.notes} == {NOTED}
    assert all("one single colour" in note.reason for note in made.notes)
    assert [failure.id for failure in made.failures] == ["broken"]
    found = load_descriptors(made.path)
    assert {"blank", "clear", "nearly"} < set(found.ids)
    assert found.notes == list(made.notes)
    again = extract(folder, FakeEngine(), tmp_path / "out.h5", batch_size=2, shard_size=4)
    assert (again.computed, again.notes) == (0, made.notes)
    retried = extract(folder, FakeEngine(), tmp_path / "out.h5", batch_size=2, shard_size=4, retry_failed=True)
    assert (retried.computed > 0, retried.notes, retried.failures) == (True, made.notes, made.failures)


def test_a_file_without_them_is_what_it_was(folder, tmp_path):
    """No group, so that files of earlier versions and new ones are the same to the byte, and both are read."""
    for name in ("blank.jpg", "clear.png"):
        (folder / name).unlink()
    made = extract(folder, FakeEngine(), tmp_path / "out.h5")
    assert not made.notes
    with h5py.File(made.path) as file:
        assert set(file) == {"failures", "ids", "stamps", "vectors"}


def test_they_survive_reading_and_writing(folder, tmp_path):
    made = extract(folder, FakeEngine(), tmp_path / "out.h5")
    write_descriptors(tmp_path / "copy.h5", load_descriptors(made.path))
    assert load_descriptors(tmp_path / "copy.h5").notes == list(made.notes)


def test_the_command_line_says_so(folder, tmp_path, capsys):
    out = str(tmp_path / "out.h5")
    for name in ("a.txt", "b.txt", "c.PSD", "d"):
        (folder / name).write_bytes(b"x")
    (folder / "broken.png").unlink()
    arguments = ["extract", str(folder), "--engine", str(DEMO_ENGINE), "-o", out, "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["notes"] == 2
    assert result["ignored"] == 4
    assert result["ignored_suffixes"] == {".txt": 2, "": 1, ".psd": 1}
    assert "4 files were left out by their names: 2 .txt, 1 without a suffix, 1 .psd" in printed.err
    assert "1 of them are pictures of formats that isc-fast does not read" in printed.err
    assert (
        f"2 images are of one single colour, and match every other such image: isc-fast info {out} --notes"
        in printed.err
    )
    assert main([*arguments, "--strict"]) == 1
    (folder / "c.PSD").unlink()
    assert main([*arguments, "--strict"]) == 0
    capsys.readouterr()
    assert main(["info", out, "--notes"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == ["blank", "clear"]
    assert main(["info", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == 2


def test_one_pixel_is_enough_to_differ():
    rng = np.random.default_rng(0)
    pages = np.full((40, 50, 60, 3), 7, np.uint8)
    pages[1] = rng.integers(0, 256, (50, 60, 3))
    pages[2, ..., 1] = 9
    for number in range(3, 40):
        pages[number, rng.integers(50), rng.integers(60), rng.integers(3)] = 8
    assert one_colour(pages) == [True, False, True] + [False] * 37
