"""A copy is laid over its original where its alignment says: in the evidence file, in a page's data, and as Chromium draws it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Visit, started
from pages import read_page
from PIL import Image, ImageDraw, ImageOps

from isc_fast import Matches, align_matches, write_matches, write_report
from isc_fast.cli.main import main
from isc_fast.errors import FormatError
from isc_fast.review.pairs import Pair, ReviewPage
from isc_fast.review.placement import Placement, read_evidence
from isc_fast.review.writing import write_page

CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
MARKS = {"red": (0.06, 0.06), "yellow": (0.94, 0.06), "magenta": (0.94, 0.94), "white": (0.06, 0.94)}
"""Spots near the corners of a reference, by colour, in shares of its width and height."""
RGB = {"red": (255, 0, 0), "yellow": (255, 255, 0), "magenta": (255, 0, 255), "white": (255, 255, 255)}
EDGE = (16, 185, 129)


def mapped(homography: np.ndarray, points: Any) -> np.ndarray:
    made = np.c_[np.asarray(points, float), np.ones(len(points))] @ homography.T
    return made[:, :2] / made[:, 2:]


def onto(corners: Any) -> np.ndarray:
    """The homography that takes the unit square's corners to these."""
    rows = []
    for (x, y), (u, v) in zip(CORNERS, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    found = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    return found / found[2, 2]


def as_jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as running:
        yield running


@pytest.fixture
def drawn(browser):
    """Opens a page, and gives what its canvas shows of a pair ``uint8 (h, w, 4)``."""
    visits: list[Visit] = []

    def draw(file: Path, mode: str, blend: int | None = None, pair: int = 0) -> np.ndarray:
        one = Visit(browser, file)
        visits.append(one)
        one.page.select_option("#sort", "high")
        one.press(*"j" * pair, mode)
        one.until("document.querySelector('#compared canvas').width !== 300")
        if blend is not None:
            one.page.evaluate(
                "(to) => { const s = document.getElementById('blend'); s.value = to; s.dispatchEvent(new Event('input')); }",
                blend,
            )
            one.until("document.querySelector('#compared canvas').width !== 300")
        assert not one.page.is_visible("#mirror"), "the alignment knows"
        text = one.page.evaluate("document.querySelector('#compared canvas').toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))))

    yield draw
    for one in visits:
        one.close()


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has about this colour: places in shares of its width and height ``(n, 2)``."""
    rows, columns = np.nonzero((np.abs(pixels[..., :3].astype(int) - colour).max(axis=2) < 60) & (pixels[..., 3] > 0))
    return np.stack([(columns + 0.5) / pixels.shape[1], (rows + 0.5) / pixels.shape[0]], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "corners",
    [
        [(0.2, 0.1), (0.9, 0.25), (0.8, 0.9), (0.1, 0.7)],  # a photo of a print
        [(0.9, 0.1), (0.3, 0.2), (0.2, 0.8), (0.95, 0.9)],  # mirrored
        [(-0.5, -0.4), (1.3, -0.4), (1.3, 1.2), (-0.5, 1.2)],  # a crop: the reference reaches beyond it
    ],
)
def test_the_reference_is_drawn_where_the_homography_says(tmp_path, drawn, corners):
    """Spots at the reference's corners, and its edges, against the same places computed here."""
    query = Image.new("RGB", (500, 400), "black")
    reference = Image.new("RGB", (640, 360), (40, 60, 200))
    pen = ImageDraw.Draw(reference)
    for name, (x, y) in MARKS.items():
        pen.rectangle([x * 640 - 14, y * 360 - 14, x * 640 + 14, y * 360 + 14], RGB[name])
    homography = np.linalg.inv(onto(corners))
    middle = homography[2] @ [*np.mean(corners, axis=0), 1]
    pair = Pair("q", "r", 0.9, placement=Placement(homography * np.sign(middle), 20))
    write_page(tmp_path / "p.html", ReviewPage("", "", [pair]), {"q": as_jpeg(query)}, {"r": as_jpeg(reference)})
    pixels = drawn(tmp_path / "p.html", "o", blend=0)
    low, high = np.minimum(0, np.min(corners, axis=0)), np.maximum(1, np.max(corners, axis=0))
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(500 * (high - low)[0] / (400 * (high - low)[1]), rel=0.01)
    for name, place in MARKS.items():
        found = near(pixels, RGB[name])
        assert len(found) > 30, name
        expected = (mapped(onto(corners), [place])[0] - low) / (high - low)
        assert np.abs(found.mean(axis=0) - expected).max() < 0.01, name
    edges = near(pixels, EDGE)
    shown = (np.array(corners) - low) / (high - low)
    for one, other in zip(shown, np.roll(shown, -1, axis=0), strict=True):
        for share in (0.25, 0.5, 0.75):
            assert np.abs(edges - (one + share * (other - one))).max(axis=1).min() < 0.01
    assert len(near(drawn(tmp_path / "p.html", "o", blend=100), RGB["red"])) == 0, "the query alone"


@pytest.fixture(scope="module")
def copies(tmp_path_factory, photos) -> Path:
    """Folders of queries and references: a crop, a mirrored photo, and a photo of a print."""
    pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("copies")
    for name in ("queries", "references"):
        (folder / name).mkdir()
    for photo in photos[:3]:
        (folder / "references" / photo.name).write_bytes(photo.read_bytes())
    first, second, third = (Image.open(photo).convert("RGB") for photo in photos[:3])
    width, height = first.size
    first.crop((width // 5, height // 4, width - width // 5, height - height // 8)).save(
        folder / "queries" / "crop.png"
    )
    ImageOps.mirror(second).save(folder / "queries" / "mirror.png")
    width, height = third.size
    shares = np.diag([width, height, 1.0])  # of the photo; its corners are seen at these places
    seen = shares @ onto([(0, 0), (1, 0.15), (0.95, 0.9), (0.1, 1)]) @ np.linalg.inv(shares)
    numbers = (seen / seen[2, 2]).ravel()[:8].tolist()
    tilted = third.transform(third.size, Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BICUBIC)
    tilted.save(folder / "queries" / "tilt.png")
    return folder


@pytest.mark.slow
def test_little_differs_where_find_placed_a_copy(copies, tmp_path, drawn):
    """Real copies, found and aligned by the command line: on the page, their difference is nearly black."""
    out = tmp_path / "out"
    command = ["find", str(copies / "queries"), "--in", str(copies / "references"), "-o", str(out), "--align"]
    assert main([*command, "--threshold", "0.99"]) == 0
    data = read_page(out / "matches.html").data["pairs"]
    assert len(data["score"]) == 3
    assert min(data["inliers"]) > 20
    for pair in range(3):
        pixels = drawn(out / "matches.html", "d", pair=pair)
        there = pixels[..., 3] == 255
        assert there.mean() > 0.2
        inside = np.abs(pixels[there][:, :3].astype(int) - EDGE).max(axis=1) > 60  # without the edges
        assert pixels[there][inside][:, :3].mean() < 8, pair  # a shift by a hundredth of the side gives 12 to 25


def test_evidence_travels_from_align_to_the_page(copies, tmp_path, photos, capsys):
    names = [photo.stem for photo in photos[:3]]
    matches = Matches(
        ["crop", "mirror", "tilt", "tilt"], [*names, names[0]], np.array([0.5, 0.4, 0.3, 0.2], np.float32)
    )
    sides = str(copies / "queries"), str(copies / "references")
    found = align_matches(matches, *sides, tmp_path / "a.csv", evidence=tmp_path / "e.jsonl")
    read = read_evidence(tmp_path / "e.jsonl")
    assert set(read) == set(found.alignments) == {("crop", names[0]), ("mirror", names[1]), ("tilt", names[2])}
    for pair, alignment in found.alignments.items():
        placement = read[pair]
        assert placement.inliers == alignment.inliers
        there = mapped(placement.homography, alignment.query_points)
        assert np.abs(there - alignment.reference_points).max() < 0.02, "also of a mirrored query, as it is"
        depth = np.c_[alignment.query_points, np.ones(alignment.inliers)] @ placement.homography[2]
        assert depth.min() > 0
    write_matches(tmp_path / "m.csv", matches)
    command = ["report", str(tmp_path / "m.csv"), "--queries", sides[0], "--references", sides[1]]
    assert main([*command, "-o", str(tmp_path / "r.html"), "--evidence", str(tmp_path / "e.jsonl")]) == 0
    data = read_page(tmp_path / "r.html").data["pairs"]
    assert [one is not None for one in data["homography"]] == [True, True, True, False]
    assert data["homography"][0] == pytest.approx(read["crop", names[0]].numbers)
    assert main([*command, "-o", str(tmp_path / "s.html")]) == 0
    assert read_page(tmp_path / "s.html").data["pairs"]["homography"] is None
    assert main([*command, "-o", str(tmp_path / "s.html"), "--evidence", str(tmp_path / "m.csv")]) == 1
    assert "line 1 of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"homography": None},
        {"homography": [[1, 0, 0], [0, 1, 0]]},
        {"homography": [[1, 0, 0], [0, 1, 0], [1, 0, 0]]},
        {"homography": [[1e999, 0, 0], [0, 1, 0], [0, 0, 1]]},
        {"inliers": "many"},
        {"query_id": 3},
    ],
)
def test_a_file_that_is_no_evidence_is_refused_with_its_line(tmp_path, change):
    whole = {"query_id": "a", "reference_id": "b", "inliers": 9, "homography": np.eye(3).tolist()}
    (tmp_path / "e.jsonl").write_text(json.dumps(whole) + "\n" + json.dumps({**whole, **change}) + "\n")
    with pytest.raises(FormatError, match=r"line 2 of .*isc-fast align --evidence"):
        read_evidence(tmp_path / "e.jsonl")
    with pytest.raises(FormatError, match="cannot read"):
        write_report(
            tmp_path / "r.html", Matches(["a"], ["b"], np.ones(1, np.float32)), queries={}, references={},
            evidence=tmp_path / "none",
        )  # fmt: skip


BOX = (0.1, 0.15, 0.8, 0.9)
"""What is cut out of a photo: left, top, right and bottom, in shares of its width and height."""


@pytest.fixture
def cut(tmp_path, photos) -> tuple[Path, Path]:
    """A photo with two smaller ones, and a folder with what was cut out of it."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    first, *others = (Image.open(photo).convert("RGB") for photo in photos[:3])
    first.save(whole / "first.png")
    first.crop([round(share * side) for share, side in zip(BOX, first.size * 2, strict=True)]).save(parts / "cut.png")
    for number, other in enumerate(others):
        other.resize((300, 200)).save(whole / f"other-{number}.jpg")
    return whole, parts


def placements_of(page: Path) -> dict[tuple[str, str], Any]:
    shown = read_page(page)
    return dict(zip(shown.pairs, shown.data["pairs"]["homography"], strict=True))


def test_dedup_places_what_its_page_shows(tmp_path, cut, capsys):
    """With a threshold that everything reaches: one photo stays, and of the three that could go one was cut out of it."""
    pytest.importorskip("cv2")
    (cut[1] / "cut.png").rename(cut[0] / "cut.png")
    out = tmp_path / "out"
    command = ["dedup", str(cut[0]), "-o", str(out), "--threshold", "-0.9"]
    assert main([*command, "--align"]) == 0
    printed = capsys.readouterr()
    assert "1 of the pairs on the page align: they show the same scene" in printed.out
    assert "align: 1/1" in printed.err
    placed = placements_of(out / "dedup.html")
    assert {pair for pair, found in placed.items() if found} == {("first", "cut")}
    assert len(placed) == 3
    back = np.linalg.inv(np.reshape(placed["first", "cut"], (3, 3)))
    assert np.abs(mapped(back, [(0, 0), (1, 1)]).ravel() - BOX).max() < 0.01
    lists = (out / "remove.csv").read_bytes()
    assert json.loads((out / "dedup.json").read_text())["aligned"] == 1
    assert main(command) == 0
    assert "align" not in capsys.readouterr().out
    assert (out / "remove.csv").read_bytes() == lists, "evidence is for looking; it decides nothing"
    assert read_page(out / "dedup.html").data["pairs"]["homography"] is None
    assert main(["dedup", str(out / "photos.h5"), "-o", str(tmp_path / "rows"), "--threshold", "0.5", "--align"]) == 1
    assert "give the photos themselves, or leave out --align" in capsys.readouterr().err
    assert not (tmp_path / "rows").exists()


def test_leaks_places_what_its_page_shows(tmp_path, cut, capsys):
    pytest.importorskip("cv2")
    (cut[1] / "broken.jpg").write_bytes(b"no photo")
    out = tmp_path / "out"
    command = ["leaks", "--train", str(cut[0]), "--eval", str(cut[1]), "-o", str(out), "--threshold", "0.1", "--align"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["aligned"] == 1
    placed = placements_of(out / "leaks.html")
    assert [*placed] == [("cut", "first")]
    assert np.abs(mapped(np.reshape(placed["cut", "first"], (3, 3)), [(0, 0), (1, 1)]).ravel() - BOX).max() < 0.01
    assert main(["leaks", "--train", str(out / "train.h5"), *command[3:]]) == 1
    assert "give the photos themselves, or leave out --align" in capsys.readouterr().err
