"""One command on one folder: what stays, what could go, and what bad input gets."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from helpers_search import kill_a_worker
from pages import read_page
from PIL import Image

from isc_fast import Descriptors, find_duplicates, write_descriptors
from isc_fast.cli.main import main
from isc_fast.errors import InputError, IscFastError
from isc_fast.files.one_run import one_run
from isc_fast.matching.pairs.pair_files import PairFiles
from isc_fast.matching.pairs.self_join import SelfJoin
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.inputs import BlockRows
from isc_fast.runs.copies import dedup as module
from isc_fast.runs.sides.describing import Describing
from isc_fast.runs.sides.photo_facts import ORDERS, PhotoFacts, order_of, read_facts

pytest.importorskip("faiss")


@pytest.fixture
def folder(tmp_path, photos):
    """Ten photos. Of ``a`` there are a smaller copy, an equal file and a PNG of equal pixels; of ``b`` a smaller copy."""
    made = tmp_path / "photos"
    made.mkdir()
    for number, photo in enumerate(photos[:10]):
        shutil.copy(photo, made / f"{'abcdefghij'[number]}.jpg")
    for name in "ab":
        with Image.open(made / f"{name}.jpg") as image:
            image.convert("RGB").resize((image.width // 2, image.height // 2)).save(
                made / f"small-{name}.jpg", quality=60
            )
    with Image.open(made / "a.jpg") as image:
        image.convert("RGB").save(made / "pixels-a.png")
    shutil.copy(made / "a.jpg", made / "file-a.jpg")
    return made


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def by_id(path):
    return {row["id"]: row for row in table(path)}


def content(folder):
    """Every file below a folder with its content."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_one_command_from_photos_to_lists(tmp_path, folder, capsys):
    before = content(folder)
    out = tmp_path / "out"
    assert main(["dedup", str(folder), "-o", str(out), "--exact"]) == 0
    printed = capsys.readouterr().out
    removed = by_id(out / "remove.csv")
    assert {name: (row["kept_id"], row["kind"]) for name, row in removed.items()} == {
        "a": ("pixels-a", "pixels"),  # of equal pixels, the PNG has the larger file
        "file-a": ("pixels-a", "pixels"),
        "small-a": ("pixels-a", "near"),
        "small-b": ("b", "near"),
    }
    assert {name: (int(row["bytes"]), row["path"]) for name, row in removed.items()} == {
        name: ((folder / f"{name}.jpg").stat().st_size, str(folder / f"{name}.jpg")) for name in removed
    }
    kept = by_id(out / "keep.csv")
    assert set(kept) == {*"bcdefghij", "pixels-a"}
    assert kept["pixels-a"]["path"] == str(folder / "pixels-a.png")
    groups = table(out / "groups.csv")
    assert [(row["group"], row["id"], row["size"]) for row in groups[:4:3]] == [
        ("1", "pixels-a", "4"),
        ("1", "small-a", "4"),
    ]
    assert next((row["id"], row["kept_id"], row["score"]) for row in groups if row["group"] == "2") == ("b", "b", "")
    pairs = {frozenset((row["id"], row["other_id"])): row["kind"] for row in table(out / "pairs.csv")}
    assert pairs[frozenset(("a", "file-a"))] == "file"
    assert pairs[frozenset(("a", "pixels-a"))] == "pixels"
    assert 4 <= len(pairs) <= 7, "of rows that are equal in every bit, each has a pair with the first"
    told = json.loads((out / "dedup.json").read_text())
    size = sum(int(row["bytes"]) for row in removed.values())
    assert (told["photos"], told["removed"], told["removed_bytes"], told["groups"]) == (14, 4, size, 2)
    assert told["equal"] == {"file": 0, "pixels": 2}
    assert f"of 14 photos 4 could go ({size / 1e6:.1f} MB), 10 stay" in printed
    assert "nothing was removed" in printed
    assert "of several copies stays: the photo of most pixels (--keep largest)" in printed
    assert re.search(r"threshold 0\.\d+: the engine's default for 14 photos; it rises with their number from", printed)
    page = read_page(out / "dedup.html")
    assert [group["size"] for group in page.data["groups"]] == [4, 2]
    assert set(page.pairs) == {(row["kept_id"], name) for name, row in removed.items()}
    assert len(page.pictures) == 6
    assert sorted(note for note in page.data["pairs"]["note"] if note) == ["equal pixels", "equal pixels"]
    assert content(folder) == before
    assert not (out / "pairs.parts").exists()


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_other_formats_and_nemo(tmp_path, folder, engine, form):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    find_duplicates(folder, out, describing=Describing(engine), threshold=0.9)
    found = find_duplicates(folder, out, describing=Describing(engine), threshold=0.9, form=form, nemo=True)
    assert sorted(path.name for path in out.iterdir() if path.suffix in (".csv", f".{form}")) == sorted(
        {f"{name}.{form}" for name in ("pairs", "groups", "keep", "remove")}
        | ({"dedup.json"} if form == "json" else set())
    )
    nemo = parquet.read_table(out / "remove-nemo")
    assert [(field.name, str(field.type)) for field in nemo.schema] == [("id", "string")]
    assert len(nemo) == found.removed == 4
    if form == "jsonl":
        rows = [json.loads(line) for line in (out / "remove.jsonl").read_text().splitlines()]
        assert [row["id"] for row in rows] == nemo["id"].to_pylist()
        assert all(row["score"] >= 0.9 and row["kind"] is None for row in rows)


