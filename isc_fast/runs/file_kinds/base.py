"""What a kind of file is, and what is seen of a file before anybody knows its kind."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import FormatError, require
from ...files.reading import one_line, open_regular, parse_json

_HEAD_BYTES = 1 << 16
_LINE_BYTES = 1 << 22  # of the first line of a table; one that is longer is no table of ours
_LINES = (".jsonl", ".ndjson")

Facts = dict[str, Any]
"""What there is to say of a file, ready for JSON."""


@dataclass(frozen=True)
class FileKind:
    """One row of the table in `isc_fast.runs.file_kinds.table`.

    Attributes:
        name: of the kind, a noun.
        what: what it is and who writes it, in a sentence without a full stop.
        next: what to do with it, where ``{path}`` stands for its path. A fact of that name takes its place.
        fits: whether a file is of this kind. It may look at the name and at the content, and loads no engine's runtime.
        facts: how many rows it has, of which engine it is, and what else there is to say. Raises `IscFastError` where the file is
            damaged.
    """

    name: str
    what: str
    next: str
    fits: Callable[[Glance], bool]
    facts: Callable[[Glance], Facts]


class Glance:
    """A file or folder, with what is seen of it at its beginning. Each thing is looked at once, when it is first asked for.

    Args:
        path: exists.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name, self.suffix = self.path.name, self.path.suffix.lower()

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def names(self) -> Sequence[str]:
        """What lies in a folder, sorted; of a file, nothing.

        Raises:
            FormatError: the folder cannot be listed.
        """
        try:
            return sorted(os.listdir(self.path)) if self.is_folder else ()
        except OSError as error:
            raise FormatError(f"cannot list the folder {self.path}: {error.strerror or error}") from error

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB of a file; of a folder, nothing.

        Raises:
            FormatError: the file cannot be read.
        """
        return b"" if self.is_folder else self._read(_HEAD_BYTES)

    def _read(self, most: int) -> bytes:
        try:
            with open_regular(self.path) as stream:
                return stream.read(most)
        except OSError as error:
            raise FormatError(f"cannot read {self.path}: {error.strerror or error}") from error

    @cached_property
    def text(self) -> str:
        """The same as text without the blanks before it; empty where it is none."""
        if b"\0" in self.head:
            return ""
        return self.head.decode("utf-8", "surrogateescape").removeprefix("\ufeff").lstrip()

    @cached_property
    def line(self) -> str:
        """The first line of a text, whole."""
        if len(self.head) < _HEAD_BYTES or "\n" in self.text:
            return self.text.partition("\n")[0].rstrip("\r")
        longer = self._read(_LINE_BYTES).partition(b"\n")[0]
        return longer.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip()

    @cached_property
    def form(self) -> str:
        """What a table is written as: ``"csv"``, ``"json"``, ``"jsonl"`` or ``"parquet"``; ``""`` for what is no table."""
        if self.head[:4] == b"PAR1":
            return "parquet"
        if self.text.startswith("["):
            return "json"
        if self.text.startswith("{"):
            several = self.text[len(self.line) :].lstrip().startswith("{")
            return "jsonl" if isinstance(_json(self.line), dict) and (several or self.suffix in _LINES) else ""
        return "csv" if self.text and not self.text.startswith("<") else ""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of a table, as its beginning has them; none for what is no table.

        Raises:
            FormatError: a Parquet file cannot be read.
            MissingExtraError: it is Parquet, and pyarrow is not installed.
        """
        if self.form == "parquet":
            return tuple(self.parquet[0].names)
        if self.form == "csv":
            return _fields(self.line)
        first: Any = None
        if self.form == "jsonl":
            first = _json(self.line)
        elif self.form == "json":
            try:
                first = json.JSONDecoder().raw_decode(self.text[1:].lstrip())[0]
            except (ValueError, RecursionError):
                return ()
        return tuple(first) if isinstance(first, dict) else ()

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """What a file holds that is one JSON object; empty for every other file."""
        if not self.text.startswith("{") or self.form == "jsonl":
            return {}
        found = _json(self._read(-1))
        return found if isinstance(found, dict) else {}

    def count(self) -> int:
        """How many rows a table has.

        Raises:
            FormatError: it is damaged.
            MissingExtraError: it is Parquet, and pyarrow is not installed.
        """
        if self.form == "parquet":
            return self.parquet[1]
        try:
            if self.form == "json":
                return len(parse_json(self._read(-1), any_number=True))
            with open_regular(self.path) as stream:
                if self.form == "jsonl":
                    return sum(1 for line in stream if line.strip())
                with io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
                    return sum(1 for row in csv.reader(text) if row) - 1
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise FormatError(
                f"{self.path} is no table that can be read ({one_line(error)}); write it again"
            ) from error

    @cached_property
    def parquet(self) -> tuple[Any, int]:
        """The schema of a Parquet file, and how many rows it has.

        Raises:
            FormatError: it cannot be read.
            MissingExtraError: pyarrow is not installed.
        """
        parquet = require("pyarrow.parquet", "parquet")
        try:
            with open_regular(self.path) as stream, parquet.ParquetFile(stream) as file:
                return file.schema_arrow, int(file.metadata.num_rows)
        except Exception as error:  # pyarrow's errors share no base class
            raise FormatError(f"cannot read {self.path}: {one_line(error)}; expected a Parquet file") from error

    def lines(self) -> Iterator[str]:
        """The lines of the beginning of a text that are not blank."""
        return (line for line in self.text.splitlines() if line.strip())


def _json(text: str | bytes) -> Any:
    """The value of a text that is JSON; None for one that is not."""
    try:
        return parse_json(text, any_number=True)
    except ValueError:
        return None


def _fields(line: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([line]), ()))
    except csv.Error:
        return ()
