"""`dedup --only-aligned`: of pairs that score alike, those stay that show the same scene in their pixels."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from PIL import Image, ImageOps

from isc_fast.cli.main import main
from isc_fast.errors import InputError
from isc_fast.runs.copies import aligned
from isc_fast.runs.copies.dedup import find_duplicates
from isc_fast.runs.pixels import align

pytest.importorskip("cv2")

LOW = "0.15"
"""A threshold that strangers reach too."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    """Twelve photos, of six of them a mirrored crop, and two equal files of a grey sky, which have no detail."""
    made = tmp_path_factory.mktemp("only") / "photos"
    made.mkdir()
    for number, photo in enumerate(photos[:12]):
        with Image.open(photo) as image:
            whole = image.convert("RGB")
        whole.save(made / f"{number:02d}.jpg", quality=90)
        if number < 6:
            width, height = whole.size
            part = whole.crop((width // 8, height // 8, width, height))
            ImageOps.mirror(part).save(made / f"{number:02d}-copy.jpg", quality=60)
    for name in ("sky-1", "sky-2"):
        Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(made / f"{name}.png")
    return made


def pairs_in(out):
    with open(out / "pairs.csv", newline="") as file:
        return {frozenset((row["id"], row["other_id"])) for row in csv.DictReader(file)}


SKIES = frozenset(("sky-1", "sky-2"))
RIGHT = {*(frozenset((f"{number:02d}", f"{number:02d}-copy")) for number in range(6)), SKIES}


def test_strangers_go_and_copies_stay(folder, tmp_path, capsys):
    assert main(["dedup", str(folder), "-o", str(tmp_path / "all"), "--threshold", LOW, "--json"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert everything["pairs"] > 15
    assert "pairs_looked_at" not in everything
    assert main(["dedup", str(folder), "-o", str(tmp_path / "out"), "--threshold", LOW, "--only-aligned"]) == 0
    printed = capsys.readouterr().out
    found = pairs_in(tmp_path / "out")
    assert found <= pairs_in(tmp_path / "all")
    assert len(found & RIGHT) >= 6
    assert SKIES in found, "equal rows need no look"
    assert len(found - RIGHT) <= 1
    assert f"{len(found)} of {everything['pairs']} pairs show the same scene in their pixels" in printed
    record = json.loads((tmp_path / "out" / "dedup.json").read_text())
    assert (record["pairs"], record["pairs_looked_at"]) == (len(found), everything["pairs"])
    assert record["removed"] == 7 - len(RIGHT - found)


def test_it_goes_on_with_the_pieces_that_are_missing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(aligned, "PIECE", 8)
    whole = find_duplicates(folder, tmp_path / "whole", threshold=float(LOW), only_aligned=True)
    looked: list[int] = []
    real = align.look_at

    def counting(matches, *arguments, **options):
        if len(looked) == 2 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        looked.append(len(matches.scores))
        return real(matches, *arguments, **options)

    monkeypatch.setattr(aligned, "look_at", counting)
    with pytest.raises(KeyboardInterrupt):
        find_duplicates(folder, tmp_path / "out", threshold=float(LOW), only_aligned=True)
    done = len(looked)
    (tmp_path / "again").mkdir()
    told: list[tuple[int, int]] = []
    found = find_duplicates(
        folder,
        tmp_path / "out",
        threshold=float(LOW),
        only_aligned=True,
        progress=lambda step: lambda now, total, _: told.append((now, total)) if step == "pixels" else None,
    )
    assert done == 2
    assert len(looked) == -(-found.pairs_looked_at // 8)
    assert told[-1][0] == told[-1][1] == max(now for now, _ in told)
    for name in ("pairs", "groups", "keep", "remove"):
        assert (tmp_path / "out" / f"{name}.csv").read_bytes() == (tmp_path / "whole" / f"{name}.csv").read_bytes()
    assert not (tmp_path / "out" / "pairs.parts").exists()
    assert whole.pairs == found.pairs


def test_the_order_in_which_pairs_are_looked_at_decides_nothing(folder, tmp_path, monkeypatch):
    found = set()
    for piece in (3, 7, 10_000):
        monkeypatch.setattr(aligned, "PIECE", piece)
        out = tmp_path / str(piece)
        find_duplicates(folder, out, threshold=float(LOW), only_aligned=True)
        found.add((out / "pairs.csv").read_bytes())
    assert len(found) == 1


def test_a_photo_that_is_gone_since_matches_nothing(folder, tmp_path, capsys):
    mine = shutil.copytree(folder, tmp_path / "mine")
    out = str(tmp_path / "out")
    assert main(["dedup", str(mine), "-o", out, "--threshold", LOW, "--mutual", "1"]) == 0
    (mine / "00-copy.jpg").write_bytes(b"no photo any more")
    assert main(["dedup", str(mine), "-o", out, "--threshold", LOW, "--only-aligned", "--mutual", "2"]) == 0
    assert not any("00-copy" in pair for pair in pairs_in(tmp_path / "out"))
    capsys.readouterr()


def test_descriptors_have_no_pixels(tmp_path, folder):
    find_duplicates(folder, tmp_path / "out", threshold=0.5)
    with pytest.raises(InputError, match="pairs are looked at in their photos, and descriptors were given"):
        find_duplicates(tmp_path / "out" / "photos.h5", tmp_path / "other", threshold=0.5, only_aligned=True)
