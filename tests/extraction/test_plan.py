from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_files import cut_sums
from killed import die_at

from isc_fast.errors import FormatError
from isc_fast.extraction.json_plan import read_json_plan
from isc_fast.extraction.plan import (
    MAX_SHARDS,
    MIN_SHARD_ITEMS,
    SHARD_ROWS,
    Plan,
    Shard,
    StoredItems,
    default_shard_size,
    drift,
    folder_shard_size,
    photos_at_once,
)
from isc_fast.files.lazy import Lazy, Texts
from isc_fast.items import Item


def drift_from_itself(plan: Plan) -> str | None:
    assert isinstance(plan.items, StoredItems)
    return drift(plan.items, plan.items)


SIZES = (0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 255, 256, 257, 1000)


def plan_of(count: int, *, batch_size: int = 4, shard_size: int = 8) -> Plan:
    items = [Item(f"id{i}", f"photos/{i}.jpg") for i in range(count)]
    return Plan(["/photos", "ids=auto", "limit=None"], items, "e" * 64, "pillow", batch_size, shard_size)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
@pytest.mark.parametrize("batches", [1, 2, 5])
def test_shards_and_batches_hold_everything_once_in_order(count, batch_size, batches):
    plan = plan_of(count, batch_size=batch_size, shard_size=batch_size * batches)
    shards = [plan.shard(index) for index in range(plan.shard_count)]
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [item for shard in shards for item in shard.items] == list(plan.items)
    runs = [run for shard in shards for run in shard.batches(batch_size)]
    assert [item for run in runs for item in run] == list(plan.items)
    assert [row for shard in shards for row in plan.rows(shard.index)] == list(range(count))
    assert all(len(plan.rows(shard.index)) == len(shard.items) for shard in shards)
    assert all(len(run) == batch_size for run in runs[:-1]), "only the last batch of the plan may be short"
    assert all(shards[i].items for i in range(len(shards)))
    assert (plan.shard_count == 0) == (count == 0)


def test_batches_do_not_reach_into_the_next_shard():
    shard = plan_of(20, batch_size=4, shard_size=10).shard(0)
    assert isinstance(shard, Shard)
    assert [len(run) for run in shard.batches(4)] == [4, 4, 2]


