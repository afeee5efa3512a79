"""What a format cannot hold, and files of formats that are damaged, cut or foreign."""

from __future__ import annotations

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
    ids_of,
    submission,
)
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
