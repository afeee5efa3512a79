"""The rows of files of matches and of ground truth, in each format, one after the other; errors name the place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import FormatError
from ...files.parquet_rows import read_parquet_rows
from ...files.reading import parse_json

HEADER = "query_id,reference_id,score"
SUFFIXES = {".csv": "csv", ".txt": "csv", "": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
"""The format that a name says, by what it ends with."""
Row = tuple[str, str, float, str | None]
"""Query, reference, score and, where the file says it, which view of the query matched."""


def _lines(path: str | os.PathLike[str], expected: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of every line of a text file that is not blank; bytes that are not UTF-8 survive."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise FormatError(f"cannot read {os.fspath(path)}: {error.strerror or error}; expected {expected}") from error


def _score(text: Any, where: str) -> float:
    try:
        score = float(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{where}: {str(text)[:80]!r} is not a number") from error
    if score != score:
        raise FormatError(f"{where}: the score is not a number (nan)")
    return score


def _id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _names_columns(fields: list[str], header: str) -> bool:
    """Whether the first line of a file holds names of columns that are not ours; else it is a row of a file without a header."""
    if len(fields) != header.count(",") + 1:
        return True
    if header == HEADER:
        with contextlib.suppress(ValueError):
            float(fields[-1])
            return False
        return True
    text = ",".join(fields).lower()
    return not any(map(str.isdigit, text)) and any(word in text for word in ("query", "reference", "image", "id"))


def csv_rows(path: str | os.PathLike[str], header: str, expected: str) -> Iterator[tuple[str, list[str]]]:
    """(place, fields) of every row; errors name the place. As in the evaluation kit, the header may be missing or repeated."""
    name, count, first = os.fspath(path), header.count(",") + 1, True
    for number, line in _lines(path, expected):
        where, fields, begins = f"{name}, line {number}", line.split(","), first
        first = False
        if line.rstrip() == header:
            continue
        if begins and _names_columns(fields, header):
            raise FormatError(f"{name} begins with {line[:80]!r}; expected {expected}")
        if '"' in line:
            raise FormatError(f"{where}: quotes, which the challenge's CSV does not use; write the ids without them")
        if len(fields) != count:
            raise FormatError(f"{where}: {len(fields)} fields; expected {count}: {header}")
        yield where, fields
    if first:
        raise FormatError(f"{name} begins with ''; expected {expected}")


def _csv_matches(path: str | os.PathLike[str]) -> Iterator[Row]:
    for where, (query, reference, score) in csv_rows(path, HEADER, _EXPECTED):
        yield query, reference, _score(score, where), None


def _jsonl_matches(path: str | os.PathLike[str]) -> Iterator[Row]:
    for number, line in _lines(path, _EXPECTED):
        where = f"{os.fspath(path)}, line {number}"
        try:
            row = parse_json(line, any_number=True)
            view = row.get("view") if isinstance(row, dict) else None
            yield _id(row["query_id"]), _id(row["reference_id"]), _score(row["score"], where), _view(view)
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{where}: expected an object with query_id, reference_id and score") from error


def _parquet_matches(path: str | os.PathLike[str]) -> Iterator[Row]:
    rows = read_parquet_rows(path, HEADER.split(","), ("view",))
    for number, (query, reference, score, view) in enumerate(rows, 1):
        where = f"{os.fspath(path)}, row {number}"
        try:
            yield _id(query), _id(reference), _score(score, where), _view(view)
        except TypeError as error:
            raise FormatError(f"{where}: expected texts query_id and reference_id, and a number score") from error


def _view(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


_EXPECTED = f"matches: a CSV file that begins with {HEADER}, or .jsonl, or .parquet"
_READERS = {"jsonl": _jsonl_matches, "parquet": _parquet_matches}


def match_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Every pair of a file of matches, in the format that its name says.

    Raises:
        FormatError: a row is not what it should be.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    yield from _READERS.get(SUFFIXES.get(Path(path).suffix.lower(), ""), _csv_matches)(path)
