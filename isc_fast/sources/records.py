"""Lists with named columns: CSV with a header, and JSON lines."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError
from ..files.reading import parse_json
from ..stores.urls import beside, unseen
from .base import Entry, Kind
from .choice import Choice
from .paths import is_there
from .range_file import open_stream

RECORD_SUFFIXES = frozenset((".csv", ".jsonl", ".ndjson"))
PATH_COLUMNS = ("path", "image", "image_path", "file_name", "filename")
"""Names of the column of paths; the first that a list has."""
_ID_COLUMN = "id"
_MAX_FIELD = 1 << 20

Record = Mapping[str, Any]


def _entries(file: str, choice: Choice) -> Iterator[Entry | None]:
    folder, is_csv = os.path.dirname(file), _is_csv(file)
    columns: tuple[str, str | None] | None = None
    for number, record in read_records(file):
        if columns is None or not is_csv:  # each line of JSON has names of its own
            columns = _columns(record, choice, file, number)
        path, id_ = (_text(record.get(name), file, number, name) if name else "" for name in columns)
        if not path:
            raise InputError(f"entry {number} of {file} has no {columns[0]}")
        yield path, unseen(beside(folder, path)), id_


def read_records(file: str) -> Iterator[tuple[int, Record]]:
    """Yield number and record of each line of a CSV with a header, or of JSON lines, as the file's name says.

    Raises:
        InputError: it cannot be read, or is no such list.
    """
    try:
        yield from _csv(file) if _is_csv(file) else _json_lines(file)
    except OSError as error:
        raise InputError(f"cannot read the list {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"the list {file} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def _is_csv(file: str) -> bool:
    return file.lower().endswith(".csv")


def _columns(record: Record, choice: Choice, file: str, number: int) -> tuple[str, str | None]:
    """The names of the columns of paths and of ids."""
    path = choice.image_column or next((name for name in PATH_COLUMNS if name in record), None)
    id_ = choice.id_column or (_ID_COLUMN if _ID_COLUMN in record else None)
    for name, flag in ((path, "--image-column"), (id_, "--id-column")):
        if (name is not None and name not in record) or (flag == "--image-column" and name is None):
            wanted = repr(name) if name is not None else f"{', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}"
            found = ", ".join(map(repr, list(record)[:30])) or "none"
            raise InputError(f"entry {number} of {file} has no column {wanted}; it has {found}; choose one with {flag}")
    assert path is not None
    return path, id_


def _text(value: object, file: str, number: int, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError(f"entry {number} of {file} has a {name} that is no text: {str(value)[:60]!r}")
    text = str(value)
    try:
        if b"\0" not in os.fsencode(text):
            return text
    except UnicodeEncodeError:
        pass
    raise InputError(f"entry {number} of {file} has a {name} that no file can be called: {text[:60]!r}")


def _csv(file: str) -> Iterator[tuple[int, Record]]:
    """Yield number and record of each line; a line that is too short has None in its last columns."""
    csv.field_size_limit(_MAX_FIELD)
    with open_stream(file) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
        try:
            for number, row in enumerate(csv.DictReader(text), 1):
                yield number, {name: value for name, value in row.items() if isinstance(name, str)}
        except csv.Error as error:
            raise InputError(f"the list {file} is not CSV: {error}") from error


def _json_lines(file: str) -> Iterator[tuple[int, Record]]:
    with open_stream(file) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="\n") as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                record = parse_json(line, any_number=True)
            except ValueError as error:
                raise InputError(
                    f"entry {number} of {file} is no JSON ({error}); expected one object a line"
                ) from error
            if not isinstance(record, dict):
                raise InputError(f"entry {number} of {file} is {line.strip()[:60]!r}; expected a JSON object")
            yield number, record


RECORDS = Kind(
    f"a list with columns ({', '.join(sorted(RECORD_SUFFIXES))})",
    lambda path: is_there(path) and os.path.splitext(path)[1].lower() in RECORD_SUFFIXES,
    _entries,
)