@pytest.mark.parametrize("count", [*SIZES, 10**5, 10**6, 10**6 + 1, 10**7])
@pytest.mark.parametrize("batch_size", [1, 3, 16, 100, 1000])
@pytest.mark.parametrize("views", [1, 10, 80])
def test_default_shard_size(count, batch_size, views):
    size, unit = default_shard_size(count, batch_size, views), photos_at_once(batch_size, views)
    least = max(MIN_SHARD_ITEMS, SHARD_ROWS / views)
    assert size % unit == 0, "only the last batch of the plan is short"
    assert size >= least
    assert -(-count // size) <= MAX_SHARDS
    assert size - unit < max(least, count / MAX_SHARDS) + 1, "no larger than it must be"


@pytest.mark.parametrize(
    ("batch_size", "views", "size"), [(4, 1, 256), (4, 10, 26), (32, 10, 27), (4, 80, 8), (64, 80, 8)]
)
def test_a_part_is_as_much_work_with_views_as_without(batch_size, views, size):
    assert default_shard_size(1000, batch_size, views) == size
    assert folder_shard_size(1000, batch_size, views) == size


NAMES = [
    "a",
    "",
    "ä 🦊",
    os.fsdecode(b"\xff\xed\xa0\x80\xe9"),
    'q"uote',
    "new\nline",
    "nul\0",
    "\ud800",
    "]}",
    "\x85",
    "3 x",
]


def stored(tmp_path: Path, plan: Plan) -> Path:
    plan.write(tmp_path / "plan.sqlite")
    return tmp_path / "plan.sqlite"


def in_json(plan: Plan) -> list[str]:
    """The lines of a plan as isc-fast 0.1 wrote them."""
    return [piece + "\n" for piece in plan.pieces()]


def stored_in_json(tmp_path: Path, plan: Plan) -> Path:
    (tmp_path / "plan.json").write_text("".join(in_json(plan)), "ascii")
    return tmp_path / "plan.json"


def read_stored(tmp_path: Path, plan: Plan, form: str) -> Plan:
    return Plan.read(stored(tmp_path, plan)) if form == "sqlite" else read_json_plan(stored_in_json(tmp_path, plan))


FORMS = pytest.mark.parametrize("form", ["sqlite", "json"])


@FORMS
def test_a_file_keeps_every_name(tmp_path, form):
    plan = replace(plan_of(0), items=[Item(name, name + ".jpg") for name in NAMES], inputs=[os.fsdecode(b"/\xff")])
    text = "".join(in_json(plan))
    assert text.isascii()
    assert json.loads(text)["items"] == [[item.id, item.path] for item in plan.items], "one document, in lines"
    read = read_stored(tmp_path, plan, form)
    assert (read, read.id) == (plan, plan.id)
    assert replace(read).id == plan.id, "computed from what was read"
    assert len(plan.id) == 64
    assert "".join(in_json(read)) == text


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 8192, 9000])
def test_lines_stay_short_however_many_items_there_are(tmp_path, count):
    plan = plan_of(count)
    lines = in_json(plan)
    assert max(map(len, lines)) < 200_000
    assert len(lines) == 2 + -(-count // 4096)
    for form in ("sqlite", "json"):
        found = read_stored(tmp_path, plan, form)
        assert (found, found.id, replace(found).id, len(found.items)) == (plan, plan.id, plan.id, count)
    for cut in {1, len(lines) // 2, len(lines) - 1}:
        (tmp_path / "plan.json").write_text("".join(lines[:cut]))
        with pytest.raises(FormatError, match=r"damaged \(it is cut short"):
            read_json_plan(tmp_path / "plan.json")


@FORMS
def test_items_in_a_file_are_read_where_they_are_asked_for(tmp_path, form):
    plan = plan_of(10_000, shard_size=1000)
    found = read_stored(tmp_path, plan, form)
    for index in (4, 0, 9, 8, 3):
        assert found.shard(index) == plan.shard(index)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(found.shard, range(10))) == [plan.shard(index) for index in range(10)]


def test_ids_of_plans_stay():
    """They stand in finished files; with another id the same command would refuse its own result."""
    assert plan_of(3).id == "a6aeed26ecbb2da3edd743eb1702fd2031dbac6e324ec38886887fb716e7a8c2"
    assert plan_of(9000).id == "5c1c871d71fbe77658c9b40791cbcb362a5dbb76a775d2a05d412bd458c24880"


def sequences(tmp_path):
    """(lazy sequence, the list that it stands for), longer than one of its blocks."""
    texts = [*NAMES, *(f"photos/{i}" for i in range(5000)), *NAMES]
    items = [Item(text, f"/data/{text}.jpg") for text in texts]
    plan = Plan.read(stored(tmp_path, replace(plan_of(0), items=items)))
    return [(Texts(texts), texts), (plan.items, items)]


@pytest.mark.parametrize("number", [0, 1])
def test_lazy_sequences_are_like_lists(tmp_path, number):
    lazy, plain = sequences(tmp_path)[number]
    assert len(lazy) == len(plain)
    assert list(lazy) == plain
    assert lazy == plain
    assert plain == lazy
    assert lazy != plain[:-1]
    assert lazy != [*plain[:-1], plain[0]]
    assert lazy != "text"
    assert list(reversed(lazy)) == plain[::-1]
    assert all(lazy[row] == plain[row] for row in (0, 1, 4095, 4096, 5010, -1, -len(plain)))
    for part in (
        slice(None),
        slice(3, 9),
        slice(4090, 4100),
        slice(9, 3),
        slice(-3, None),
        slice(0, 0),
        slice(8, 1, -2),
    ):
        assert list(lazy[part]) == plain[part]
    for row in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            lazy[row]
    assert plain[20] in lazy
    assert len(repr(lazy)) < 300
    with pytest.raises(TypeError, match="unhashable"):
        hash(lazy)
    assert list(Texts([])) == list(Plan.read(stored(tmp_path, plan_of(0))).items) == []


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": ["/photos"]},
        {"items": plan_of(3).items[::-1]},
        {"items": plan_of(2).items},
        {"items": [*plan_of(2).items, Item("id2", "photos/other.jpg")]},
        {"items": [*plan_of(2).items, Item("other", "photos/2.jpg")]},
        {"engine_id": "f" * 64},
        {"decoder": "other"},
        {"batch_size": 2},
        {"shard_size": 16},
    ],
)
def test_the_id_depends_on_each_field(change):
    assert replace(plan_of(3), **change).id != plan_of(3).id
    assert replace(plan_of(3)).id == plan_of(3).id


GOOD = "".join(in_json(plan_of(3)))
HEAD = json.loads(GOOD.splitlines()[0] + "]}")


def with_head(**values: object) -> str:
    """The good plan with other values in its head."""
    return json.dumps({**HEAD, **values}).removesuffix("]}") + GOOD[GOOD.index("\n") :]


def plan_line() -> str:
    return GOOD.splitlines()[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "{}",
        GOOD[:-2],
        GOOD[:-3],
        GOOD[:-10],
        GOOD.replace("\n", ""),
        *(json.dumps({key: value for key, value in HEAD.items() if key != missing})[:-2] + GOOD[GOOD.index("\n"):]
          for missing in HEAD if missing != "items"),
        *(GOOD.replace(plan_line(), items) for items in ("null", "[]", "", '["a"]', '["a", "b", "c"]', "[1, 2]", "3", "{}")),
        *(with_head(batch_size=size) for size in (None, 0, -4, "4", 2.5)),
        with_head(shard_size=0),
    ],
)  # fmt: skip
def test_a_damaged_plan_in_json_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(FormatError, match="the plan of this extraction is damaged") as raised:
        read_json_plan(tmp_path / "plan.json")
    assert str(raised.value).endswith(f"; remove the folder {tmp_path} to start again")


