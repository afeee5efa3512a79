"""Tables of images on the disk: ids and paths, in order, which SQLite keeps, sorts and compares.

Memory holds at most 8 MB of a temporary table and 2 MB of a stored one, and as much again while SQLite sorts it. So ten million
images take as much memory as ten thousand. A listing makes a temporary table; the table of a plan is a file.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import threading
import urllib.parse
import weakref
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import DamageError, MissingExtraError
from ..items import Item
from .lazy import Lazy
from .reading import open_regular
from .scratch import needs_scratch
from .sums import Sums, append_sums, check_whole, read_sums

if TYPE_CHECKING:
    from sqlite3 import Connection

_TEMPORARY_KB, _STORED_KB = 8192, 2048  # caches; a stored table is written and read in order, and needs less
_COLUMNS = "row INTEGER PRIMARY KEY, id BLOB NOT NULL, path BLOB NOT NULL"
_IMAGES, _HEAD = f"CREATE TABLE images ({_COLUMNS})", "CREATE TABLE head (text TEXT NOT NULL)"
_MARK = int.from_bytes(b"ISCf")
"""SQLite's application id of a table with checksums. A file that has it and no checksums was cut."""
_MARK_PLACE = 68  # in the header of SQLite's files, 4 bytes
_INSERT = "INSERT INTO images (id, path) VALUES (?, ?)"
_LONGEST_PATH = 512  # bytes; SQLite opens no file whose path is longer
_NEED = "the list of images"


def sqlite_module() -> ModuleType:
    """Python's module for SQLite.

    Raises:
        MissingExtraError: this Python was built without it.
    """
    try:
        return importlib.import_module("sqlite3")
    except ImportError as error:
        raise MissingExtraError(
            "this Python was built without SQLite, which isc-fast keeps lists of images in: use another Python, or install "
            "SQLite's headers (libsqlite3-dev) and build this one again"
        ) from error


def _uri(file: str | os.PathLike[str], options: str) -> str:
    return f"file://{urllib.parse.quote(os.path.abspath(os.fsencode(file)))}?{options}"


# No file changes while it is read, so SQLite's locks are not needed. They fail on some network file systems.
_READ = "mode=ro&immutable=1"
_WRITE = "mode=rw&nolock=1"
# A table that is not finished is thrown away, so SQLite needs no journal to undo a change and does not sync the file.
_SETTINGS = {"journal_mode": "OFF", "synchronous": "OFF", "secure_delete": "OFF", "trusted_schema": "OFF"}


def open_database(uri: str = "", cache_kb: int = _STORED_KB) -> Connection:
    """Open a database. Without a name, it is in memory while it is small, then in a temporary file that nobody else sees."""
    db: Connection = sqlite_module().connect(uri, isolation_level=None, check_same_thread=False, uri=True)
    for name, value in {"cache_size": -cache_kb, **_SETTINGS}.items():
        db.execute(f"PRAGMA {name} = {value}")
    return db


