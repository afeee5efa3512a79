"""Lists of ids, such as dedup's list of what could go, and lists that give ids another name.

| name | what is in it |
|---|---|
| ``.csv .jsonl .ndjson .json .parquet`` | a column ``id``, and ``new_id`` where ids are renamed; other columns do not count |
| a folder | ``part.*.parquet``, as dedup's ``remove-nemo/`` |
| anything else | text: one id a line, and behind a tab the new one where ids are renamed |
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..files.parquet_rows import read_parquet_rows
from ..files.reading import open_regular, parse_json
from ..sources.records import RECORD_SUFFIXES, read_records

_ID, _NEW = "id", "new_id"


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """The ids of a list.

    Raises:
        FormatError: it cannot be read, or has no column ``id``.
        InputError: it is no CSV, or no JSON lines.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    return [id_ for (id_,) in _rows(Path(path), (_ID,))]


def read_new_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """The new id of each old one.

    Raises:
        FormatError: it cannot be read, has no columns ``id`` and ``new_id``, or gives an id two new ones.
        InputError, MissingExtraError: as `read_ids`.
    """
    names: dict[str, str] = {}
    for old, new in _rows(Path(path), (_ID, _NEW)):
        if names.setdefault(old, new) != new:
            raise FormatError(f"{os.fspath(path)} gives the id {old!r} two new ones: {names[old]!r} and {new!r}")
    return names


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    suffix = path.suffix.lower()
    if path.is_dir():
        rows = _of_folder(path, columns)
    elif suffix == ".parquet":
        rows = read_parquet_rows(path, columns)
    elif suffix in RECORD_SUFFIXES:
        rows = (_of_record(record, columns, path, number) for number, record in read_records(os.fspath(path)))
    elif suffix == ".json":
        rows = _of_json(path, columns)
    else:
        rows = _of_text(path, columns)
    for number, row in enumerate(rows, 1):
        if any(isinstance(value, bool) or not isinstance(value, (str, int)) for value in row):
            raise FormatError(f"entry {number} of {path} is {row!r:.80}; expected text in {' and '.join(columns)}")
        yield tuple(map(str, row))


def _of_record(record: Any, columns: Sequence[str], path: Path, number: int) -> tuple[Any, ...]:
    if not isinstance(record, dict) or any(name not in record for name in columns):
        found = ", ".join(list(record)[:30]) if isinstance(record, dict) else repr(record)[:60]
        raise FormatError(
            f"entry {number} of {path} has {found or 'nothing'}; expected the column{'s' * (len(columns) > 1)} "
            f"{' and '.join(columns)}, or a .txt with one id a line"
        )
    return tuple(record[name] for name in columns)


def _of_folder(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise FormatError(f"the folder {path} holds no .parquet file; expected a list of ids")
    return chain.from_iterable(read_parquet_rows(file, columns) for file in files)


def _of_json(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    try:
        found = parse_json(_content(path), any_number=True)
    except ValueError as error:
        raise FormatError(f"{path} is no JSON ({error}); expected a list of objects") from error
    if not isinstance(found, list):
        raise FormatError(f"{path} holds {str(found)[:60]!r}; expected a list of objects with {' and '.join(columns)}")
    return (_of_record(record, columns, path, number) for number, record in enumerate(found, 1))


def _of_text(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    content = _content(path)
    if b"\0" in content:
        raise FormatError(
            f"{path} is no text: it holds NUL bytes; expected a list of ids, one a line, or a .csv, .jsonl, .json or "
            f".parquet with the column{'s' * (len(columns) > 1)} {' and '.join(columns)}"
        )
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line:
            continue
        fields = tuple(line.split("\t")) if len(columns) > 1 else (line,)
        if len(fields) != len(columns):
            raise FormatError(f"line {number} of {path} is {line[:80]!r}; expected {'<TAB>'.join(columns)}")
        yield fields


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}; expected a list of ids") from error
