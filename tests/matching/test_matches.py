"""The CSV and JSON-lines files of matches and ground truth: exact, strict, and clear about what is wrong."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from isc_fast.cli.main import main
from isc_fast.errors import FormatError, OutputError
from isc_fast.evaluation.metrics import evaluate
from isc_fast.matching.lists.matches import Matches, Truth, check_output, read_matches, read_truth, write_matches

HEADER = "query_id,reference_id,score\n"
TRUTH_HEADER = "query_id,reference_id\n"
TINY = np.finfo(np.float32).smallest_subnormal
MAX = np.finfo(np.float32).max


def matches(scores, query="q", reference="r"):
    count = len(scores)
    return Matches([query] * count, [f"{reference}{i}" for i in range(count)], np.array(scores, np.float32))


def neighbours(value, count=200):
    """float32 numbers that follow each other without a gap."""
    start = np.float32(value).view(np.uint32)
    return (start + np.arange(count, dtype=np.uint32)).view(np.float32)


def written(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt", "parquet"])
def test_every_float32_comes_back_bit_for_bit(tmp_path, suffix):
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    scores = np.concatenate(
        [
            np.array([0.0, -0.0, TINY, -TINY, 123 * TINY, MAX, -MAX, np.inf, -np.inf, 1e-8, 1 / 3], np.float32),
            np.concatenate([neighbours(value) for value in (1e-8, 0.5, 0.99999, 1, -1e-3, 1e30, 1e-40)]),
            anything[~np.isnan(anything)],
        ]
    )
    path = tmp_path / f"m.{suffix}"
    write_matches(path, matches(scores))
    found = read_matches(path)
    np.testing.assert_array_equal(found.scores.view(np.uint32), scores.view(np.uint32))
    assert found.scores.dtype == np.float32
    assert list(found.reference_ids) == [f"r{i}" for i in range(len(scores))]


def test_csv_to_the_letter(tmp_path):
    write_matches(tmp_path / "m.csv", Matches(["Q1", "Q2"], ["R1", "Zoë"], np.array([0.1, -0.0], np.float32)))
    assert (tmp_path / "m.csv").read_bytes() == "query_id,reference_id,score\nQ1,R1,0.1\nQ2,Zoë,-0.0\n".encode()
    write_matches(tmp_path / "m.csv", matches([]))
    assert (tmp_path / "m.csv").read_text() == HEADER
    assert len(read_matches(tmp_path / "m.csv")) == 0


def test_jsonl_to_the_letter(tmp_path):
    write_matches(tmp_path / "m.jsonl", Matches(['a,"b"'], ["R1"], np.array([0.1], np.float32)))
    assert [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()] == [
        {"query_id": 'a,"b"', "reference_id": "R1", "score": 0.1}
    ]


PLAIN = [
    "  two  spaces ",
    "Zoë/写真.jpg",
    "x" * 5000,
    "a\tb",
    "\x0b\x0c\x1c\x85\u2028",
    os.fsdecode(b"\xff\xfe.jpg"),
    "'",
    "#",
]
AWKWARD = ["a,b", 'say "hi"', "two\nlines", "two\rlines", ",", '"', "\r\n"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("side", ["query_ids", "reference_ids"])
def test_ids_that_any_format_holds(tmp_path, suffix, side):
    ids = {"query_ids": ["q"] * len(PLAIN), "reference_ids": ["r"] * len(PLAIN), side: PLAIN}
    write_matches(tmp_path / f"m.{suffix}", Matches(**ids, scores=np.zeros(len(PLAIN), np.float32)))
    assert list(getattr(read_matches(tmp_path / f"m.{suffix}"), side)) == PLAIN


@pytest.mark.parametrize("side", ["query_ids", "reference_ids"])
@pytest.mark.parametrize("id_", AWKWARD)
def test_ids_that_only_json_lines_hold(tmp_path, side, id_):
    ids = {"query_ids": ["q", "q"], "reference_ids": ["r", "r"], side: ["fine", id_]}
    rows = Matches(**ids, scores=np.zeros(2, np.float32))
    old = written(tmp_path / "m.csv", "old")
    with pytest.raises(FormatError) as error:
        write_matches(old, rows)
    assert repr(id_) in str(error.value)
    assert str(tmp_path / "m.jsonl") in str(error.value)
    assert old.read_text() == "old"
    write_matches(tmp_path / "m.jsonl", rows)
    assert list(getattr(read_matches(tmp_path / "m.jsonl"), side)) == ["fine", id_]
    assert sorted(os.listdir(tmp_path)) == ["m.csv", "m.jsonl"]


def test_invalid_utf8_keeps_its_bytes(tmp_path):
    id_ = os.fsdecode(b"caf\xe9")
    write_matches(tmp_path / "m.csv", matches([1], query=id_))
    assert b"caf\xe9,r0,1.0\n" in (tmp_path / "m.csv").read_bytes()
    found = read_truth(written(tmp_path / "t.csv", TRUTH_HEADER.encode() + b"caf\xe9,R\n"))
    assert found.pairs == {(id_, "R")}


def test_half_a_character_is_refused(tmp_path):
    with pytest.raises(FormatError, match="a lone surrogate"):
        write_matches(tmp_path / "m.csv", matches([1], query="\ud800"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "data",
    [
        "query_id,reference_id,score\r\nQ1,R1,0.5\r\nQ2,R2,-1e-3\r\n",
        "\ufeffquery_id,reference_id,score\nQ1,R1,0.5\nQ2,R2,-1e-3\n",
        "query_id,reference_id,score\n\nQ1,R1,0.5\n   \nQ2,R2,-0.001",
        "query_id,reference_id,score \nQ1,R1, 0.5 \nQ2,R2,-.001\n",
    ],
    ids=["crlf", "bom", "blank lines, no end", "spaces"],
)
def test_files_of_other_tools(tmp_path, data):
    found = read_matches(written(tmp_path / "m.csv", data))
    assert list(found) == [("Q1", "R1", 0.5), ("Q2", "R2", float(np.float32(-0.001)))]


def test_truth_of_other_tools(tmp_path):
    data = "\ufeffquery_id,reference_id\r\nQ1,R1\r\n\r\nQ2,\r\nQ1,R2\r\nQ1,R1\r\n"
    found = read_truth(written(tmp_path / "t.csv", data))
    assert found.queries == {"Q1", "Q2"}
    assert found.pairs == {("Q1", "R1"), ("Q1", "R2")}


def test_a_header_may_be_missing_or_repeated(tmp_path):
    """The evaluation kit's own reader passes over the header wherever it stands, and asks for none."""
    rows = [("Q1", "R1", 0.5), ("Q2", "R2", -1.0)]
    for data in (
        "Q1,R1,0.5\nQ2,R2,-1.000000\n",
        f"Q1,R1,0.5\n{HEADER}Q2,R2,-1\n",
        f"{HEADER}Q1,R1,0.5\n{HEADER}Q2,R2,-1",
    ):
        assert list(read_matches(written(tmp_path / "m.csv", data))) == rows
    for data in ("Q1,R1\nQ2,\n", f"Q1,R1\n{TRUTH_HEADER}Q2,\n", "\ufeffQ1,R1\r\nQ2,\r\n"):
        found = read_truth(written(tmp_path / "t.csv", data))
        assert (found.queries, found.pairs) == ({"Q1", "Q2"}, {("Q1", "R1")})
    assert read_truth(written(tmp_path / "t.csv", "cat,dog\n")).pairs == {("cat", "dog")}