class Table(Lazy[Item]):
    """Images in order, as a sequence of items. A subclass says where its rows are."""

    _count = 0

    @abstractmethod
    def connected(self) -> AbstractContextManager[Connection]:
        """Give the database for the time of one query.

        Raises:
            OutputError: there is no room for temporary files.
            ValueError: the table is damaged.
        """

    @staticmethod
    def encode(text: str) -> bytes:
        """The bytes that the table holds for an id or a path. Strings that differ, by a lone surrogate too, have other bytes."""
        return text.encode("utf-8", "surrogatepass")

    @staticmethod
    def decode(data: bytes) -> str:
        """The string of bytes that `encode` made."""
        return data.decode("utf-8", "surrogatepass")

    def decode_id(self, data: bytes) -> str:
        """The id of bytes; see `decode`."""
        return self.decode(data)

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`.

        Raises:
            ValueError: the table is damaged there.
        """
        query = "SELECT id, path FROM images WHERE row > ? AND row <= ? ORDER BY row"
        name, text = self.decode_id, self.decode
        with self.connected() as db:
            items = [Item(name(id_), text(path)) for id_, path in db.execute(query, (start, stop))]
            if len(items) != stop - start:
                raise ValueError(f"of its images {start} to {stop}, there are {len(items)}")
        return items

    def first_repeat(self) -> tuple[Item, Item] | None:
        """Find equal ids.

        Returns:
            the first image whose id an earlier image has, after that earlier image; None if all ids differ.

        Raises:
            OutputError: there is no room for temporary files.
        """
        pairs = "SELECT row, lag(row) OVER (PARTITION BY id ORDER BY row) AS earlier FROM images"
        with self.connected() as db, needs_scratch(_NEED, sqlite_module().OperationalError):
            found = db.execute(f"SELECT earlier, row FROM ({pairs}) WHERE earlier NOTNULL ORDER BY row LIMIT 1")
            pair = found.fetchone()
        return pair and (self[pair[0] - 1], self[pair[1] - 1])


class TemporaryTable(Table):
    """A table in a temporary file, which has no name and ends with the table. Several threads may read it.

    Args:
        more_columns: SQL of further columns of its rows, for a subclass.
    """

    def __init__(self, more_columns: str = "") -> None:
        sqlite = sqlite_module()
        self._errors: type[Exception] = sqlite.OperationalError
        self._lock = threading.Lock()
        self._db = open_database("", _TEMPORARY_KB)
        weakref.finalize(self, self._db.close)
        self._db.execute(f"CREATE TABLE images ({_COLUMNS}{more_columns})")
        self._db.execute("BEGIN")  # never committed

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """See `Table`.

        Raises:
            OutputError: there is no room for temporary files.
        """
        with self._lock, needs_scratch(_NEED, self._errors):
            yield self._db

    def extend(self, items: Iterable[Item]) -> None:
        """Add images to the end."""
        with self.connected() as db:
            db.executemany(_INSERT, ((self.encode(item.id), self.encode(item.path)) for item in items))
        self._count_rows()

    def _count_rows(self) -> None:
        with self.connected() as db:
            [(last,)] = db.execute("SELECT max(row) FROM images")
        self._count = last or 0


class StoredTable(Table):
    """A table in a file that `write_table` made.

    The file has checksums behind what SQLite reads. The table is compared with them before SQLite reads it, and again where the
    file has changed since. A file of version 0.2 has none.

    The file is open only while it is read: on network file systems, a folder with an open file cannot be removed. Several
    threads and processes may read it.

    Attributes:
        head: the text that was written with the images. It is sound even where the images are damaged.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or something else. Damage among the images shows when they are asked for.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = os.fspath(file)
        self._checked: tuple[int, ...] = ()
        self._counted = False
        with self._opened() as (_, sums):
            if sums is not None:
                self.head = sums.note.decode("utf-8", "surrogatepass")
                return
        with self.connected() as db:
            [(length,)] = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            if length != os.path.getsize(self.file):  # SQLite takes what is missing of the last page for zeros
                raise ValueError(f"it has {os.path.getsize(self.file)} bytes, not {length}")
            [(self.head,)] = db.execute("SELECT text FROM head")

    def __len__(self) -> int:
        if not self._counted:
            with self.connected() as db:
                [(last,)] = db.execute("SELECT max(row) FROM images")
            self._count, self._counted = last or 0, True
        return self._count

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[int, Sums | None]]:
        """The file's descriptor, and its checksums."""
        with open_regular(self.file) as stream:
            try:
                sums = read_sums(stream.fileno(), self.file)
                if sums is None and os.pread(stream.fileno(), 4, _MARK_PLACE) == _MARK.to_bytes(4):
                    raise ValueError("it has lost its checksums")
                yield stream.fileno(), sums
            except DamageError as error:
                raise ValueError(error.place) from error

    def _check(self) -> None:
        """Compare the file with its checksums, unless it is as it was when that was done."""
        status = os.stat(self.file)
        file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if file != self._checked:
            with self._opened() as (descriptor, sums):
                if sums is not None:
                    check_whole(descriptor, sums)
            self._checked = file

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """See `Table`."""
        self._check()
        with _damage(), contextlib.closing(open_database(_uri(self.file, _READ))) as db:
            _check_tables(db)
            yield db

    def changes(self, newer: StoredTable) -> tuple[int, int, bool]:
        """Compare with a newer table. An image is the same if its id and its path are.

        Returns:
            the number of images that are only there, the number that are only here, and whether both tables are equal row by
            row.

        Raises:
            OutputError: there is no room for temporary files.
            ValueError: one of the tables is damaged.
        """
        both = "SELECT 0 AS side, id, path FROM old.images UNION ALL SELECT 1, id, path FROM new.images"
        sides = f"SELECT min(side) AS first, max(side) AS last FROM ({both}) GROUP BY id, path"
        counts = "SELECT count(*) FILTER (WHERE first = 1), count(*) FILTER (WHERE last = 0)"
        with _damage(), contextlib.closing(open_database()) as db:
            for name, table in (("old", self), ("new", newer)):
                table._check()
                db.execute(f"ATTACH ? AS {name}", (_uri(table.file, _READ),))
                _check_tables(db, name)
            [(equal,)] = db.execute("SELECT count(*) FROM old.images JOIN new.images USING (row, id, path)")
            with needs_scratch(_NEED, sqlite_module().OperationalError):
                [(new, gone)] = db.execute(f"{counts} FROM ({sides})")
        return new, gone, equal == len(self) == len(newer)


def _check_tables(db: Connection, schema: str = "main") -> None:
    """Anything but the two tables, such as a view in the place of one, would be a program that its maker lets SQLite run.

    Raises:
        ValueError: there is something else.
    """
    if db.execute(f"SELECT sql FROM {schema}.sqlite_schema ORDER BY name").fetchall() != [(_HEAD,), (_IMAGES,)]:
        raise ValueError("it has other tables than a plan")


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except sqlite_module().Error as error:
        raise ValueError(str(error)) from error


class TableWriter:
    """A table that is being written to a file: images in order, and one text."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self.head = ""
        db.execute("BEGIN")
        db.execute(_IMAGES)
        db.execute(_HEAD)

    def add(self, items: Iterable[Item]) -> None:
        """Add images to the end."""
        self._db.executemany(_INSERT, ((Table.encode(item.id), Table.encode(item.path)) for item in items))

    def finish(self, head: str) -> None:
        """Add the text, and write what is still in memory."""
        self.head = head
        self._db.execute("INSERT INTO head VALUES (?)", (head,))
        self._db.execute("COMMIT")


@contextlib.contextmanager
def write_table(file: str | os.PathLike[str]) -> Iterator[TableWriter]:
    """Write a table to an empty file, such as `isc_fast.files.atomic.replacing` gives. No other file appears beside it.

    Raises:
        OSError: it cannot be written.
    """
    length = len(os.path.abspath(os.fsencode(file)))
    if length > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, f"its path has {length} bytes, and SQLite takes at most {_LONGEST_PATH}")
    sqlite = sqlite_module()
    try:
        with contextlib.closing(open_database(_uri(file, _WRITE))) as db:
            db.execute(f"PRAGMA application_id = {_MARK}")
            writer = TableWriter(db)
            yield writer
        append_sums(file, writer.head.encode("utf-8", "surrogatepass"))
    except sqlite.OperationalError as error:
        _write_more(file)
        raise OSError(errno.EIO, str(error)) from error


def _write_more(file: str | os.PathLike[str]) -> None:
    """Write 64 KB to a file that SQLite could not write to: SQLite does not say why, and the system's error does."""
    with open(file, "ab") as stream:
        stream.write(bytes(1 << 16))
        stream.flush()
        os.fsync(stream.fileno())
