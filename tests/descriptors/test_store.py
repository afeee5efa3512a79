"""Descriptor files: nothing is lost, nothing half-written is ever found, and what is no such file says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from oracles import named, unit_rows

from isc_fast.descriptors.store import Descriptors, in_memory, load_descriptors, open_descriptors
from isc_fast.descriptors.texts import StoredIds, ids_at, repeated_id
from isc_fast.descriptors.writing import write_blocks, write_descriptors
from isc_fast.errors import FormatError, OutputError
from isc_fast.items import Failure

IDS = [
    "Q00001",
    "",
    " a b ",
    "Zoë/写真/🙂.jpg",
    "a,b\"c'\n\t\\",
    os.fsdecode(b"\xff\xfe/caf\xe9.jpg"),
    "x" * 70_000,
]
META = {"engine_id": "e" * 64, "engine": {"preset": "v107", "sizes": [512, 1.5, None]}, "note": "ü" * 70_000}
FAILURES = [
    Failure("bad", os.fsdecode(b"in/\xff.jpg"), "decode", "cut short 🙂"),
    Failure("", "", "", ""),
    *(Failure(f"f{i}", f"in/f{i}.jpg", "read", "no such file") for i in range(3000)),
]


def odd_descriptors(failures=FAILURES):
    vectors = np.random.default_rng(0).normal(size=(len(IDS), 5)).astype(np.float32)
    vectors[0] = [-0.0, 1e-45, np.finfo(np.float32).max, np.inf, 1 / 3]
    return Descriptors(vectors, IDS, META, failures)


def assert_equal(found, expected):
    np.testing.assert_array_equal(
        np.asarray(found.vectors[:]).view(np.uint32), np.asarray(expected.vectors[:]).view(np.uint32)
    )
    assert list(found.ids) == list(expected.ids)
    assert dict(found.meta) == dict(expected.meta)
    assert list(found.failures) == list(expected.failures)


@pytest.mark.parametrize("failures", [FAILURES, []], ids=["failures", "none"])
def test_round_trip(tmp_path, failures):
    expected = odd_descriptors(failures)
    write_descriptors(tmp_path / "a.h5", expected)
    found = load_descriptors(tmp_path / "a.h5")
    assert_equal(found, expected)
    assert isinstance(found.vectors, np.ndarray)
    assert found.vectors.dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 256), (1, 1), (3, 0), (70_000, 2)])
def test_round_trip_of_shapes(tmp_path, shape):
    expected = named(np.random.default_rng(0).normal(size=shape))
    write_descriptors(tmp_path / "a.h5", expected)
    assert_equal(load_descriptors(tmp_path / "a.h5"), expected)


def test_any_hdf5_reader_opens_it(tmp_path):
    write_descriptors(tmp_path / "a.h5", odd_descriptors())
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["vectors"].dtype, file["vectors"].shape) == (np.float32, (len(IDS), 5))
        assert h5py.check_string_dtype(file["ids"].dtype).encoding == "utf-8"
        assert [id_.decode("utf-8", "surrogateescape") for id_ in file["ids"]] == IDS
        assert [name.decode() for name in file["failures/stage"][:3]] == ["decode", "", "read"]
        assert json.loads(file.attrs["isc_fast"]) == {"version": 1, **META}


def test_same_input_same_bytes(tmp_path):
    """Also from other blocks, after other work, and with the keys of the meta data in another order."""
    expected = odd_descriptors()
    write_descriptors(tmp_path / "a.h5", expected)
    load_descriptors(tmp_path / "a.h5")
    turned = dict(reversed(META.items()))
    blocks = (expected.vectors[i : i + 3] for i in range(0, len(IDS), 3))
    write_blocks(tmp_path / "b.h5", blocks, ids=IDS, dim=5, meta=turned, failures=FAILURES)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_vectors_stay_on_disk_until_they_are_read(tmp_path):
    expected = named(unit_rows(0, 10, 4), engine_id="e")
    write_descriptors(tmp_path / "a.h5", expected)
    with open_descriptors(tmp_path / "a.h5") as found:
        assert isinstance(found.vectors, h5py.Dataset)
        assert (len(found), found.dim) == (10, 4)
        assert [len(block) for block in found.blocks(4)] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(list(found.blocks(4))), expected.vectors)
        assert found.content_id() == expected.content_id()
    assert not found.vectors  # closed


def test_ids_stay_on_disk_until_they_are_read(tmp_path, monkeypatch):
    ids = [*IDS, *(f"id{i}" for i in range(9000))]
    write_descriptors(tmp_path / "a.h5", Descriptors(np.zeros((len(ids), 2), np.float32), ids))
    with open_descriptors(tmp_path / "a.h5") as found:
        monkeypatch.setattr(StoredIds, "read", lambda *rows: pytest.fail(f"ids {rows} were read"))
        assert (len(found), repeated_id(found.ids)) == (len(ids), None)
        rows = np.array([9003, 2, 0, 2, 4000, len(ids) - 1, 2])
        assert ids_at(found.ids, rows) == ids_at(ids, rows) == [ids[row] for row in rows]
        assert ids_at(found.ids, rows[:0]) == []
        assert len({id(text) for text in ids_at(found.ids, rows[[1, 3, 6]])}) == 1, "one string, however often"
        monkeypatch.undo()
        assert found.ids == ids
        assert found.ids[4090:4100] == ids[4090:4100]
        kept = in_memory(found)
    assert kept.ids == ids, "they outlast the file"
    assert isinstance(kept.ids[3], str)


@pytest.mark.parametrize(("ids", "unique"), [(["a", "b", "c"], True), (["a", "b", "a"], False), ([], True)])
def test_a_file_says_whether_its_ids_are_unique(tmp_path, ids, unique):
    write_blocks(tmp_path / "a.h5", [np.zeros((len(ids), 4), np.float32)], ids=ids, dim=4, meta={})
    with open_descriptors(tmp_path / "a.h5") as found:
        assert found.ids.unique == unique
        assert repeated_id(found.ids) == (None if unique else "a")


def test_a_file_that_does_not_say_so_is_looked_at(tmp_path):
    by_hand(tmp_path / "a.h5", ids=np.array(["b", "b"], TEXT))
    with open_descriptors(tmp_path / "a.h5") as found:
        assert not found.ids.unique
        assert repeated_id(found.ids) == "b"


class Same(str):
    """Texts of one hash."""

    def __hash__(self):
        return 7


@pytest.mark.parametrize(
    ("ids", "twice"),
    [
        ([], None),
        (["a", "b", "c"], None),
        (["a", "b", "c", "b", "a"], "b"),
        (["", "x", ""], ""),
        ([Same("a"), Same("b"), Same("c")], None),
        ([Same("a"), Same("b"), Same("c"), Same("b")], "b"),
    ],
)
def test_the_first_id_that_is_repeated(ids, twice):
    assert repeated_id(ids) == twice


def test_content_id_is_of_the_numbers_alone():
    rows = unit_rows(0, 6, 4)
    same = named(rows).content_id()
    assert same == replace(named(rows, "other", engine_id="e"), failures=FAILURES).content_id()
    assert same == named(np.asfortranarray(rows)).content_id() == named(rows.astype(np.float64)).content_id()
    other = rows.copy()
    other[5, 3] = np.nextafter(other[5, 3], np.float32(2))
    shapes = [rows.reshape(4, 6), rows.reshape(24, 1), rows[:5], rows[::-1], other, np.zeros((0, 4)), np.zeros((0, 5))]
    ids = [same, *(named(shape).content_id() for shape in shapes)]
    assert len(set(ids)) == len(ids)
    assert len(same) == 64


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 4)], "3 rows of descriptors for 5 ids"),
        ([], "0 rows of descriptors for 5 ids"),
        ([(3, 4), (3, 4)], r"block of shape \(3, 4\) at row 3 does not fit into 5 × 4"),
        ([(5, 4), (1, 4)], "at row 5"),
        ([(5, 3)], r"\(5, 3\) at row 0"),
        ([(20,)], r"\(20,\) at row 0"),
    ],
)
def test_blocks_that_do_not_add_up(tmp_path, shapes, message):
    with pytest.raises(FormatError, match=message):
        write_blocks(tmp_path / "a.h5", map(np.zeros, shapes), ids=["i"] * 5, dim=4, meta={})
    assert os.listdir(tmp_path) == []


def test_empty_blocks_are_fine(tmp_path):
    blocks = [np.zeros((n, 4), np.float32) for n in (0, 2, 0, 3, 0)]
    write_blocks(tmp_path / "a.h5", blocks, ids=["i"] * 5, dim=4, meta={})
    assert len(load_descriptors(tmp_path / "a.h5")) == 5


def test_columns_that_do_not_belong_together():
    for shape, count in (((3, 4), 2), ((3,), 3), ((3, 4, 5), 3)):
        with pytest.raises(FormatError, match=f"do not go with {count} ids"):
            Descriptors(np.zeros(shape, np.float32), ["i"] * count)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("old", [True, False])
def test_an_interruption_leaves_the_old_file(tmp_path, error, old):
    if old:
        write_descriptors(tmp_path / "a.h5", named(unit_rows(0, 9, 4)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def blocks():
        yield np.zeros((2, 4), np.float32)
        assert len(list(tmp_path.iterdir())) == len(before) + 1  # the temporary file
        raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        write_blocks(tmp_path / "a.h5", blocks(), ids=["i"] * 5, dim=4, meta={})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_new_file_replaces_the_old_one_in_one_step(tmp_path):
    rows = unit_rows(0, 9, 4)
    write_descriptors(tmp_path / "a.h5", named(rows))
    with open_descriptors(tmp_path / "a.h5") as old:
        before = (tmp_path / "a.h5").stat().st_ino
        write_descriptors(tmp_path / "a.h5", named(old.vectors[:2]))  # reading what is being replaced
        np.testing.assert_array_equal(old.vectors[:], rows)
        assert (tmp_path / "a.h5").stat().st_ino != before
    assert len(load_descriptors(tmp_path / "a.h5")) == 2
    assert os.listdir(tmp_path) == ["a.h5"]


def test_temporary_files_go_to_the_scratch_folder(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def blocks():
        assert len(os.listdir(scratch)) == 1
        yield np.zeros((5, 4), np.float32)

    write_blocks(tmp_path / "a.h5", blocks(), ids=["i"] * 5, dim=4, meta={}, scratch=scratch)
    assert (os.listdir(scratch), len(load_descriptors(tmp_path / "a.h5"))) == ([], 5)


@pytest.mark.parametrize("name", ["写" * 84 + ".h5", "x" * 252 + ".h5", "🙂" * 63 + ".h5"])
def test_names_as_long_as_the_system_allows(tmp_path, name):
    write_descriptors(tmp_path / name, named(unit_rows(0, 2, 4)))
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(("id_", "message"), [("a\0b", "zero byte"), ("\ud800", "lone surrogate")])
def test_ids_that_no_file_can_hold(tmp_path, id_, message):
    with pytest.raises(FormatError, match=message):
        write_descriptors(tmp_path / "a.h5", Descriptors(np.zeros((1, 4), np.float32), [id_]))
    assert os.listdir(tmp_path) == []


def test_ids_that_occur_twice(tmp_path):
    with pytest.raises(FormatError, match="the id 'b' occurs twice"):
        write_descriptors(tmp_path / "a.h5", Descriptors(np.zeros((4, 4), np.float32), ["a", "b", "c", "b"]))
    assert os.listdir(tmp_path) == []


def test_a_strange_reason_does_not_cost_the_run(tmp_path):
    failures = [Failure("f", "f.jpg", "decode", "bad marker \0 at \ud800")]
    write_descriptors(tmp_path / "a.h5", replace(named(np.zeros((1, 4))), failures=failures))
    (found,) = load_descriptors(tmp_path / "a.h5").failures
    assert found == Failure("f", "f.jpg", "decode", r"bad marker \0 at \ud800")


def test_meta_cannot_forge_the_version(tmp_path):
    write_descriptors(tmp_path / "a.h5", named(np.zeros((1, 4)), version=7))
    assert len(load_descriptors(tmp_path / "a.h5")) == 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "it is a folder"),
        ("folder", "it is a folder"),
        ("none/a.h5", "its folder does not exist"),
        ("file/a.h5", "a part of its path is a file, not a folder"),
        ("pipe", "device or a pipe"),
    ],
)
def test_places_that_cannot_be_written(tmp_path, place, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    blocks = iter([np.zeros((1, 4), np.float32)])
    with pytest.raises(OutputError, match=f"cannot write .*{message}"):
        write_blocks(tmp_path / place, blocks, ids=["i"], dim=4, meta={})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]
    assert next(blocks, None) is not None  # it was seen before any work


# One child process writes in every format under a file-size limit. The smallest limit strikes at once; the largest
# strikes only in what HDF5 holds back until it closes the file, where an ordinary write crashes the process.
LIMITED = """
    import hashlib, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from isc_fast.descriptors.formats.clip_retrieval import write_clip_retrieval
    from isc_fast.descriptors.formats.kit import write_kit
    from isc_fast.descriptors.formats.submission import write_submission
    from isc_fast.descriptors.formats.table import convert
    from isc_fast.matching.lists import matches
    from isc_fast.errors import OutputError
    from isc_fast.descriptors.store import Descriptors
    from isc_fast.descriptors.writing import write_descriptors

    rows = Descriptors(np.ones((2000, 64), np.float32), [f"id{i:06d}" for i in range(2000)])
    narrow = Descriptors(rows.vectors[:, :1], [hashlib.md5(id_.encode()).hexdigest() for id_ in rows.ids])
    pairs = matches.Matches([f"query{i}" for i in range(60_000)], ["r"] * 60_000, np.ones(60_000, np.float32))
    WRITERS = {
        "ours": lambda path: write_descriptors(path, rows),
        "submission": lambda path: write_submission(path, rows, rows),
        "reference": lambda path: convert(dict(query=rows, reference=rows, train=rows), path, "reference"),
        "kit": lambda path: write_kit(path, rows),
        "clip": lambda path: write_clip_retrieval(path, rows),
        "clip of narrow rows": lambda path: write_clip_retrieval(path, narrow),  # the ids are the larger file
        "matches.csv": lambda path: matches.write_matches(path, pairs),
        "matches.jsonl": lambda path: matches.write_matches(path, pairs),
    }
    folder = Path(sys.argv[1])
    sizes = {}
    for name, write in WRITERS.items():  # also imports everything before the limit
        write(folder / name)
        files = [path for path in folder.rglob("*") if path.is_file()]
        sizes[name] = max(path.stat().st_size for path in files)
        for path in files:
            path.unlink()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name, write in WRITERS.items():
        for limit in (0, 100, 4096, sizes[name] // 2, sizes[name] - 300, sizes[name] - 1):
            old = folder / name
            if not old.is_dir():
                old.write_text("old")
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                write(old)
                outcome = "was written"
            except OutputError as error:
                outcome = str(error).replace(str(folder), "")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
            kept = old.is_dir() or old.read_text() == "old"
            print(name, limit, kept, left == ([] if old.is_dir() else [name]), outcome, sep="|")
            old.is_dir() or old.unlink()
"""


def test_a_size_limit_or_full_disk_is_an_error_and_nothing_worse(tmp_path):
    pytest.importorskip("pyarrow")
    script = tmp_path / "limited.py"
    script.write_text(textwrap.dedent(LIMITED))
    (tmp_path / "out").mkdir()
    command = [sys.executable, str(script), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert len(lines) == 8 * 6
    for name, limit, old_is_kept, nothing_else, outcome in lines:
        assert (old_is_kept, nothing_else) == ("True", "True"), (name, limit, outcome)
        assert outcome.startswith(f"cannot write /{name}"), (name, limit, outcome)
        assert "larger than the system allows" in outcome, (name, limit, outcome)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_pipe_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="device or a pipe"):
        write_descriptors(tmp_path / "pipe", named(np.zeros((1, 4))))
    assert (tmp_path / "pipe").is_fifo()


# --- files that are not what they should be


def test_cut_short_anywhere(tmp_path):
    write_descriptors(tmp_path / "whole.h5", odd_descriptors(FAILURES[:20]))
    data = (tmp_path / "whole.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    for size in sorted({*range(0, 200, 7), *range(0, len(data), 4999), len(data) - 1, len(data) - 512}):
        cut.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"cut\.h5"):
            load_descriptors(cut)


@pytest.mark.parametrize("data", [b"", b"query_id,reference_id,score\n", b"\x89HDF\r\n\x1a\n", bytes(5000)])
def test_no_hdf5_at_all(tmp_path, data):
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(
        FormatError, match=r"a\.h5 is not an HDF5 file, or it was cut short; expected .*isc-fast extract"
    ):
        load_descriptors(tmp_path / "a.h5")


def test_no_file_at_all(tmp_path):
    with pytest.raises(FormatError, match=r"there is no .*a\.h5"):
        load_descriptors(tmp_path / "a.h5")
    with pytest.raises(FormatError, match=r"cannot read .*: it is a folder; expected a descriptor file"):
        load_descriptors(tmp_path)


TEXT = h5py.string_dtype()
LAYOUT = {
    "vectors": np.ones((2, 3), np.float32),
    "ids": np.array(["a", "b"], TEXT),
    **{f"failures/{name}": np.array(["x"], TEXT) for name in ("id", "path", "stage", "reason")},
}


def by_hand(path, attribute='{"version": 1}', **changed):
    """A file in our layout made by plain h5py; None leaves a data set out, an empty dict makes it a group."""
    with h5py.File(path, "w") as file:
        if attribute is not None:
            file.attrs["isc_fast"] = attribute
        for name, data in {**LAYOUT, **changed}.items():
            if isinstance(data, dict):
                file.create_group(name)
            elif data is not None:
                file.create_dataset(name, data=data)


def test_a_file_made_by_hand_is_read(tmp_path):
    by_hand(tmp_path / "a.h5", '{"version": 1, "engine_id": "e"}')
    expected = Descriptors(LAYOUT["vectors"], ["a", "b"], {"engine_id": "e"}, [Failure("x", "x", "x", "x")])
    assert_equal(load_descriptors(tmp_path / "a.h5"), expected)


@pytest.mark.parametrize("attribute", [None, "", "no JSON", "[1]", "7", "null", "{}", 7, np.arange(3), h5py.Empty("f")])
def test_foreign_hdf5(tmp_path, attribute):
    by_hand(tmp_path / "a.h5", attribute)
    with pytest.raises(FormatError, match=r"a\.h5 is an HDF5 file, but not descriptors made by isc-fast"):
        load_descriptors(tmp_path / "a.h5")


@pytest.mark.parametrize("version", [3, 0, "1.0", None])
def test_other_versions(tmp_path, version):
    by_hand(tmp_path / "a.h5", json.dumps({"version": version}))
    with pytest.raises(FormatError, match=rf"a\.h5 has format version {version}; this isc-fast reads 1 and 2"):
        load_descriptors(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in LAYOUT),
        {"vectors": {}},
        {"vectors": np.ones(2)},
        {"vectors": np.ones((3, 3))},
        {"vectors": np.float32(1)},
        {"vectors": np.array([["a"], ["b"]], TEXT)},
        {"vectors": np.ones((2, 3), np.int64)},
        {"ids": {}},
        {"ids": np.array(["a"], TEXT)},
        {"ids": np.arange(2)},
        {"ids": np.array([["a"], ["b"]], TEXT)},
        {"ids": 7},
        {"ids": np.ones(2, np.float32)},
        {"failures/id": np.array([], TEXT)},
        {"failures/stage": np.arange(1)},
    ],
    ids=lambda changed: "-".join(f"{name} {getattr(data, 'shape', data)}" for name, data in changed.items()),
)
def test_damaged_layout(tmp_path, changed):
    by_hand(tmp_path / "a.h5", **changed)
    with pytest.raises(FormatError, match=r"a\.h5 is damaged"):
        load_descriptors(tmp_path / "a.h5")
