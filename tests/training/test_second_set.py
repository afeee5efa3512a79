from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from isc_fast.assets import demo_photos
from isc_fast.errors import InputError, MissingExtraError
from isc_fast.evaluation.edits.held_out import COUNTERPARTS, HELD_OUT_EDITS
from isc_fast.items import Item
from isc_fast.sources.listing import list_images
from isc_fast.training.data.held_out import read_held_out
from isc_fast.training.tiny import augly_edits
from isc_fast.training.tiny.augly_edits import AUGLY_EDITS, LIMITS, AugLy, load_augly
from isc_fast.training.tiny.data_set import edits_in, kind_of, photo_of
from isc_fast.training.tiny.photo_split import source_of
from isc_fast.training.tiny.second_set import EDITS, LARGEST_SIDE, build_second_set, package_of, plan_second_set

SMALL = {"originals": 6, "others": 4}


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    """The 60 real photos, small, each as two tiles of one source, of two packages."""
    folder = tmp_path_factory.mktemp("pool")
    for number, photo in enumerate(demo_photos()):
        image = Image.open(photo).convert("RGB")
        image.thumbnail((160, 160))
        half = image.width // 2
        stem = f"{'ab'[number % 2]}pack_{photo.stem}"
        image.crop((0, 0, half, image.height)).save(folder / f"{stem}__0.jpg")
        image.crop((half, 0, image.width, image.height)).save(folder / f"{stem}__1.jpg")
    return folder


@pytest.fixture(scope="module")
def photos(pool) -> list[Item]:
    return list(list_images(pool, ids="stem").items)


@pytest.fixture(scope="module")
def planned(photos):
    return plan_second_set(photos, **SMALL)


# --- what is chosen; AugLy is not needed for it ---


def test_no_source_is_used_twice(planned):
    used = [item.id for side in (planned.originals, planned.others, planned.strangers) for item in side]
    assert len({source_of(id_) for id_ in used}) == len(used) == 60
    assert (len(planned.originals), len(planned.others)) == (6, 4)


def test_copies_are_of_originals_and_show_strangers_beside_them(planned):
    originals, strangers = ({item.id for item in side} for side in (planned.originals, planned.strangers))
    assert {copy.photo.id for copy in planned.copies} == originals
    assert {copy.photo.id for copy in planned.unmatched} == strangers
    for copy in (*planned.copies, *planned.unmatched):
        assert copy.other.id in strangers - {copy.photo.id}
        assert photo_of(copy.id) == copy.photo.id


def test_both_halves_have_the_same_numbers_of_edits(planned):
    assert len({copy.id for copy in (*planned.copies, *planned.unmatched)}) == 2 * 6 * len(EDITS)
    for side in (planned.copies, planned.unmatched):
        assert Counter(len(copy.kinds) for copy in side) == Counter(EDITS * 6)
        for copy in side:
            assert edits_in(kind_of(copy.id)) == len(copy.kinds) == len(set(copy.kinds))
            assert all(len(group & set(copy.kinds)) <= most for group, most in LIMITS)
            if len(copy.kinds) == 1:
                assert kind_of(copy.id) == copy.kinds[0]
        singles = Counter(copy.kinds[0] for copy in side if len(copy.kinds) == 1)
        assert max(singles.values()) - (min(singles.values()) if len(singles) == len(AUGLY_EDITS) else 0) <= 1
    per_stranger = Counter(copy.photo.id for copy in planned.unmatched).values()
    assert max(per_stranger) - min(per_stranger) <= 1


def test_the_same_photos_give_the_same_plan(photos, planned):
    assert plan_second_set(photos, workers=1, **SMALL) == planned


def test_photos_that_were_trained_on_are_left_out(photos, tmp_path):
    """By their source, and by their looks where they have another name."""
    by_source = photos[0]
    for tile in (0, 1):
        path = Path(photos[10].path).with_name(f"{source_of(photos[10].id)}__{tile}.jpg")
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / f"other__{tile}.jpg", quality=80)
    unlike = [by_source, *list_images(tmp_path, ids="stem").items]
    planned = plan_second_set(photos, unlike=unlike, **SMALL)
    used = {source_of(item.id) for side in (planned.originals, planned.others, planned.strangers) for item in side}
    assert len(used) == 58
    assert not used & {source_of(by_source.id), source_of(photos[10].id), "other"}


def test_no_package_gives_more_than_it_may(photos):
    planned = plan_second_set(photos, each=12, **SMALL)
    used = [item.id for side in (planned.originals, planned.others, planned.strangers) for item in side]
    assert Counter(map(package_of, used)) == {"apack": 12, "bpack": 12}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            {"originals": 50, "others": 9},
            "60 sources that may be used, and 50 originals and 9 other references need 77",
        ),
        ({"originals": 0, "others": 9}, "must be above 0, not 0, 9 and 120"),
        ({"originals": 6, "others": 4, "each": 3}, "have 6 sources that may be used"),
    ],
)
def test_too_few_photos_are_refused(photos, numbers, message):
    with pytest.raises(InputError, match=message):
        plan_second_set(photos, **numbers)


# --- the table of edits ---


