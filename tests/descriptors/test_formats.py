"""Every format made by plain h5py, numpy and pyarrow and read by us; and ours, checked to the letter by the same."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from helpers_formats import (
    QUERIES,
    QUERY,
    REFERENCE,
    REFERENCES,
    TRAIN,
    TRAINING,
    assert_equal,
    clip_retrieval,
    fixed,
    hdf5,
    submission,
)
from oracles import named, unit_rows

from isc_fast.descriptors.concatenation import concatenate
from isc_fast.descriptors.formats.clip_retrieval import write_clip_retrieval
from isc_fast.descriptors.formats.kit import write_kit
from isc_fast.descriptors.formats.submission import write_submission
from isc_fast.descriptors.formats.table import FORMATS, convert, find_format, read_descriptors
from isc_fast.descriptors.store import Descriptors
from isc_fast.errors import FormatError
from isc_fast.items import Failure

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


# --- made by others, read by us


def test_submission_is_read(tmp_path):
    path = submission(tmp_path / "s.h5")
    assert find_format(path).name == "submission"
    assert_equal(read_descriptors(path, which="query"), QUERY, QUERIES.ids)
    assert_equal(read_descriptors(path, which="reference"), REFERENCE, REFERENCES.ids)


@pytest.mark.parametrize("kind", ["S20", "variable"])
def test_ids_of_any_string_type_are_read(tmp_path, kind):
    ids = np.array(QUERIES.ids, h5py.string_dtype() if kind == "variable" else kind)
    assert read_descriptors(submission(tmp_path / "s.h5", query_ids=ids), which="query").ids == QUERIES.ids
    assert read_descriptors(hdf5(tmp_path / "k.h5", vectors=QUERY, image_names=ids)).ids == QUERIES.ids


@pytest.mark.parametrize("one", ["query", "reference"])
def test_a_submission_of_one_set_needs_no_choice(tmp_path, one):
    other = {"query": "reference", "reference": "query"}[one]
    path = submission(tmp_path / "s.h5", **{other: None, f"{other}_ids": None})
    assert len(read_descriptors(path)) == {"query": 4, "reference": 6}[one]
    with pytest.raises(FormatError, match=f"no set '{other}'; choose one of {one}"):
        read_descriptors(path, which=other)


def test_training_vectors(tmp_path):
    """In the file, with ids or without; or beside it, as the reference solution has them."""
    rows = [f"train/{i}" for i in range(5)]
    path = submission(tmp_path / "inside.h5", train=TRAIN)
    assert_equal(read_descriptors(path, which="train"), TRAIN, rows)
    path = submission(tmp_path / "ids.h5", train=TRAIN, train_ids=fixed(TRAINING.ids))
    assert_equal(read_descriptors(path, which="train"), TRAIN, TRAINING.ids)
    np.save(tmp_path / "train_feats.npy", TRAIN[::-1])
    assert_equal(read_descriptors(submission(tmp_path / "beside.h5"), which="train"), TRAIN[::-1], rows)
    assert_equal(read_descriptors(submission(tmp_path / "both.h5", train=TRAIN), which="train"), TRAIN, rows)


def test_training_vectors_of_phase_2(tmp_path):
    """The published v107 leaves ``fb-isc-submission-phase2.h5`` and ``train_feats_phase2.npy``."""
    rows = [f"train/{i}" for i in range(5)]
    path = submission(tmp_path / "fb-isc-submission-phase2.h5")
    np.save(tmp_path / "train_feats.npy", TRAIN[::-1])
    assert_equal(read_descriptors(path, which="train"), TRAIN[::-1], rows)
    np.save(tmp_path / "train_feats_phase2.npy", TRAIN)
    assert_equal(read_descriptors(path, which="train"), TRAIN, rows)
    assert_equal(read_descriptors(tmp_path / "train_feats_phase2.npy"), TRAIN, rows)
    first = submission(tmp_path / "fb-isc-submission.h5")
    assert_equal(read_descriptors(first, which="train"), TRAIN[::-1], rows)
    sets = {"query": QUERIES, "reference": REFERENCES, "train": named(TRAIN * 2)}
    convert(sets, tmp_path / "fb-isc-submission-phase2.h5", "reference")
    np.testing.assert_array_equal(np.load(tmp_path / "train_feats_phase2.npy"), TRAIN * 2)
    np.testing.assert_array_equal(np.load(tmp_path / "train_feats.npy"), TRAIN[::-1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_an_array_and_its_list_of_ids(tmp_path, dtype, end):
    np.save(tmp_path / "v.npy", np.asfortranarray(QUERY.astype(dtype)))
    ids = ["a b", "写真/b.jpg", "c,d\x85", "e"]
    (tmp_path / "v.txt").write_bytes(("\r\n" if end == "\r\n" else "\n").join(ids).encode() + end.encode())
    assert find_format(tmp_path / "v.npy").name == "npy"
    assert_equal(read_descriptors(tmp_path / "v.npy"), QUERY.astype(dtype).astype(np.float32), ids)


@pytest.mark.parametrize("ids", [QUERIES.ids, ["a\x85", os.fsdecode(b"\xff"), "写", " "]])
def test_an_array_is_written_for_numpy(tmp_path, ids):
    convert({"": Descriptors(QUERY, ids)}, tmp_path / "v.npy", "npy")
    found = np.load(tmp_path / "v.npy", allow_pickle=False)
    np.testing.assert_array_equal(found, QUERY)
    assert os.fsdecode((tmp_path / "v.txt").read_bytes()) == "".join(f"{id_}\n" for id_ in ids)
    assert_equal(read_descriptors(tmp_path / "v.npy"), QUERY, ids)
    convert({"": named(np.empty((0, 8)))}, tmp_path / "v.npy", "npy")
    assert read_descriptors(tmp_path / "v.npy").vectors.shape == (0, 8)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (None, r"v\.npy holds vectors without ids; expected them in .*v\.txt, one a line"),
        ("a\nb\nc\n", r"v\.txt has 3 lines; expected 4 ids"),
        ("", r"v\.txt has 0 lines; expected 4 ids"),
        ("a\nb\n\nd\n", r"line 3 of .*v\.txt is empty"),
        ("a\nb\na\nd\n", r"the id 'a' occurs twice in .*v\.txt"),
    ],
)
def test_bad_lists_of_ids(tmp_path, listed, message):
    np.save(tmp_path / "v.npy", QUERY)
    if listed is not None:
        (tmp_path / "v.txt").write_text(listed)
    with pytest.raises(FormatError, match=message):
        read_descriptors(tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("name", "id_", "message"),
    [
        ("v.txt", "a", r"v\.txt is where the ids go; write to .*v\.npy"),
        ("v.npy", "a\nb", "holds a line end"),
        ("v.npy", "", "is empty"),
        ("v.npy", "\ud800", "no text"),
        ("v.npy", "q", "the id 'q' occurs twice"),
    ],
)
def test_what_an_array_cannot_hold(tmp_path, name, id_, message):
    with pytest.raises(FormatError, match=message):
        convert({"": Descriptors(QUERY[:2], ["q", id_])}, tmp_path / name, "npy")
    assert os.listdir(tmp_path) == []


def test_several_sets_need_a_choice(tmp_path):
    for path, sets in (
        (submission(tmp_path / "s.h5"), "query, reference"),
        (submission(tmp_path / "t.h5", train=TRAIN), "query, reference, train"),
    ):
        with pytest.raises(FormatError, match=rf"holds several sets; choose one of {sets} \(--set, in Python which=\)"):
            read_descriptors(path)
    with pytest.raises(FormatError, match="has no set 'train'; choose one of query, reference"):
        read_descriptors(tmp_path / "s.h5", which="train")


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("Q00001", "Q00001"),
        ("Q00001.jpg", "Q00001"),
        ("query_images/deep/Q00001.png", "Q00001"),
        ("/absolute/Q00001.jpg", "Q00001"),
        ("Q00001.jpeg", "Q00001.jpeg"),
        ("Q00001.JPG", "Q00001.JPG"),
        ("a.b.c.jpg", "a.b.c"),
        ("x.png.jpg", "x.png"),  # one suffix, as the kit does it
        ("x.jpg.png", "x.jpg"),
        ("folder.jpg/x", "x"),
        ("jpg", "jpg"),
    ],
)
def test_kit_names(tmp_path, name, id_):
    path = hdf5(tmp_path / "k.h5", vectors=QUERY[:2], image_names=fixed([name, "other"]))
    assert find_format(path).name == "kit"
    assert_equal(read_descriptors(path), QUERY[:2], [id_, "other"])


def test_kit_files_are_put_together(tmp_path):
    parts = [
        read_descriptors(hdf5(tmp_path / f"{i}.h5", vectors=REFERENCE[i : i + 3], image_names=fixed(ids)))
        for i, ids in ((0, ["r/a.jpg", "r/b.jpg", "r/c.jpg"]), (3, ["d", "e", "f"]))
    ]
    assert_equal(concatenate(parts), REFERENCE, "abcdef")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("column", ["image_path", "id", "key", "url"])
def test_clip_retrieval_is_read(tmp_path, dtype, column):
    parts = ((REFERENCE[:4].astype(dtype), ["a", "写真/b.jpg", "c,d", "e"]), (REFERENCE[4:].astype(dtype), ["f", "g"]))
    folder = clip_retrieval(tmp_path / "clip", *parts, column=column)
    assert find_format(folder).name == "clip-retrieval"
    found = read_descriptors(folder)
    assert_equal(found, REFERENCE.astype(dtype).astype(np.float32), ["a", "写真/b.jpg", "c,d", "e", "f", "g"])


def test_clip_retrieval_pairs_files_by_their_number(tmp_path):
    """Ten files without leading zeros: whatever their order, each keeps its own ids."""
    rows = unit_rows(4, 12, 3)
    folder = clip_retrieval(tmp_path / "clip", *((rows[i : i + 1], [i]) for i in range(12)))
    found = read_descriptors(folder)
    assert sorted(map(int, found.ids)) == list(range(12))
    np.testing.assert_array_equal(found.vectors, rows[[int(id_) for id_ in found.ids]])


def test_ours_is_read_with_all_it_knows(tmp_path):
    failures = [Failure("x", "x.jpg", "read", "gone")]
    convert({"": Descriptors(QUERY, QUERIES.ids, {"engine_id": "e"}, failures)}, tmp_path / "a.h5", "isc-fast")
    found = read_descriptors(tmp_path / "a.h5")
    assert_equal(found, QUERY, QUERIES.ids)
    assert (found.meta, found.failures) == ({"engine_id": "e"}, failures)


# --- made by us, read by others


@pytest.mark.parametrize("dialect", ["submission", "reference"])
def test_submission_to_the_letter(tmp_path, dialect):
    convert({"query": QUERIES, "reference": REFERENCES, "train": TRAINING}, tmp_path / "s.h5", dialect)
    with h5py.File(tmp_path / "s.h5") as file:
        names = {"query", "query_ids", "reference", "reference_ids"}
        assert set(file) == names | ({"train"} if dialect == "submission" else set())
        for name, side, width in (("query", QUERIES, 4), ("reference", REFERENCES, 5)):
            assert file[f"{name}_ids"].dtype == np.dtype(f"S{width}")
            assert file[name].dtype == np.float32
            ids = [id_.decode() for id_ in file[f"{name}_ids"]]
            assert ids == sorted(side.ids)
            np.testing.assert_array_equal(file[name], side.vectors[[side.ids.index(id_) for id_ in ids]])
        if dialect == "submission":
            order = [TRAINING.ids.index(id_) for id_ in sorted(TRAINING.ids)]
            np.testing.assert_array_equal(file["train"], TRAIN[order])
    if dialect == "reference":
        beside = np.load(tmp_path / "train_feats.npy", allow_pickle=False)
        assert (beside.dtype, beside.flags.c_contiguous) == (np.float32, True)
        np.testing.assert_array_equal(beside, TRAIN)
    else:
        assert os.listdir(tmp_path) == ["s.h5"]


def test_disc21_ids_are_as_wide_as_the_challenge_has_them(tmp_path):
    queries, references = (
        Descriptors(QUERY, [f"Q{i:05d}" for i in range(4)]),
        Descriptors(QUERY, [f"R{i:06d}" for i in range(4)]),
    )
    write_submission(tmp_path / "s.h5", queries, references)
    with h5py.File(tmp_path / "s.h5") as file:
        assert (file["query_ids"].dtype, file["reference_ids"].dtype) == (np.dtype("S6"), np.dtype("S7"))
        assert set(file) == {"query", "query_ids", "reference", "reference_ids"}


def test_kit_to_the_letter(tmp_path):
    write_kit(tmp_path / "k.h5", QUERIES)
    with h5py.File(tmp_path / "k.h5") as file:
        assert set(file) == {"vectors", "image_names"}
        assert (file["vectors"].dtype, file["image_names"].dtype) == (np.float32, np.dtype("S4"))
        np.testing.assert_array_equal(file["vectors"], QUERY)
        assert [name.decode() for name in file["image_names"]] == QUERIES.ids


def test_clip_retrieval_to_the_letter(tmp_path, monkeypatch):
    monkeypatch.setattr("isc_fast.descriptors.formats.clip_retrieval._ROWS_PER_FILE", 4)
    ids = ["a", "写真/b.jpg", "c,d", "e", "f", "g"]
    write_clip_retrieval(tmp_path / "clip", Descriptors(REFERENCE, ids))
    files = sorted(str(path.relative_to(tmp_path / "clip")) for path in (tmp_path / "clip").rglob("*.*"))
    assert files == [
        "img_emb/img_emb_0000.npy",
        "img_emb/img_emb_0001.npy",
        "metadata/metadata_0000.parquet",
        "metadata/metadata_0001.parquet",
    ]
    arrays = [np.load(tmp_path / "clip" / name, allow_pickle=False) for name in files[:2]]
    tables = [pq.read_table(tmp_path / "clip" / name) for name in files[2:]]
    assert [array.dtype for array in arrays] == [np.float32] * 2
    assert [len(array) for array in arrays] == [table.num_rows for table in tables] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(arrays), REFERENCE)
    assert [id_ for table in tables for id_ in table["image_path"].to_pylist()] == ids


@pytest.mark.parametrize("dialect", ["isc-fast", "kit", "clip-retrieval", "submission", "reference"])
def test_nothing_can_be_written_too(tmp_path, dialect):
    none = named(np.empty((0, 8)))
    pair = dialect in ("submission", "reference")
    sets = {"query": none, "reference": none, "train": none} if pair else {"": none}
    convert(sets, tmp_path / "out", dialect)
    found = read_descriptors(tmp_path / "out", **({"which": "query"} if pair else {}))
    assert (found.vectors.shape, list(found.ids)) == ((0, 8), [])


def test_vectors_on_disk_and_of_other_types(tmp_path):
    """Anything that is sliced like an array; the files are float32 all the same."""
    lazy = h5py.File(hdf5(tmp_path / "v.h5", v=QUERY.astype(np.float64)))["v"]
    side = Descriptors(lazy, QUERIES.ids)
    for dialect in ("isc-fast", "kit", "clip-retrieval"):
        convert({"": side}, tmp_path / dialect, dialect)
        assert_equal(read_descriptors(tmp_path / dialect), QUERY, QUERIES.ids)
    convert({"query": side, "reference": side, "train": side}, tmp_path / "reference", "reference")
    found = read_descriptors(tmp_path / "reference", which="reference")
    assert dict(zip(found.ids, found.vectors.tolist(), strict=True)) == dict(
        zip(QUERIES.ids, QUERY.tolist(), strict=True)
    )


# --- from every dialect to every other


def written(folder, dialect):
    """Both sets (and the training one where it has a place), written as the dialect asks; how to read each again."""
    folder.mkdir()
    sets = {"query": QUERIES, "reference": REFERENCES, "train": TRAINING}
    if dialect in ("submission", "reference"):
        convert(sets, folder / "all.h5", dialect)
        return {name: (folder / "all.h5", {"which": name}) for name in sets}
    for name, side in sets.items():
        convert({name: side}, folder / name, dialect)
    return {name: (folder / name, {}) for name in sets}


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_dialect_becomes_every_other(tmp_path, source, target):
    sets = {name: read_descriptors(path, **which) for name, (path, which) in written(tmp_path / "in", source).items()}
    if target in ("submission", "reference"):
        convert(sets, tmp_path / "out", target)
        found = {name: read_descriptors(tmp_path / "out", which=name) for name in sets}
    else:
        found = {}
        if target == "kit":  # which cannot hold the made-up ids train/0
            sets["train"] = Descriptors(sets["train"].vectors, TRAINING.ids)
        for name, side in sets.items():
            convert({"": side}, tmp_path / name, target)
            found[name] = read_descriptors(tmp_path / name)
    for name, side in (("query", QUERIES), ("reference", REFERENCES)):
        assert {id_: tuple(row) for id_, row in zip(found[name].ids, found[name].vectors, strict=True)} == {
            id_: tuple(row) for id_, row in zip(side.ids, side.vectors, strict=True)
        }
    assert {tuple(row) for row in found["train"].vectors} == {tuple(row) for row in TRAIN}
    assert json.loads(json.dumps(dict(found["query"].meta))) == {}