@pytest.mark.parametrize("damage", [b"\xff", b"[", b"]", b"], [1, 2"])
def test_damage_in_the_middle_of_json_is_found(tmp_path, damage):
    file = stored_in_json(tmp_path, plan_of(9000))
    content = file.read_bytes()
    place = content.index(b"id5000") - 1
    file.write_bytes(content[:place] + damage + content[place:])
    with pytest.raises(FormatError, match=r"damaged .*; remove the folder"):
        read_json_plan(file)


def test_a_line_with_too_few_images_is_damage(tmp_path):
    file = stored_in_json(tmp_path, plan_of(9000))
    file.write_text(file.read_text().replace('["id5000", "photos/5000.jpg"], ', ""))
    with pytest.raises(FormatError, match="line 3 has 4095 images"):
        read_json_plan(file)


def change(file: Path, statement: str, *values: object) -> None:
    cut_sums(file)
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute(statement, values)


def with_values(**values: object) -> str:
    """The text of the good plan's file, with other values."""
    return json.dumps({key: value for key, value in {**HEAD, "id": "f" * 64, **values}.items() if value is not ...})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", '"text"', "{}", "\udcff",
        *(with_values(**{missing: ...}) for missing in [*HEAD, "id"] if missing != "items"),
        *(with_values(batch_size=size) for size in (None, 0, -4, "4", 2.5)),
        with_values(shard_size=0),
    ],
)  # fmt: skip
def test_a_damaged_plan_is_refused(tmp_path, text):
    file = stored(tmp_path, plan_of(3))
    change(file, "UPDATE head SET text = CAST(? AS TEXT)", text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError, match="the plan of this extraction is damaged") as raised:
        Plan.read(file)
    assert str(raised.value).endswith(f"; remove the folder {tmp_path} to start again")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE head",
        "DROP TABLE images",
        "DELETE FROM head",
        "INSERT INTO head VALUES ('{}')",
        "DELETE FROM images WHERE row = 2",
        "UPDATE images SET id = 'text' WHERE row = 2",
        "UPDATE images SET path = 3 WHERE row = 2",
        "UPDATE images SET path = x'ff' WHERE row = 2",
    ],
)
def test_a_plan_that_another_program_changed_is_damaged(tmp_path, statement):
    file = stored(tmp_path, plan_of(3))
    change(file, statement)
    with pytest.raises(FormatError, match=r"the plan of this extraction is damaged \(.*; remove the folder"):
        list(Plan.read(file).items)


@pytest.mark.parametrize(
    "content", [b"", b"no plan", bytes(100_000), b"SQLite format 3\0", b"SQLite format 3\0" * 9999]
)
def test_a_file_of_something_else_is_a_damaged_plan(tmp_path, content):
    (tmp_path / "plan.sqlite").write_bytes(content)
    with pytest.raises(FormatError, match=r"the plan of this extraction is damaged \(.*; remove the folder"):
        Plan.read(tmp_path / "plan.sqlite")


def test_a_plan_that_is_cut_short_is_damaged(tmp_path):
    content = stored(tmp_path, plan_of(9000)).read_bytes()
    for length in (10, 100, 4096, len(content) // 2, len(content) - 4096, len(content) - 1):
        (tmp_path / "plan.sqlite").write_bytes(content[:length])
        with pytest.raises(FormatError, match=r"the plan of this extraction is damaged \(.*; remove the folder"):
            list(Plan.read(tmp_path / "plan.sqlite").items)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"id"])
def test_damage_in_the_middle_is_found_when_it_is_read(tmp_path, filler):
    file = stored(tmp_path, plan_of(9000))
    content = bytearray(file.read_bytes())
    page = content.index(b"id5000") // 4096 * 4096
    content[page : page + 4096] = (filler * 4096)[:4096]
    file.write_bytes(content)
    with pytest.raises(FormatError, match=rf"damaged \(bytes .* to .* are not those .*; remove the folder {tmp_path}"):
        len(Plan.read(file).items)
    cut_sums(file)
    found = Plan.read(file)
    assert len(found.items) == 9000
    assert found.items[4000:4090] == plan_of(9000).items[4000:4090]
    with pytest.raises(FormatError, match=r"damaged .*; remove the folder"):
        found.items[4900:5100]


