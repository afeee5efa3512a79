"""Rows of a Parquet file, by the names of its columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import FormatError, MissingExtraError, require
from .reading import one_line, open_regular

_ROWS_AT_ONCE = 1 << 16


def read_parquet_rows(
    path: str | os.PathLike[str], columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of some columns, row by row. Its pages are compared with their checksums, where they have any.

    Args:
        path: the file.
        columns: that it must have.
        optional: further columns; their values are None where it does not have them.

    Raises:
        FormatError: it cannot be read, is damaged, or lacks a column.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", "parquet")
    name = os.fspath(path)
    try:
        with open_regular(path) as stream, parquet.ParquetFile(stream, page_checksum_verification=True) as file:
            _require_columns(file.schema_arrow.names, columns, name)
            names = file.schema_arrow.names
            read = [*columns, *(column for column in optional if names.count(column) == 1)]
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=read):
                values = {column: batch.column(column).to_pylist() for column in read}
                nothing = [None] * len(batch)
                yield from zip(*(values.get(column, nothing) for column in (*columns, *optional)), strict=True)
    except (FormatError, MissingExtraError):
        raise
    except Exception as error:  # pyarrow's errors share no base class
        reason = getattr(error, "strerror", None) or one_line(error)
        raise FormatError(f"cannot read {name}: {reason}; expected a Parquet file with {', '.join(columns)}") from error


def _require_columns(found: Sequence[str], wanted: Sequence[str], name: str) -> None:
    for column in wanted:
        if found.count(column) != 1:
            shown = ", ".join(found[:30]) or "none"
            raise FormatError(f"{name} has the columns {shown}; expected one column {column}")
