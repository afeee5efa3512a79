"""Files made from files: put together, without some ids, under other ids; and the lists of ids that say which."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
from fakes import FakeEngine
from oracles import unit_rows
from PIL import Image
from test_comparing import INT8, NES, PLAIN, V107, other

from isc_fast import Descriptors, extract, open_descriptors, read_descriptors, search, write_descriptors
from isc_fast.cli.main import main
from isc_fast.descriptors.comparing import compare
from isc_fast.descriptors.concatenation import concatenate
from isc_fast.descriptors.id_lists import read_ids, read_new_names
from isc_fast.descriptors.rewriting import merge_descriptors, remove_descriptors, rename_descriptors
from isc_fast.descriptors.verdict import Grade, PrecisionWarning
from isc_fast.errors import FormatError, InputError, MismatchError, OutputError
from isc_fast.files.rows import write_rows
from isc_fast.items import NOTED, Failure
from isc_fast.sources.stamps import UNKNOWN

DIM = 8


def made(seed, ids, *, meta=PLAIN, failed=(), noted=(), stamped=True):
    """A set with ledgers and stamps, every number of which tells where it comes from."""
    rows = unit_rows(seed, len(ids), DIM)
    failures = [Failure(id_, f"{seed}/{id_}", "decode", "cut") for id_ in failed]
    notes = [Failure(id_, f"{seed}/{id_}", NOTED, "blank") for id_ in noted]
    stamps = np.arange(2 * len(ids)).reshape(-1, 2) + 100 * seed
    more = {"stamps": stamps, "failure_stamps": np.full((len(failures), 2), seed)} if stamped else {}
    return Descriptors(rows, list(ids), meta, failures, notes, **more)


def write(path, found):
    write_descriptors(path, found)
    return path


def content(path):
    """Everything that a file holds, by id."""
    with open_descriptors(path) as found:
        stamps = [None] * len(found) if found.stamps is None else found.stamps[:].tolist()
        failed = [None] * len(found.failures) if found.failure_stamps is None else found.failure_stamps[:].tolist()
        return {
            "rows": dict(zip(found.ids, zip(found.vectors[:].tolist(), stamps, strict=True), strict=True)),
            "failures": list(zip(found.failures, failed, strict=True)),
            "notes": list(found.notes),
            "order": list(found.ids),
        }


A = made(1, "abcd", failed="xy", noted="b")
B = made(2, "efg", failed="z", noted="eg")


def test_one_file_of_two_holds_what_both_held(tmp_path):
    a, b = write(tmp_path / "a.h5", A), write(tmp_path / "b.h5", B)
    merged = merge_descriptors([a, b], tmp_path / "c.h5")
    assert (merged.count, merged.failures, merged.left_out) == (7, 3, 0)
    first, second, both = content(a), content(b), content(tmp_path / "c.h5")
    assert both["rows"] == first["rows"] | second["rows"]
    assert both["order"] == list("abcdefg")
    assert both["failures"] == first["failures"] + second["failures"]
    assert both["notes"] == first["notes"] + second["notes"]
    with open_descriptors(tmp_path / "c.h5") as found:
        assert (found.provenance.plan, found.provenance.decoder) == (None, "turbo")
        assert found.ids.unique
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5", "c.h5"], "no litter"


@pytest.mark.parametrize(("prefer", "seed"), [("first", 1), ("last", 2)])
def test_of_equal_ids_the_preferred_one_stays_with_all_that_is_its(tmp_path, prefer, seed):
    a = write(tmp_path / "a.h5", made(1, "abc", failed="xe", noted="bc"))
    b = write(tmp_path / "b.h5", made(2, "cbe", failed="xw", noted="b"))
    with pytest.raises(FormatError, match=r"the id 'c' occurs twice in .*a\.h5, .*b\.h5; .*--prefer"):
        merge_descriptors([a, b], tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
    merged = merge_descriptors([a, b], tmp_path / "c.h5", prefer=prefer)
    assert (merged.count, merged.left_out) == (4, 2)
    first, second, both = content(a), content(b), content(tmp_path / "c.h5")
    assert both["rows"] == (second["rows"] | first["rows"] if prefer == "first" else first["rows"] | second["rows"])
    assert both["order"] == (["a", "b", "c", "e"] if prefer == "first" else ["a", "c", "b", "e"])
    assert [row.id for row, _ in both["failures"]] == ["x", "w"], "e has a descriptor, and x failed once"
    assert [(note.id, note.path[0]) for note in both["notes"]] == (
        [("b", "1"), ("c", "1")] if seed == 1 else [("b", "2")]
    )


def test_a_file_without_stamps_gets_unknown_ones(tmp_path):
    a = write(tmp_path / "a.h5", A)
    b = write(tmp_path / "b.h5", made(2, "e", failed="z", stamped=False))
    merge_descriptors([a, b], tmp_path / "c.h5")
    both = content(tmp_path / "c.h5")
    assert both["rows"]["e"][1] == list(UNKNOWN)
    assert [stamp for _, stamp in both["failures"]] == [[1, 1], [1, 1], list(UNKNOWN)]
    merge_descriptors([b], tmp_path / "b2.h5")
    with open_descriptors(tmp_path / "b2.h5") as found:
        assert found.stamps is None


def test_blocks_of_two_files_meet_at_any_row():
    """The rows of a set that is put together, by slices and by numbers in any order, against numpy."""
    a, b = made(1, [f"a{i}" for i in range(50)]), made(2, [f"b{i}" for i in range(30)] + ["a7", "a8"])
    whole, rng = np.concatenate([a.vectors, b.vectors[:30]]), np.random.default_rng(0)
    both = concatenate([a, b], prefer="first")
    assert len(both) == 80
    for start, stop in rng.integers(0, 81, (50, 2)):
        np.testing.assert_array_equal(both.vectors[start:stop], whole[start:stop])
        assert list(both.ids[start:stop]) == [*a.ids, *b.ids[:30]][start:stop]
    rows = rng.permutation(80)
    np.testing.assert_array_equal(both.vectors[rows], whole[rows])
    np.testing.assert_array_equal(np.asarray(both.vectors), whole)


def test_two_engine_files_of_one_network_may_be_put_together(tmp_path, capsys):
    files = [str(write(tmp_path / f"{name}.h5", found)) for name, found in (
        ("a", A), ("b", made(2, "ef", meta=other(runtime="openvino"))), ("c", made(3, "gh", meta=other("c" * 64, **INT8))),
    )]  # fmt: skip
    assert main(["merge", *files[:2], "-o", str(tmp_path / "ab.h5")]) == 0
    assert "note: " in capsys.readouterr().err
    with open_descriptors(tmp_path / "ab.h5") as found:
        assert found.provenance.merged == [{"engine_id": "b" * 64, "name": "v107", "arithmetic": "fp32"}]
        assert compare(found, A).grade is Grade.YES
    assert main(["merge", *files, "-o", str(tmp_path / "abc.h5")]) == 0
    assert "warning: " in capsys.readouterr().err
    with open_descriptors(tmp_path / "abc.h5") as found:
        verdict = compare(A, found)
        assert verdict.grade is Grade.WARNING
        assert "references were put together from rows made in fp32 and int8" in verdict.remarks[-1].words
        with pytest.warns(PrecisionWarning):
            assert len(search(A, found, k=1)) == 4
    assert main(["convert", *files[:2], "-o", str(tmp_path / "converted.h5")]) == 0
    assert "note: " in capsys.readouterr().err
    assert content(tmp_path / "converted.h5")["order"] == list("abcdef")


@pytest.mark.parametrize(
    "meta",
    [
        {**PLAIN, "normalization": NES},
        other(checkpoint_sha256="d" * 64),
        {},
        {**PLAIN, "engine_id": "b", "engine": None},
    ],
)
def test_what_search_would_refuse_is_not_put_together(tmp_path, meta):
    files = [write(tmp_path / "a.h5", A), write(tmp_path / "b.h5", made(2, "ef", meta=meta))]
    with pytest.raises(MismatchError, match=r"different engines or normalised differently \(.*\); keep them apart"):
        merge_descriptors(files, tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()


def test_the_output_may_be_an_input_and_is_tried_first(tmp_path):
    a, b = write(tmp_path / "a.h5", A), write(tmp_path / "b.h5", B)
    merge_descriptors([a, b], a)
    assert content(a)["order"] == list("abcdefg")
    remove_descriptors(a, ["e", "a"], a)
    rename_descriptors(a, {"b": "B"}, a)
    assert content(a)["order"] == list("Bcdfg")
    before = a.read_bytes()
    for output in (tmp_path / "no" / "c.h5", tmp_path / "c.csv"):
        with pytest.raises(OutputError):
            merge_descriptors([tmp_path / "missing.h5"], output)
        with pytest.raises(OutputError):
            remove_descriptors(tmp_path / "missing.h5", ["b"], output)
        with pytest.raises(OutputError):
            rename_descriptors(tmp_path / "missing.h5", {"b": "c"}, output)
    assert a.read_bytes() == before


def test_removing_takes_rows_failures_and_notes(tmp_path):
    a = write(tmp_path / "a.h5", A)
    result = remove_descriptors(a, ["b", "x", "nobody"], tmp_path / "out.h5")
    assert (result.count, result.failures, result.left_out, result.unknown) == (3, 1, 1, 1)
    before, after = content(a), content(tmp_path / "out.h5")
    assert after["rows"] == {id_: row for id_, row in before["rows"].items() if id_ != "b"}
    assert after["failures"] == [entry for entry in before["failures"] if entry[0].id == "y"]
    assert after["notes"] == []
    with pytest.raises(InputError, match="all 4 descriptors"):
        remove_descriptors(a, "abcd", tmp_path / "none.h5")
    assert not (tmp_path / "none.h5").exists()
    for ids, unknown in (([], 0), (["nobody"], 1)):  # so that the same command may be repeated
        same = remove_descriptors(a, ids, tmp_path / "same.h5")
        assert (same.count, same.left_out, same.unknown) == (4, 0, unknown)
        assert content(tmp_path / "same.h5")["rows"] == before["rows"]


def test_renaming_reaches_the_ledgers(tmp_path):
    a = write(tmp_path / "a.h5", A)
    result = rename_descriptors(a, {"b": "new/b", "y": "new/y", "nobody": "n", "a": "c", "c": "a"}, tmp_path / "out.h5")
    assert (result.count, result.unknown) == (4, 1)
    before, after = content(a), content(tmp_path / "out.h5")
    assert after["order"] == ["c", "new/b", "a", "d"]
    assert list(after["rows"].values()) == list(before["rows"].values())
    assert [row.id for row, _ in after["failures"]] == ["x", "new/y"]
    assert [note.id for note in after["notes"]] == ["new/b"]
    with pytest.raises(FormatError, match=r"two descriptors of .* would have the id 'a'"):
        rename_descriptors(a, {"b": "a"}, tmp_path / "twice.h5")
    assert not (tmp_path / "twice.h5").exists()
    with pytest.raises(InputError, match=r"the new id of 'b' is empty; give it a name"):
        rename_descriptors(a, {"a": "z", "b": ""}, tmp_path / "empty.h5")
    assert not (tmp_path / "empty.h5").exists()


def test_an_extraction_goes_on_after_a_removal(tmp_path, folder_of):
    """What was removed and is still in the folder is described again, and only that; a renamed file is another thing."""
    folder, output = folder_of(tmp_path / "in", 5), tmp_path / "out.h5"
    extract(folder, FakeEngine(), output)
    whole = output.read_bytes()
    ids = content(output)["order"]
    remove_descriptors(output, ids[1:3], output)
    assert extract(folder, FakeEngine(), output).computed == 2
    assert output.read_bytes() == whole
    remove_descriptors(output, ids[1:3], output)
    for photo in sorted(folder.iterdir())[1:3]:
        photo.unlink()
    assert extract(folder, FakeEngine(), output).computed == 0
    rename_descriptors(output, {ids[0]: "else"}, output)
    with pytest.raises(MismatchError, match="not a result of isc-fast extract"):
        extract(folder, FakeEngine(), output)


def test_a_file_without_stamps_is_not_taken_for_complete_after_a_removal(tmp_path, folder_of):
    folder, output = folder_of(tmp_path / "in", 4), tmp_path / "out.h5"
    extract(folder, FakeEngine(), output)
    with open_descriptors(output) as found:
        old = Descriptors(found.vectors[:], list(found.ids), found.meta)
    write_descriptors(output, old)
    remove_descriptors(output, [old.ids[0]], output)
    with pytest.raises(MismatchError):
        extract(folder, FakeEngine(), output)


def test_dedups_list_of_what_could_go(tmp_path, photos, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for photo in photos[:4]:
        (folder / photo.name).symlink_to(photo)
    with Image.open(photos[0]) as image:
        image.convert("RGB").save(folder / "a, copy.jpg", quality=50)
    for form in ("csv", "json", "jsonl", "parquet"):
        assert main(["dedup", str(folder), "-o", str(tmp_path / "out"), "--format", form, "--nemo"]) == 0
        lists = [tmp_path / "out" / f"remove.{form}", tmp_path / "out" / "remove-nemo"]
        capsys.readouterr()
        for number, ids in enumerate(lists):
            command = ["remove", str(tmp_path / "out" / "photos.h5"), "--ids", str(ids)]
            assert main([*command, "-o", str(tmp_path / f"{form}{number}.h5"), "--json"]) == 0
            printed = json.loads(capsys.readouterr().out)
            assert (printed["count"], printed["left_out"], printed["unknown"]) == (4, 1, 0)


IDS = ["a", "b, c", 'd"e', "f g", "ü", "7"]


@pytest.mark.parametrize("name", ["ids.txt", "ids", "ids.csv", "ids.json", "ids.jsonl", "ids.parquet"])
def test_every_list_gives_the_same_ids_and_names(tmp_path, name):
    path, suffix = tmp_path / name, os.path.splitext(name)[1][1:]
    new = [f"new {id_}" for id_ in IDS]
    if suffix in ("txt", ""):
        path.write_text("\ufeff" + "\r\n".join(IDS) + "\n")
    else:
        columns = {"score": float, "id": str, "new_id": str}
        write_rows(tmp_path, "ids", suffix, columns, [(0.5, *row) for row in zip(IDS, new, strict=True)])
    assert read_ids(path) == IDS
    if suffix in ("txt", ""):
        path.write_text("".join(f"{a}\t{b}\n" for a, b in zip(IDS, new, strict=True)))
    assert read_new_names(path) == dict(zip(IDS, new, strict=True))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "path\na\n", "has path; expected the columns id and new_id, or a .txt"),
        ("x.csv", "id,new_id\na\n", "expected text in id and new_id"),
        ("x.csv", "id,new_id\na,b\na,c\n", "gives the id 'a' two new ones: 'b' and 'c'"),
        ("x.jsonl", '{"id": 1.5, "new_id": "x"}\n', "expected text in id and new_id"),
        ("x.json", '{"id": 1}', "expected a list of objects"),
        ("x.json", "[", "is no JSON"),
        ("x.json", "[3]", "has 3; expected the columns"),
        ("x.txt", "a\n", "line 1 of .* is 'a'; expected id<TAB>new_id"),
        ("x.parquet", "no", "expected a Parquet file"),
    ],
)
def test_lists_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises((FormatError, InputError), match=message):
        read_new_names(tmp_path / name)
    for missing in (tmp_path / f"missing{os.path.splitext(name)[1]}", tmp_path):
        with pytest.raises((FormatError, InputError)):
            read_new_names(missing)


def test_the_verbs_print_what_they_did(tmp_path, capsys):
    a, b = (str(write(tmp_path / f"{name}.h5", found)) for name, found in (("a", A), ("b", made(2, "de"))))
    assert main(["merge", a, b, "-o", a]) == 1
    assert "occurs twice" in capsys.readouterr().err
    assert main(["merge", a, b, "-o", str(tmp_path / "c.h5"), "--prefer", "last"]) == 0
    assert "5 descriptors of 2 files; 1 with ids of others were left out" in capsys.readouterr().out
    with open(tmp_path / "map.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "new_id"), ("a", "A, 1"), ("q", "r")])
    assert main(["rename", a, "--ids", str(tmp_path / "map.csv"), "-o", a]) == 0
    printed = capsys.readouterr()
    assert "4 descriptors" in printed.out
    assert "1 ids of" in printed.err
    assert content(a)["order"] == ["A, 1", "b", "c", "d"]
    assert V107["name"] in json.dumps(open_meta(a))


def open_meta(path):
    with open_descriptors(path) as found:
        return dict(found.meta)


@pytest.mark.parametrize(
    ("form", "name"),
    [("isc-fast", "x.h5"), ("kit", "x.h5"), ("npy", "x.npy"), ("clip-retrieval", "x"), ("submission", "x.h5")],
)
def test_what_is_put_together_can_be_written_in_every_format(tmp_path, form, name):
    a, b = (write(tmp_path / f"{name}.h5", found) for name, found in (("a", made(1, "ab")), ("b", made(2, "cd"))))
    named = ["query=", "reference="] if form == "submission" else [""]
    inputs = [f"{side}{file}" for side in named for file in (a, b)]
    out = str(tmp_path / name)
    assert main(["convert", *inputs, "--unit-length", "--to", form, "-o", out]) == 0
    found = read_descriptors(out, which="query" if form == "submission" else None)
    assert sorted(found.ids) == list("abcd")
    rows = dict(zip(found.ids, found.vectors, strict=True))
    for id_, row in zip("abcd", [*made(1, "ab").vectors, *made(2, "cd").vectors], strict=True):
        np.testing.assert_allclose(rows[id_], row, atol=1e-6)
