"""Asking an index for photos, from Python and from the command line."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine

import isc_fast
from isc_fast import Describing, Index, build_index, extract, read_descriptors, search
from isc_fast.cli.main import main
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import FormatError, InputError, MismatchError

pytest.importorskip("faiss")


@pytest.fixture
def made(tmp_path, folder_of, engine) -> Path:
    """A folder with ``photos/``, their descriptors ``r.h5``, and an index ``i``."""
    extract(folder_of(tmp_path / "photos", 12), engine, tmp_path / "r.h5", decoder="pillow")
    build_index(read_descriptors(tmp_path / "r.h5"), tmp_path / "i")
    return tmp_path


def describing(engine: FakeEngine) -> Describing:
    return Describing(engine, decoder="pillow")


def test_a_photo_finds_itself_and_the_engine_runs_in_this_process(made, engine):
    photo = sorted((made / "photos").iterdir())[3]
    with Index(made / "i", describing=describing(engine)) as index:
        index.load()
        before = len(engine.calls)
        answer = index.query(str(photo), k=3)
        assert len(engine.calls) == before + 1
        ids = read_descriptors(made / "r.h5").ids
        assert (answer.queries, list(answer.failures), len(index)) == (1, [], 12)
        first = next(iter(answer.matches))
        assert first[1] in ids
        assert first[1] in photo.name
        assert first[2] == pytest.approx(1, abs=1e-5)


def test_all_forms_of_a_question_get_the_answer_of_an_exact_search(made, engine):
    rows = read_descriptors(made / "r.h5")
    expected = list(search(rows, rows, k=4))
    with Index(made / "i", describing=describing(engine)) as index:
        for asked in (str(made / "photos"), rows, made / "r.h5"):
            assert list(index.query(asked, k=4).matches) == expected
        by_array = index.query(rows.vectors, k=4).matches
        assert [match[1:] for match in by_array] == [match[1:] for match in expected]
        assert list(by_array.query_ids)[::4] == [str(row) for row in range(12)]
        some = index.query(rows, k=4, threshold=0.9).matches
        assert list(some) == [match for match in expected if match[2] >= np.float32(0.9)]


def test_a_photo_that_cannot_be_read_is_in_the_ledger(made, engine):
    (made / "photos" / "broken.jpg").write_bytes(b"no image")
    with Index(made / "i", describing=describing(engine)) as index:
        answer = index.query(str(made / "photos"), k=1)
        assert answer.queries == 12
        assert [failure.id for failure in answer.failures] == ["broken"]
        assert len(answer.matches) == 12
        (made / "none").mkdir()
        with pytest.raises(InputError):
            index.query(str(made / "none"))


def test_another_engine_is_one_line(made):
    other = FakeEngine(seed=1)
    with Index(made / "i", describing=describing(other)) as index:
        with pytest.raises(MismatchError, match="were made by different engines"):
            index.query(str(made / "photos"))
        assert other.calls == []


def test_negatives_are_subtracted_from_queries_as_from_the_rows(made, engine):
    rows = read_descriptors(made / "r.h5")
    extract(str(made / "photos"), engine, made / "n.h5", decoder="pillow")
    negatives = isc_fast.smooth_negatives(read_descriptors(made / "n.h5"))
    write_descriptors(made / "negatives.h5", negatives)
    normalized = isc_fast.subtract_negatives(rows, negatives, k=3, beta=0.2)
    build_index(normalized, made / "j")
    with (
        Index(made / "j", describing=describing(engine)) as index,
        pytest.raises(MismatchError, match="--negatives FILE"),
    ):
        index.query(str(made / "photos"))
    with Index(made / "j", describing=describing(engine), negatives=made / "negatives.h5") as index:
        found = index.query(str(made / "photos"), k=4).matches
        assert list(found) == list(search(normalized, normalized, k=4))
        assert list(index.query(normalized, k=4).matches) == list(found)
    other = replace(negatives, vectors=negatives.vectors[:5], ids=negatives.ids[:5])
    with pytest.raises(MismatchError, match="these are other negatives"):
        Index(made / "j", negatives=other)
    with pytest.raises(MismatchError, match="leave the negatives out"):
        Index(made / "i", negatives=negatives)


def test_the_command_line(tmp_path, folder_of, capsys):
    """Build, add, remove, compact and query, as a user types them, with the engine in the package."""
    pytest.importorskip("onnxruntime")
    photos = folder_of(tmp_path / "photos", 6)
    engine = isc_fast.load_engine("demo")
    for name, some in (("a", sorted(photos.iterdir())[:4]), ("b", sorted(photos.iterdir())[4:])):
        extract([str(path) for path in some], engine, tmp_path / f"{name}.h5")
    index, ids = str(tmp_path / "i"), read_descriptors(tmp_path / "a.h5").ids
    assert main(["index", "build", str(tmp_path / "a.h5"), "-o", index, "--recall", "0.95", "--memory", "1GB"]) == 0
    assert f"{index}: 4 rows, 4 added\n  4 rows: compared one by one\n" in capsys.readouterr().out
    assert main(["index", "add", index, str(tmp_path / "b.h5"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["added"], len(told["segments"])) == (6, 2, 1)
    assert main(["index", "query", index, str(sorted(photos.iterdir())[0]), "-k", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["matches"][0]["reference_id"] == ids[0]
    assert answer["matches"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert len(answer["matches"]) == 2
    (tmp_path / "ids.txt").write_text(f"{ids[0]}\nnobody\n")
    assert main(["index", "remove", index, "--ids", str(tmp_path / "ids.txt")]) == 0
    out, err = capsys.readouterr()
    assert f"{index}: 5 rows, 1 removed\n  6 rows (1 of them removed)" in out
    assert "note: 1 of the ids are not in the index" in err
    assert main(["index", "compact", index]) == 0
    assert f"{index}: 5 rows\n  5 rows: compared one by one\n" in capsys.readouterr().out
    assert main(["index", "query", index, str(photos), "--threshold", "0.999", "-k", "1"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert "5 of 6 queries match" in err


def test_the_nearest_rows_are_no_matches(tmp_path, photos, capsys):
    """Without a threshold, the engine's default says which pairs are matches; all nearest ones are printed."""
    pytest.importorskip("onnxruntime")
    rows, index = tmp_path / "r.h5", str(tmp_path / "i")
    extract([str(path) for path in photos[:4]], "demo", rows)
    build_index(read_descriptors(rows), index)
    stranger, known = str(photos[4]), str(photos[0])
    assert main(["index", "query", index, stranger]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert re.search(
        r"^the 4 nearest pairs, whatever their score; none is a match, at 0\.\d\d or above, the engine's default", err
    )
    assert main(["index", "query", index, stranger, known, "-k", "2"]) == 0
    assert "the 4 nearest pairs, whatever their score; 1 of 2 queries match, at 0." in capsys.readouterr().err
    assert main(["index", "query", index, stranger, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["matched"], len(told["matches"])) == (0, 4)
    assert 0.4 < told["threshold"] < 0.9
    with Index(index) as opened:
        answer = opened.query(read_descriptors(rows).vectors)
        assert (answer.threshold, answer.matched) == (None, None), "nobody knows what made an array"
    assert main(["index", "query", index, stranger, "--threshold", "0.99"]) == 0
    assert capsys.readouterr() == ("", "0 pairs; 0 of 1 queries match\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("query nowhere x.jpg", "nowhere is no index: it has no index.json"),
        ("compact nowhere", "nowhere is no index"),
        ("remove i --ids nowhere.txt", "cannot read nowhere.txt"),
        ("remove i --ids other.csv", "expected the column id"),
        ("add i nowhere.h5", "nowhere.h5"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(made, monkeypatch, capsys, words, message):
    monkeypatch.chdir(made)
    (made / "other.csv").write_text("name,score\none,1\n")
    assert main(["index", *words.split()]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1


def test_an_index_in_part_is_refused(made, engine):
    (segment,) = [path for path in (made / "i").iterdir() if path.is_dir()]
    shutil.rmtree(segment)
    with pytest.raises(FormatError, match="cannot read"):
        Index(made / "i", describing=describing(engine))