def test_keep_rules(tmp_path, folder, engine):
    for place, name in enumerate(("small-a.jpg", "a.jpg", "file-a.jpg", "pixels-a.png")):
        os.utime(folder / name, (1_000_000 + place, 1_000_000 + place))
    for keep, stays in (
        ("largest", "pixels-a"),
        ("oldest", "small-a"),
        ("newest", "pixels-a"),
        ("first", "a"),
        ("best-quality", "pixels-a"),
    ):
        find_duplicates(folder, tmp_path / "out", describing=Describing(engine), threshold=0.9, keep=keep)
        kept = set(by_id(tmp_path / "out" / "keep.csv"))
        assert kept & {"a", "file-a", "pixels-a", "small-a"} == {stays}, keep


def test_what_orders_photos():
    facts = [
        PhotoFacts(bytes=100, width=10, height=10, modified=5.0),
        PhotoFacts(bytes=400, width=30, height=10, modified=3.0),
        PhotoFacts(bytes=500, width=10, height=30, modified=None),
        PhotoFacts(),
    ]
    rows = np.array([1, 3, 4, 6])
    orders = {keep: order_of(8, rows, facts, keep).tolist() for keep in ORDERS}
    assert all(order[4:] == [0, 2, 5, 7] for order in orders.values())
    assert {keep: order[:4] for keep, order in orders.items()} == {
        "largest": [4, 3, 1, 6],
        "oldest": [3, 1, 4, 6],
        "newest": [1, 3, 4, 6],
        "best-quality": [4, 3, 1, 6],
        "first": [1, 3, 4, 6],
    }


def test_facts_are_the_files(tmp_path, folder):
    turned = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    inputs = [
        str(tmp_path / "turned.jpg"),
        (tmp_path / "turned.jpg").read_bytes(),
        str(tmp_path / "broken.jpg"),
        str(tmp_path / "gone"),
    ]
    file, held, broken, gone = read_facts(inputs, [""] * len(inputs), headers=True)
    assert (file.width, file.height, file.pixels) == (held.width, held.height, held.pixels) == (20, 40, 800)
    assert file.bytes == held.bytes == (tmp_path / "turned.jpg").stat().st_size
    assert file.modified == (tmp_path / "turned.jpg").stat().st_mtime
    assert held.modified is held.file is None
    assert (broken.bytes, broken.pixels) == (10, 0)
    assert gone == PhotoFacts()
    assert [(facts.bytes, facts.pixels) for facts in read_facts(inputs[:2], ["", ""], headers=False)] == [
        (file.bytes, 0)
    ] * 2


