"""Which two sets may be compared, in one table of pairs; every caller keeps to it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from oracles import named, unit_rows

from isc_fast import subtract_negatives
from isc_fast.cli.main import main
from isc_fast.descriptors.comparing import compare, compare_with_negatives
from isc_fast.descriptors.formats.table import convert
from isc_fast.descriptors.verdict import Grade, PrecisionWarning
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import MismatchError
from isc_fast.matching.two_sides import search

ROWS = unit_rows(0, 6, 8)
V107 = {
    "name": "v107", "arch": "net", "height": 512, "width": 512, "dim": 8, "gem_p": 3.0, "precision": "fp32",
    "runtime": "onnxruntime", "weights_as": "fp32", "preprocessing": "stretch", "checkpoint_sha256": "c" * 64,
    "fp32_layers": [], "parity": {"cosine_min": 0.9999999}, "accuracy": {}, "tools": {"torch": "2.9"}, "version": 1,
}  # fmt: skip
PLAIN = {"engine_id": "a" * 64, "engine": V107, "decoder": "turbo", "plan": {"id": "p"}, "normalization": None}
NES = {"method": "nes", "k": 10, "beta": 0.35, "iterations": 1, "negatives": "0123456789abcdef"}
QUERY, REFERENCE = {"method": "score", "role": "query", "k": 3}, {"method": "score", "role": "reference"}


def other(engine_id="b" * 64, **facts):
    """A set of another engine file; its facts differ from v107's in these."""
    return {**PLAIN, "engine_id": engine_id, "engine": {**V107, **facts}}


def without(facts, *names):
    return {key: value for key, value in facts.items() if key not in names}


INT8 = {"precision": "int8", "runtime": "openvino", "accuracy": {"cosine_p01": 0.99912, "cosine_min": 0.98}}
HALF = {"weights_as": "fp16", "parity": {"cosine_min": 0.9999999, "original_cosine_min": 0.99998}}
NETWORK = {key: V107[key] for key in ("arch", "height", "width", "dim", "gem_p", "preprocessing", "checkpoint_sha256")}
TAUGHT = {"id": "a" * 64, "name": "v107", "cosine_mean": 0.91, "cosine_p01": 0.7, "photos": 100, "network": NETWORK}
STUDENT = {"name": "small", "height": 224, "width": 224, "checkpoint_sha256": "e" * 64, "teacher": TAUGHT}
LEARNED = "made by small, which learned from v107, the engine of the"
NOBODY = "not both sides say which engine made them"
OLD = without(V107, "precision", "runtime", "weights_as", "accuracy", "fp32_layers")

