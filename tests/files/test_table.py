"""Tables of images: what a query answers is what a plain statement in Python answers."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from isc_fast.errors import OutputError
from isc_fast.files.atomic import replacing
from isc_fast.files.table import StoredTable, TemporaryTable, write_table
from isc_fast.items import Item

TEXTS = [
    "",
    "a",
    "A",
    "ä 🦊",
    "nul\0",
    "new\nline",
    "\ud800",
    "\udcff",
    os.fsdecode(b"\xff\xed\xa0\x80\xe9"),
    "0",
    "a/b.jpg",
]


def write(file: Path, items: Sequence[Item], head: str = "text") -> StoredTable:
    with replacing(file) as temporary, write_table(temporary) as writer:
        writer.add(items[:3])
        writer.add(items[3:])
        writer.finish(head)
    return StoredTable(file)


def temporary(items: Sequence[Item]) -> TemporaryTable:
    table = TemporaryTable()
    table.extend(items[:3])
    table.extend(items[3:])
    return table


def random_items(seed: int) -> list[Item]:
    """Items of which some are equal, and some equal in their ids alone."""
    random = np.random.default_rng(seed)
    texts = [*TEXTS, *(f"{i}" for i in range(int(random.integers(1, 100))))]
    count = int(random.integers(0, 40))
    return [Item(texts[i], texts[j]) for i, j in random.integers(0, len(texts), (count, 2)).tolist()]


def first_repeat(items: Sequence[Item]) -> tuple[Item, Item] | None:
    for row, item in enumerate(items):
        for earlier in reversed(items[:row]):
            if earlier.id == item.id:
                return earlier, item
    return None


@pytest.mark.parametrize("seed", range(25))
def test_it_holds_any_items_and_finds_equal_ids(tmp_path, seed):
    items = random_items(seed)
    for table in (write(tmp_path / "t", items), temporary(items)):
        assert table == items
        assert len(table) == len(items)
        assert table[1:5] == items[1:5]
        assert table.first_repeat() == first_repeat(items)


@pytest.mark.parametrize("seed", range(40))
def test_changes_are_those_of_sets(tmp_path, seed):
    random = np.random.default_rng(seed)
    old = random_items(seed)
    new = [old[row] for row in random.permutation(len(old))[seed % 4 :].tolist()] if seed % 3 else list(old)
    new += random_items(seed + 100)[: seed % 5]
    then, now = write(tmp_path / "old", old), write(tmp_path / "new", new)
    assert then.changes(now) == (len({*new} - {*old}), len({*old} - {*new}), old == new)
    assert now.changes(then) == (len({*old} - {*new}), len({*new} - {*old}), old == new)
    assert then.changes(then) == (0, 0, True)


def test_many_images_are_compared_through_temporary_files(tmp_path):
    """More than SQLite sorts in memory, in other orders, with a few new and a few gone."""
    order = np.random.default_rng(0).permutation(100_000).tolist()
    made = [Item(f"photos/{row:09d}", f"/data/of mine/photos/{row:09d}.jpg") for row in range(100_003)]
    old = write(tmp_path / "old", [made[row] for row in order])
    new = write(tmp_path / "new", made[5:])
    assert (old.changes(new), new.changes(old)) == ((3, 5, False), (5, 3, False))
    assert old.first_repeat() is None
    assert write(tmp_path / "twice", [*made, made[77]]).first_repeat() == (made[77], made[77])


def test_odd_names_of_files(tmp_path):
    items = [Item("a", "b")]
    for name in (
        "per%41cent",
        "question?mode=rw",
        "hash#tag",
        "sp ace",
        "ü",
        os.fsdecode(b"\xff"),
        "semi;colon&and=is",
    ):
        table = write(tmp_path / name, items, ascii(name))
        assert (list(table), table.head) == (items, ascii(name))
        assert table.changes(table) == (0, 0, True)
        assert os.listdir(tmp_path) == [name]
        os.unlink(tmp_path / name)


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write(Path("t"), [Item("a", "b")])[0] == Item("a", "b")


def test_nothing_appears_beside_a_table(tmp_path):
    """No journal, not even for a moment: then the folder would have another time. Root may write to it all the same."""
    items = [Item(str(row), "") for row in range(20_000)]
    table = write(tmp_path / "t", items)
    tmp_path.chmod(0o555)
    (tmp_path / "t").chmod(0o444)
    before = tmp_path.stat().st_mtime_ns
    try:
        table = StoredTable(tmp_path / "t")
        assert list(table) == items
        assert (table.first_repeat(), table.changes(table)) == (None, (0, 0, True))
        assert (os.listdir(tmp_path), tmp_path.stat().st_mtime_ns) == (["t"], before)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux to list open files")
def test_a_stored_table_is_open_only_while_it_is_read(tmp_path):
    def opened() -> list[str]:
        paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return [os.readlink(path) for path in paths if os.path.islink(path)]

    table = write(tmp_path / "t", [Item("a", "b")])
    with table.connected():
        assert str(tmp_path / "t") in opened()
    rows = iter(table)
    next(rows)
    assert not [path for path in opened() if path.startswith(str(tmp_path))]


def test_readers_take_no_notice_of_each_other_nor_of_locks(tmp_path):
    """Any number of threads and processes may read a table, also where the locks of a file system hang or fail."""
    items = [Item(f"{row}", f"/{row}") for row in range(10_000)]
    table = write(tmp_path / "t", items)
    with contextlib.closing(sqlite3.connect(tmp_path / "t", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code = "import sys; from isc_fast.files.table import StoredTable; print(len(list(StoredTable(sys.argv[1]))))"
        children = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "t")], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        starts = np.random.default_rng(0).integers(0, 9_000, 30).tolist()
        with ThreadPoolExecutor(4) as pool, table.connected() as db:
            first = db.execute("SELECT id FROM images").fetchone()
            found = list(pool.map(lambda start: table[start : start + 700], starts))
        assert found == [items[start : start + 700] for start in starts]
        assert first == (b"0",)
        assert [child.communicate(timeout=60)[0] for child in children] == ["10000\n"] * 2


def test_a_folder_may_go_while_its_table_is_in_use(tmp_path):
    (tmp_path / "in").mkdir()
    table = write(tmp_path / "in" / "t", [Item("a", "b")])
    with table.connected():
        shutil.rmtree(tmp_path / "in")
    with pytest.raises(FileNotFoundError):
        table[0]


def test_a_path_that_is_too_long_for_sqlite_is_named(tmp_path):
    folder = tmp_path.joinpath(*["x" * 100] * 5)
    folder.mkdir(parents=True)
    length = len(str(folder / f".t.{0:016x}.isc-fast.tmp"))
    with pytest.raises(OutputError, match=f"its path has {length} bytes, and SQLite takes at most 512"):
        write(folder / "t", [])
    assert os.listdir(folder) == []


@pytest.mark.parametrize("limit", [0, 4096, 50_000])
def test_a_full_disk_is_the_system_s_error(tmp_path, limit):
    """A limit on the size of files stands for the full disk. SQLite alone says "disk I/O error"."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match="the file would be larger than the system allows"):
            write(tmp_path / "t", [Item(f"{row}", "") for row in range(20_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_an_error_of_sqlite_alone_is_told_too(tmp_path):
    def damaged() -> None:
        with replacing(tmp_path / "t") as file, write_table(file) as writer:
            writer._db.execute("DROP TABLE head")
            writer.finish("")

    with pytest.raises(OutputError, match="no such table"):
        damaged()
    assert os.listdir(tmp_path) == []


def test_without_room_for_temporary_files_a_query_says_so(tmp_path):
    items = [Item(f"{row:0200d}", "") for row in range(50_000)]
    table = write(tmp_path / "t", items)
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"^the list of images needs temporary files, .*TMPDIR"):
            table.changes(table)
        with pytest.raises(OutputError, match=r"^the list of images needs temporary files, .*TMPDIR"):
            table.first_repeat()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