def test_links_are_new_and_replace_nothing(tmp_path, folder, engine, capsys):
    links = tmp_path / "links"
    found = find_duplicates(
        folder, tmp_path / "out", describing=Describing(engine), threshold=0.9, link_to=links, max_group=3
    )
    assert found.files["links"] == links
    first, second = sorted(links.iterdir())
    assert (first.name, second.name) == ("0001-of-4-photos", "0002-of-2-photos")
    assert [path.name[4:8] for path in sorted(first.iterdir())] == ["keep", *["1.00", "1.00"]]
    for path in links.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            assert path.is_symlink()
            assert path.resolve().parent == folder.resolve()
    before = sorted(links.rglob("*"))
    assert main(["dedup", str(folder), "-o", str(tmp_path / "out"), "--link-to", str(links)]) == 1
    assert f"there is {links} already, and links replace nothing" in capsys.readouterr().err
    assert sorted(links.rglob("*")) == before
    assert main(["dedup", str(folder), "-o", str(tmp_path / "out"), "--link-to", str(folder / "links")]) == 1
    assert "where the next run would find its links" in capsys.readouterr().err
    assert main(["dedup", str(folder), "-o", str(tmp_path / "out"), "--link-to", str(tmp_path / "no" / "links")]) == 1
    assert "its folder does not exist" in capsys.readouterr().err
    assert not list(tmp_path.glob(".links*"))


def test_descriptors_without_their_photos(tmp_path, folder, engine, capsys):
    first = find_duplicates(folder, tmp_path / "out", describing=Describing(engine), threshold=0.9, keep="first")
    found = find_duplicates(tmp_path / "out" / "photos.h5", tmp_path / "again", threshold=0.9)
    assert (found.removed, found.removed_bytes, found.keep, found.page) == (first.removed, None, "first", None)
    assert set(by_id(tmp_path / "again" / "keep.csv")) == set(by_id(tmp_path / "out" / "keep.csv"))
    assert list(table(tmp_path / "again" / "remove.csv")[0]) == ["id", "kept_id", "score", "kind", "bytes"]
    assert (
        main(["dedup", str(tmp_path / "out" / "photos.h5"), "-o", str(tmp_path / "again"), "--threshold", "0.9"]) == 0
    )
    printed = capsys.readouterr()
    assert "note: descriptors do not say how large photos are, so the first copy stays" in printed.err
    assert (
        "of several copies stays: the first in the order of the inputs, and in each by name (--keep first)"
        in printed.out
    )
    for flags in (["--keep", "largest"], ["--exact"], ["--link-to", str(tmp_path / "links")]):
        arguments = [
            "dedup",
            str(tmp_path / "out" / "photos.h5"),
            "-o",
            str(tmp_path / "no"),
            "--threshold",
            "0.9",
            *flags,
        ]
        assert main(arguments) == 1
        assert f"and {' '.join(flags[:2]).split(' /')[0]} looks at photos" in capsys.readouterr().err


def test_names_of_one_file_are_not_to_be_removed(tmp_path, folder, engine, capsys):
    """Links, and a folder that is given again inside another one: removing one name would lose the photo."""
    (folder / "inner").mkdir()
    shutil.copy(folder / "c.jpg", folder / "inner" / "k.jpg")
    (folder / "0-link.jpg").symlink_to(folder / "d.jpg")
    (folder / "circle").symlink_to(folder)
    found = find_duplicates([folder, folder / "inner"], tmp_path / "out", describing=Describing(engine), threshold=0.9)
    removed = {row["path"] for row in table(tmp_path / "out" / "remove.csv")}
    kept = {row["path"] for row in table(tmp_path / "out" / "keep.csv")}
    assert {os.path.realpath(path) for path in removed}.isdisjoint({os.path.realpath(path) for path in kept})
    assert found.spared >= 1
    everything = {str(path.resolve()) for path in folder.rglob("*.*g")}
    assert {os.path.realpath(path) for path in removed | kept} == everything


def test_of_several_names_of_a_file_its_bytes_go_once(tmp_path, folder, engine):
    os.link(folder / "small-a.jpg", folder / "z-link.jpg")
    found = find_duplicates(folder, tmp_path / "out", describing=Describing(engine), threshold=0.9)
    removed = by_id(tmp_path / "out" / "remove.csv")
    assert {"small-a", "z-link"} <= set(removed)
    assert found.removed_bytes == sum(int(row["bytes"]) for name, row in removed.items() if name != "z-link")


