"""What is left out: wrong pairs and photos of a stop list, with others in their places; and who belongs on one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from oracles import named, unit_rows

from isc_fast import Descriptors, Matches, read_matches, search, write_descriptors
from isc_fast.cli.main import main
from isc_fast.errors import FormatError
from isc_fast.matching.groups.hubs import hubs_between, hubs_of_matches, hubs_within
from isc_fast.matching.pairs.cross_join import CrossJoin
from isc_fast.matching.pairs.left_out import read_left_out
from isc_fast.matching.pairs.self_join import SelfJoin

pytest.importorskip("faiss")


def verdicts(path, *rows):
    path.write_text("query_id,reference_id,verdict,set\n" + "".join(",".join(row) + "\n" for row in rows))
    return path


def triples(matches):
    return [(query, reference) for query, reference, _ in matches]


@pytest.mark.parametrize("limits", [{"k": 3}, {"max_pairs": 20}, {"threshold": 0.1}, {"k": 3, "max_pairs": 11}, {}])
def test_a_search_gives_as_many_as_are_wanted_of_what_is_left(tmp_path, limits):
    queries, references = named(unit_rows(1, 12, 8), "q"), named(unit_rows(2, 40, 8), "r")
    everything = [*search(queries, references, threshold=-1)]
    ranked = sorted(everything, key=lambda pair: -pair[2])
    wrong = [pair[:2] for pair in ranked[:15]]
    stop = {"q3", "r7", "r8"}
    rows = [(*pair, "wrong", "") for pair in wrong] + [(*ranked[30][:2], "right", "")]
    (tmp_path / "stop.txt").write_text("\n".join(stop))
    found = search(
        queries, references, verdicts=verdicts(tmp_path / "v.csv", *rows), stop_list=tmp_path / "stop.txt", **limits
    )
    left = [pair for pair in ranked if pair[:2] not in wrong and pair[0] not in stop and pair[1] not in stop]
    left = [pair for pair in left if pair[2] >= limits.get("threshold", -1)]
    k = limits.get("k", None if limits else 10)
    if k:
        left = [pair for pair in left if sum(other[0] == pair[0] and other[2] > pair[2] for other in left) < k]
    left = left[: limits.get("max_pairs")]
    assert sorted(triples(found)) == sorted(pair[:2] for pair in left)
    marks = dict(zip(triples(found), found.verdicts, strict=True))
    assert [pair for pair, word in marks.items() if word] == [p for p in [ranked[30][:2]] if p in marks]


def test_the_command_leaves_out_and_marks(tmp_path, capsys):
    queries, references = named(unit_rows(1, 3, 8), "q"), named(unit_rows(2, 9, 8), "r")
    for name, side in (("q.h5", queries), ("r.h5", references)):
        write_descriptors(tmp_path / name, side)
    plain = triples(search(queries, references, k=2))
    file = verdicts(tmp_path / "v.csv", (*plain[0], "wrong", ""), (*plain[1], "right", ""))
    command = ["search", str(tmp_path / "q.h5"), str(tmp_path / "r.h5"), "-k", "2", "--verdicts", str(file)]
    assert main([*command, "-o", str(tmp_path / "m.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert plain[0] not in [(row["query_id"], row["reference_id"]) for row in lines]
    assert [(row["query_id"], row["reference_id"]) for row in lines if row.get("verdict") == "right"] == [plain[1]]
    assert len(read_matches(tmp_path / "m.jsonl")) == 6
    assert "no place for verdicts" not in capsys.readouterr().err
    assert main([*command, "-o", str(tmp_path / "m.csv")]) == 0
    assert "a CSV has no place for verdicts" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path / "none"), "-o", str(tmp_path / "m.csv")]) == 1
    assert "cannot read" in capsys.readouterr().err
    with pytest.raises(FormatError, match="cannot read"):
        read_left_out(None, tmp_path / "none.txt")


def joined(pairs):
    return {(int(a), int(b)) for first, second, _ in pairs for a, b in zip(first, second, strict=True)}


def test_in_one_collection_a_verdict_has_no_direction_and_equal_rows_go_with_the_stop_list(tmp_path):
    rows = unit_rows(1, 30, 8).copy()
    rows[5] = rows[2]
    rows[9] = rows[4]
    photos = named(rows, "p")
    join = SelfJoin(photos, 0.2)
    everything = [block for number in range(join.blocks) for block in join.pairs(number)]
    some = sorted(joined(everything) - {(2, 5), (4, 9)})[3]
    (tmp_path / "stop.csv").write_text("id\np5\n")
    file = verdicts(tmp_path / "v.csv", (f"p{some[1]}", f"p{some[0]}", "wrong", ""), ("p9", "p4", "wrong", ""))
    left_out = read_left_out(file, tmp_path / "stop.csv", one_side=True)
    left = left_out.pairs(everything, (photos.ids, photos.ids), (join.same, join.same))
    expected = {pair for pair in joined(everything) if not {2, 5} & set(pair)} - {some, (4, 9)}
    assert joined(left) == expected
    assert len(left) == len(expected)
    same = left.apart(join.same)
    assert (same[2], same[5], same[4], same[9]) == (2, 5, 4, 9)


def test_between_two_sides_a_verdict_is_on_its_collection(tmp_path):
    one, other = unit_rows(1, 10, 8), unit_rows(2, 20, 8).copy()
    other[6] = other[3]
    sides = named(one, "q"), named(other, "r")
    join = CrossJoin(*sides, 0.1)
    everything = [block for number in range(join.blocks) for block in join.pairs(number)]
    first = sorted(pair for pair in joined(everything) if pair[1] not in (3, 6))[:2]
    rows = [
        (f"q{first[0][0]}", f"r{first[0][1]}", "wrong", "val"),
        (f"q{first[1][0]}", f"r{first[1][1]}", "wrong", "test"),
    ]
    (tmp_path / "stop.txt").write_text("r6\n")
    left_out = read_left_out(verdicts(tmp_path / "v.csv", *rows), tmp_path / "stop.txt")
    left = left_out.pairs(everything, (sides[0].ids, sides[1].ids), join.same, "val")
    assert joined(left) == {pair for pair in joined(everything) if pair[1] not in (3, 6)} - {first[0]}


def test_a_hub_matches_many_that_do_not_match_each_other():
    """Row 0 matches 15 rows of nothing in common; rows 20 to 34 are 15 copies of each other."""
    star = [(0, row) for row in range(1, 16)]
    clique = [(one, other) for one in range(20, 35) for other in range(one + 1, 35)]
    equal = [(40, row) for row in range(41, 60)]  # blank pages, which are equal in every bit
    first, second = np.array([*star, *clique, *equal]).T
    same = np.arange(60)
    same[41:] = 40
    pairs = [(first, second, np.full(len(first), 0.9, np.float32))]
    found = hubs_within(pairs, same, [f"p{row}" for row in range(60)])
    assert [(hub.id, hub.matches, hub.share) for hub in found] == [("p0", 15, 0)]
    assert found[0].words == "matches 15 photos, of which 0% of the pairs match each other"
    assert hubs_within([(first[:9], second[:9], pairs[0][2][:9])], same, [f"p{row}" for row in range(60)]) == []


def test_between_two_sides_a_hub_matches_what_matches_others_better():
    """r0 matches 12 queries, of which each matches one of its own better. r50 has 12 copies, which match it best."""
    rows = [(f"q{row}", "r0", 0.5) for row in range(12)] + [(f"q{row}", f"r{row + 1}", 0.8) for row in range(12)]
    rows += [(f"c{row}", "r50", 0.7) for row in range(12)]
    columns = list(zip(*rows, strict=True))
    found = hubs_of_matches(Matches(columns[0], columns[1], np.array(columns[2], np.float32)))
    assert [(hub.id, hub.matches, hub.share) for hub in found] == [("r0", 12, 1.0)]
    assert hubs_of_matches(Matches([], [], np.empty(0, np.float32))) == []
    rows, ids = np.arange(12), (["a"] * 13, ["b"] * 12)
    star, better = np.full(12, 0.5, np.float32), np.full(12, 0.6, np.float32)
    turned = hubs_between([(np.zeros(12, np.int64), rows, star), (rows + 1, rows, better)], ids)
    assert [(hub.id, hub.matches) for hub in turned] == [("a", 12)]


def test_every_verb_takes_both_files(tmp_path, capsys):
    """A star and a pair: the hub is proposed; with it on the stop list and the pair judged wrong, nothing goes."""
    random = np.random.default_rng(0)
    spokes = np.linalg.qr(random.normal(size=(64, 20)))[0].T[:14]
    hub = spokes[:12].sum(axis=0, keepdims=True) / np.sqrt(12)
    twin = 0.9 * spokes[13:14] + np.sqrt(1 - 0.81) * np.linalg.qr(random.normal(size=(64, 40)))[0].T[39:40]
    rows = np.concatenate([spokes, hub, twin])
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    write_descriptors(tmp_path / "p.h5", Descriptors(rows, [f"p{row}" for row in range(16)]))
    assert main(["dedup", str(tmp_path / "p.h5"), "-o", str(tmp_path / "out"), "--threshold", "0.25"]) == 0
    assert "1 photo matches many others that have little in common" in capsys.readouterr().err
    suggestions = tmp_path / "out" / "stop_list_suggestions.csv"
    assert suggestions.read_text().splitlines()[1].startswith("p14,12,")
    stop = tmp_path / "stop.csv"
    stop.write_text(suggestions.read_text())
    file = verdicts(tmp_path / "v.csv", ("p15", "p13", "right", ""))
    flags = ["--threshold", "0.25", "--stop-list", str(stop), "--verdicts", str(file)]
    assert main(["dedup", str(tmp_path / "p.h5"), "-o", str(tmp_path / "out"), *flags]) == 0
    assert not suggestions.exists(), "of an earlier run"
    table = (tmp_path / "out" / "pairs.csv").read_text().splitlines()
    assert table[0] == "id,other_id,score,kind,verdict"
    assert [(row.split(",")[0], row.split(",")[1], row.split(",")[4]) for row in table[1:]] == [("p13", "p15", "right")]
    verdicts(file, ("p15", "p13", "wrong", ""))
    for more in ([], ["--mutual", "3"]):
        assert main(["dedup", str(tmp_path / "p.h5"), "-o", str(tmp_path / "out"), *flags, *more]) == 0
        assert (tmp_path / "out" / "remove.csv").read_text().count("\n") == 1
    write_descriptors(tmp_path / "q.h5", Descriptors(rows[:14], [f"q{row}" for row in range(14)]))
    sides = {"leaks": ["--train", str(tmp_path / "p.h5"), "--eval", str(tmp_path / "q.h5")],
             "find": [str(tmp_path / "q.h5"), "--in", str(tmp_path / "p.h5")]}  # fmt: skip
    verdicts(file, ("q0", "p0", "wrong", ""), ("q1", "p1", "right", ""))
    for verb, inputs in sides.items():
        capsys.readouterr()
        assert main([verb, *inputs, "-o", str(tmp_path / verb), "--threshold", "0.25"]) == 0
        assert "1 photo matches many others" in capsys.readouterr().err
        assert "p14,12,1.0" in (tmp_path / verb / "stop_list_suggestions.csv").read_text()
        assert main([verb, *inputs, "-o", str(tmp_path / verb), *flags]) == 0
        printed = capsys.readouterr()
        assert "many others" not in printed.err
    rows = [json.loads(line) for line in (tmp_path / "find" / "matches.jsonl").read_text().splitlines()]
    left = {(row["query_id"], row["reference_id"]): row.get("verdict") for row in rows}
    assert not (tmp_path / "find" / "matches.csv").exists()
    expected = {(f"q{row}", f"p{row}"): None for row in range(1, 14)} | {("q1", "p1"): "right", ("q13", "p15"): None}
    assert left == expected
    leaked = (tmp_path / "leaks" / "pairs.csv").read_text().splitlines()
    assert leaked[0] == "evaluation,id,train_id,score,verdict"
    assert {tuple(row.split(",")[1:3]): row.split(",")[4] or None for row in leaked[1:]} == expected
