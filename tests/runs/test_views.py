"""Mirrored and turned copies: a view moves pixels and computes none, and find says which view matched."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from isc_fast import Describing, find_copies, read_matches
from isc_fast.cli.main import main
from isc_fast.decoders.opening import ImageProblem
from isc_fast.decoders.rules import load_rgb
from isc_fast.errors import InputError
from isc_fast.items import Item, Problem
from isc_fast.matching.matches import Matches
from isc_fast.matching.views import best_of_views
from isc_fast.runs.views import VIEWS, seen_as, views_of
from isc_fast.sources.base import Source
from isc_fast.sources.listing import Listing

MOVED = {  # what each view does, in numpy's words
    "mirrored": lambda pixels: pixels[:, ::-1],
    "turned-90": lambda pixels: np.rot90(pixels, -1),
    "turned-180": lambda pixels: pixels[::-1, ::-1],
    "turned-270": lambda pixels: np.rot90(pixels),
    "mirrored-turned-90": lambda pixels: np.rot90(pixels[:, ::-1], -1),
    "mirrored-turned-180": lambda pixels: pixels[::-1],
    "mirrored-turned-270": lambda pixels: np.rot90(pixels[:, ::-1]),
}


def noise(seed, size):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_the_upright_photo_pixel_for_pixel(tmp_path, view):
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 5), np.uint8))
    for name, content in {
        "turned.jpg": saved(noise(0, (33, 21)), "JPEG", exif=exif),
        "grey.png": saved(grey, "PNG"),
        "alpha.png": saved(noise(1, (9, 4)).convert("RGBA"), "PNG"),
    }.items():
        (tmp_path / name).write_bytes(content)
        upright = np.asarray(load_rgb(content))
        for photo in (content, str(tmp_path / name), lambda content=content: content):
            made = seen_as(photo, view)
            assert isinstance(made, bytes)
            np.testing.assert_array_equal(np.asarray(load_rgb(made)), MOVED[view](upright))


def test_what_cannot_be_read_is_a_problem_as_it_is_without_a_view(tmp_path):
    with pytest.raises(ImageProblem) as refused:
        load_rgb(b"no picture")
    assert seen_as(b"no picture", "mirrored") == refused.value.problem
    assert seen_as(str(tmp_path / "gone.jpg"), "mirrored") == Problem("read", "No such file or directory")
    assert seen_as(Problem("read", "elsewhere"), "mirrored") == Problem("read", "elsewhere")


def test_which_views_are_looked_at():
    assert views_of(mirror=False, turn=False) == []
    assert views_of(mirror=True, turn=False) == ["mirrored"]
    assert views_of(mirror=False, turn=True) == ["turned-90", "turned-180", "turned-270"]
    assert views_of(mirror=True, turn=True) == list(VIEWS)


def test_the_best_view_of_each_pair_and_the_best_references_of_each_query():
    """Against a statement that looks at every view and pair."""
    rng = np.random.default_rng(0)
    scores = {view: rng.integers(0, 40, (6, 9)) / 64 for view in ("upright", "a", "b")}
    found = {}
    for view, table in scores.items():
        rows = [(q, r) for q in range(6) for r in np.argsort(-table[q], kind="stable")[:4]]
        values = np.array([table[row] for row in rows], np.float32)
        found[view] = Matches([f"q{q}" for q, _ in rows], [f"r{r}" for _, r in rows], values)
    made = best_of_views(found, [f"q{q}" for q in (3, 1, 0, 2, 5, 4)], 4)
    best = np.max([*scores.values()], axis=0)
    assert list(dict.fromkeys(made.query_ids)) == ["q3", "q1", "q0", "q2", "q5", "q4"]
    assert made.views is not None
    for query in range(6):
        mine = [(r, s, v) for (q, r, s), v in zip(made, made.views, strict=True) if q == f"q{query}"]
        assert [score for _, score, _ in mine] == sorted(best[query], reverse=True)[:4]
        for reference, score, view in mine:
            assert score == best[query, int(reference[1:])] == scores[view][query, int(reference[1:])]


@pytest.fixture
def sides(tmp_path, photos):
    """Six originals, and a copy of each of the first four: as it is, mirrored, turned, and both."""
    queries, references = tmp_path / "queries", tmp_path / "references"
    queries.mkdir()
    references.mkdir()
    edits = ("upright", "mirrored", "turned-90", "mirrored-turned-270")
    for number, photo in enumerate(photos[:6]):
        (references / photo.name).symlink_to(photo)
        if number < len(edits):
            made = load_rgb(str(photo))
            for step in VIEWS.get(edits[number], ()):
                made = made.transpose(step)
            made.save(queries / f"{edits[number]}.jpg", quality=60)
    return queries, references


UNDONE = {
    "upright": "upright",
    "mirrored": "mirrored",
    "turned-90": "turned-270",
    "mirrored-turned-270": "mirrored-turned-270",
}


def test_find_finds_mirrored_and_turned_copies_and_says_so(tmp_path, sides, photos, capsys):
    out = tmp_path / "out"
    command = ["find", str(sides[0]), "--in", str(sides[1]), "-o", str(out)]
    assert main(command) == 0
    few = set(read_matches(out / "matches.csv").query_ids)
    capsys.readouterr()
    assert main([*command, "--mirror", "--turn"]) == 0
    printed = capsys.readouterr()
    found = read_matches(out / "matches.jsonl")
    assert found.views is not None
    best = {
        query: (reference, view) for (query, reference, _), view in reversed([*zip(found, found.views, strict=True)])
    }
    assert best == {name: (photo.stem, view) for (name, view), photo in zip(UNDONE.items(), photos, strict=False)}
    assert few < set(best), "some are found by their views alone"
    assert "by view: 1 upright" in printed.out
    assert not (out / "matches.csv").exists(), "that of the run before says something else"
    told = json.loads((out / "find.json").read_text())
    assert told["views"]["mirrored-turned-270"] == 1
    assert "mirrored" in (out / "matches.html").read_text()
    assert main([*command, "--mirror"]) == 0
    assert main(command) == 0
    assert sorted(file for file in os.listdir(out) if file.startswith("matches")) == ["matches.csv", "matches.html"]


def test_views_resume_and_follow_the_photos(tmp_path, sides, engine):
    find_copies(*sides, tmp_path / "out", describing=Describing(engine), threshold=0.5, mirror=True)
    engine.calls.clear()
    find_copies(*sides, tmp_path / "out", describing=Describing(engine), threshold=0.5, mirror=True)
    assert engine.calls == []
    noise(7, (40, 40)).save(sides[0] / "mirrored.jpg")
    find_copies(*sides, tmp_path / "out", describing=Describing(engine), threshold=0.5, mirror=True)
    assert sum(engine.calls) == 2, "the changed photo and its mirror image"


def test_negatives_reach_every_view(tmp_path, sides):
    from isc_fast.assets import DEMO_NEGATIVES

    out = tmp_path / "out"
    made = find_copies(*sides, out, negatives=DEMO_NEGATIVES, threshold=0.3, mirror=True)
    assert (out / "queries-mirrored-normalized.h5").exists()
    assert made.by_view is not None
    assert made.by_view["mirrored"] >= 1


def test_views_need_photos_that_this_process_opens(tmp_path, sides, engine):
    find_copies(*sides, tmp_path / "out", describing=Describing(engine), threshold=0.5)
    with pytest.raises(InputError, match="the queries are descriptors; give the photos"):
        find_copies(tmp_path / "out" / "queries.h5", sides[1], tmp_path / "b", threshold=0.5, mirror=True)
    with pytest.raises(InputError, match="leave out one of the two"):
        find_copies(*sides, tmp_path / "b", describing=Describing(engine, isolated=True), threshold=0.5, turn=True)
    assert not (tmp_path / "b").exists()


class _Memory(Source):
    """Photos in memory, which no path leads to."""

    def __init__(self, photos):
        self.photos = photos

    def list(self):
        return Listing([Item(name, name) for name in self.photos])

    def open(self, item):
        return self.photos[item.path]


def test_photos_of_a_programs_own_source_are_opened_by_it(tmp_path, sides, engine):
    memory = _Memory({file.stem: file.read_bytes() for file in sorted(sides[0].iterdir())})
    made = find_copies(memory, sides[1], tmp_path / "out", describing=Describing(engine), threshold=-1.0, mirror=True)
    assert made.queries == 4
    assert made.page is not None
    with_files = find_copies(*sides, tmp_path / "files", describing=Describing(engine), threshold=-1.0, mirror=True)
    assert list(read_matches(made.matches)) == list(read_matches(with_files.matches))