def test_photos_in_a_tar(tmp_path, folder, engine, capsys):
    """Their sizes and pixels are looked at as those of files are; only links need files."""
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    found = find_duplicates(
        tmp_path / "shard.tar", tmp_path / "out", describing=Describing(engine), threshold=0.9, exact=True
    )
    removed = by_id(tmp_path / "out" / "remove.csv")
    assert set(removed) == {f"shard/{name}" for name in ("a", "file-a", "small-a", "small-b")}
    assert found.removed_bytes == sum((folder / f"{name[6:]}.jpg").stat().st_size for name in removed)
    assert {row["path"] for row in removed.values()} == {f"{tmp_path}/shard.tar/{name[6:]}.jpg" for name in removed}
    assert found.equal == {"file": 0, "pixels": 2}
    arguments = [
        "dedup",
        str(tmp_path / "shard.tar"),
        "-o",
        str(tmp_path / "new"),
        "--link-to",
        str(tmp_path / "links"),
    ]
    assert main(arguments) == 1
    assert "is no file of its own, and cannot be linked to" in capsys.readouterr().err
    assert not list(tmp_path.glob("new/*.csv"))


# --- bad input ---


def test_one_photo_alone(tmp_path, folder, capsys):
    assert main(["dedup", str(folder / "a.jpg"), "-o", str(tmp_path / "out")]) == 0
    assert "of 1 photos 0 could go (0.0 MB), 1 stay" in capsys.readouterr().out
    assert [row["id"] for row in table(tmp_path / "out" / "keep.csv")] == ["a"]


def test_no_duplicates_at_all(tmp_path, folder, engine):
    for name in ("small-a.jpg", "small-b.jpg", "pixels-a.png", "file-a.jpg"):
        (folder / name).unlink()
    found = find_duplicates(folder, tmp_path / "out", describing=Describing(engine), threshold=0.97, exact=True)
    assert (found.pairs, found.groups, found.largest, found.removed, found.removed_bytes) == (0, 0, 0, 0, 0)
    assert found.page is None
    assert found.equal == {"file": 0, "pixels": 0}
    assert table(tmp_path / "out" / "remove.csv") == table(tmp_path / "out" / "pairs.csv") == []
    assert len(table(tmp_path / "out" / "keep.csv")) == 10


def test_the_page_says_how_many_that_stay_it_does_not_show(tmp_path):
    """Photos of a chain: each matches the next one alone, so every second one stays, and has nobody beside it on the page."""
    chain = tmp_path / "chain"
    chain.mkdir()
    for number in range(7):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(chain / f"{number}.png")

    class Chain(FakeEngine):
        def run(self, pixels):
            angles = pixels[:, 0, 0, 0].astype(np.float64) * 0.3
            rows = np.zeros((len(pixels), self.spec.dim), np.float32)
            rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
            return rows

    found = find_duplicates(
        chain, tmp_path / "out", describing=Describing(Chain()), threshold=0.9, keep="first", max_group=1
    )
    assert (found.groups, found.largest, found.removed) == (1, 7, 3)
    page = (tmp_path / "out" / "dedup.html").read_text()
    assert "4 stay, 3 could go" in page
    assert "2 more that could go are not shown; 3 more that stay are not shown" in page


def test_photos_of_one_kind_are_warned_of(tmp_path, capsys):
    """Sixty rows at a cosine of 0.9 to each other: nothing is weaker than the rest, so no threshold is named."""
    rows = np.zeros((60, 64), np.float32)
    rows[:, 0] = 0.9**0.5
    rows[np.arange(60), 1 + np.arange(60)] = 0.1**0.5
    write_descriptors(tmp_path / "c.h5", Descriptors(rows, [f"{row:02d}" for row in range(60)]))
    for more in ([], ["--mutual", "3"]):
        command = ["dedup", str(tmp_path / "c.h5"), "-o", str(tmp_path / "out"), "--threshold", "0.5", "--json", *more]
        assert main(command) == 0
        said = capsys.readouterr()
        assert "the largest group has 60 photos and does not fall apart at higher thresholds" in said.err
        assert "try --only-aligned" in said.err
        assert ("or --mutual 3" in said.err) == (not more)
        assert json.loads(said.out)["crowd"] == 60