@pytest.mark.parametrize("reads", [lambda plan: list(plan.items), lambda plan: list(plan.pieces()), drift_from_itself])
def test_a_file_that_is_gone_is_damage(tmp_path, reads):
    file = stored(tmp_path, plan_of(3))
    found = Plan.read(file)
    file.unlink()
    with pytest.raises(FormatError, match=r"cannot read the plan .*: No such file"):
        reads(found)
    with pytest.raises(FileNotFoundError):
        Plan.read(file)


def test_a_plan_of_another_version_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text(with_head(version=99))
    with pytest.raises(FormatError, match=r"the plan has version 99; this isc-fast reads 1 and 2; remove the folder"):
        read_json_plan(tmp_path / "plan.json")
    file = stored(tmp_path, plan_of(3))
    change(file, "UPDATE head SET text = ?", with_values(version=99))
    with pytest.raises(FormatError, match=r"the plan has version 99; this isc-fast reads 1 and 2; remove the folder"):
        Plan.read(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"items": []}, None),
        ({"inputs": ("/photos", "ids=auto", "limit=None")}, None),
        ({"inputs": ["/other", "ids=auto", "limit=None"]}, "other inputs (/photos then, /other now)"),
        ({"inputs": ["/photos", "ids=stem", "limit=None"]}, "other inputs (ids=auto then, ids=stem now)"),
        (
            {"inputs": ["/photos", "/other", "ids=auto", "limit=None"]},
            "other inputs (/photos, ids=auto, limit=None then, /other now)",
        ),
        (
            {"inputs": ["ids=auto", "/photos", "limit=None"]},
            "other inputs (/photos, ids=auto, limit=None then, ids=auto, /photos, limit=None now)",
        ),
        ({"engine_id": "f" * 64}, "another engine (eeeeeeeeeeee then, ffffffffffff now)"),
        ({"decoder": "nvjpeg"}, "another decoder (pillow then, nvjpeg now)"),
        ({"batch_size": 2}, "another batch size (4 then, 2 now)"),
        ({"shard_size": 16}, "another shard size (8 then, 16 now)"),
        ({"shard_size": 16, "engine_id": "f" * 64}, "another engine (eeeeeeeeeeee then, ffffffffffff now)"),
    ],
)
def test_difference_in_words(change, words):
    assert plan_of(3).difference(replace(plan_of(3), **change)) == words


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (plan_of(3).items, None),
        (tuple(plan_of(3).items), None),
        (plan_of(5).items, "2 new, 0 gone"),
        (plan_of(1).items, "0 new, 2 gone"),
        ([*plan_of(2).items, Item("id2", "moved/2.jpg")], "1 new, 1 gone"),
        (plan_of(3).items[::-1], "the same ones in another order"),
    ],
)
def test_drift_in_words(tmp_path, items, words):
    for folder, plan in (("then", plan_of(3)), ("now", replace(plan_of(3), items=items))):
        (tmp_path / folder).mkdir()
        stored(tmp_path / folder, plan)
    assert drift(*(StoredItems(tmp_path / folder / "plan.sqlite") for folder in ("then", "now"))) == words


class Killing(Lazy[Item]):
    """The items of a plan, of which one kills the process that asks for it."""

    def __init__(self, items: Sequence[Item], row: int) -> None:
        self._items, self._row = items, row

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, stop: int) -> list[Item]:
        if start <= self._row < stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(self._items[start:stop])


def kill_while_writing(file: Path, point: str, number: int) -> None:
    """Write a plan of 9000 images in a child process, which is killed at a point."""
    child = os.fork()
    if not child:
        try:
            plan = plan_of(9000)
            if point == "item":
                plan = replace(plan, items=Killing(plan.items, number))
            else:
                name, _, when = point.partition(" ")
                setattr(os, name, die_at(number, getattr(os, name), after=when == "after"))
            plan.write(file)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.parametrize(
    ("point", "number", "written"),
    [
        ("item", 0, False), ("item", 5000, False), ("item", 8999, False), ("fsync", 1, False), ("replace", 1, False),
        ("replace after", 1, True), ("fsync", 2, True), ("fsync after", 2, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("older", [False, True])
def test_a_plan_is_whole_or_not_there_wherever_its_writer_is_killed(tmp_path, point, number, written, older):
    file = tmp_path / "plan.sqlite"
    if older:
        plan_of(3).write(file)
    kill_while_writing(file, point, number)
    left = {name for name in os.listdir(tmp_path) if name != file.name}
    assert len(left) == (not written)
    assert all(name.startswith(".plan.sqlite.") and name.endswith(".tmp") for name in left)
    if written or older:
        found = Plan.read(file)
        assert (found, replace(found).id) == ((plan_of(9000), found.id) if written else (plan_of(3), plan_of(3).id))
    else:
        with pytest.raises(FileNotFoundError):
            Plan.read(file)
    plan_of(20).write(file)
    assert Plan.read(file) == plan_of(20)