def test_scores_that_differ_beyond_single_precision_do_not_tie(tmp_path):
    data = HEADER + "q1,r1,0.123456789\nq1,r2,0.123456788\nq2,r2,0.5\n"
    found = read_matches(written(tmp_path / "m.csv", data))
    assert found.scores.tolist() == [0.123456789, 0.123456788, 0.5]
    assert np.float32(0.123456789) == np.float32(0.123456788)
    truth = Truth(frozenset(["q1"]), frozenset([("q1", "r1")]))
    assert evaluate(found, truth)["official"].micro_ap == 1
    assert evaluate(found, truth)["official"].recall_at_rank[1] == 1
    write_matches(tmp_path / "again.csv", found)
    assert (tmp_path / "again.csv").read_text() == data
    ties = read_matches(written(tmp_path / "m.csv", data.replace("0.123456788", "0.123456789")))
    assert ties.scores.dtype == np.float32
    assert evaluate(ties, truth)["official"].micro_ap == 0.5


# Line numbers count from 1, header and blank lines included.
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER + "a,b\n", r"line 2: 2 fields; expected 3: query_id,reference_id,score"),
        (HEADER + "a,b,1\n\na,b,c,1\n", r"line 4: 4 fields"),
        (HEADER.replace("\n", "\r\n") + "a,b,1\r\na,b,one\r\n", r"line 3: 'one' is not a number"),
        (HEADER + "a,b,\n", r"line 2: '' is not a number"),
        (HEADER + "a,b,nan\n", r"line 2: .*nan"),
        (HEADER + "a,b,-NaN\n", r"line 2: .*nan"),
        (HEADER + '"a",b,1\n', r"line 2: quotes"),
        (HEADER + "a,b,0x10\n", r"line 2: '0x10'"),
        (
            "query,reference,score\n",
            r"begins with 'query,reference,score'; expected matches: .*query_id,reference_id,score",
        ),
        ("a,b\nc,d,1\n", r"begins with 'a,b'"),
        ("a,b,1\na,b,one\n", r"line 2: 'one' is not a number"),
        ("query_id, reference_id, score\na, b, 1\n", r"begins with"),
        ("query_id,score,reference_id\n", r"begins with"),
        (TRUTH_HEADER, r"begins with 'query_id,reference_id'; expected matches"),
        ("", r"begins with ''; expected matches"),
        (b"\x89HDF\r\n\x1a\n", r"begins with '\\udc89HDF'"),
    ],
)
def test_bad_matches(tmp_path, data, message):
    with pytest.raises(FormatError, match=rf"m\.csv.*{message}"):
        read_matches(written(tmp_path / "m.csv", data))


