from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from isc_fast.errors import FormatError
from isc_fast.plan import (
    MAX_SHARDS,
    MIN_SHARD_ITEMS,
    Item,
    Items,
    Plan,
    Shard,
    Texts,
    default_shard_size,
    repeated_rows,
)

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


def test_json_keeps_every_name():
    names = NAMES
    plan = replace(plan_of(0), items=[Item(name, name + ".jpg") for name in names], inputs=[os.fsdecode(b"/\xff")])
    text = plan.to_json()
    assert text.isascii()
    assert Plan.from_json(text) == plan
    assert Plan.from_json(text).id == plan.id
    assert len(plan.id) == 64
    assert json.loads(text)["items"] == [[item.id, item.path] for item in plan.items]
    assert Plan.from_lines(plan.lines()) == plan
    assert json.loads("".join(plan.lines())) == json.loads(text), "with its line ends it is still one document"


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 9000])
def test_lines_stay_short_however_many_items_there_are(count):
    lines = list(plan_of(count).lines())
    assert "".join(line.removesuffix("\n") for line in lines) == plan_of(count).to_json()
    assert max(map(len, lines)) < 200_000
    assert len(lines) == 2 + -(-count // 4096)
    found = Plan.from_lines(lines)
    assert (found, found.id) == (plan_of(count), plan_of(count).id)
    head = Plan.from_lines(iter(lines[:1]), with_items=False)
    assert head == replace(plan_of(count), items=[])
    for cut in {1, len(lines) // 2, len(lines) - 1}:
        with pytest.raises(FormatError, match=r"damaged \(it is cut short"):
            Plan.from_lines(lines[:cut])


def test_ids_of_plans_stay():
    """They stand in finished files; with another id the same command would refuse its own result."""
    assert plan_of(3).id == "a6aeed26ecbb2da3edd743eb1702fd2031dbac6e324ec38886887fb716e7a8c2"
    assert plan_of(9000).id == "5c1c871d71fbe77658c9b40791cbcb362a5dbb76a775d2a05d412bd458c24880"


def sequences():
    """(lazy sequence, the list that it stands for), longer than one of its blocks."""
    texts = [*NAMES, *(f"photos/{i}" for i in range(5000)), *NAMES]
    items = [Item(text, f"/data/{text}.jpg") for text in texts]
    return [(Texts(texts), texts), (Items(items), items)]


@pytest.mark.parametrize("number", [0, 1])
def test_lazy_sequences_are_like_lists(number):
    lazy, plain = sequences()[number]
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
    assert list(type(lazy)()) == []


@pytest.mark.parametrize(
    "item",
    [
        Item("a", "/data/a.jpg"),
        Item("a", "a"),
        Item("a", "/a/a/a.a"),
        Item("", ""),
        Item("", "/data/x.jpg"),
        Item("given", "/data/other.jpg"),
        Item("12 x", "/data/other.jpg"),
        Item("x\0y", "\0"),
        Item(" ", "/data/other.jpg"),
        Item(os.fsdecode(b"\xff"), os.fsdecode(b"/\xfe/\xff.jpg")),
        Item(os.fsdecode(b"\xff"), os.fsdecode(b"/\xfe/other")),
    ],
    ids=repr,
)
def test_items_of_every_kind(item):
    both = Items([item, Item("b", "/data/b.jpg"), item])
    assert [both[0], both[2], *both] == [item, item, item, Item("b", "/data/b.jpg"), item]


def test_more_places_than_two_bytes_can_number():
    items = [Item("x", f"/{i}/x.jpg") for i in range(70_000)]
    packed = Items(items)
    assert all(packed[row] == items[row] for row in (0, 65_533, 65_534, 65_535, 65_536, 65_537, 69_999))
    assert packed == items


class Same(str):
    """Texts of one hash, as two of ten million may be."""

    def __hash__(self):
        return 7


@pytest.mark.parametrize(
    ("texts", "rows"),
    [
        ([], []),
        (["a"], []),
        (["a", "b", "c"], []),
        (["a", "b", "a"], [0, 2]),
        (["x", "a", "b", "b", "a", "y", "b"], [1, 2, 3, 4, 6]),
        (["", ""], [0, 1]),
        ([Same("a"), "b", Same("c")], [0, 2]),
    ],
)
def test_rows_of_texts_that_may_be_repeated(texts, rows):
    assert repeated_rows(texts, len(texts)).tolist() == rows


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


GOOD = json.loads(plan_of(3).to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "{}",
        plan_of(3).to_json()[:-5],
        *(json.dumps({key: value for key, value in GOOD.items() if key != missing}) for missing in GOOD),
        *(json.dumps(GOOD | {"items": items}) for items in (None, 3, [["a"]], [["a", "b", "c"]], [3])),
        *(json.dumps(GOOD | {"batch_size": size}) for size in (None, 0, -4, "4", 2.5)),
        json.dumps(GOOD | {"shard_size": 0}),
        json.dumps(GOOD | {"items": [[1, 2]]}),
        plan_of(3).to_json()[:-2],
        plan_of(3).to_json()[:-3],
    ],
)
def test_a_damaged_plan_is_refused(text):
    with pytest.raises(FormatError, match="the plan of this extraction is damaged"):
        Plan.from_json(text)


def test_a_plan_of_another_version_is_refused():
    with pytest.raises(FormatError, match="the plan has version 99; this isc-fast reads 1"):
        Plan.from_json(json.dumps(GOOD | {"version": 99}))


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
