from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from isc_fast.errors import FormatError
from isc_fast.plan import MAX_SHARDS, MIN_SHARD_ITEMS, Item, Plan, Shard, default_shard_size

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


def test_json_keeps_every_name():
    names = ["a", "", "ä 🦊", os.fsdecode(b"\xff\xed\xa0\x80\xe9"), 'q"uote', "new\nline", "nul\0", "\ud800"]
    plan = replace(plan_of(0), items=[Item(name, name + ".jpg") for name in names], inputs=[os.fsdecode(b"/\xff")])
    text = plan.to_json()
    assert text.isascii()
    assert Plan.from_json(text) == plan
    assert Plan.from_json(text).id == plan.id
    assert len(plan.id) == 64


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
