"""Tables that people and scripts read: rows of named columns as CSV, JSON, JSON lines or Parquet, written as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ..errors import FormatError, InputError, require
from .atomic import replacing

Columns = Mapping[str, type]
"""The names of the columns, in order, and what is in them: ``str``, ``int`` or ``float``. Any of it may be None."""

Rows = Iterable[Sequence[Any]]

_ROWS_AT_ONCE = 1 << 16
_NOUNS = {"csv": "CSV", "parquet": "Parquet"}


def _plain(row: Sequence[Any]) -> list[Any]:
    """The row with each score as the shortest number that reads back as the same float32."""
    return [float(str(value)) if isinstance(value, float) or hasattr(value, "dtype") else value for value in row]


class _Lines:
    """Ends each line of `csv.writer` with a line feed alone. The writer quotes what stands in its own line end, so a carriage
    return in an id too, which readers would take for the end of a row.
    """

    def __init__(self, file: TextIO) -> None:
        self._write = file.write

    def write(self, line: str) -> None:
        self._write(line[:-2] + "\n")


def _write_csv(path: Path, columns: Columns, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(_Lines(file), lineterminator="\r\n")
        writer.writerow(columns)
        try:
            writer.writerows(rows)
        except UnicodeEncodeError as error:
            raise FormatError(_no_place("csv", error)) from error


def _no_place(form: str, error: UnicodeEncodeError) -> str:
    why = "holds a lone surrogate (half of a character)" if form == "csv" else "is not UTF-8"
    name = error.object.split("\0")[error.object.count("\0", 0, error.start)]
    return f"the name {name[:200]!r} {why}, which {_NOUNS[form]} cannot hold; use --format jsonl"


def _objects(columns: Columns, rows: Rows) -> Iterator[str]:
    for row in rows:
        yield json.dumps(dict(zip(columns, _plain(row), strict=True)))


def _write_jsonl(path: Path, columns: Columns, rows: Rows) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{text}\n" for text in _objects(columns, rows))


def _write_json(path: Path, columns: Columns, rows: Rows) -> None:
    with open(path, "w", encoding="ascii") as file:
        before = "["
        for text in _objects(columns, rows):
            file.write(f"{before}\n{text}")
            before = ","
        file.write("[]\n" if before == "[" else "\n]\n")


def _write_parquet(path: Path, columns: Columns, rows: Rows) -> None:
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float32()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    source = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while block := list(islice(source, _ROWS_AT_ONCE)):
            try:
                arrays = [
                    arrow.array(list(column), field.type)
                    for column, field in zip(zip(*block, strict=True), schema, strict=True)
                ]
            except UnicodeEncodeError as error:
                raise FormatError(_no_place("parquet", error)) from error
            writer.write_table(arrow.table(arrays, schema=schema))


FORMATS: dict[str, Callable[[Path, Columns, Rows], None]] = {
    "csv": _write_csv,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
"""By name, which is the suffix of the files too."""


def check_format(form: str) -> None:
    """See before the work that tables can be written in a format.

    Raises:
        InputError: there is no such format.
        MissingExtraError: its library is not installed.
    """
    if form not in FORMATS:
        raise InputError(f"there is no format {form!r}; choose one of {', '.join(FORMATS)}")
    if form == "parquet":
        require("pyarrow", "parquet")


def check_names(form: str, names: Sequence[str]) -> None:
    """See before the work that names can stand in tables of a format.

    Raises:
        FormatError: one cannot.
    """
    if form not in _NOUNS:
        return
    for start in range(0, len(names), _ROWS_AT_ONCE):
        try:
            "\0".join(names[start : start + _ROWS_AT_ONCE]).encode(
                "utf-8", "surrogateescape" if form == "csv" else "strict"
            )
        except UnicodeEncodeError as error:
            raise FormatError(_no_place(form, error)) from error


def write_rows(folder: Path, name: str, form: str, columns: Columns, rows: Rows) -> Path:
    """Write a table, atomically; returns its path, ``FOLDER/NAME.FORMAT``.

    Args:
        folder: exists.
        name: without suffix.
        form: see `FORMATS`.
        columns: see `Columns`.
        rows: gone through once; memory holds a few thousand of them. A score of float32 is written with as many digits as
            reading it back needs.

    Raises:
        OutputError: the file cannot be written.
        FormatError: a text cannot stand in this format.
        MissingExtraError: the library for it is not installed.
    """
    path = folder / f"{name}.{form}"
    with replacing(path) as temporary:
        FORMATS[form](temporary, columns, rows)
    return path