GOOD = '{"query_id": "a", "reference_id": "b", "score": 1}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "expected an object"),
        ("[1]", "expected an object"),
        ("7", "expected an object"),
        (GOOD.replace("score", "Score"), "expected an object"),
        (GOOD.replace('"a"', "null"), "expected an object"),
        (GOOD.replace('"b"', '["b"]'), "expected an object"),
        (GOOD.replace("1", "null"), "not a number"),
        (GOOD.replace("1", "[1]"), "not a number"),
        (GOOD.replace("1", "NaN"), "nan"),
        (GOOD.replace("1", '"one"'), "'one' is not a number"),
        (GOOD.replace("1", "1" * 400), "not a number"),
    ],
)
def test_bad_json_lines(tmp_path, line, message):
    with pytest.raises(FormatError, match=rf"m\.jsonl, line 3: .*{message}"):
        read_matches(written(tmp_path / "m.jsonl", f"{GOOD}\n\n{line}\n"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TRUTH_HEADER, "no true pair"),
        (TRUTH_HEADER + "a,\nb,\n", "no true pair"),
        (TRUTH_HEADER + "a,b\n,b\n", "line 3: the query id is empty"),
        (TRUTH_HEADER + "a\n", "line 2: 1 fields; expected 2: query_id,reference_id"),
        (TRUTH_HEADER + "a,b,c\n", "line 2: 3 fields"),
        (HEADER + "a,b,1\n", "begins with 'query_id,reference_id,score'; expected ground truth"),
        ("", "begins with ''; expected ground truth"),
        ("query,ref\nQ1,R1\n", "begins with 'query,ref'; expected ground truth"),
        ("image_id,match\nQ1,R1\n", "begins with 'image_id,match'"),
        ("query_id, reference_id\nQ1,R1\n", "begins with 'query_id, reference_id'"),
    ],
)
def test_bad_truth(tmp_path, data, message):
    with pytest.raises(FormatError, match=rf"t\.csv.*{message}"):
        read_truth(written(tmp_path / "t.csv", data))


