"""Descriptors in parts: who takes a file takes the folder and gives the same bytes; a bad manifest or part is one line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from helpers_files import cut_sums

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors import part_set
from isc_fast.descriptors.formats.table import open_any
from isc_fast.descriptors.manifest import MANIFEST, parts_home, read_manifest
from isc_fast.descriptors.picking import some_rows
from isc_fast.descriptors.store import load_descriptors, open_descriptors
from isc_fast.descriptors.texts import ids_at
from isc_fast.errors import FormatError, InputError
from isc_fast.extraction.pipeline import extract


@pytest.fixture(scope="module")
def made(tmp_path_factory, photos) -> tuple[Path, Path]:
    """The same photos as a file and in parts; two of them fail, and the last part has no descriptor."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "in").mkdir()
    for photo in photos[:22]:
        (folder / "in" / photo.name).symlink_to(photo)
    for name in ("0bad.jpg", "zzbad0.jpg", "zzbad1.jpg"):
        (folder / "in" / name).write_text("no picture")
    extract(folder / "in", FakeEngine(), folder / "whole.h5", batch_size=1, shard_size=23)
    extract(folder / "in", FakeEngine(), f"{folder}/parts/", batch_size=1, shard_size=23)
    return folder / "whole.h5", folder / "parts"


@pytest.fixture
def copy(tmp_path, made) -> Path:
    """A copy of the parts that a test may spoil, in four parts."""
    extract(made[0].parent / "in", FakeEngine(), f"{tmp_path}/copy/", batch_size=1, shard_size=8)
    return tmp_path / "copy"


# --- the same as the file


def test_the_set_is_that_of_the_file(made, copy):
    for folder in (made[1], copy, copy / MANIFEST):
        with open_descriptors(made[0]) as file, open_descriptors(folder) as parts:
            assert (len(parts), parts.dim, parts.ids.unique) == (22, 16, True)
            assert list(parts.ids) == list(file.ids)
            assert list(parts.failures) == list(file.failures)
            assert parts.content_id() == file.content_id()
            assert {**parts.meta, "plan": None} == {**file.meta, "plan": None}
            for name in ("vectors", "stamps", "failure_stamps"):
                mine, theirs = getattr(parts, name), getattr(file, name)
                assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
                assert np.array_equal(mine[:], theirs[:])
                assert np.array_equal(mine[1:3], theirs[1:3])
                assert np.array_equal(np.asarray(mine), theirs[:])
            for rows in (slice(5, 19), slice(0, 0), slice(3, 22, 5), slice(-2, None)):
                assert np.array_equal(parts.vectors[rows], file.vectors[:][rows])
            assert np.array_equal(parts.vectors[-1], file.vectors[21])
            assert np.array_equal(parts.stamps[:, 0], file.stamps[:, 0])
            wanted = np.array([20, 0, 7, 7, 13])
            assert np.array_equal(some_rows(parts.vectors, wanted), file.vectors[:][wanted])
            assert ids_at(parts.ids, wanted) == [file.ids[row] for row in wanted]
            assert (parts.ids[8], parts.ids[7:9], parts.ids[-1]) == (file.ids[8], file.ids[7:9], file.ids[21])


def test_what_was_loaded_stays_when_the_files_are_closed(made, copy):
    parts, file = load_descriptors(copy), load_descriptors(made[0])
    assert list(parts.ids) == list(file.ids)
    assert np.array_equal(parts.vectors, file.vectors)
    assert list(parts.failures) == list(file.failures)


def test_few_parts_are_open_at_a_time(made, tmp_path, monkeypatch):
    extract(made[0].parent / "in", FakeEngine(), f"{tmp_path}/many/", batch_size=1, shard_size=1)
    monkeypatch.setattr(part_set, "MOST_OPEN", 3)
    before = len(os.listdir("/proc/self/fd"))
    with open_descriptors(tmp_path / "many") as parts:
        for start in (0, 9):
            assert len(parts.ids[start:]) == 22 - start
            assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert len(os.listdir("/proc/self/fd")) == before


