"""Photos in the Arrow files that Hugging Face's `save_to_disk` writes: streams of record batches, not Arrow's file format."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from itertools import repeat
from typing import Any

from ..errors import InputError, StoreError
from ..files.reading import one_line, open_regular, parse_json
from ..items import Problem
from ..stores.urls import is_url
from .base import Entry, Kind
from .choice import Choice
from .containers import Container, reading
from .paths import is_there
from .range_file import open_stream
from .table_columns import PieceKey, Pieces, arrow, id_texts, image_column, kind_of, refused, row_entries
from .tables import MAX_GROUP_BYTES

ARROW_SUFFIXES = frozenset((".arrow",))
_STATE = "state.json"
_CONTINUES = b"\xff\xff\xff\xff"


def _entries(file: str, choice: Choice) -> Iterator[Entry | None]:
    if not _belongs(file):
        yield os.path.basename(file), "", ""
        return
    stream = Container("arrow", file)
    begin = stream.read(8, 0)
    if begin.startswith(b"ARROW1"):
        raise InputError(f"{file} is in Arrow's file format; expected a stream, as save_to_disk writes it, or Parquet")
    if not begin.startswith(_CONTINUES):
        raise InputError(f"{file} is not a stream of Arrow record batches, which save_to_disk writes")
    library, whole, rows = arrow("pyarrow"), False, 0
    try:
        with _opened(file) as opened:
            schema = library.ipc.read_schema(opened)
            column = image_column(schema, choice, file)
            by_path = kind_of(schema.field(column)) == "text"
            while True:
                at = opened.tell()
                batch, whole = _next_batch(library, opened, schema, stream)
                if batch is None:
                    break
                ids = _texts(batch, choice.id_column)
                paths = [path or "" for path in _texts(batch, column)] if by_path else repeat(None, batch.num_rows)
                values = zip(ids, paths, strict=True)
                yield from row_entries(stream, values, lambda row, at=at: (at, row), column, rows)  # type: ignore[misc]
                rows += batch.num_rows
    except Exception as error:
        raise refused(error, file, "a stream of Arrow record batches") from error
    if not whole:
        yield stream.end(f"the stream is cut short or damaged behind row {rows}")


def _belongs(file: str) -> bool:
    """Whether an Arrow file is one of a data set's, and not what a program keeps beside them: ``state.json`` names those."""
    try:
        with open_stream(os.path.join(os.path.dirname(file), _STATE)) as stream:
            names = [entry["filename"] for entry in parse_json(stream.read(), any_number=True)["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return True
    return os.path.basename(file) in names


@contextlib.contextmanager
def _opened(file: str) -> Iterator[Any]:
    """The file as pyarrow reads it, mapped: bytes of photos are not read before somebody looks at them.

    An object at an address is read as a whole.
    """
    if is_url(file):
        with open_stream(file) as plain, arrow("pyarrow").PythonFile(plain, "r") as opened:
            yield opened
        return
    with open_regular(file) as stream:
        whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)  # pyarrow's own takes no name that is not UTF-8
    yield arrow("pyarrow").BufferReader(whole)


def _next_batch(library: Any, opened: Any, schema: Any, stream: Container) -> tuple[Any, bool]:
    """The next record batch of a stream; or None, and whether the stream has its end there."""
    at = opened.tell()
    if stream.read(8, at) == _CONTINUES + bytes(4):
        return None, True
    try:
        message = library.ipc.read_message(opened)
        if message.body.size > MAX_GROUP_BYTES:
            raise InputError(
                f"{stream.file} has record batches of {message.body.size} bytes, limit {MAX_GROUP_BYTES}: write it again "
                "with fewer rows in each"
            )
        return library.ipc.read_record_batch(message, schema), True
    except InputError:
        raise
    except Exception:
        return None, False


def _texts(batch: Any, name: str | None) -> list[str | None]:
    return [None] * batch.num_rows if name is None else id_texts(_sound(batch.column(name)))


def _sound(column: Any) -> Any:
    """A column whose offsets were looked at: without that, a damaged file would let pyarrow read beyond its memory."""
    column.validate(full=True)
    return column


def _batch(key: PieceKey) -> Any:
    """The column of photos of a record batch, or the problem because of which there is none."""
    file, _, column, at = key
    library = arrow("pyarrow")
    try:
        with open_stream(file) as plain, library.PythonFile(plain, "r") as opened:  # not mapped: files may be cut
            schema = library.ipc.read_schema(opened)
            opened.seek(at)
            return _sound(library.ipc.read_record_batch(library.ipc.read_message(opened), schema).column(column))
    except StoreError:
        raise  # another time it may be read
    except Exception as error:
        return Problem("read", f"its record batch cannot be read: {one_line(error)}")


_BATCHES = Pieces(_batch)

ARROW = Kind(
    "an Arrow file of save_to_disk (.arrow)",
    lambda path: is_there(path) and os.path.splitext(path)[1].lower() in ARROW_SUFFIXES,
    _entries,
    scheme="arrow",
    open=reading(_BATCHES.read),
    packs=ARROW_SUFFIXES,
)
