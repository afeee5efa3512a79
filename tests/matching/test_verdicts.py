"""Files of verdicts: what is read, what is refused, and what an evaluation makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isc_fast import Matches, evaluate, read_truth, write_matches
from isc_fast.cli.main import main
from isc_fast.errors import FormatError, InputError
from isc_fast.evaluation.labels import read_labels
from isc_fast.matching.lists.verdicts import holds_verdicts, labels_of, read_verdicts

ROWS = [("q1", "r1", "right"), ("q1", "r2", "wrong"), ("q2", "r\udcff,\"", "undecided"), ("q3", "r9", "right")]  # fmt: skip


def as_json(path, rows=ROWS, **others):
    found = [{"query_id": one, "reference_id": other, "verdict": word, "score": 0.5} for one, other, word in rows]
    path.write_text(json.dumps({"format": "isc-fast verdicts", "version": 1, "verdicts": found, **others}))
    return path


def test_json_and_csv_say_the_same(tmp_path):
    expected = {("", one, other): word for one, other, word in ROWS}
    assert read_verdicts(as_json(tmp_path / "v.json")).words == expected
    rows = ["\ufeffscore,verdict,reference_id,query_id", "0.5,right,r1,q1", "0.5,wrong,r2,q1", '0.5,undecided,"r\udcff,""",q2',
            "0.5,right,r9,q3"]  # fmt: skip
    (tmp_path / "v.csv").write_bytes("\r\n".join(rows).encode("utf-8", "surrogateescape"))
    assert read_verdicts(tmp_path / "v.csv").words == expected


def test_a_verdict_holds_for_its_collection_and_where_it_names_none_for_all(tmp_path):
    (tmp_path / "v.csv").write_text("query_id,reference_id,verdict,set\na,b,wrong,val\nc,d,right,\n")
    verdicts = read_verdicts(tmp_path / "v.csv")
    assert (verdicts.of("a", "b", "val"), verdicts.of("a", "b", "test"), verdicts.of("a", "b")) == ("wrong", None, None)
    assert (verdicts.of("c", "d", "val"), verdicts.of("d", "c")) == ("right", None)
    assert verdicts.of("d", "c", either_way=True) == "right"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "begins with ''"),
        ("query_id,reference_id\na,b\n", "expected a CSV with query_id,reference_id,verdict"),
        ("query_id,reference_id,verdict\na,b,maybe\n", "has the verdict 'maybe'; expected right, wrong, undecided"),
        ("query_id,reference_id,verdict\na,b\n", "entry 1 of .* has no text verdict"),
        (
            "query_id,reference_id,verdict\na,b,right\na,b,wrong\n",
            "entry 2 of .* says wrong of 'a' and 'b', and an earlier",
        ),
        ("{", "is no JSON"),
        ("{}", 'is JSON without "format": "isc-fast verdicts"'),
        ('{"format": "isc-fast verdicts", "version": 2, "verdicts": []}', "of version 2, and this isc-fast reads 1"),
        ('{"format": "isc-fast verdicts", "version": 1, "verdicts": [3]}', "entry 1 of .* is '3'"),
        ('{"format": "isc-fast verdicts", "version": 1, "verdicts": [{"query_id": true}]}', "has no text query_id"),
    ],
)
def test_what_is_no_file_of_verdicts_is_one_line(tmp_path, content, words):
    (tmp_path / "v").write_text(content)
    with pytest.raises(FormatError, match=words):
        read_verdicts(tmp_path / "v")
    with pytest.raises(FormatError, match="cannot read"):
        read_verdicts(tmp_path / "none")


def test_an_evaluation_counts_the_pairs_that_are_judged(tmp_path, capsys):
    matches = Matches(["q1", "q1", "q2", "q4"], ["r1", "r2", "r3", "r4"], np.array([0.6, 0.8, 0.7, 0.9], np.float32))
    judged, truth = labels_of(matches, read_verdicts(as_json(tmp_path / "v.json")))
    assert list(zip(judged.query_ids, judged.reference_ids, strict=True)) == [("q1", "r1"), ("q1", "r2")]
    assert (truth.queries, truth.pairs) == ({"q1", "q3"}, {("q1", "r1"), ("q3", "r9")})
    scores = evaluate(judged, truth, protocols=("kit",))["kit"]
    assert scores.micro_ap == pytest.approx(0.5 / 2), "q1's wrong pair comes first, and q3's right pair was missed"
    write_matches(tmp_path / "m.csv", matches)
    assert main(["evaluate", str(tmp_path / "m.csv"), str(tmp_path / "v.json"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["kit"]["micro_ap"] == pytest.approx(0.25)
    assert "note: 2 of 4 pairs are judged right or wrong; the others do not count" in printed.err


def test_matches_without_the_wrong_pairs_look_too_good(tmp_path, capsys):
    """A run with verdicts leaves out what was judged wrong: what is left is right by construction."""
    verdicts = as_json(tmp_path / "v.json", [("q1", "r1", "right"), ("q2", "r2", "wrong"), ("q3", "r3", "wrong")])
    for name, queries, warned in (("all", ["q1", "q2"], False), ("left", ["q1", "q4"], True)):
        rows = Matches(queries, ["r1", "r2"], np.array([0.6, 0.8], np.float32))
        write_matches(tmp_path / f"{name}.csv", rows)
        assert main(["evaluate", str(tmp_path / f"{name}.csv"), str(verdicts)]) == 0
        said = capsys.readouterr().err
        assert ("none of the 2 pairs that were judged wrong is among these matches" in said) == warned


def test_labels_are_told_apart_by_what_is_in_them(tmp_path):
    (tmp_path / "truth.csv").write_text("query_id,reference_id\nverdict,r1\nq2,\n")
    (tmp_path / "bare.csv").write_text("verdict-1,r1\n")
    (tmp_path / "v.txt").write_text("query_id,reference_id,verdict\nq1,r1,right\n")
    found = [holds_verdicts(tmp_path / name) for name in ("truth.csv", "bare.csv", "v.txt", "none")]
    assert found == [False, False, True, False]
    matches = Matches(["q1"], ["r1"], np.array([0.6], np.float32))
    assert read_labels(tmp_path / "truth.csv", matches).truth == read_truth(tmp_path / "truth.csv")
    with pytest.raises(InputError, match="no pair of the matches is judged"):
        labels_of(Matches(["x"], ["y"], np.ones(1, np.float32)), read_verdicts(tmp_path / "v.txt"))
    with pytest.raises(InputError, match="hold no pair that is right"):
        labels_of(matches, read_verdicts(as_json(tmp_path / "w.json", [("q1", "r1", "wrong")])))
