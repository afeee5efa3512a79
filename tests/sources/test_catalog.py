from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

from isc_fast.errors import MissingExtraError
from isc_fast.items import Item
from isc_fast.sources.catalog import ID_RULES, Catalog


def plain_ids(names: list[str], rule: str) -> list[str]:
    """The rules of `isc_fast.list_images`, said once more."""
    if rule == "path":
        return names
    if rule == "stem":
        return [os.path.splitext(os.path.basename(name))[0] or name for name in names]
    whole = [False] * len(names)
    while True:
        ids = [name if w else os.path.splitext(name)[0] for name, w in zip(names, whole, strict=True)]
        counts = Counter(ids)
        clash = [counts[id_] > 1 and id_ != name for id_, name in zip(ids, names, strict=True)]
        if not any(clash):
            return ids
        whole = [w or c for w, c in zip(whole, clash, strict=True)]


def first_pair(ids: list[str]) -> tuple[int, int] | None:
    seen: dict[str, int] = {}
    for row, id_ in enumerate(ids):
        if id_ in seen:
            return seen[id_], row
        seen[id_] = row
    return None


WORDS = ["a", "b", ".c", "é", os.fsdecode(b"\xff"), "A"]
ENDINGS = ["", ".jpg", ".png", ".jpg.png", "/", "/a.jpg"]


@pytest.mark.parametrize("rule", ID_RULES)
@pytest.mark.parametrize("seed", range(12))
def test_ids_are_those_of_the_rules(rule, seed):
    random = np.random.default_rng(seed)
    names = [word + ending for word, ending in product(WORDS, ENDINGS)]
    names = [names[row] for row in random.permutation(len(names))[: random.integers(1, len(names) + 1)]]
    given = ["" if random.random() < 0.9 else f"given{random.integers(0, 20 + 980 * (seed % 2))}" for _ in names]
    by_name = bool(random.integers(2))
    catalog = Catalog(rule)
    catalog.add([(name, f"/{name}", id_) for name, id_ in zip(names, given, strict=True)], by_name=by_name)
    if by_name:
        pairs = sorted(zip(names, given, strict=True), key=lambda pair: os.fsencode(pair[0]))
        names, given = [name for name, _ in pairs], [id_ for _, id_ in pairs]
    ids = [id_ or made for id_, made in zip(given, plain_ids(names, rule), strict=True)]
    items = [Item(id_, f"/{name}") for id_, name in zip(ids, names, strict=True)]
    pair = first_pair(ids)
    assert catalog.settle_ids() == (pair and (items[pair[0]], items[pair[1]]))
    assert catalog == items


def large() -> Catalog:
    """More than SQLite keeps in memory here, in two lots, of which the first needs sorting."""
    catalog = Catalog("auto")
    numbers = np.random.default_rng(0).permutation(100_000).tolist()
    catalog.add(((f"one/{n:06d}.jpg", f"/photos/of mine/one/{n:06d}.jpg", "") for n in numbers), by_name=True)
    catalog.add((f"two/{n:06d}.jpg", f"/photos/of mine/two/{n:06d}.jpg", "") for n in range(50_000))
    assert catalog.settle_ids() is None
    return catalog


@pytest.fixture(scope="module")
def found() -> tuple[Catalog, list[Item]]:
    rows = [("one", n) for n in range(100_000)] + [("two", n) for n in range(50_000)]
    return large(), [Item(f"{lot}/{n:06d}", f"/photos/of mine/{lot}/{n:06d}.jpg") for lot, n in rows]


def test_a_large_table_is_in_order(found):
    catalog, items = found
    assert len(catalog) == 150_000
    assert list(catalog) == items
    assert catalog[99_998:100_002] == items[99_998:100_002]


def test_several_threads_may_read_it(found):
    catalog, items = found
    parts = [slice(start, start + 700) for start in np.random.default_rng(1).integers(0, 150_000, 60).tolist()]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(catalog.__getitem__, parts)) == [items[part] for part in parts]


def test_a_cut_table_is_shorter():
    catalog = Catalog("path")
    catalog.add([("a", "/a", ""), ("b", "/b", "")])
    catalog.cut(5)
    assert len(catalog) == 2
    catalog.cut(1)
    assert catalog == [Item("a", "/a")]
    with pytest.raises(IndexError):
        catalog[1]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux to list open files")
def test_its_file_ends_with_it():
    before = set(os.listdir("/proc/self/fd"))
    catalog = large()
    opened = set(os.listdir("/proc/self/fd")) - before
    assert opened, "it is too small to be on the disk"
    del catalog
    gc.collect()
    assert not opened & set(os.listdir("/proc/self/fd"))


LIMITED = """
    import os, resource, sys
    sys.path.insert(0, os.path.dirname(os.environ["HERE"]))
    from isc_fast.errors import OutputError
    from test_catalog import large
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        large()
    except OutputError as error:
        print(error)
"""


def test_without_room_for_its_file_it_says_so():
    command = [sys.executable, "-c", textwrap.dedent(LIMITED)]
    environment = {**os.environ, "HERE": os.path.abspath(__file__)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the list of images needs temporary files, and they cannot be written (")
    assert done.stdout.endswith("); free some space, or name another folder in the variable TMPDIR\n")


def test_a_python_without_sqlite_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(MissingExtraError, match="this Python was built without SQLite"):
        Catalog("auto")