# what is compared: queries, references → grade, words that the remarks hold
PAIRS = {
    "one file": (PLAIN, PLAIN, Grade.YES, []),
    "one file, other facts": (PLAIN, other("a" * 64, name="x", checkpoint_sha256="d"), Grade.YES, []),
    "foreign": ({}, {}, Grade.NOTE, [NOBODY]),
    "foreign references": (PLAIN, {}, Grade.NOTE, [NOBODY]),
    "foreign queries, normalised references": ({}, {**PLAIN, "normalization": NES}, Grade.NOTE, [NOBODY]),
    "neither names its engine": ({"normalization": NES}, {"normalization": NES}, Grade.NOTE, [NOBODY]),
    "other metadata": (
        PLAIN, other(name="ours", tools={}, version=1), Grade.NOTE,
        ["two engine files of the same network and precision (v107, fp32: aaaaaaaaaaaa for onnxruntime, bbbbbbbbbbbb for "
         "onnxruntime)", "differ in the last digits"],
    ),
    "other runtime": (PLAIN, other(runtime="openvino"), Grade.NOTE, ["bbbbbbbbbbbb for openvino", "last digits"]),
    "a file of an older version": (PLAIN, {**other(), "engine": OLD}, Grade.NOTE, ["same network and precision"]),
    "int8, made twice": (
        other("a" * 64, **INT8), other(**INT8, fp32_layers=["x"]), Grade.NOTE,
        ["int8: aaaaaaaaaaaa for openvino", "measured cosine between int8 and fp32 is 0.99912 at the 1st percentile"],
    ),
    "other precision": (
        PLAIN, other(**INT8), Grade.WARNING,
        ["queries were made in fp32 and references in int8 by the same network (v107)", "extract both with one engine",
         "measured cosine between int8 and fp32 is 0.99912 at the 1st percentile of edited copies"],
    ),
    "other precision, both reduced": (
        other(precision="fp16", runtime="tensorrt", parity={"cosine_min": 0.9997}), other("c" * 64, **INT8),
        Grade.WARNING, ["between fp16 and fp32 is 0.99970 at the lowest", ", and the measured cosine between int8"],
    ),
    "weights in fp16": (
        PLAIN, other(**HALF), Grade.WARNING,
        ["references in fp32 with weights in fp16", "between fp32 with weights in fp16 and fp32 is 0.99998 at the lowest"],
    ),
    "other precision, never measured": (
        PLAIN, other(precision="bf16", parity={}), Grade.WARNING, ["nobody has measured by how much"],
    ),
    "a student and its teacher": (
        other(**STUDENT), PLAIN, Grade.WARNING,
        [f"queries were {LEARNED} references", "cosine between the two is 0.910 on average and 0.700 at the 1st percentile"],
    ),
    "a teacher and its student": (PLAIN, other(**STUDENT), Grade.WARNING, [f"references were {LEARNED} queries"]),
    "a student and its teacher in another precision": (
        other("c" * 64, **STUDENT), other(**INT8), Grade.WARNING, [f"queries were {LEARNED} references"],
    ),
    "a student and another engine": (
        other("c" * 64, **STUDENT), other(checkpoint_sha256="d" * 64), Grade.NO, ["by different engines", "checkpoints"],
    ),
    "two students of one teacher": (
        other("c" * 64, **STUDENT), other("d" * 64, **{**STUDENT, "checkpoint_sha256": "f" * 64}), Grade.NO, ["checkpoints"],
    ),
    "other checkpoint": (
        PLAIN, other(checkpoint_sha256="d" * 64), Grade.NO,
        ["by different engines (aaaaaaaaaaaa and bbbbbbbbbbbb); extract both", "different checkpoints (cccc", "and dddd"],
    ),
    "no checkpoint": (other("a" * 64, checkpoint_sha256=""), other(checkpoint_sha256=""), Grade.NO, ["nothing shows"]),
    "checkpoint of one": (PLAIN, {**other(), "engine": without(V107, "checkpoint_sha256")}, Grade.NO, ["nothing shows"]),
    "no specification": ({"engine_id": "a"}, {"engine_id": "b"}, Grade.NO, ["engines (a and b)", "nothing shows"]),
    "an engine against none": ({"normalization": NES}, PLAIN, Grade.NO, ["different engines (None and aaaaaaaaaaaa)"]),
    "other preprocessing": (PLAIN, other(preprocessing="pad"), Grade.NO, ["prepare photos differently (stretch and pad)"]),
    "other size": (PLAIN, other(width=256), Grade.NO, ["their inputs differ in size (512 and 256)"]),
    "other pooling": (PLAIN, other(gem_p=1.0), Grade.NO, ["their gem_p differs (3.0 and 1.0)"]),
    "a fact of a newer version": (PLAIN, other(head="two"), Grade.NO, ["their head differs (None and two)"]),
    "smoothed": (PLAIN, {**PLAIN, "smoothing": {"k": 10}}, Grade.NO, ["the references are smoothed negatives"]),
    "smoothed and foreign": ({"smoothing": {"k": 10}}, {}, Grade.NO, ["the queries are smoothed negatives"]),
    "normalised alike": ({**PLAIN, "normalization": NES}, {**PLAIN, "normalization": {**NES}}, Grade.YES, []),
    "normalised alike, other runtime": (
        {**PLAIN, "normalization": NES}, {**other(runtime="openvino"), "normalization": NES}, Grade.NOTE, ["last digits"],
    ),
    "normalised on one side": (
        {**PLAIN, "normalization": NES}, PLAIN, Grade.NO,
        ["queries are normalised by nes (k=10, beta=0.35, iterations=1, negatives 0123456789ab) and references by nothing; "
         "normalise both with the same negatives, or neither"],
    ),
    "normalised by other numbers": (
        {**PLAIN, "normalization": NES}, {**PLAIN, "normalization": {**NES, "beta": 0.5}}, Grade.NO, ["beta=0.5"],
    ),
    "normalised in a newer way": (
        {**PLAIN, "normalization": NES}, {**PLAIN, "normalization": {**NES, "whitened": True}}, Grade.NO, ["by nes"],
    ),
    "other runtime, normalised on one side": (
        PLAIN, {**other(runtime="openvino"), "normalization": NES}, Grade.NO, ["references by nes"],
    ),
    "score roles": ({**PLAIN, "normalization": QUERY}, {**PLAIN, "normalization": REFERENCE}, Grade.YES, []),
    "score roles exchanged": (
        {**PLAIN, "normalization": REFERENCE}, {**PLAIN, "normalization": QUERY}, Grade.NO, ["by score (role=reference)"],
    ),
    "score, both queries": (
        {**PLAIN, "normalization": QUERY}, {**PLAIN, "normalization": QUERY}, Grade.NO, ["score (role=query, k=3)"],
    ),
    "score against nes": (
        {**PLAIN, "normalization": QUERY}, {**PLAIN, "normalization": NES}, Grade.NO, ["by score", "by nes"],
    ),
    "exact decoders": (PLAIN, {**PLAIN, "decoder": "pillow"}, Grade.YES, []),
    "other pixels": (
        PLAIN, {**PLAIN, "decoder": "dali"}, Grade.NOTE, ["queries were decoded by turbo and references by dali"],
    ),
    "other pixels and precision": (
        PLAIN, {**other(**INT8), "decoder": "dali"}, Grade.WARNING, ["decoded by turbo", "made in fp32"],
    ),
}  # fmt: skip


