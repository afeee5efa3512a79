from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from isc_fast.errors import FormatError
from isc_fast.extraction.plan import MAX_SHARDS, MIN_SHARD_ITEMS, Plan, Shard, default_shard_size
from isc_fast.files.lazy import Texts
from isc_fast.items import Item

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
def test_default_shard_size(count, batch_size):
    size = default_shard_size(count, batch_size)
    assert size % batch_size == 0
    assert size >= MIN_SHARD_ITEMS
    assert -(-count // size) <= MAX_SHARDS
    assert size - batch_size < max(MIN_SHARD_ITEMS, count / MAX_SHARDS + 1), "no larger than it must be"


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
    (tmp_path / "plan.json").write_text("".join(plan.lines()), "ascii")
    return tmp_path / "plan.json"


def test_a_file_keeps_every_name(tmp_path):
    plan = replace(plan_of(0), items=[Item(name, name + ".jpg") for name in NAMES], inputs=[os.fsdecode(b"/\xff")])
    text = "".join(plan.lines())
    assert text.isascii()
    assert json.loads(text)["items"] == [[item.id, item.path] for item in plan.items], "one document, in lines"
    read = Plan.read(stored(tmp_path, plan))
    assert (read, read.id) == (plan, plan.id)
    assert len(plan.id) == 64
    assert "".join(read.lines()) == text


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 8192, 9000])
def test_lines_stay_short_however_many_items_there_are(tmp_path, count):
    plan = plan_of(count)
    lines = list(plan.lines())
    assert max(map(len, lines)) < 200_000
    assert len(lines) == 2 + -(-count // 4096)
    file = stored(tmp_path, plan)
    found = Plan.read(file)
    assert (found, found.id, len(found.items)) == (plan, plan.id, count)
    assert Plan.read(file, with_items=False) == replace(plan, items=[])
    for cut in {1, len(lines) // 2, len(lines) - 1}:
        file.write_text("".join(lines[:cut]))
        with pytest.raises(FormatError, match=r"damaged \(it is cut short"):
            Plan.read(file)
        Plan.read(file, with_items=False)


def test_items_in_a_file_are_read_where_they_are_asked_for(tmp_path):
    plan = plan_of(10_000, shard_size=1000)
    found = Plan.read(stored(tmp_path, plan))
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


GOOD = "".join(plan_of(3).lines())
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
def test_a_damaged_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(FormatError, match="the plan of this extraction is damaged") as raised:
        list(Plan.read(tmp_path / "plan.json").items)
    assert str(raised.value).endswith(f"; remove the folder {tmp_path} to start again")


@pytest.mark.parametrize("damage", [b"\xff", b"[", b"]", b"], [1, 2"])
def test_damage_in_the_middle_is_found_when_it_is_read(tmp_path, damage):
    file = stored(tmp_path, plan_of(9000))
    content = file.read_bytes()
    place = content.index(b"id5000") - 1
    file.write_bytes(content[:place] + damage + content[place:])
    found = Plan.read(file)
    assert len(found.items) == 9000
    assert found.items[4000:4090] == plan_of(9000).items[4000:4090]
    with pytest.raises(FormatError, match=r"damaged .*; remove the folder"):
        found.items[6000]


def test_a_file_that_is_gone_is_damage(tmp_path):
    file = stored(tmp_path, plan_of(3))
    found = Plan.read(file)
    file.unlink()
    with pytest.raises(FormatError, match=r"damaged \(.*No such file"):
        list(found.lines())


def test_a_line_with_too_few_images_is_damage(tmp_path):
    file = stored(tmp_path, plan_of(9000))
    file.write_text(file.read_text().replace('["id5000", "photos/5000.jpg"], ', ""))
    with pytest.raises(FormatError, match="line 3 has 4095 images"):
        list(Plan.read(file).items)


def test_a_plan_of_another_version_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text(with_head(version=99))
    with pytest.raises(FormatError, match=r"the plan has version 99; this isc-fast reads 1; remove the folder"):
        Plan.read(tmp_path / "plan.json")


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
def test_drift_in_words(items, words):
    assert plan_of(3).drift(replace(plan_of(3), items=items)) == words
