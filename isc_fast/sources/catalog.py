"""A table of images on disk: sorted, given ids and looked at by SQLite, in memory that does not grow with their number."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType

from ..errors import MissingExtraError
from ..files.lazy import Lazy
from ..files.scratch import needs_scratch
from ..items import Item

_CACHE_KB = 8192  # of the table, in memory; sorting takes as much again
_SCHEMA = """
CREATE TABLE found (name BLOB NOT NULL, path BLOB NOT NULL, given BLOB);
CREATE TABLE images (row INTEGER PRIMARY KEY, name BLOB NOT NULL, path BLOB NOT NULL, given BLOB, id BLOB NOT NULL);
"""

Entry = tuple[str, str, str]
"""Name, path, and the id that the user gave or ""."""


def _without_suffix(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


def _stem(name: bytes) -> bytes:
    return os.path.splitext(os.path.basename(name))[0] or name


_FIRST_IDS: dict[str, Callable[[bytes], bytes]] = {"auto": _without_suffix, "path": bytes, "stem": _stem}
ID_RULES = tuple(_FIRST_IDS)


def _sqlite() -> ModuleType:
    try:
        return importlib.import_module("sqlite3")
    except ImportError as error:
        raise MissingExtraError(
            "this Python was built without SQLite, which listing images needs: use another one, or install SQLite's headers "
            "(libsqlite3-dev) and build it again"
        ) from error


class Catalog(Lazy[Item]):
    """Images as a sequence of items. Its temporary file has no name and ends with it.

    Args:
        rule: how an image's name becomes its id, one of `ID_RULES`; see `isc_fast.list_images`.
    """

    def __init__(self, rule: str) -> None:
        # An empty name: in memory while it is small, then in a temporary file that nobody else sees.
        sqlite = _sqlite()
        self._db = sqlite.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._db.close)
        self._lock = threading.Lock()
        self._rule, self._count = rule, 0
        self._scratch = partial(needs_scratch, "the list of images", sqlite.OperationalError)
        for name, value in (("cache_size", -_CACHE_KB), ("journal_mode", "OFF"), ("synchronous", "OFF")):
            self._db.execute(f"PRAGMA {name} = {value}")
        self._db.create_function("first_id", 1, _FIRST_IDS[rule])
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")  # never committed: one transaction has the least to write

    def add(self, entries: Iterable[Entry], *, by_name: bool = False) -> None:
        """Add images to the end, as they come or in the order of the bytes of their names.

        Raises:
            OutputError: there is no room for temporary files.
        """
        fields = ((os.fsencode(name), os.fsencode(path), os.fsencode(given) or None) for name, path, given in entries)
        with self._scratch():
            if by_name:
                self._db.executemany("INSERT INTO found VALUES (?, ?, ?)", fields)
                self._db.execute(
                    "INSERT INTO images SELECT NULL, name, path, given, first_id(name) FROM found ORDER BY name"
                )
                self._db.execute("DELETE FROM found")
            else:
                self._db.executemany("INSERT INTO images SELECT NULL, ?1, ?2, ?3, first_id(?1)", fields)
            [(last,)] = self._db.execute("SELECT max(row) FROM images")
        self._count = last or 0

    def settle_ids(self) -> tuple[Item, Item] | None:
        """Give every image its id, once all are there.

        Returns:
            two images of one id, of which the second is the first such image in the table; None if there are none.

        Raises:
            OutputError: there is no room for temporary files.
        """
        with self._scratch():
            equal = "SELECT id FROM images GROUP BY id HAVING count(*) > 1"
            # With a suffix, a name may become what another is without: then that one keeps its suffix too.
            keep = f"UPDATE images SET id = name WHERE id <> name AND id IN ({equal})"
            while self._rule == "auto" and self._db.execute(keep).rowcount:
                pass
            self._db.execute("UPDATE images SET id = given WHERE given IS NOT NULL")
            pairs = "SELECT row, lag(row) OVER (PARTITION BY id ORDER BY row) AS earlier FROM images"
            found = self._db.execute(f"SELECT earlier, row FROM ({pairs}) WHERE earlier NOTNULL ORDER BY row LIMIT 1")
            pair = found.fetchone()
        return pair and (self[pair[0] - 1], self[pair[1] - 1])

    def cut(self, limit: int) -> None:
        """Keep the first so many."""
        self._count = min(self._count, limit)

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`."""
        query = "SELECT id, path FROM images WHERE row > ? AND row <= ? ORDER BY row"
        with self._lock, self._scratch():
            rows = self._db.execute(query, (start, stop)).fetchall()
        return [Item(os.fsdecode(id_), os.fsdecode(path)) for id_, path in rows]