def test_no_number_is_too_large(tmp_path, folder, engine):
    found = find_duplicates(folder, tmp_path / "one", describing=Describing(engine), threshold=0.9)
    made = find_duplicates(folder, tmp_path / "out", describing=Describing(engine), threshold=0.9, mutual=10**30)
    assert (made.pairs, made.removed) == (found.pairs, found.removed)


def test_all_duplicates(tmp_path, folder, engine):
    everything = tmp_path / "all"
    everything.mkdir()
    for number in range(40):
        shutil.copy(folder / "a.jpg", everything / f"{number:02d}.jpg")
    found = find_duplicates(everything, tmp_path / "out", describing=Describing(engine), threshold=0.9, exact=True)
    assert (found.photos, found.pairs, found.groups, found.largest, found.removed) == (40, 39, 1, 40, 39)
    assert found.equal == {"file": 39, "pixels": 0}
    assert [row["id"] for row in table(tmp_path / "out" / "keep.csv")] == ["00"]
    assert "27 more that could go are not shown" in (tmp_path / "out" / "dedup.html").read_text()


def vectors_file(path, **meta):
    write_descriptors(path, Descriptors(np.eye(3, 8, dtype=np.float32), list("abc"), meta))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}", "--threshold", "1.5"], "the threshold is a cosine, from -1 to 1, and was 1.5"),
        (["{photos}", "--threshold", "nan"], "the threshold is a cosine, from -1 to 1, and was nan"),
        (["{photos}", "--mutual", "0"], "mutual must be at least 1, not 0"),
        (["{photos}", "--max-group", "0"], "max-group must be at least 1, not 0"),
        (["{photos}", "{photos}"], "is given twice; give it once"),
        (["{photos}", "{photos}/../photos/"], "is given twice, also as"),
        (["{photos}", "{scores}"], "holds descriptors and stands among 1 other inputs"),
        (["{empty}"], "found no image"),
        (["{photos}/gone"], "there is no"),
        (["{scores}", "--threshold", "0.5"], "normalised by scores as a query, so they are one side of two"),
        (["{smoothed}", "--threshold", "0.5"], "the descriptors are smoothed negatives"),
        (["{normalized}"], "holds for descriptors that are not normalised; choose one: --threshold"),
        (["{plain}"], "name no engine that carries a default threshold; choose one: --threshold"),
    ],
)
def test_bad_input_gets_one_line_and_nothing_half_written(tmp_path, folder, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {
        "photos": folder,
        "empty": tmp_path / "empty",
        "scores": vectors_file(tmp_path / "s.h5", engine_id="e", normalization={"method": "score", "role": "query"}),
        "smoothed": vectors_file(tmp_path / "n.h5", engine_id="e", smoothing={"k": 10}),
        "normalized": vectors_file(tmp_path / "m.h5", engine_id="e", normalization={"method": "nes"}),
        "plain": vectors_file(tmp_path / "p.h5"),
    }
    out = tmp_path / "out"
    assert main(["dedup", *(word.format(**places) for word in arguments), "-o", str(out)]) == 1
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert message in line
    assert printed.out == ""
    left = [path.name for path in out.iterdir()] if out.exists() else []
    assert left == []


def test_two_runs_on_one_output(tmp_path, folder, capsys):
    (tmp_path / "out").mkdir()
    with one_run(tmp_path / "out"):
        assert main(["dedup", str(folder), "-o", str(tmp_path / "out")]) == 1
    assert f"another run is writing to {tmp_path / 'out'}; wait until it ends" in capsys.readouterr().err


def test_unknown_words_from_python(tmp_path, folder):
    for wrong, message in (({"keep": "best"}, "no rule 'best' for what to keep"), ({"form": "xml"}, "no format 'xml'")):
        with pytest.raises(IscFastError, match=message):
            find_duplicates(folder, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


# --- going on ---


def test_an_interrupted_join_goes_on_where_it_was(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((900, 64), np.float32)
    rows[500:600] = rows[:100] + 0.2 * rng.standard_normal((100, 64), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    write_descriptors(tmp_path / "c.h5", Descriptors(rows, [f"{row:03d}" for row in range(900)]))
    whole = find_duplicates(tmp_path / "c.h5", tmp_path / "whole", threshold=0.7)
    monkeypatch.setattr(CpuSearcher, "block_rows", lambda *_: BlockRows(200, 200))
    real, done = PairFiles.write, []

    def interrupted(self, piece, blocks):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(piece)
        real(self, piece, blocks)

    monkeypatch.setattr(PairFiles, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.7)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pairs.parts"]
    monkeypatch.setattr(PairFiles, "write", lambda *given: (done.append(given[1]), real(*given))[1])
    again = find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.7)
    assert done == [0, 1, 2, 3, 4], "each piece was computed once"
    assert (again.pairs, again.removed) == (whole.pairs, whole.removed) == (100, 100)
    for name in ("groups.csv", "keep.csv", "remove.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out" / "pairs.parts").exists()


def test_workers_compare_one_of_which_is_killed(tmp_path, monkeypatch):
    """The lists have the bytes of one process, and the lost worker's piece is computed by the other."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((900, 64), np.float32)
    rows[500:600] = rows[:100] + 0.2 * rng.standard_normal((100, 64), np.float32)
    rows[700:720] = rows[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    write_descriptors(tmp_path / "c.h5", Descriptors(rows, [f"{row:03d}" for row in range(900)]))
    monkeypatch.setattr(CpuSearcher, "block_rows", lambda *_: BlockRows(100, 100))
    whole = find_duplicates(tmp_path / "c.h5", tmp_path / "whole", threshold=0.5)
    flag = kill_a_worker(monkeypatch, tmp_path, SelfJoin)
    found = find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.5, search_workers=2)
    assert flag.exists(), "one was killed"
    pieces = [line.split()[1] for line in Path(f"{flag}.log").read_text().splitlines()]
    assert sorted(map(int, set(pieces))) == [*range(9)]
    assert len(pieces) == 10
    assert (found.pairs, found.removed) == (whole.pairs, whole.removed)
    for name in ("pairs.csv", "groups.csv", "keep.csv", "remove.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out" / "pairs.parts").exists()
    with pytest.raises(InputError, match="workers search on the processor"):
        find_duplicates(tmp_path / "c.h5", tmp_path / "gpu", threshold=0.5, search_workers=2, search_device="cuda")


def test_another_threshold_does_not_take_the_pieces_of_an_interrupted_run(tmp_path):
    rows = np.eye(4, 8, dtype=np.float32)
    rows[3] = rows[0] * 0.6 + rows[1] * 0.8
    write_descriptors(tmp_path / "c.h5", Descriptors(rows, list("abcd")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decide", lambda *_given, **_options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.7)
    assert list((tmp_path / "out" / "pairs.parts").rglob("*.pairs"))
    assert find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.5).pairs == 2
    assert find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.5, mutual=1).pairs == 1
    assert find_duplicates(tmp_path / "c.h5", tmp_path / "out", threshold=0.7).pairs == 1


def test_importing_the_public_name_is_light():
    heavy = "{'faiss', 'onnxruntime', 'torch', 'pyarrow'}"
    code = f"import sys, isc_fast; isc_fast.DedupResult; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_order_of_the_folders_keeps_the_originals(tmp_path, photos, capsys):
    """Although the edits come first by name and have more pixels."""
    originals, edits = tmp_path / "originals", tmp_path / "edits"
    for folder in (originals, edits):
        folder.mkdir()
    for number, photo in enumerate(photos[:3]):
        shutil.copy(photo, originals / f"z{number}.jpg")
        with Image.open(photo) as image:
            image.convert("RGB").resize((2 * image.width, 2 * image.height)).save(edits / f"a{number}.jpg")
    gone = {}
    for keep in ("first", "largest"):
        assert main(["dedup", str(originals), str(edits), "-o", str(tmp_path / "out"), "--keep", keep]) == 0
        rows = (tmp_path / "out" / "remove.csv").read_text().splitlines()[1:]
        gone[keep] = [row.partition(",")[0] for row in rows]
    assert gone["first"] == ["edits/a0", "edits/a1", "edits/a2"]
    assert gone["largest"] == ["originals/z0", "originals/z1", "originals/z2"]
    assert (
        "of several copies stays: the first in the order of the inputs, and in each by name" in capsys.readouterr().out
    )
