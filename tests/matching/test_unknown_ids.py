"""A stop list and verdicts of other photos are not taken in silence."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from isc_fast.cli.main import main
from isc_fast.descriptors.id_lists import read_ids, read_new_names
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import FormatError
from isc_fast.matching.pairs.left_out import read_left_out
from isc_fast.matching.pairs.unknown_ids import LOGGER, warn_of_unknown

pytest.importorskip("faiss")


@pytest.fixture
def files(tmp_path) -> Path:
    """Queries q0, q1, q2, references r0 to r4, a stop list and verdicts of which some are theirs."""
    rows = np.eye(5, 256, dtype=np.float32)
    write_descriptors(tmp_path / "q.h5", Descriptors(rows[:3], ["q0", "q1", "q2"]))
    write_descriptors(tmp_path / "r.h5", Descriptors(rows, [f"r{row}" for row in range(5)]))
    (tmp_path / "stop.txt").write_text("q1\nr4\nx\ny\n")
    said = ["q0,r0,wrong,", "r0,q0,wrong,", "q1,x,right,", "q2,r2,right,eval"]
    (tmp_path / "v.csv").write_text("\n".join(["query_id,reference_id,verdict,set", *said]) + "\n")
    return tmp_path


def warned(caplog, left_out, *ids) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, LOGGER):
        warn_of_unknown(left_out, *ids)
    return [record.getMessage() for record in caplog.records]


def test_what_counts_as_known(files, caplog):
    queries, references = ["q0", "q1", "q2"], [f"r{row}" for row in range(5)]
    both = read_left_out(files / "v.csv", files / "stop.txt")
    stop = f"2 of the 4 ids of {files / 'stop.txt'} are not among the photos, and leave nothing out"
    pairs = f"of the 4 pairs of {files / 'v.csv'} are not among those of the photos that are compared, and leave nothing out"
    assert warned(caplog, both, queries, references) == [stop, f"3 {pairs}"]  # turned, unknown, of a set
    assert warned(caplog, both, {"eval": queries, "more": ["q9"]}, references) == [stop, f"2 {pairs}"]
    assert warned(caplog, both, {"more": queries}, references) == [stop, f"3 {pairs}"]
    one = read_left_out(None, files / "stop.txt", one_side=True)
    assert warned(caplog, one, ["q1", "r4", "x", "y"]) == []
    one = read_left_out(files / "v.csv", None, one_side=True)
    assert warned(caplog, one, [*queries, *references]) == [f"2 {pairs}"]


def test_every_verb_says_so(files, capsys):
    queries, references = str(files / "q.h5"), str(files / "r.h5")
    lists = ["--stop-list", str(files / "stop.txt"), "--verdicts", str(files / "v.csv")]
    note = f"note: 2 of the 4 ids of {files / 'stop.txt'} are not among the photos"
    limits = ["--threshold", "0.5", *lists]
    for words, pairs in (
        (["search", queries, references, "-o", str(files / "m.jsonl")], 3),
        (["search", queries, references, "-o", f"{files}/tasks/"], 3),
        (["find", queries, "--in", references, "-o", str(files / "found")], 3),
        (["find", queries, "--in", references, "-o", str(files / "found2"), "--search-workers", "1"], 3),
        (["leaks", "--train", references, "--eval", queries, "-o", str(files / "leaks")], 3),
    ):
        assert main([*words, *limits]) == 0
        error = capsys.readouterr().err
        assert error.count(note) == 1, words
        assert error.count(f"note: {pairs} of the 4 pairs of {files / 'v.csv'}") == 1, words
    assert main(["dedup", references, "-o", str(files / "dedup"), *limits]) == 0
    error = capsys.readouterr().err
    assert f"note: 3 of the 4 ids of {files / 'stop.txt'}" in error
    assert f"note: 4 of the 4 pairs of {files / 'v.csv'}" in error
    (files / "stop.txt").write_text("r1\n")
    assert main(["dedup", references, "-o", str(files / "dedup"), *limits[:4]]) == 0
    assert "of the" not in capsys.readouterr().err


def test_a_photo_is_no_list_of_ids(files, photos):
    shutil.copy(photos[0], files / "stop.jpg")
    for read in (read_ids, read_new_names):
        with pytest.raises(FormatError, match="is no text: it holds NUL bytes; expected a list of ids, one a line"):
            read(files / "stop.jpg")
