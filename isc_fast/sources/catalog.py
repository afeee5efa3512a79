"""The images that a listing finds. A temporary table on the disk sorts them and gives them their ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from ..files.table import TemporaryTable
from ..items import Item

Entry = tuple[str, str, str]
"""The name of an image, its path, and the id that the user gave, or "". A file that is left out has the path "", and in
place of the id the pattern that leaves it out, or "" where its name is not an image's."""


_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
"""How `os.fsencode` does it, which looks at the type of its argument first; a listing calls it several times for each image."""


def _without_suffix(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


def _stem(name: bytes) -> bytes:
    return os.path.splitext(os.path.basename(name))[0] or name


_FIRST_IDS: dict[str, Callable[[bytes], bytes]] = {"auto": _without_suffix, "path": bytes, "stem": _stem}
ID_RULES = tuple(_FIRST_IDS)


class Catalog(TemporaryTable):
    """The images of a listing, as a sequence of items.

    Args:
        rule: how an image's name becomes its id, one of `ID_RULES`; see `isc_fast.list_images`.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(", name BLOB NOT NULL, given BLOB")
        self._rule = rule
        with self.connected() as db:
            db.create_function("first_id", 1, _FIRST_IDS[rule])
            db.execute("CREATE TABLE found (name BLOB NOT NULL, path BLOB NOT NULL, given BLOB)")

    @staticmethod
    def encode(text: str) -> bytes:
        """The bytes that the file system has: names are sorted by them.

        Where its encoding lacks a letter, as ASCII does in the locale ``C``, they are UTF-8: names in archives are text.
        """
        try:
            return text.encode(_ENCODING, _ERRORS)
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogateescape")

    @staticmethod
    def decode(data: bytes) -> str:
        """The string of bytes of the file system, which opens the file in this locale."""
        return data.decode(_ENCODING, _ERRORS)

    def decode_id(self, data: bytes) -> str:
        """The id that bytes are in every locale, so that descriptors of one are known in another: UTF-8, as in files."""
        return data.decode("utf-8", "surrogateescape")

    def add(self, entries: Iterable[Entry], *, by_name: bool = False) -> None:
        """Add images to the end, in the order of the entries or of the bytes of their names.

        Raises:
            OutputError: there is no room for temporary files.
        """
        encode = self.encode
        rows = ((encode(name), encode(path), encode(given) or None) for name, path, given in entries)
        insert = "INSERT INTO images (name, path, given, id)"
        with self.connected() as db:
            if by_name:
                db.executemany("INSERT INTO found VALUES (?, ?, ?)", rows)
                db.execute(f"{insert} SELECT name, path, given, first_id(name) FROM found ORDER BY name")
                db.execute("DELETE FROM found")
            else:
                db.executemany(f"{insert} VALUES (?1, ?2, ?3, first_id(?1))", rows)
        self._count_rows()

    def settle_repeats(self, container_of: Callable[[str], str], repeated: Callable[[str], str]) -> None:
        """Give images whose name was in the same container before another path, and ids of their own: ``name#2``, ``name#3``.

        Args:
            container_of: the container of a path; "" where it is in none.
            repeated: the path of such an image, from its path until now.

        Raises:
            OutputError: there is no room for temporary files.
        """
        equal = "SELECT name FROM images GROUP BY name HAVING count(*) > 1"
        query = f"SELECT row, name, path FROM images WHERE name IN ({equal}) ORDER BY row"
        seen = dict[tuple[str, bytes], int]()
        rows = list[tuple[bytes, bytes, bytes, int]]()
        with self.connected() as db:
            for row, name, path in db.execute(query):
                container = container_of(self.decode(path))
                if container:
                    seen[container, name] = number = seen.get((container, name), 0) + 1
                    if number > 1:
                        new = self.encode(repeated(self.decode(path)))
                        rows.append((name + b"/#%d" % number, name + b"#%d" % number, new, row))
            db.executemany("UPDATE images SET name = ?1, id = ?1, given = ?2, path = ?3 WHERE row = ?4", rows)

    def settle_ids(self) -> tuple[Item, Item] | None:
        """Give every image its id, once all images are there.

        Returns:
            the first two images of one id, see `first_repeat`.

        Raises:
            OutputError: there is no room for temporary files.
        """
        equal = "SELECT id FROM images GROUP BY id HAVING count(*) > 1"
        keep = f"UPDATE images SET id = name WHERE id <> name AND id IN ({equal})"
        with self.connected() as db:
            # A name that keeps its suffix may equal another name without its suffix. Then that one keeps its suffix too.
            while self._rule == "auto" and db.execute(keep).rowcount:
                pass
            db.execute("UPDATE images SET id = given WHERE given IS NOT NULL")
        return self.first_repeat()

    def cut(self, limit: int) -> None:
        """Keep at most the first ``limit`` images."""
        self._count = min(self._count, limit)
