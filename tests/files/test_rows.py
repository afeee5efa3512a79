"""Tables in every format say the same, hold any id or say which cannot, and come whole or not at all."""

from __future__ import annotations

import csv
import json
import re
import threading

import numpy as np
import pytest

from isc_fast.descriptors.id_lists import read_ids
from isc_fast.errors import FormatError, InputError, OutputError
from isc_fast.files.one_run import one_run
from isc_fast.files.rows import FORMATS, check_format, check_names, write_rows

COLUMNS = {"id": str, "score": float, "bytes": int, "kind": str}
ROWS = [
    ('one, "two"\nthree', np.float32(0.1), 2**40, "near"),
    ("köln", np.float32(1 / 3), None, None),
    ("", None, 0, "file"),
]


def read(path):
    """The rows of a table as tuples; what is empty in a CSV is None."""
    form = path.suffix[1:]
    if form == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path)
        assert [str(kind) for kind in table.schema.types] == ["string", "float", "int64", "string"]
        rows = table.to_pylist()
    elif form == "csv":
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
    else:
        text = path.read_text("ascii")
        rows = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
    assert all(list(row) == list(COLUMNS) for row in rows)
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_the_same(tmp_path, form):
    path = write_rows(tmp_path, "table", form, COLUMNS, iter(ROWS))
    assert path == tmp_path / f"table.{form}"
    found = read(path)
    if form == "csv":
        found = [
            (id_, float(score) if score else None, int(size) if size else None, kind or None)
            for id_, score, size, kind in found
        ]
    assert [(row[0], *row[2:]) for row in found] == [(row[0], *row[2:]) for row in ROWS]
    for row, (_, score, *_) in zip(found, ROWS, strict=True):
        assert row[1] is score is None or np.float32(row[1]) == score


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows_is_one(tmp_path, form):
    assert read(write_rows(tmp_path, "table", form, COLUMNS, [])) == []


@pytest.mark.parametrize("form", FORMATS)
def test_names_that_are_not_utf8(tmp_path, form):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    row = (name, np.float32(0), 0, "near")
    if form == "parquet":
        with pytest.raises(FormatError, match="is not UTF-8, which Parquet cannot hold; use --format jsonl"):
            write_rows(tmp_path, "table", form, COLUMNS, [row])
        assert list(tmp_path.iterdir()) == []
    else:
        assert read(write_rows(tmp_path, "table", form, COLUMNS, [row]))[0][0] == name


def test_half_a_character_fits_no_csv(tmp_path):
    with pytest.raises(FormatError, match=r"lone surrogate .* use --format jsonl"):
        write_rows(tmp_path, "table", "csv", COLUMNS, [("\ud800", np.float32(0), 0, "near")])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_table_leaves_the_old_one(tmp_path):
    write_rows(tmp_path, "table", "csv", COLUMNS, ROWS)
    before = (tmp_path / "table.csv").read_bytes()

    def broken():
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path, "table", "csv", COLUMNS, broken())
    assert (tmp_path / "table.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_names_are_looked_at_before_the_work():
    half, latin = "\ud800", b"caf\xe9".decode("utf-8", "surrogateescape")
    many = [f"photo {number}" for number in range(70_000)]
    for form, name, fits in (
        ("csv", half, False),
        ("csv", latin, True),
        ("parquet", latin, False),
        ("jsonl", half, True),
    ):
        if fits:
            check_names(form, [*many, name])
        else:
            with pytest.raises(FormatError, match=f"the name {re.escape(repr(name))} .* cannot hold"):
                check_names(form, [*many, name, "another"])


def test_formats_that_there_are():
    check_format("jsonl")
    with pytest.raises(InputError, match="no format 'xlsx'; choose one of csv, json, jsonl, parquet"):
        check_format("xlsx")


def test_one_run_in_a_folder(tmp_path):
    """Another one is told at once, also from another thread; afterwards nothing is left of the lock."""
    said = []

    def other():
        try:
            with one_run(tmp_path):
                said.append("in")
        except OutputError as error:
            said.append(str(error))

    with one_run(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert said[0].startswith(f"another run is writing to {tmp_path}; wait")
    assert said[1] == "in"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError), one_run(tmp_path / "gone"):
        pass


def test_a_carriage_return_in_a_name_does_not_end_a_row(tmp_path):
    """Every reader takes one that is not quoted for the end of a row."""
    names = ["a\rb.jpg", "c\r\nd.jpg", "e\nf.jpg", 'g"h', "i,j", "plain"]
    path = write_rows(tmp_path, "x", "csv", {"id": str, "score": float}, [(name, 0.5) for name in names])
    assert path.read_bytes().endswith(b"plain,0.5\n")
    assert b"\r\n" not in path.read_bytes().replace(b"c\r\nd", b"")
    assert read_ids(path) == names
    with open(path, encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == names