def test_every_value_is_drawn_and_the_seed_decides_it():
    augly = AugLy(None, ["a.ttf", "b.ttf"], ["a.png", "b.png"], ["web.png"])
    other = Image.new("RGB", (4, 4))
    for values in AUGLY_EDITS.values():
        for draw in values.values():
            drawn = [[draw(random, augly, other) for _ in range(5)] for random in map(Random, (1, 1, 2))]
            assert drawn[0] == drawn[1]
            assert drawn[0] != drawn[2] or len({str(value) for value in drawn[0] + drawn[2]}) <= 2


def test_the_kinds_are_not_those_of_the_first_set():
    """Else figures of "new kinds" would mix both; crop is in both, and is no new kind."""
    assert set(AUGLY_EDITS) & set(HELD_OUT_EDITS) <= COUNTERPARTS
    assert all(edits_in(kind) == 1 for kind in (*AUGLY_EDITS, *HELD_OUT_EDITS))
    assert set().union(*(group for group, _ in LIMITS)) <= set(AUGLY_EDITS)


def test_without_augly_one_line_says_what_installs_it(monkeypatch, pool, tmp_path):
    monkeypatch.setitem(sys.modules, "augly", None)
    for name in [name for name in sys.modules if name.startswith("augly.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        MissingExtraError, match="run: pip install augly, and on Debian: apt-get install libmagic1"
    ) as caught:
        build_second_set(pool, tmp_path / "out", **SMALL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# --- with AugLy ---


@pytest.fixture(scope="module")
def augly() -> AugLy:
    pytest.importorskip("augly", reason="AugLy is not installed (pip install augly)")
    return load_augly()


@pytest.fixture(scope="module")
def built(augly, pool, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "second"
    build_second_set(pool, out, **SMALL)
    return out


@pytest.mark.parametrize("kind", AUGLY_EDITS)
def test_an_edit_changes_the_photo_and_follows_its_seed(augly, kind):
    photo, other = (Image.open(path).convert("RGB").resize((120, 90)) for path in demo_photos()[:2])
    before = [image.tobytes() for image in (photo, other)]
    made = [augly.edit(kind, photo, other, Random(seed)) for seed in (1, 1, 2, 3, 4)]
    assert made[0].tobytes() == made[1].tobytes()
    assert {image.mode for image in made} == {"RGB"}
    assert sum(image.size != photo.size or image.tobytes() != before[0] for image in made) >= 3
    assert [image.tobytes() for image in (photo, other)] == before


def test_a_perspective_moves_corners_and_a_meme_leaves_the_photo_below_its_words(augly):
    photo = Image.new("RGB", (200, 150), "white")
    black = np.asarray(augly.edit("perspective_transform", photo, photo, Random(1))).min(axis=2) < 128
    assert 0 < black.mean() < 0.6  # the border that comes into view
    photo = Image.open(demo_photos()[0]).convert("RGB").resize((200, 150))
    meme = augly.edit("meme_format", photo, photo, Random(1))
    bar = meme.height - 150
    assert 50 <= bar <= 110
    assert meme.crop((0, bar, 200, meme.height)).tobytes() == photo.tobytes()
    assert np.asarray(meme.crop((0, 0, 200, bar))).min() == 0  # the words, in black


def test_the_set_is_what_the_evaluation_reads(built, planned):
    held_out = read_held_out(built)
    assert {item.id for item in held_out.references} == {item.id for item in (*planned.originals, *planned.others)}
    assert held_out.truth.pairs == {(copy.id, copy.photo.id) for copy in planned.copies}
    assert held_out.truth.queries == {item.id for item in held_out.queries}
    for item in held_out.queries:
        with Image.open(item.path) as image:
            assert max(image.size) <= LARGEST_SIDE
    edits = (built / "edits.csv").read_text().splitlines()
    assert edits[1:] == [f"{copy.id},{' '.join(copy.kinds)}" for copy in (*planned.copies, *planned.unmatched)]


def test_another_process_makes_the_same_bytes(built, pool, tmp_path):
    out = tmp_path / "again"
    command = [sys.executable, "-m", "isc_fast.training.tiny.second_set", str(pool), "-o", str(out)]
    command += ["--originals", "6", "--others", "4"]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=500)
    assert "6 originals and 4 other references, 60 copies; 60 queries from 50 photos" in done.stdout

    def tree(folder):
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")}

    assert tree(out) == tree(built)


def test_the_card_has_columns_for_each_number_of_edits(built, pool, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    from isc_fast.training.tiny.model_card import make_card

    data = tmp_path / "data" / "training_images"
    data.mkdir(parents=True)
    for photo in demo_photos()[:12]:
        (data / photo.name).symlink_to(photo)
    rows = make_card({"demo": "demo"}, data.parent, tmp_path / "card", held_out=built, baselines=False)
    assert [row.name for row in rows] == ["demo", "demo, with NES"]
    for row in rows:
        assert list(row.subsets) == ["all", "one edit", "two edits", "three edits", "four edits"]
        assert row.subsets["one edit"].micro_ap > row.subsets["four edits"].micro_ap
    table = (tmp_path / "card" / "figures.md").read_text("utf-8")
    assert "counterpart" not in table
    assert "\n| 3edits | " in table


def test_a_folder_that_holds_something_is_left_as_it_is(augly, pool, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="is not empty: name a new folder"):
        build_second_set(pool, tmp_path, **SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_fonts_have_their_letters_beside_them(augly):
    assert len(augly.fonts) > 300
    assert len(augly.emoji) > 800
    assert [Path(file).name for file in augly.screenshots] == ["mobile.png", "web.png"]
    assert augly_edits.load_augly() == augly
