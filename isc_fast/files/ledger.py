"""A ledger of images on the disk: those without a descriptor, and those whose descriptor says little. There may be millions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Sequence
from itertools import islice

from ..items import Failure
from .lazy import BLOCK, Lazy
from .scratch import needs_scratch
from .table import open_database, sqlite_module

_CACHE_KB = 2048
_NEED = "the ledger of images without a descriptor"


class TemporaryLedger(Lazy[Failure]):
    """Rows of a ledger in a temporary file, which has no name and ends with it. Several threads may read it.

    Memory holds at most 2 MB of it. As objects in a list, each row takes about a kilobyte.

    Args:
        rows: the first rows, gone through once.

    Raises:
        OutputError: there is no room for temporary files.
    """

    def __init__(self, rows: Iterable[Failure] = ()) -> None:
        self._errors: type[Exception] = sqlite_module().OperationalError
        self._lock = threading.Lock()
        self._count = 0
        self._db = open_database("", _CACHE_KB)
        weakref.finalize(self, self._db.close)
        self._db.execute("CREATE TABLE rows (row INTEGER PRIMARY KEY, id BLOB, path BLOB, stage BLOB, reason BLOB)")
        self._db.execute("BEGIN")  # never committed
        self.extend(rows)

    def extend(self, rows: Iterable[Failure]) -> None:
        """Add rows to the end."""
        source = iter(rows)
        while block := list(islice(source, BLOCK)):
            values = [[_bytes(text) for text in (row.id, row.path, row.stage, row.reason)] for row in block]
            with self._lock, needs_scratch(_NEED, self._errors):
                self._db.executemany("INSERT INTO rows (id, path, stage, reason) VALUES (?, ?, ?, ?)", values)
            self._count += len(block)

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[Failure]:
        """See `Lazy`."""
        query = "SELECT id, path, stage, reason FROM rows WHERE row > ? AND row <= ? ORDER BY row"
        with self._lock, needs_scratch(_NEED, self._errors):
            return [Failure(*map(_text, values)) for values in self._db.execute(query, (start, stop))]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def keep(rows: Sequence[Failure]) -> Sequence[Failure]:
    """The same rows, which stay after their file is closed: a list where they are few, else on the disk.

    Raises:
        OutputError: there is no room for temporary files.
    """
    if len(rows) < BLOCK:
        return list(rows)
    return rows if isinstance(rows, TemporaryLedger) else TemporaryLedger(rows)