def content(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


CONSUMERS = {
    "search": "search {set} {set} -o OUT.csv -k 3 --threshold -1",
    "negatives": "negatives {set} -o OUT.h5 -k 3",
    "normalize": "normalize {set} --negatives {set} -o OUT.h5 -k 3",
    "merge": "merge {set} {other} -o OUT.h5",
    "remove": "remove {set} --ids {ids} -o OUT.h5",
    "rename": "rename {set} --ids {names} -o OUT.h5",
    "convert": "convert {set} -o OUT.h5 --to kit",
    "ours": "convert {set} -o OUT.h5",
    "dedup": "dedup {set} -o OUT --threshold 0.5",
    "find": "find {set} --in {set} -o OUT --threshold 0.5",
    "leaks": "leaks --train {set} --eval {other} -o OUT --threshold 0.5",
}


@pytest.fixture
def names(made, tmp_path) -> dict[str, str]:
    """Other files that the commands need."""
    ids = load_descriptors(made[0]).ids
    (tmp_path / "ids.txt").write_text(f"{ids[3]}\n{ids[20]}\n")
    (tmp_path / "names.txt").write_text(f"{ids[3]}\tanother\n")
    isc_fast.rename_descriptors(made[0], {id_: f"other {id_}" for id_ in ids}, tmp_path / "renamed.h5")
    isc_fast.remove_descriptors(tmp_path / "renamed.h5", ["0bad", "zzbad0", "zzbad1"], tmp_path / "other.h5")
    return {"ids": str(tmp_path / "ids.txt"), "names": str(tmp_path / "names.txt"), "other": str(tmp_path / "other.h5")}


@pytest.mark.parametrize("name", CONSUMERS)
def test_every_verb_gives_the_bytes_that_it_gives_on_the_file(made, tmp_path, names, name, capsys):
    results = []
    for number, given in enumerate((made[0], made[1], made[1] / MANIFEST)):
        words = CONSUMERS[name].split(" ")
        values = {"{set}": str(given)} | {f"{{{key}}}": value for key, value in names.items()}
        words = [values.get(word, word.replace("OUT", str(tmp_path / f"out{number}"))) for word in words]
        assert main(words) == 0, capsys.readouterr().err
        place = Path(words[words.index("-o") + 1])
        found = content(place)
        for file in [key for key in found if key.endswith(".json")]:
            found[file] = found[file].replace(str(given).encode(), b"IN").replace(str(place).encode(), b"OUT")
        results.append(found)
    assert results[0] == results[1] == results[2]
    assert results[0]


def test_an_index_of_the_folder_answers_like_one_of_the_file(made, tmp_path, capsys):
    answers = []
    for number, given in enumerate(made):
        assert main(["index", "build", str(given), "-o", str(tmp_path / f"i{number}")]) == 0
        command = ["index", "query", str(tmp_path / f"i{number}"), str(given), "-k", "3", "--threshold", "-1", "--json"]
        capsys.readouterr()
        assert main(command) == 0, capsys.readouterr().err
        answers.append(re.sub(r"\d+\.\d+ ?m?s", "", capsys.readouterr().out))
    assert answers[0] == answers[1]


def test_info_and_verify_say_what_it_is(made, copy, capsys):
    for given in (copy, copy / MANIFEST):
        assert main(["info", str(given), "--json"]) == 0
        about = json.loads(capsys.readouterr().out)
        assert (about["kind"], about["count"], about["parts"], about["failures"]) == ("descriptors", 22, 4, 3)
        assert main(["info", str(given), "--failures"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
        found = isc_fast.verify_file(given)
        assert found.sound
        assert [finding.what for finding in found.findings[:2]] == ["manifest", "parts"]


# --- what is not as it should be


def edit(folder: Path, change) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    head = json.dumps({"format": values.pop("format")}).removesuffix("}")
    (folder / MANIFEST).write_text(head + ", " + json.dumps(values)[1:])


def part(number: int, **values):
    return lambda whole: whole["parts"][number].update(values)


BAD = {
    "another version": (lambda v: v.update(version=2), "has format version 2; this isc-fast reads 1"),
    "a name that leaves the folder": (
        part(1, name="../secret.h5"),
        "it names '../secret.h5', which is no part in its folder",
    ),
    "one that leaves it from inside": (
        part(0, name="a" * 64 + "/../../part-000000.h5"),
        "which is no part in its folder",
    ),
    "an absolute path": (part(2, name="/etc/part-000000.h5"), "it names '/etc/part-000000.h5', which is no part"),
    "a name that is a number": (part(2, name=7), "it names 7, which is no part"),
    "a part twice": (lambda v: v["parts"].append(v["parts"][0]), r"it names \w{64}/part-000000.h5 twice"),
    "no parts": (lambda v: v.update(parts=[]), "it names no part"),
    "parts that are no list": (lambda v: v.update(parts=3), "damaged"),
    "a count below zero": (part(0, rows=-1), "rows is -1"),
    "a count that is no number": (part(0, rows=True), "rows is True"),
    "counts that do not add up": (part(0, rows=9), r"its parts have \d+ rows, not 22"),
    "a digest that is none": (part(0, sha256="x"), "sha256 is 'x'"),
    "vectors before the file": (part(0, vectors=-8), "vectors is -8"),
    "a device that is not there": (part(0, devices=[1]), "names devices that are not there"),
    "no dimension": (lambda v: v.pop("dim"), "'dim' is missing"),
    "a dimension of zero": (lambda v: v.update(dim=0), "dim is 0"),
    "a number too large": (lambda v: v.update(dim=10**30), "a number of 31 digits"),
}


def one_line(folder: Path, capsys, status: int = 1) -> str:
    """What a command says of a folder; it must be one line."""
    capsys.readouterr()
    assert main(["convert", str(folder), "-o", str(folder.parent / "never.h5")]) == status
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: .*\n", said), said
    assert not (folder.parent / "never.h5").exists()
    return said


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_is_one_line(copy, capsys, name):
    change, words = BAD[name]
    edit(copy, change)
    said = one_line(copy, capsys)
    assert re.search(words, said), said
    assert str(copy / MANIFEST) in said
    if name != "another version":
        assert not isc_fast.verify_file(copy).sound


@pytest.mark.parametrize("length", [60, 300, -2])
def test_a_manifest_that_was_cut_is_one_line(copy, capsys, length):
    content = (copy / MANIFEST).read_bytes()
    (copy / MANIFEST).write_bytes(content[:length])
    assert re.search("is damaged .*; copy it from a sound copy, or remove it and run the same", one_line(copy, capsys))


def first(folder: Path) -> Path:
    return folder / read_manifest(folder).parts[0].name


def test_a_part_that_is_gone_is_named(copy, capsys):
    name = first(copy).relative_to(copy)
    first(copy).unlink()
    said = one_line(copy, capsys)
    assert (
        f"the part {name} of {copy} is not there; copy it from a sound copy, or run the same isc-fast extract" in said
    )
    assert not isc_fast.verify_file(copy).sound


def test_a_part_that_was_cut_is_named(copy, capsys):
    size = first(copy).stat().st_size
    os.truncate(first(copy), size - 1)
    said = one_line(copy, capsys)
    assert f"has {size - 1} bytes, not {size}; copy it from a sound copy, or remove it and run the same" in said


def test_a_part_of_another_set_is_named(copy, capsys):
    parts = [copy / part.name for part in read_manifest(copy).parts]
    edit(copy, part(0, bytes=parts[1].stat().st_size))
    parts[0].write_bytes(parts[1].read_bytes())
    said = one_line(copy, capsys)
    assert "is damaged (it is another file than the one that was written)" in said
    assert str(parts[0].relative_to(copy)) in said


def test_a_byte_that_changed_is_noticed_when_it_is_read(copy, capsys):
    content = bytearray(first(copy).read_bytes())
    place = content.rindex(read_ids(copy)[0].encode())  # an id, which stands in HDF5's data
    content[place] ^= 1
    first(copy).write_bytes(content)
    said = one_line(copy, capsys)
    assert re.search(r"is damaged \(bytes \d+ to \d+ are not those that were written\); copy it", said)
    findings = isc_fast.verify_file(copy).findings
    assert [finding.what for finding in findings if finding.grade == "problem"] == ["parts"]


def read_ids(folder: Path) -> list[str]:
    with open_any(folder) as found:
        return list(found.ids)


def test_a_part_that_lost_its_checksums_is_named(copy, capsys):
    cut_sums(first(copy))
    assert f"the part {first(copy).relative_to(copy)} of {copy} has" in one_line(copy, capsys)


def test_a_folder_of_something_else_is_none(tmp_path, photos):
    (tmp_path / MANIFEST).write_text('{"name": "a web page"}')
    assert parts_home(tmp_path) is None
    with pytest.raises(FormatError, match="is a folder without"):
        isc_fast.read_descriptors(tmp_path)
    with pytest.raises(InputError, match="found no image"):
        isc_fast.find_duplicates(tmp_path, tmp_path / "out")
