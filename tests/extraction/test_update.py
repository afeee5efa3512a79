"""Collections that live: an output is brought up to date, and is then what an extraction of everything gives."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeEngine
from killed import run_killed
from PIL import Image

from isc_fast import extract, open_descriptors, write_descriptors
from isc_fast.cli.main import main
from isc_fast.errors import InputError, MismatchError
from isc_fast.extraction.changes import ANEW, find_changes
from isc_fast.items import Item
from isc_fast.sources.base import Source
from isc_fast.sources.listing import Listing
from isc_fast.sources.stamps import UNKNOWN, same, stamp_of, stamps_of


def picture(path, seed, size=(48, 40)):
    """Write a picture that differs from those of other seeds; the time of the file is never that of another call."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    os.utime(path, ns=(10**18 + seed, 10**18 + seed))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    for number in range(8):
        picture(made / f"p{number}.png", number)
    return made


def fresh(folder, output):
    """The bytes of an extraction of everything."""
    output.unlink(missing_ok=True)
    extract(folder, FakeEngine(), output)
    return output.read_bytes()


def test_only_what_is_new_or_changed_is_described(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    picture(folder / "a-new.png", 100)
    picture(folder / "p3.png", 103)
    (folder / "p5.png").unlink()
    (folder / "p6.png").write_text("no picture")
    engine.calls.clear()
    made = extract(folder, engine, output)
    assert (made.computed, made.count, len(made.failures)) == (3, 7, 1)
    assert made.note == "1 new, 2 changed, 1 gone, 5 as they were"
    assert sum(engine.calls) == 3
    assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")
    assert sorted(os.listdir(tmp_path)) == ["fresh.h5", "in", "out.h5"], "no litter"
    again = extract(folder, engine, output)
    assert (again.computed, again.note) == (0, None)


def test_a_photo_under_an_old_name_is_noticed_though_its_size_is_the_same(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    before = (folder / "p2.png").read_bytes()
    content = bytearray((folder / "p1.png").read_bytes())
    (folder / "p2.png").write_bytes(bytes(content[: len(before)]).ljust(len(before), b"\0"))
    os.utime(folder / "p2.png", ns=(5, 5))
    assert extract(folder, engine, output).note == "0 new, 1 changed, 0 gone, 7 as they were"
    with open_descriptors(output) as found:
        rows = {id_: row for row, id_ in enumerate(found.ids)}
        assert np.array_equal(found.vectors[rows["p2"]], found.vectors[rows["p1"]])


def test_what_is_gone_stays_on_request(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    with open_descriptors(output) as found:
        kept = found.vectors[1]
    (folder / "p1.png").unlink()
    made = extract(folder, engine, output, keep_gone=True)
    assert (made.count, made.computed) == (8, 0)
    with open_descriptors(output) as found:
        assert list(found.ids)[-1] == "p1"
        assert np.array_equal(found.vectors[7], kept)
    picture(folder / "p9.png", 9)
    assert extract(folder, engine, output, keep_gone=True).count == 9
    assert extract(folder, engine, output).note == "0 new, 0 changed, 1 gone, 8 as they were"
    assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")


def test_a_failure_is_tried_again_only_where_its_file_changed(tmp_path, folder, engine):
    (folder / "bad.png").write_text("no picture")
    (folder / "worse.png").write_text("no picture either")
    output = tmp_path / "out.h5"
    assert len(extract(folder, engine, output).failures) == 2
    picture(folder / "bad.png", 50)
    made = extract(folder, engine, output)
    assert (made.computed, [failure.id for failure in made.failures]) == (1, ["worse"])
    assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")


def test_what_failed_for_no_fault_of_its_file_is_tried_again_on_request(tmp_path, folder, engine):
    class Broken(FakeEngine):
        def run(self, pixels):
            rows = super().run(pixels)
            rows[1] = np.nan
            return rows

    output = tmp_path / "out.h5"
    assert [failure.id for failure in extract(folder, Broken(), output).failures] == ["p1", "p5"]
    (folder / "p7.png").unlink()
    assert extract(folder, engine, output).computed == 0
    made = extract(folder, engine, output, retry_failed=True)
    assert made.note == "0 new, 0 changed, 0 gone, 5 as they were, 2 that failed tried again"
    assert (made.computed, made.count) == (2, 7)
    assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")


def test_fewer_or_more_of_the_same_are_an_update_too(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output, limit=5)
    assert extract(folder, engine, output).note == "3 new, 0 changed, 0 gone, 5 as they were"
    assert extract(folder, engine, output, limit=6).count == 6


def test_notes_follow_their_photos(tmp_path, folder, engine):
    Image.new("RGB", (40, 40), "red").save(folder / "p0.png")
    Image.new("RGB", (40, 40), "blue").save(folder / "x.png")
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    picture(folder / "p0.png", 60)
    Image.new("RGB", (40, 40), "green").save(folder / "p4.png")
    made = extract(folder, engine, output)
    assert [note.id for note in made.notes] == ["p4", "x"]
    assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")


def test_a_folder_that_moved_is_not_described_again(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    moved = tmp_path / "moved"
    folder.rename(moved)
    made = extract(moved, engine, output)
    assert (made.computed, made.count) == (0, 8)
    assert output.read_bytes() == fresh(moved, tmp_path / "fresh.h5")


def test_an_output_that_shares_nothing_is_refused(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    before = output.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    picture(other / "p1.png", 77)
    with pytest.raises(MismatchError, match="from other inputs"):
        extract(other, engine, output)
    with pytest.raises(MismatchError, match="by another engine"):
        extract(folder, FakeEngine(seed=1), output)
    assert output.read_bytes() == before
    assert not (tmp_path / "out.h5.parts").exists()


@pytest.mark.parametrize("kind", ["file", "parts"])
def test_a_folder_that_grew_after_all_its_files_were_touched_is_the_same_folder(tmp_path, folder, engine, kind):
    output = tmp_path / ("out.h5" if kind == "file" else "out")
    name = f"{output}/" if kind == "parts" else str(output)
    extract(folder, engine, name)
    for number in range(8):
        os.utime(folder / f"p{number}.png", ns=(number, 10**18 + 100 + number))
        picture(folder / f"q{number}.png", 50 + number)
    made = extract(folder, engine, name)
    assert (made.note, made.count) == ("8 new, 8 changed, 0 gone, 0 as they were", 16)
    if kind == "file":
        assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")


def test_another_folder_with_the_same_names_is_refused_in_true_words(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    other = tmp_path / "other"
    other.mkdir()
    for number in range(9):
        picture(other / f"p{number}.png", 70 + number)
    with pytest.raises(MismatchError, match="ids are the same, and the size or time of every photo is another one"):
        extract(other, engine, output)


def test_a_folder_whose_photos_are_all_others_is_refused(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    for number in range(8):
        (folder / f"p{number}.png").unlink()
        picture(folder / f"q{number}.png", 50 + number)
    with pytest.raises(MismatchError, match="other images"):
        extract(folder, engine, output)


def test_another_rule_for_ids_is_named(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    with pytest.raises(
        MismatchError, match=r"ids such as 'p0' then and 'p0.png' now, which --ids and the inputs decide"
    ):
        extract(folder, engine, output, ids="path")


def test_an_output_without_stamps_is_refused_as_before(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    with open_descriptors(output) as found:
        write_descriptors(output, replace(found, stamps=None, failure_stamps=None))  # as version 0.2 wrote it
    assert extract(folder, engine, output).computed == 0
    picture(folder / "new.png", 30)
    with pytest.raises(MismatchError, match=r"8 images then, 9 now"):
        extract(folder, engine, output)


def test_nothing_is_written_where_nothing_is_left(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    before = output.read_bytes()
    for photo in folder.iterdir():
        photo.unlink()
    with pytest.raises(InputError):
        extract(folder, engine, output)
    assert output.read_bytes() == before


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_ends_in_the_bytes_of_a_fresh_run(tmp_path, folder, seed):
    """Photos come, go, change and break while runs are killed at their engine calls, and one run at the end is left alone."""
    chance = random.Random(seed)
    output = tmp_path / "out.h5"
    extract(folder, FakeEngine(), output, batch_size=2, shard_size=4)
    for step in range(6):
        for _ in range(chance.randint(1, 4)):
            names = sorted(path.name for path in folder.iterdir())
            act, number = chance.choice(["add", "change", "remove", "break", "mend"]), 1000 * (seed + 1) + 10 * step
            photo = folder / chance.choice(names)
            if act == "add":
                picture(folder / f"{chance.choice('aqz')}{number}.png", number + chance.randrange(10))
            elif act in ("change", "mend"):
                picture(photo, number + 5)
            elif act == "break":
                photo.write_text(f"no picture {number}")
            elif len(names) > 4:
                photo.unlink()
        if chance.random() < 0.6:
            run_killed(folder, output, chance.choice(["engine", "before", "after", "fsync"]), chance.randint(1, 3))
        else:
            extract(folder, FakeEngine(), output)
    extract(folder, FakeEngine(), output)
    whole = tmp_path / "whole.h5"
    extract(folder, FakeEngine(), whole, batch_size=2, shard_size=4)
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in", "out.h5", "whole.h5"]


def test_the_command_line_says_what_it_found(tmp_path, folder, capsys):
    arguments = ["extract", str(folder), "--engine", "demo", "-o", str(tmp_path / "out.h5")]
    assert main(arguments) == 0
    (folder / "p1.png").unlink()
    picture(folder / "new.png", 40)
    capsys.readouterr()
    assert main([*arguments, "--keep-gone"]) == 0
    printed = capsys.readouterr()
    assert "note: 1 new, 0 changed, 1 gone, 7 as they were" in printed.err
    assert "9 descriptors" in printed.out


def test_what_cannot_be_looked_at_never_counts_as_unchanged(tmp_path):
    assert stamp_of(str(tmp_path / "none.png")) == stamp_of("a\0b") == UNKNOWN
    unknown = stamps_of([str(tmp_path / "none.png")])
    assert not same(unknown, unknown).any()
    (tmp_path / "one.png").write_bytes(b"12345")
    known = stamps_of([str(tmp_path / "one.png")])
    assert same(known, known).all()
    assert known[0, 0] == 5


def test_equal_hashes_of_unlike_ids_do_not_mix(tmp_path, folder, engine):
    """−1 and −2 have one hash in Python; ids that behave like them have to be told apart by themselves."""
    output = tmp_path / "out.h5"
    extract(folder, engine, output)

    class Same(str):
        __slots__ = ()

        def __hash__(self):
            return hash("p1")

    with open_descriptors(output) as found:
        changes = find_changes([Item(Same("p2"), str(folder / "p2.png")), Item("p1", str(folder / "p1.png"))], found)
    assert changes.origin.tolist() == [ANEW, 1]
    assert (changes.new, changes.gone) == (1, 7)


def test_a_hundred_thousand_photos_are_compared_in_a_second_or_two(tmp_path, folder, engine):
    """The comparison is by arrays: what it costs is the look at each file."""
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    items = [Item(f"q{number}", str(folder / "p1.png")) for number in range(100_000)]
    with open_descriptors(output) as found:
        changes = find_changes(items, found)
    assert (changes.new, changes.kept, changes.gone) == (100_000, 0, 8)
    shutil.rmtree(folder)


def test_a_collection_of_which_every_photo_was_replaced_is_described_anew(tmp_path, folder, engine):
    output = tmp_path / "out.h5"
    extract(folder, engine, output)
    for number in range(8):
        picture(folder / f"p{number}.png", 200 + number)
    assert extract(folder, engine, output).computed == 8
    assert output.read_bytes() == fresh(folder, tmp_path / "fresh.h5")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for number in range(8):
        picture(other / f"p{number}.png", 300 + number)
    with pytest.raises(MismatchError):  # the same names somewhere else are no replacement
        extract(other, engine, output)


def test_photos_of_no_file_are_complete_once_they_are_described(tmp_path, engine):
    class Memory(Source):
        def list(self):
            return Listing([Item(name, f"memory {name}") for name in ("a", "b", "bad")])

        def open(self, item):
            return b"no picture" if item.id == "bad" else (tmp_path / "p.png").read_bytes()

    picture(tmp_path / "p.png", 1)
    assert extract(Memory(), engine, tmp_path / "out.h5").computed == 3
    assert extract(Memory(), engine, tmp_path / "out.h5").computed == 0
