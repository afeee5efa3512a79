"""Every format made by plain h5py, numpy and pyarrow and read by us; and ours, checked to the letter by the same."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from oracles import named, unit_rows

from isc_fast.descriptors.concatenation import concatenate
from isc_fast.descriptors.formats.base import Format, only_set
from isc_fast.descriptors.formats.clip_retrieval import write_clip_retrieval
from isc_fast.descriptors.formats.kit import write_kit
from isc_fast.descriptors.formats.submission import write_submission
from isc_fast.descriptors.formats.table import FORMATS, convert, find_format, open_any, read_descriptors
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import FormatError, InputError, MismatchError, OutputError
from isc_fast.items import Failure

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

QUERY, REFERENCE, TRAIN = unit_rows(1, 4, 8), unit_rows(2, 6, 8), unit_rows(3, 5, 8)


def ids_of(prefix, count):
    """Ids in an order that is not the sorted one, and not the sorted one of their lengths either."""
    return [f"{prefix}{i}" for i in (10, 9, 100, 1, 2, 33)[:count]]


QUERIES = Descriptors(QUERY, ids_of("Q", 4))
REFERENCES = Descriptors(REFERENCE, ids_of("R0", 6))
TRAINING = Descriptors(TRAIN, ids_of("T", 5))


def fixed(ids):
    return np.array([id_.encode("ascii") for id_ in ids])


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file[name] = data
    return path


def submission(path, **changed):
    """The challenge's file; None leaves a data set out."""
    sets = {
        "query": QUERY,
        "reference": REFERENCE,
        "query_ids": fixed(QUERIES.ids),
        "reference_ids": fixed(REFERENCES.ids),
    }
    return hdf5(path, **{name: data for name, data in {**sets, **changed}.items() if data is not None})


def clip_retrieval(folder, *parts, column="image_path", digits=1):
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for number, (rows, ids) in enumerate(parts):
        np.save(folder / "img_emb" / f"img_emb_{number:0{digits}d}.npy", rows)
        table = pa.table({"caption": ["a cat"] * len(ids), column: ids})
        pq.write_table(table, folder / "metadata" / f"metadata_{number:0{digits}d}.parquet")
    return folder


def assert_equal(found, rows, ids):
    np.testing.assert_array_equal(found.vectors, rows)
    assert found.vectors.dtype == np.float32
    assert list(found.ids) == list(ids)


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


# --- refusals


BAD_ASCII = [
    ("Zoë", "'Zoë' is not ASCII"),
    ("\udcff", r"'\\udcff' is not ASCII"),
    ("", "'' is empty"),
    ("a\0b", "zero byte"),
]


@pytest.mark.parametrize(("id_", "message"), BAD_ASCII)
@pytest.mark.parametrize("side", [0, 1])
def test_ascii_only(tmp_path, id_, message, side):
    sides = [QUERIES, REFERENCES]
    bad = sides[side] = Descriptors(QUERY, [*QUERIES.ids[:3], id_])
    with pytest.raises(FormatError, match=message):
        write_submission(tmp_path / "s.h5", *sides)
    with pytest.raises(FormatError, match=message):
        write_kit(tmp_path / "k.h5", bad)
    assert os.listdir(tmp_path) == []


def test_no_id_is_ever_cut(tmp_path):
    ids = ["x" * 300, "y", "x" * 299, "z"]
    write_submission(tmp_path / "s.h5", Descriptors(QUERY, ids), REFERENCES)
    assert sorted(read_descriptors(tmp_path / "s.h5", which="query").ids) == sorted(ids)