def sides(name):
    queries, references, *expected = PAIRS[name]
    return named(ROWS, "q", **queries), named(ROWS, "r", **references), *expected


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair(name):
    queries, references, grade, words = sides(name)
    verdict = compare(queries, references)
    said = "\n".join(remark.words for remark in verdict.remarks)
    assert (verdict.grade, verdict.allowed, bool(verdict.remarks)) == (grade, grade < Grade.NO, bool(words)), said
    for part in words:
        assert part in said


@pytest.mark.parametrize("name", PAIRS)
def test_search_and_submissions_keep_to_it(tmp_path, name):
    queries, references, grade, words = sides(name)
    both = {"query": queries, "reference": references}
    for act in (lambda: search(queries, references, k=1), lambda: convert(both, tmp_path / "s.h5", "submission")):
        if grade is Grade.NO:
            with pytest.raises(MismatchError) as caught:
                act()
            assert words[0] in str(caught.value)
        elif grade is Grade.WARNING:
            with pytest.warns(PrecisionWarning, match="scores are not exact"):
                act()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                act()


def test_dimensions_come_first():
    verdict = compare(named(ROWS, "q", **PLAIN), named(ROWS[:, :3], **other(checkpoint_sha256="d")))
    (remark,) = verdict.remarks
    assert remark.words == "queries have 8 dimensions and references 3; extract both with one engine"
    assert remark.grade is Grade.NO


@pytest.mark.parametrize(
    ("meta", "grade", "words"),
    [
        (PLAIN, Grade.YES, ""),
        ({**PLAIN, "smoothing": {"k": 10}}, Grade.YES, ""),
        ({}, Grade.NOTE, NOBODY),
        (
            other(runtime="tensorrt"),
            Grade.NOTE,
            "descriptors and negatives were made by two engine files of the same network",
        ),
        (other(**INT8), Grade.WARNING, "descriptors were made in fp32 and negatives in int8 by the same network"),
        (
            other(checkpoint_sha256="d"),
            Grade.NO,
            "the negatives were made by another engine (bbbbbbbbbbbb) than the descriptors (aaaaaaaaaaaa); extract both",
        ),
    ],
)
def test_negatives_keep_to_the_same_rules(meta, grade, words):
    descriptors, negatives = named(ROWS, "q", **PLAIN), named(ROWS, "t", **meta)
    verdict = compare_with_negatives(descriptors, negatives)
    assert verdict.grade is grade
    assert words in "".join(remark.words for remark in verdict.remarks)
    if grade is Grade.NO:
        with pytest.raises(MismatchError, match="another engine"):
            subtract_negatives(descriptors, negatives)
    elif grade is Grade.WARNING:
        with pytest.warns(PrecisionWarning, match="negatives in int8"):
            subtract_negatives(descriptors, negatives)
    else:
        assert len(subtract_negatives(descriptors, negatives)) == len(ROWS)


def test_the_command_line_says_each_remark_once(tmp_path, capsys, recwarn):
    files = {}
    for name, meta in {"q": PLAIN, "r": {**other(**INT8), "decoder": "dali"}, "t": other(**INT8), "f": {}}.items():
        files[name] = str(tmp_path / f"{name}.h5")
        write_descriptors(files[name], named(ROWS, name, **meta))
    warning = "warning: {} were made in fp32 and {} in int8 by the same network"
    for verb, output, said in (
        (
            ["search", files["q"], files["r"]],
            "m.csv",
            [warning.format("queries", "references"), "note: queries were decoded"],
        ),
        (["normalize", files["q"], "--negatives", files["t"]], "n.h5", [warning.format("descriptors", "negatives")]),
        (
            ["convert", f"query={files['q']}", f"reference={files['r']}", "--to", "submission"],
            "s.h5",
            [warning.format("queries", "references")],
        ),
        (["search", files["q"], files["f"]], "m.csv", [f"note: {NOBODY}"]),
        (["normalize", files["f"], "--negatives", files["t"]], "n.h5", [f"note: {NOBODY}"]),
    ):
        assert main([*verb, "-o", str(tmp_path / output)]) == 0
        printed = capsys.readouterr().err
        for words in said:
            assert printed.count(words) == 1, printed
    assert not [found for found in recwarn if found.category is PrecisionWarning]


def test_a_refused_pair_is_one_line(tmp_path, capsys):
    write_descriptors(tmp_path / "q.h5", named(ROWS, "q", **{**PLAIN, "decoder": "dali"}))
    write_descriptors(tmp_path / "r.h5", named(ROWS, "r", **other(checkpoint_sha256="d")))
    assert main(["search", str(tmp_path / "q.h5"), str(tmp_path / "r.h5"), "-o", str(tmp_path / "m.csv")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "m.csv").exists()


def test_sets_may_be_open_on_disk(tmp_path):
    from isc_fast.descriptors.store import open_descriptors

    write_descriptors(tmp_path / "q.h5", named(ROWS, "q", **PLAIN))
    with open_descriptors(tmp_path / "q.h5") as queries:
        assert compare(queries, named(ROWS, "r", **other(**INT8))).grade is Grade.WARNING
        assert np.asarray(queries.vectors[:]).shape == ROWS.shape
