"""Photos in Parquet files, as Hugging Face's hub has them: a column of bytes, of ``{bytes, path}``, or of paths."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from itertools import repeat
from typing import Any

from ..errors import InputError, StoreError
from ..files.reading import one_line
from ..items import Problem
from .base import Entry, Kind
from .choice import Choice
from .containers import Container, reading
from .paths import is_there
from .range_file import open_stream
from .table_columns import PieceKey, Pieces, arrow, id_texts, image_column, kind_of, refused, row_entries

PARQUET_SUFFIXES = frozenset((".parquet", ".pq"))
MAX_GROUP_BYTES = 1 << 30
"""Bytes of a row group: its photos are read all together."""


@contextlib.contextmanager
def _opened(file: str) -> Iterator[Any]:
    """A Parquet file. Its pages are compared with their checksums, where they have any."""
    parquet = arrow("pyarrow.parquet")
    with open_stream(file) as stream, parquet.ParquetFile(stream, page_checksum_verification=True) as opened:
        yield opened


def _entries(file: str, choice: Choice) -> Iterator[Entry | None]:
    table = Container("parquet", file)
    try:
        with _opened(file) as opened:
            schema = opened.schema_arrow
            column = image_column(schema, choice, file)
            by_path = kind_of(schema.field(column)) == "text"
            first = 0
            for group in range(opened.metadata.num_row_groups):
                rows = opened.metadata.row_group(group).num_rows
                _refuse_large(opened, group, file)
                ids = _column(opened, group, choice.id_column, rows)
                paths = _column(opened, group, column if by_path else None, rows)
                values = zip(ids, paths if by_path else repeat(None, rows), strict=True)
                if by_path:
                    values = ((id_, path or "") for id_, path in values)  # type: ignore[assignment]
                yield from row_entries(table, values, lambda row, group=group: (group, row), column, first)  # type: ignore[misc]
                first += rows
    except Exception as error:
        raise refused(error, file, "a Parquet file") from error


def _column(opened: Any, group: int, name: str | None, rows: int) -> list[str | None]:
    return [None] * rows if name is None else id_texts(opened.read_row_group(group, columns=[name]).column(name))


def _refuse_large(opened: Any, group: int, file: str) -> None:
    size = opened.metadata.row_group(
        group
    ).total_byte_size  # asked by column, pyarrow ends the process over a damaged file
    if size > MAX_GROUP_BYTES:
        raise InputError(
            f"{file} has row groups of {size} bytes, limit {MAX_GROUP_BYTES}: write it again with smaller ones, such as "
            "row_group_size=100"
        )


_READING = threading.Lock()  # one at a time, so that groups that are being read do not add up


def _group(key: PieceKey) -> Any:
    """The column of photos of a row group, or the problem because of which there is none: then it is not read again."""
    file, _, column, group = key
    try:
        with _READING, _opened(file) as opened:
            return opened.read_row_group(group, columns=[column]).column(column)
    except StoreError:
        raise  # another time it may be read
    except Exception as error:
        return Problem("read", f"its row group cannot be read: {one_line(error)}")


_GROUPS = Pieces(_group)

PARQUET = Kind(
    "a Parquet file (.parquet)",
    lambda path: is_there(path) and os.path.splitext(path)[1].lower() in PARQUET_SUFFIXES,
    _entries,
    scheme="parquet",
    open=reading(_GROUPS.read),
    packs=PARQUET_SUFFIXES,
)