@pytest.mark.parametrize("write", ["query", "reference", "train", "kit"])
def test_repeated_ids(tmp_path, write):
    twice = Descriptors(QUERY, ["a", "b", "c", "b"])
    sides = {"query": QUERIES, "reference": REFERENCES, "train": TRAINING, write: twice}
    sets, dialect = ({"": twice}, "kit") if write == "kit" else (sides, "submission")
    with pytest.raises(FormatError, match=f"'b' occurs twice in the {'set' if write == 'kit' else write}"):
        convert(sets, tmp_path / "out", dialect)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((257, 257, None), "at most 256; these have {'query': 257, 'reference': 257}"),
        ((8, 16, None), "one number of dimensions"),
        ((8, 8, 9), "'train': 9"),
        ((256, 256, 256), None),
    ],
)
def test_dimensions_of_a_submission(tmp_path, dims, message):
    sides = [named(unit_rows(0, 3, dim), name) if dim else None for dim, name in zip(dims, "qrt", strict=True)]
    if message is None:
        write_submission(tmp_path / "s.h5", *sides)
    else:
        with pytest.raises(FormatError, match=message):
            write_submission(tmp_path / "s.h5", *sides)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("id_", ["a/b", "b.jpg", "b.png", "a/"])
def test_ids_that_the_kit_would_change(tmp_path, id_):
    with pytest.raises(FormatError, match=f"would read the id '{id_}' as .*--ids stem"):
        write_kit(tmp_path / "k.h5", Descriptors(QUERY[:1], [id_]))


def test_kit_names_that_become_one(tmp_path):
    path = hdf5(tmp_path / "k.h5", vectors=QUERY[:2], image_names=fixed(["a/x.jpg", "b/x.png"]))
    with pytest.raises(FormatError, match=r"'x' occurs twice in .*k\.h5, folders and suffixes stripped"):
        read_descriptors(path)


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        ([], InputError, "nothing to put together"),
        ([QUERIES, named(QUERY[:, :3], "x")], FormatError, "different dimensions .8, 3."),
        ([QUERIES, REFERENCES, QUERIES], FormatError, "'Q10' occurs twice in the sets together"),
    ],
)
def test_sets_that_cannot_be_one(sets, error, message):
    with pytest.raises(error, match=message):
        concatenate(sets)


def test_put_together_keeps_what_all_agree_on():
    failure = Failure("x", "x.jpg", "read", "gone")
    a, b = Descriptors(QUERY, ids_of("a", 4), {"engine_id": "e"}, [failure]), named(REFERENCE, "b", engine_id="e")
    both = concatenate([a, b])
    assert_equal(both, np.concatenate([QUERY, REFERENCE]), [*a.ids, *b.ids])
    assert (both.meta, both.failures) == ({"engine_id": "e"}, [failure])
    for other in ({"engine_id": "f"}, {}, {"engine_id": "e", "normalization": {"method": "nes"}}):
        with pytest.raises(MismatchError, match="different engines or normalised differently"):
            concatenate([a, named(REFERENCE, "b", **other)])
    planned = [Descriptors(QUERY, ids_of(side, 4), {"engine_id": "e", "plan": {"id": side}}) for side in "ab"]
    assert concatenate(planned).meta == {"engine_id": "e"}, "two extractions by one engine still say so"


def test_a_submission_of_what_does_not_belong_together_is_refused(tmp_path):
    sides = {
        "query": named(QUERY, "q", engine_id="e", normalization={"method": "nes"}),
        "reference": named(REFERENCE, "r", engine_id="e"),
    }
    with pytest.raises(MismatchError, match="queries are normalised by nes"):
        convert(sides, tmp_path / "s.h5", "submission")


@pytest.mark.parametrize(
    ("sets", "dialect", "message"),
    [
        ({"query": QUERIES}, "submission", "needs the sets query, reference and was given query; name them"),
        ({"": QUERIES}, "submission", "needs the sets query, reference"),
        ({"query": QUERIES, "reference": REFERENCES}, "reference", "needs the sets query, reference, train"),
        ({"query": QUERIES, "reference": REFERENCES, "": TRAINING}, "submission", "name them"),
        ({"query": QUERIES, "reference": REFERENCES}, "kit", "holds one set and was given query, reference"),
        ({}, "isc-fast", "holds one set and was given none"),
        (
            {"": QUERIES},
            "npz",
            "no format 'npz'; choose one of isc-fast, submission, reference, kit, npy, clip-retrieval",
        ),
    ],
)
def test_wrong_sets_for_a_format(tmp_path, sets, dialect, message):
    with pytest.raises(InputError, match=message):
        convert(sets, tmp_path / "out", dialect)
    assert os.listdir(tmp_path) == []


