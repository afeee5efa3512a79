"""The columns of a table of photos: which one holds them, and the photo of a row. What Parquet and Arrow files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ..errors import FormatError, InputError, IscFastError, MissingExtraError, StoreError, require
from ..files.reading import one_line, parse_json
from ..items import Photo, Problem
from ..stores.urls import beside, is_url, unseen
from .base import Entry
from .cache import Cache
from .choice import Choice
from .containers import Container, OpenFile, Place, too_large
from .objects import open_object

PATH_COLUMNS = ("image", "img", "image_path", "file_name", "filename", "path")
"""Names of text columns that are taken for the photos' paths."""


def image_column(schema: Any, choice: Choice, file: str) -> str:
    """The name of the column that holds photos: the chosen one, or the only one that can.

    Args:
        schema: of the table.
        choice: names it, or not.
        file: for messages.

    Raises:
        InputError: there is no such column, none that can hold photos, or several.
    """
    _known(schema, choice.id_column, file, "--id-column")
    if choice.image_column is not None:
        _known(schema, choice.image_column, file, "--image-column")
        if kind_of(schema.field(choice.image_column)) is None:
            kind = schema.field(choice.image_column).type
            raise InputError(
                f"the column {choice.image_column} of {file} is of {kind}; expected bytes, text or {{bytes, path}}"
            )
        return choice.image_column
    kinds = {field.name: kind_of(field) for field in schema}
    named = [name for name, kind in kinds.items() if kind == "text" and name in PATH_COLUMNS]
    said = [name for name in _said_to_be_images(schema) if kinds.get(name)]
    for found in (said, _of_kind(kinds, "struct"), _of_kind(kinds, "bytes"), named):
        if len(found) > 1:
            raise InputError(
                f"{file} has several columns of photos ({', '.join(found)}); choose one with --image-column"
            )
        if found:
            return found[0]
    raise InputError(f"{file} has no column of photos; {_columns(schema)}; name one with --image-column")


def _known(schema: Any, name: str | None, file: str, flag: str) -> None:
    if name is not None and schema.get_field_index(name) < 0:
        raise InputError(f"{file} has no column {name!r}; {_columns(schema)}; choose one with {flag}")


def _columns(schema: Any) -> str:
    """The columns in words; the first thirty of them."""
    told = [f"{field.name} ({str(field.type)[:60]})" for field in schema][:30]
    more = f" and {len(schema) - len(told)} more" if len(schema) > len(told) else ""
    return "its columns are " + (", ".join(told) or "none") + more


def _of_kind(kinds: dict[str, str | None], wanted: str) -> list[str]:
    return [name for name, kind in kinds.items() if kind == wanted]


def kind_of(field: Any) -> str | None:
    """What a column can hold: ``"struct"`` of bytes and path, ``"bytes"``, ``"text"`` for paths; None for anything else."""
    name = str(field.type)
    if name in ("binary", "large_binary"):
        return "bytes"
    if name in ("string", "large_string"):
        return "text"
    if name.startswith("struct<"):
        inner = {child.name: str(child.type) for child in field.type}
        return "struct" if inner.get("bytes") in ("binary", "large_binary") else None
    return None


def _said_to_be_images(schema: Any) -> list[str]:
    """The columns that Hugging Face's description of a table calls images."""
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"], any_number=True)["info"]["features"]
        return [name for name, what in features.items() if isinstance(what, dict) and what.get("_type") == "Image"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def row_entries(
    table: Container, values: Iterable[Sequence[Any]], place: Callable[[int], tuple[int, ...]], column: str, first: int
) -> Iterator[Entry]:
    """Yield the entries of rows.

    Args:
        table: the container.
        values: of each row, its id (or None) and its path (or None).
        place: the numbers of a row, counted from 0.
        column: of the photos.
        first: the number of the first row in the whole table.
    """
    folder = os.path.dirname(table.file)
    for number, (id_, path) in enumerate(values):
        given = "" if id_ is None else "/" + str(id_).replace("\0", "\ufffd")
        name = given[1:] or str(first + number)
        if path is None:
            _, where, _ = table.entry(f"{column}", *place(number))
            yield name, where, given
        elif not path or "\0" in path:
            yield *table.problem(name, "the row names no photo")[:2], given
        else:
            yield name, unseen(beside(folder, path)), given


def id_texts(column: Any) -> list[str | None]:
    """The ids in an Arrow array as texts. A row without one is named by its number."""
    return [None if value is None else _text(value) for value in column.to_pylist()]


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def photo_of(value: Any, file: str) -> Photo:
    """The photo of one value of a column, as Python has it.

    Args:
        value: bytes, ``{"bytes", "path"}`` or None.
        file: of the table; paths are relative to its folder.
    """
    path = None
    if isinstance(value, dict):
        value, path = value.get("bytes"), value.get("path")
    if isinstance(value, bytes):
        return too_large(len(value)) or value
    if isinstance(path, str) and path:
        found = beside(os.path.dirname(file), path)
        return partial(open_object, unseen(found)) if is_url(found) else found
    return Problem("read", "the row holds no photo")


def arrow(module: str) -> Any:
    """A module of pyarrow.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    return require(module, "parquet")


def refused(error: Exception, file: str, noun: str) -> IscFastError:
    """The error for a table on which pyarrow fails; its errors share no base class."""
    if isinstance(error, (InputError, FormatError, MissingExtraError, StoreError)):
        return error
    reason = (getattr(error, "strerror", None) or one_line(error)) if isinstance(error, OSError) else one_line(error)
    return InputError(f"{file} is not {noun}, or it is damaged ({reason})")


PieceKey = tuple[str, tuple[int, int], str, int]
"""The file of a table, its stamp, the column of photos, and which piece: the number of a row group, the place of a batch."""

CACHE_BYTES = 1 << 29
"""Bytes of pieces that a process keeps of each kind of table; two of them stay whatever their size."""


class Pieces(Cache[PieceKey, Any]):
    """The photos' columns of pieces of tables: of row groups, or of record batches.

    Args:
        make: gives the column of a piece, or the problem because of which there is none: then it is not read again.
    """

    def __init__(self, make: Callable[[PieceKey], Any]) -> None:
        super().__init__(make, limit=CACHE_BYTES, size_of=_bytes_of)

    def read(self, file: OpenFile, place: Place) -> Photo:
        """The photo of a row."""
        piece, row = place.numbers
        values = self.get((place.container, place.stamp, place.name, piece))
        if isinstance(values, Problem):
            return values
        changed = file.changed(place)  # while the piece was read, perhaps
        return changed or photo_of(values[row].as_py(), place.container)


def _bytes_of(values: Any) -> int:
    return 1 if isinstance(values, Problem) else int(values.nbytes)