@pytest.mark.parametrize(("read", "what"), [(read_matches, "matches"), (read_truth, "ground truth")])
def test_files_that_are_not_there(tmp_path, read, what):
    with pytest.raises(FormatError, match=f"cannot read .*none.csv: No such file.*expected {what}"):
        read(tmp_path / "none.csv")
    with pytest.raises(FormatError, match="Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_nan_is_not_written(tmp_path, suffix):
    with pytest.raises(FormatError, match=r"'q', 'r1' .*nan"):
        write_matches(tmp_path / f"m.{suffix}", matches([1, np.nan]))
    assert os.listdir(tmp_path) == []


def test_columns_of_different_length():
    with pytest.raises(FormatError, match="1, 2, 3"):
        Matches(["q"], ["r", "r"], np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("place", "message"),
    [("", "is a folder"), ("none/m.csv", "does not exist"), ("file/m.csv", "is a file, not a folder")],
)
def test_places_that_cannot_be_written(tmp_path, place, message):
    written(tmp_path / "file", "old")
    with pytest.raises(OutputError, match=f"cannot write .*{message}"):
        write_matches(tmp_path / place, matches([1]))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["m.json", "m.csv.gz", "M.TSV"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    for refuse in (
        lambda path: check_output(path, ["a"]),
        lambda path: write_matches(path, Matches([], [], np.empty(0))),
    ):
        with pytest.raises(
            FormatError, match=r"as CSV \(\.csv\), as JSON lines \(\.jsonl\) or as Parquet \(\.parquet\), not as \."
        ):
            refuse(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("bad", ["a,b", 'a"b', "a\nb", "a\rb", "a\ud800"])
def test_ids_that_csv_cannot_hold_are_found_before_the_work(tmp_path, bad):
    ids = [f"p{row}" for row in range(10_000)]
    check_output(tmp_path / "m.csv", ids, [*ids, "\udcff é"])
    with pytest.raises(FormatError, match="which the challenge's CSV cannot express"):
        check_output(tmp_path / "m.csv", ids, [*ids, bad])
    check_output(tmp_path / "m.jsonl", ids, [*ids, bad])
    assert os.listdir(tmp_path) == []


def test_a_folder_that_does_not_exist_is_found_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="its folder does not exist"):
        check_output(tmp_path / "none" / "m.csv", [])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_views_and_double_precision_come_back(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    scores = np.array([0.5, np.nextafter(0.5, 1)])
    write_matches(path, Matches(["a,b", "c"], ["ü", "d\ne"], scores, ["upright", "turned-90"]))
    found = read_matches(path)
    assert list(found) == [("a,b", "ü", scores[0]), ("c", "d\ne", scores[1])]
    assert (found.views, found.scores.dtype) == (["upright", "turned-90"], np.float64)
    write_matches(path, Matches(["a"], ["b"], np.array([0.5], np.float32)))
    assert read_matches(path).views is None
    write_matches(path, Matches([], [], np.empty(0, np.float32)))
    assert len(read_matches(path)) == 0
    with pytest.raises(FormatError, match="different length: 1, 1, 1, 2"):
        Matches(["a"], ["b"], np.ones(1, np.float32), ["x", "y"])


def test_the_csv_has_three_columns_whatever_matched(tmp_path):
    write_matches(tmp_path / "m.csv", Matches(["a"], ["b"], np.array([0.5], np.float32), ["mirrored"]))
    assert (tmp_path / "m.csv").read_text() == HEADER + "a,b,0.5\n"


def test_parquet_of_more_than_a_block_and_of_other_tools(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, count = tmp_path / "m.parquet", 70_000
    many = Matches([f"q{i}" for i in range(count)], ["r"] * count, np.arange(count, dtype=np.float32))
    write_matches(path, many)
    assert list(read_matches(path)) == list(many)
    parquet.write_table(
        arrow.table({"score": [1, 2], "reference_id": [7, 8], "other": [0, 0], "query_id": ["a", "b"]}), path
    )
    assert list(read_matches(path)) == [("a", "7", 1.0), ("b", "8", 2.0)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query_id": ["a"], "score": [1.0]}, "has the columns query_id, score; expected one column reference_id"),
        ({"query_id": ["a"], "reference_id": [None], "score": [1.0]}, "row 1: expected texts"),
        ({"query_id": ["a"], "reference_id": [b"x"], "score": [1.0]}, "row 1: expected texts"),
        ({"query_id": ["a"], "reference_id": ["b"], "score": [None]}, "row 1: 'None' is not a number"),
        ({"query_id": ["a"], "reference_id": ["b"], "score": [float("nan")]}, "row 1: the score is not a number"),
    ],
)
def test_parquet_that_holds_no_matches(tmp_path, columns, message):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), tmp_path / "m.parquet")
    with pytest.raises(FormatError, match=message):
        read_matches(tmp_path / "m.parquet")
    (tmp_path / "m.parquet").write_bytes((tmp_path / "m.parquet").read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"cannot read .*m\.parquet"):
        read_matches(tmp_path / "m.parquet")


def test_an_id_that_is_not_utf8_is_in_no_parquet(tmp_path):
    path, bad = tmp_path / "m.parquet", os.fsdecode(b"\xff")
    for refuse in (
        lambda: check_output(path, ["a", bad]),
        lambda: write_matches(path, Matches(["a"], [bad], np.ones(1, np.float32))),
    ):
        with pytest.raises(
            FormatError, match=r"not UTF-8, which Parquet cannot hold; write JSON lines instead: -o .*m\.jsonl"
        ):
            refuse()
    assert not path.exists()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_info_and_evaluate_read_every_format(tmp_path, capsys, suffix):
    path, truth = tmp_path / f"m.{suffix}", written(tmp_path / "t.csv", TRUTH_HEADER + "q,r0\n")
    write_matches(path, matches([0.9, 0.5]))
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 2
    assert main(["evaluate", str(path), str(truth), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kit"]["micro_ap"] == 1.0