def test_one_set_has_nothing_to_choose(tmp_path):
    for path in (hdf5(tmp_path / "k.h5", vectors=QUERY, image_names=fixed(QUERIES.ids)), tmp_path / "a.h5"):
        if not path.exists():
            convert({"": QUERIES}, path, "isc-fast")
        with pytest.raises(FormatError, match=r"one set .*no 'query' to choose"):
            read_descriptors(path, which="query")


def test_clip_retrieval_refusals(tmp_path):
    bad = Descriptors(QUERY, ["a", "b", os.fsdecode(b"\xff.jpg"), "d"])
    with pytest.raises(FormatError, match=r"'\\udcff\.jpg' is not valid UTF-8"):
        write_clip_retrieval(tmp_path / "clip", bad)
    assert os.listdir(tmp_path) == []
    write_clip_retrieval(tmp_path / "clip", QUERIES)
    with pytest.raises(InputError, match="img_emb is not empty"):
        write_clip_retrieval(tmp_path / "clip", REFERENCES)
    assert_equal(read_descriptors(tmp_path / "clip"), QUERY, QUERIES.ids)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="folder"):
        write_clip_retrieval(tmp_path / "file", QUERIES)


@pytest.mark.parametrize(
    ("parts", "column", "message"),
    [
        ([(QUERY, ["a"] * 3)], "id", r"3 rows of caption, id; expected 4 rows"),
        ([(QUERY, ["a"] * 4)], "name", "rows of caption, name; expected 4 rows with image_path, id, key or url"),
        ([(QUERY, ["a", None, "b", "c"])], "id", "has 1 rows without id"),
        ([(QUERY, ["a"] * 4), (QUERY[:, :3], ["b"] * 4)], "id", r"img_emb_1.npy holds .*\(4, 3\); expected \(n, 8\)"),
        ([(QUERY[0], ["a"] * 8)], "id", r"shape \(8,\); expected \(n, d\)"),
        ([(np.array(1.0), ["a"])], "id", r"shape \(\); expected"),
        ([(np.array([["a"]]), ["a"])], "id", "is not a numpy array"),
        ([], "id", r"holds no img_emb_\*\.npy"),
    ],
)
def test_damaged_clip_retrieval(tmp_path, parts, column, message):
    with pytest.raises(FormatError, match=message):
        read_descriptors(clip_retrieval(tmp_path / "clip", *parts, column=column))


@pytest.mark.parametrize("victim", ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"])
@pytest.mark.parametrize("left", [None, 0, 50])
def test_clip_retrieval_cut_short(tmp_path, victim, left):
    path = clip_retrieval(tmp_path / "clip", (QUERY, ["a"] * 4)) / victim
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    damaged = r"img_emb_0\.npy is not a numpy|metadata_0\.parquet(: No such file| is not a parquet)|holds no img_emb"
    with pytest.raises(FormatError, match=damaged):
        read_descriptors(tmp_path / "clip")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_ids": fixed(["a", "b"])}, r"s\.h5 is damaged .*do not go with 2 ids"),
        ({"query": QUERY[0]}, r"s\.h5 is damaged"),
        ({"query": fixed(["a", "b", "c", "d"])}, r"s\.h5 is damaged"),
        ({"query_ids": None}, r"s\.h5 is damaged .*query_ids"),
        ({"query": None, "query/group": QUERY}, r"s\.h5 is damaged"),
    ],
)
def test_damaged_submission(tmp_path, changed, message):
    with pytest.raises(FormatError, match=message):
        read_descriptors(submission(tmp_path / "s.h5", **changed), which="query")


