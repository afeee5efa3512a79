"""Views in every verb that takes photos or descriptors: find and its neighbours say which view matched, and the others keep views
or refuse them in one line."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

import isc_fast
from isc_fast import Describing, Index, extract, find_copies, find_leaks, read_descriptors, read_matches
from isc_fast.assets import DEMO_ENGINE, DEMO_NEGATIVES
from isc_fast.cli.main import main
from isc_fast.decoders.cutting import views_of
from isc_fast.decoders.rules import load_rgb
from isc_fast.errors import InputError
from isc_fast.items import Item
from isc_fast.sources.base import Source
from isc_fast.sources.listing import Listing


def noise(seed, size):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


@pytest.fixture
def sides(tmp_path, photos):
    """Six originals, and a copy of each of the first four: as it is, mirrored, turned, and both."""
    queries, references = tmp_path / "queries", tmp_path / "references"
    queries.mkdir()
    references.mkdir()
    edits = ("whole", "mirrored", "turned-90", "mirrored-turned-270")
    for number, photo in enumerate(photos[:6]):
        (references / photo.name).symlink_to(photo)
        if number < len(edits):
            (made,) = views_of(load_rgb(str(photo)), [edits[number]])
            made.save(queries / f"{edits[number]}.jpg", quality=60)
    return queries, references


UNDONE = {
    "whole": "whole",
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
    (line,) = [line for line in printed.out.splitlines() if line.startswith("by view: ")]
    assert sorted(line.removeprefix("by view: ").split(", ")) == sorted(f"1 {view}" for view in UNDONE.values())
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
    out = tmp_path / "out"
    made = find_copies(*sides, out, negatives=DEMO_NEGATIVES, threshold=0.3, mirror=True)
    assert read_descriptors(out / "queries-normalized.h5").views == ("whole", "mirrored")
    assert made.by_view is not None
    assert made.by_view["mirrored"] >= 1


def test_views_need_photos(tmp_path, sides, engine):
    find_copies(*sides, tmp_path / "out", describing=Describing(engine), threshold=0.5)
    described = tmp_path / "out" / "queries.h5"
    with pytest.raises(
        InputError, match=r"the queries are descriptors, .*; give the photos, or extract them with --views mirror"
    ):
        find_copies(described, sides[1], tmp_path / "b", threshold=0.5, mirror=True)
    with pytest.raises(InputError, match=r"the references are descriptors, .* --views 5$"):
        find_copies(sides[0], described, tmp_path / "b", threshold=0.5, reference_views="5")
    with pytest.raises(InputError, match="the evaluation sets are descriptors"):
        find_leaks(sides[1], [described], tmp_path / "b", threshold=0.5, views="5")
    with pytest.raises(InputError, match="there are no views 'all'"):
        find_copies(*sides, tmp_path / "b", views="all")
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


@pytest.fixture
def collages(tmp_path, photos):
    """Three pages of four photos each; the originals are the second photo of each page and others."""
    pages, originals = tmp_path / "pages", tmp_path / "originals"
    pages.mkdir()
    originals.mkdir()
    for number in range(3):
        page = Image.new("RGB", (400, 300))
        for place, photo in enumerate(photos[4 * number : 4 * number + 4]):
            page.paste(load_rgb(str(photo)).resize((200, 150)), (place % 2 * 200, place // 2 * 150))
        page.save(pages / f"page{number}.jpg", quality=90)
    for photo in [*photos[1:12:4], *photos[20:30]]:
        (originals / photo.name).symlink_to(photo)
    return pages, originals


def top_right(found, photos):
    """The best pair of each page, and its view."""
    best = {query: (ref, view) for (query, ref, _), view in reversed([*zip(found, found.views, strict=True)])}
    return best == {f"page{number}": (photos[4 * number + 1].stem, "top-right") for number in range(3)}


def test_a_part_of_a_query_is_found_and_named(tmp_path, collages, photos, capsys):
    command = ["find", str(collages[0]), "--in", str(collages[1]), "-o", str(tmp_path / "out")]
    assert main([*command, "--views", "5", "--threshold", "0.3"]) == 0
    assert "by view: 3 top-right" in capsys.readouterr().out
    assert top_right(read_matches(tmp_path / "out" / "matches.jsonl"), photos)
    assert main([*command, "--views", "6", "--mirror", "--threshold", "0.3"]) == 0
    assert top_right(read_matches(tmp_path / "out" / "matches.jsonl"), photos)
    described = sorted(file.name for file in (tmp_path / "out").glob("queries*"))
    assert described == ["queries-views-5.h5", "queries-views-6-mirror.h5"], "each set of views resumes by itself"


def test_parts_of_references_are_found_and_named(tmp_path, collages, photos):
    """The other way round: a photo was cut out of a page."""
    made = find_copies(collages[1], collages[0], tmp_path / "out", reference_views="5", threshold=0.6, k=1)
    found = read_matches(made.matches)
    assert set(found.query_ids) == {photo.stem for photo in photos[1:12:4]}
    assert set(found.views) == {"whole / top-right"}
    both = find_copies(collages[1], collages[0], tmp_path / "both", views="mirror", reference_views="5", threshold=0.6)
    matches = read_matches(both.matches)
    best = dict(zip(matches.query_ids, matches.views, strict=True))
    assert {view.partition(" / ")[2] for view in best.values()} == {"top-right"}
    round_one = best.pop("citrus_slices")  # mirrored it is as good
    assert round_one in ("whole / top-right", "mirrored / top-right")
    assert set(best.values()) == {"whole / top-right"}


def test_search_and_files_of_matches_say_the_view(tmp_path, collages, photos, capsys):
    for folder, name, views in ((collages[0], "q.h5", ["--views", "5"]), (collages[1], "r.h5", [])):
        assert main(["extract", str(folder), "--engine", "demo", "-o", str(tmp_path / name), *views]) == 0
    for suffix in ("jsonl", "parquet", "csv"):
        out = tmp_path / f"m.{suffix}"
        assert main(["search", str(tmp_path / "q.h5"), str(tmp_path / "r.h5"), "-k", "3", "-o", str(out)]) == 0
        assert ("has no room for the view" in capsys.readouterr().err) == (suffix == "csv")
        found = read_matches(out)
        assert len(found) == 9
        assert found.views is None if suffix == "csv" else top_right(found, photos)
    truth = tmp_path / "truth.csv"
    rows = [f"page{number},{photos[4 * number + 1].stem}" for number in range(3)]
    truth.write_text("\n".join(["query_id,reference_id", *rows, ""]))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "m.jsonl"), str(truth), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kit"]["micro_ap"] == 1.0


def test_leaks_are_found_in_views(tmp_path, collages, photos):
    found = find_leaks(collages[1], [collages[0]], tmp_path / "out", views="5", threshold=0.6)
    assert [(one.photos, one.leaked) for one in found.sets] == [(3, 3)]
    rows = (tmp_path / "out" / "pairs.csv").read_text().splitlines()
    assert rows[0] == "evaluation,id,train_id,score,view"
    assert sorted(row.split(",")[1:3] + row.split(",")[4:] for row in rows[1:]) == [
        [f"page{number}", photos[4 * number + 1].stem, "top-right"] for number in range(3)
    ]
    assert found.pairs == 3
    groups = find_leaks(collages[1], [collages[0]], tmp_path / "groups", views="5", threshold=0.6, recipe="dinov2")
    assert groups.removed == 3
    plain = find_leaks(collages[1], [collages[0]], tmp_path / "plain", threshold=0.6)
    assert plain.sets[0].leaked < 3
    assert (tmp_path / "plain" / "pairs.csv").read_text().splitlines()[0] == "evaluation,id,train_id,score"


def test_an_index_is_asked_in_views(tmp_path, collages, photos, capsys):
    extract(collages[1], DEMO_ENGINE, tmp_path / "r.h5")
    extract(collages[0], DEMO_ENGINE, tmp_path / "q.h5", views="5")
    assert main(["index", "build", str(tmp_path / "r.h5"), "-o", str(tmp_path / "index")]) == 0
    command = ["index", "query", str(tmp_path / "index"), "--threshold", "0.6"]
    capsys.readouterr()
    assert main([*command, str(collages[0]), "--views", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {(row["query_id"], row["reference_id"], row["view"]) for row in told["matches"]} == {
        (f"page{number}", photos[4 * number + 1].stem, "top-right") for number in range(3)
    }
    assert main([*command, str(collages[0] / "page0.jpg"), "--views", "5"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("top-right")
    assert main([*command, str(tmp_path / "q.h5"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matches"] == told["matches"]
    assert main([*command, str(tmp_path / "q.h5"), "--views", "5"]) == 1
    assert "the queries are descriptors" in capsys.readouterr().err
    with Index(tmp_path / "index") as index:
        assert index.query(collages[0], threshold=0.6).matches.views is None
        with pytest.raises(InputError, match="the queries are descriptors"):
            index.query(read_descriptors(tmp_path / "q.h5"), views="5")


@pytest.fixture
def in_views(tmp_path, folder_of, engine):
    """Descriptors of seven photos in five views, and of the same ones as a whole."""
    folder = folder_of(tmp_path / "in", 7)
    for name, views in (("v.h5", "5"), ("w.h5", "whole"), ("m.h5", "mirror")):
        extract(folder, engine, tmp_path / name, views=views, ids="path")
    return tmp_path


def refused(capsys, *command):
    assert main([*map(str, command)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_verbs_that_go_by_photo_keep_views(in_views, capsys, folder_of, engine, tmp_path):
    file, whole = in_views / "v.h5", read_descriptors(in_views / "v.h5")
    assert main(["info", str(file), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["count"], about["dim"], about["views"]) == (7, 16, list(whole.views))
    assert main(["verify", str(file)]) == 0
    assert "7 descriptors of 16 numbers in 5 views" in capsys.readouterr().out
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{whole.ids[2]}\n")
    assert main(["remove", str(file), "--ids", str(ids), "-o", str(tmp_path / "six.h5")]) == 0
    (tmp_path / "names.csv").write_text(f"id,new_id\n{whole.ids[2]},other\n")
    assert main(["rename", str(file), "--ids", str(tmp_path / "names.csv"), "-o", str(tmp_path / "other.h5")]) == 0
    assert main(["merge", str(tmp_path / "six.h5"), str(tmp_path / "other.h5"), "--prefer", "first", "-o",
                 str(tmp_path / "eight.h5")]) == 0  # fmt: skip
    assert main(["convert", str(file), "--unit-length", "-o", str(tmp_path / "copy.h5")]) == 0
    kept = {name: read_descriptors(tmp_path / f"{name}.h5") for name in ("six", "other", "eight", "copy")}
    assert {found.views for found in kept.values()} == {whole.views}
    np.testing.assert_array_equal(kept["six"].vectors, np.delete(whole.vectors, 2, axis=0))
    np.testing.assert_array_equal(kept["other"].vectors, whole.vectors)
    assert [*kept["other"].ids][2] == "other"
    np.testing.assert_array_equal(kept["eight"].vectors[6], whole.vectors[2])
    np.testing.assert_allclose(kept["copy"].vectors, whole.vectors, atol=1e-6)
    assert main(["verify", str(tmp_path / "eight.h5")]) == 0
    assert extract(in_views / "in", engine, tmp_path / "six.h5", views="5", ids="path").computed == 1, (
        "as after any remove"
    )


def test_a_row_that_is_off_is_found_in_any_view(in_views, tmp_path):
    whole = read_descriptors(in_views / "v.h5")
    vectors = whole.vectors.copy()
    vectors[3, 20:30] *= 3
    vectors[5, 79] = np.nan
    isc_fast.write_descriptors(tmp_path / "bad.h5", isc_fast.Descriptors(vectors, whole.ids, whole.meta))
    words = {finding.what: finding.words for finding in isc_fast.verify_file(tmp_path / "bad.h5").findings}
    assert "the rows 5 hold NaN" in words["numbers"]
    assert "the rows 3 have another length" in words["norms"]


def test_verbs_that_cannot_keep_views_refuse_them_in_one_line(in_views, capsys, tmp_path):
    file, mirror, whole = (in_views / name for name in ("v.h5", "m.h5", "w.h5"))
    words = "v.h5 hold the views '5' of each photo and {} {!r}; extract both with the same --views"
    for other, name in ((mirror, "mirror"), (whole, "whole")):
        said = refused(capsys, "merge", file, other, "--prefer", "first", "-o", tmp_path / "x.h5")
        assert words.format(other, name) in said
    for target in ("npy", "kit", "clip-retrieval"):
        said = refused(capsys, "convert", file, "--to", target, "-o", tmp_path / "x.npy")
        assert f"the set holds 5 views of each photo, and the format {target} has one descriptor for each" in said
    said = refused(
        capsys, "convert", f"query={file}", f"reference={whole}", "--to", "submission", "-o", tmp_path / "s.h5"
    )
    assert "the query set holds 5 views of each photo, and the format submission" in said
    said = refused(capsys, "dedup", file, "-o", tmp_path / "d", "--threshold", "0.5")
    assert "hold 5 views of each photo (--views 5), and whole photos are compared here; extract them without" in said
    said = refused(capsys, "index", "build", file, "-o", tmp_path / "i")
    assert "hold 5 views of each photo" in said
    left = {name for name in os.listdir(tmp_path) if name[0] in "xsi"}
    assert left == {"in"}, "nothing is left of what was refused"