@pytest.mark.parametrize("data", [b"", b"no array", None])
def test_damaged_training_file(tmp_path, data):
    if data is None:
        np.save(tmp_path / "train_feats.npy", TRAIN[0])
    else:
        (tmp_path / "train_feats.npy").write_bytes(data)
    with pytest.raises(FormatError, match=r"train_feats\.npy"):
        read_descriptors(submission(tmp_path / "s.h5"), which="train")


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({}, "holds nothing; expected vectors and ids .*submission.*evaluation kit"),
        ({"features": QUERY, "names": QUERY}, "holds features, names; expected"),
        ({"vectors": QUERY, "ids": fixed(QUERIES.ids)}, "holds ids, vectors; expected"),
        ({"query": QUERY}, "holds query; expected"),
    ],
)
def test_foreign_hdf5(tmp_path, datasets, message):
    with pytest.raises(FormatError, match=message):
        read_descriptors(hdf5(tmp_path / "a.h5", **datasets))


def test_no_descriptors_at_all(tmp_path):
    (tmp_path / "m.csv").write_text("query_id,reference_id,score\n")
    with pytest.raises(FormatError, match="not an HDF5 file"):
        read_descriptors(tmp_path / "m.csv")
    with pytest.raises(FormatError, match="folder without img_emb"):
        read_descriptors(tmp_path)
    with pytest.raises(FormatError, match="there is no"):
        read_descriptors(tmp_path / "none.h5")


def test_our_own_files_are_opened_on_disk_and_others_read_into_memory(tmp_path):
    write_descriptors(tmp_path / "ours.h5", QUERIES)
    with open_any(tmp_path / "ours.h5") as found:
        assert isinstance(found.vectors, h5py.Dataset)
        assert_equal(found, QUERY, QUERIES.ids)
    path = submission(tmp_path / "s.h5")
    with open_any(path, which="query") as found:
        assert isinstance(found.vectors, np.ndarray)
        assert_equal(found, QUERY, QUERIES.ids)
    with pytest.raises(FormatError, match="holds one set"), open_any(tmp_path / "ours.h5", which="query"):
        pass


def test_a_submission_written_from_disk_is_that_written_from_memory(tmp_path):
    order = np.random.default_rng(0).permutation(len(QUERIES.ids))
    shuffled = Descriptors(QUERY[order], [QUERIES.ids[i] for i in order])
    for name, side in (("q", shuffled), ("r", REFERENCES)):
        write_descriptors(tmp_path / f"{name}.h5", side)
    with open_any(tmp_path / "q.h5") as queries, open_any(tmp_path / "r.h5") as references:
        write_submission(tmp_path / "disk.h5", queries, references)
    write_submission(tmp_path / "memory.h5", shuffled, REFERENCES)
    assert (tmp_path / "disk.h5").read_bytes() == (tmp_path / "memory.h5").read_bytes()
    in_order = sorted(range(len(QUERY)), key=lambda row: QUERIES.ids[row])
    made = read_descriptors(tmp_path / "disk.h5", which="query")
    assert_equal(made, QUERY[in_order], [QUERIES.ids[row] for row in in_order])


def test_a_new_format_is_one_row(tmp_path, monkeypatch):
    """A toy format: text, one line a descriptor. Everything that knows formats knows it then."""

    def read(path, _which):
        lines = [line.split() for line in (path / "rows.txt").read_text().splitlines()]
        return Descriptors(np.array([line[1:] for line in lines], np.float32), [line[0] for line in lines])

    def write(path, sets):
        path.mkdir()
        side = only_set(sets)
        lines = [" ".join([id_, *map(repr, row.tolist())]) for id_, row in zip(side.ids, side.vectors, strict=True)]
        (path / "rows.txt").write_text("\n".join(lines))

    toy = Format("toy", "rows.txt", lambda contents: "rows.txt" in contents.names, read, write, is_folder=True)
    with pytest.raises(FormatError, match="is a folder without img_emb; expected"):
        read_descriptors(tmp_path)
    monkeypatch.setitem(FORMATS, "toy", toy)
    convert({"": QUERIES}, tmp_path / "toy", "toy")
    assert find_format(tmp_path / "toy") is toy
    assert_equal(read_descriptors(tmp_path / "toy"), QUERY, QUERIES.ids)
    with open_any(tmp_path / "toy") as found:
        assert_equal(found, QUERY, QUERIES.ids)
    with pytest.raises(FormatError, match=r"is a folder without img_emb or rows\.txt"):
        read_descriptors(tmp_path)
