from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageOps

from isc_fast.assets import demo_photos
from isc_fast.errors import InputError
from isc_fast.evaluation.edits.demo import EDITS
from isc_fast.evaluation.edits.held_out import COUNTERPARTS, HELD_OUT_EDITS, LIMITS
from isc_fast.matching.lists.matches import read_truth
from isc_fast.sources.disc21 import find_truth
from isc_fast.sources.listing import list_images
from isc_fast.training.tiny.data_set import FOUR_EDITS, PAIR_COPIES, build_tiny_data, draw_kinds, kind_of, photo_of
from isc_fast.training.tiny.pair_edits import PAIR_EDITS
from isc_fast.training.tiny.photo_split import group_photos, source_of


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    """The 60 real photos, small, each as two tiles of one source."""
    folder = tmp_path_factory.mktemp("pool")
    for photo in demo_photos():
        image = Image.open(photo).convert("RGB")
        image.thumbnail((160, 160))
        half = image.width // 2
        image.crop((0, 0, half, image.height)).save(folder / f"{photo.stem}__0.jpg")
        image.crop((half, 0, image.width, image.height)).save(folder / f"{photo.stem}__1.jpg")
    return folder


@pytest.fixture(scope="module")
def built(pool, tmp_path_factory):
    return build_tiny_data(pool, tmp_path_factory.mktemp("out") / "data")


def stems(folder: Path) -> set[str]:
    return {file.stem for file in folder.iterdir()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}


# --- the division ---


def test_no_source_is_on_both_sides(built):
    held_out = stems(built.folder / "heldout" / "reference_images")
    held_out |= {photo_of(query) for query in stems(built.folder / "heldout" / "query_images")}
    train = stems(built.folder / "training_images")
    assert not {source_of(name) for name in held_out} & {source_of(name) for name in train}
    # 60 sources of two photos: both are trained on, or one of them is held out and the other is not used.
    assert len({source_of(name) for name in held_out}) == len(held_out)
    assert 2 * len(held_out) + len(train) == 120
    assert 0.2 < 2 * len(held_out) / 120 < 0.3


def test_references_are_training_photos_too(built):
    """There are too few to divide them; the rest serves as backgrounds of the copies."""
    assert stems(built.folder / "reference_images") < stems(built.folder / "training_images")


def test_photos_that_look_alike_stay_together(pool, tmp_path):
    """Saved again or mirrored under another name, and not by chance: every photo has such a twin."""
    for photo in demo_photos()[:40]:
        image = Image.open(photo).convert("RGB")
        image.thumbnail((160, 160))
        image.save(tmp_path / f"{photo.stem}.jpg", quality=90)
        ImageOps.mirror(image).save(tmp_path / f"{photo.stem}_again.jpg", quality=50)
    with ThreadPoolExecutor(2) as threads:
        groups = group_photos(list_images(tmp_path, ids="stem").items, threads)
        assert sorted(len(group) for group in groups) == [2] * 40
        assert all(a.id.removesuffix("_again") == b.id.removesuffix("_again") for a, b in groups)
        different = group_photos(list_images(pool, ids="stem").items, threads)
    assert len(different) == 60  # and photos that only share a mood are not joined


@pytest.mark.parametrize(("id_", "source"), [("a__b__3", "a__b"), ("a__3", "a"), ("a", "a"), ("__3", "__3")])
def test_the_source_of_a_photo(id_, source):
    assert source_of(id_) == source


# --- the layout ---


def test_the_ground_truth_is_complete_and_every_id_exists(built):
    for root, letter in ((built.folder, "training"), (built.folder / "heldout", "held out")):
        file = find_truth(root, "q", None)
        assert file is not None, letter
        truth = read_truth(file)
        queries, references = stems(root / "query_images"), stems(root / "reference_images")
        assert truth.queries == queries
        assert {reference for _, reference in truth.pairs} <= references
        assert len({query for query, _ in truth.pairs}) == len(truth.pairs)
    assert file.name == "ground_truth.csv"


def test_training_pairs_and_references_without_a_copy(built):
    pairs = read_truth(built.folder / "public_ground_truth.csv").pairs
    per_reference = Counter(reference for _, reference in pairs)
    assert set(per_reference.values()) == {PAIR_COPIES}
    assert len(pairs) == built.pairs
    assert len(per_reference) < built.references


def test_half_of_the_held_out_queries_match_nothing(built):
    root = built.folder / "heldout"
    truth = read_truth(root / "ground_truth.csv")
    references = stems(root / "reference_images")
    copies = {query for query, _ in truth.pairs}
    strangers = truth.queries - copies
    assert all((photo_of(query), query) == (reference, query) for query, reference in truth.pairs)
    assert not {photo_of(query) for query in strangers} & references
    assert len(copies) == len(strangers) == built.copies == built.stranger_queries
    by_kind = [Counter(kind_of(query) for query in group) for group in (copies, strangers)]
    assert by_kind[0][FOUR_EDITS] == by_kind[1][FOUR_EDITS] == built.copies // 3
    assert set(by_kind[0]) == {*HELD_OUT_EDITS, FOUR_EDITS}
    one_edit = [count for kind, count in by_kind[0].items() if kind != FOUR_EDITS]
    assert max(one_edit) - min(one_edit) <= 1


def test_counts_are_what_is_there(built):
    counted = [
        len(stems(built.folder / "training_images")), len(stems(built.folder / "reference_images")),
        len(stems(built.folder / "query_images")),
    ]  # fmt: skip
    assert list(astuple(built)[1:4]) == counted
    assert built.held_out_originals + built.held_out_others == len(stems(built.folder / "heldout/reference_images"))
    assert f"{built.pairs} pairs" in str(built)


def test_photos_are_copied_as_they_are_and_queries_keep_the_resolution(built, pool):
    for folder in ("training_images", "reference_images", "heldout/reference_images"):
        for file in (built.folder / folder).iterdir():
            assert file.read_bytes() == (pool / file.name).read_bytes()
    for query, reference in read_truth(built.folder / "heldout" / "ground_truth.csv").pairs:
        if kind_of(query) in ("film", "duotone", "noise", "hdr", "watermark", "text"):
            sizes = [
                Image.open(built.folder / "heldout" / folder / f"{name}.jpg").size
                for folder, name in (("query_images", query), ("reference_images", reference))
            ]
            assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("query", "kind", "photo"),
    [
        ("a_b__0-crop", "crop", "a_b__0"),
        ("a-b__0-off_screen", "off_screen", "a-b__0"),
        ("a-b-2-4edits", "4edits", "a-b"),
        ("a-b-12-2edits", "2edits", "a-b"),
    ],
)
def test_a_query_says_its_kind_and_its_photo(query, kind, photo):
    assert (kind_of(query), photo_of(query)) == (kind, photo)


# --- the same bytes ---


def test_another_process_with_other_hashes_and_threads_makes_the_same_bytes(built, pool, tmp_path):
    code = "import sys; from isc_fast.training.tiny.data_set import build_tiny_data as b; b(*sys.argv[1:], workers=1)"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", code, str(pool), str(tmp_path / "data")]
    subprocess.run(command, env=environment, check=True, timeout=300)
    assert tree(tmp_path / "data") == tree(built.folder)
    assert not [file for file in tmp_path.iterdir() if file.name != "data"]


# --- edits ---


def test_held_out_kinds_are_not_the_training_kinds():
    assert not set(HELD_OUT_EDITS) & set(PAIR_EDITS)
    assert set(EDITS) <= set(HELD_OUT_EDITS)
    assert set(HELD_OUT_EDITS) > COUNTERPARTS
    assert {edit.__module__ for edit in PAIR_EDITS.values()} == {"isc_fast.training.tiny.pair_edits"}


def photo_and_others(size=(160, 120)):
    images = [Image.open(path).convert("RGB") for path in demo_photos()[:4]]
    return images[0].resize(size), images[1:]


@pytest.mark.parametrize("size", [(160, 120), (90, 200), (31, 37)], ids=str)
@pytest.mark.parametrize("name", [*HELD_OUT_EDITS, *PAIR_EDITS])
def test_an_edit_changes_the_photo_and_leaves_its_inputs(name, size):
    photo, others = photo_and_others(size)
    before = [image.tobytes() for image in (photo, *others)]

    def make(seed):
        if name in PAIR_EDITS:
            return PAIR_EDITS[name](photo, others[0], Random(seed))
        return HELD_OUT_EDITS[name](photo, others, Random(seed))

    changed = 0
    for seed in range(4):
        made = make(f"a {seed}")
        assert made.mode == "RGB"
        assert min(made.size) >= 5
        assert made.tobytes() == make(f"a {seed}").tobytes()
        changed += made.size != photo.size or made.tobytes() != before[0]
    assert changed >= 2  # the faintest blur of a photo of 31 pixels is none
    assert [image.tobytes() for image in (photo, *others)] == before


def test_a_collage_holds_the_whole_photo_once():
    photo, others = photo_and_others()
    for name, parts in (("collage2", 2), ("collage4", 4)):
        page = HELD_OUT_EDITS[name](photo, others, Random(1))
        assert page.width * page.height >= parts * photo.width * photo.height
        found = [
            (x, y)
            for x in range(0, page.width - photo.width + 1)
            for y in (0, page.height - photo.height)
            if page.crop((x, y, x + photo.width, y + photo.height)).tobytes() == photo.tobytes()
        ]
        assert len(found) == 1


def test_a_lens_and_a_screen_keep_what_is_in_the_middle():
    photo, others = photo_and_others((200, 200))
    mean = np.asarray(photo.resize((4, 4), Image.Resampling.BOX), float)[1:3, 1:3].mean()
    made = HELD_OUT_EDITS["lens"](photo, others, Random(3))
    assert np.asarray(made.resize((4, 4), Image.Resampling.BOX), float)[1:3, 1:3].mean() == pytest.approx(mean, abs=25)


def test_four_edits_keep_their_order_and_their_limits():
    order = list(HELD_OUT_EDITS)
    drawn = [draw_kinds(HELD_OUT_EDITS, 4, Random(seed), LIMITS) for seed in range(300)]
    for kinds in drawn:
        assert len(set(kinds)) == 4
        assert kinds == sorted(kinds, key=order.index)
        assert all(len(group & set(kinds)) <= most for group, most in LIMITS)
    assert set().union(*drawn) == set(HELD_OUT_EDITS)


# --- bad input ---


def refused(pool, out, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        build_tiny_data(pool, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists() or not any(file for file in out.iterdir() if file.name != "mine")


def test_an_empty_or_missing_pool(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "out", "found no image in")
    refused(tmp_path / "nowhere", tmp_path / "out", "there is no .*nowhere")


@pytest.mark.parametrize("count", [1, 8, 30])
def test_too_few_photos(tmp_path, folder_of, count):
    refused(folder_of(tmp_path / "pool", count), tmp_path / "out", rf"{count} photos of .* cannot be divided")


def test_one_source_cannot_be_divided(tmp_path):
    (tmp_path / "pool").mkdir()
    for number, photo in enumerate(demo_photos()):
        (tmp_path / "pool" / f"same__{number}.jpg").symlink_to(photo)
    refused(tmp_path / "pool", tmp_path / "out", "60 photos of 1 different sources")


def test_a_file_that_is_no_photo_or_has_no_fitting_name(tmp_path, folder_of):
    folder = folder_of(tmp_path / "pool", 60)
    (folder / "bad.jpg").write_bytes(b"no picture")
    refused(folder, tmp_path / "out", r"bad\.jpg cannot be used: not an image of a known format")
    (folder / "bad.jpg").rename(folder / "a, b.jpg")
    refused(folder, tmp_path / "out", "'a, b' has a comma")


def test_a_folder_that_holds_something_and_a_share_that_is_none(tmp_path, pool):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    refused(pool, tmp_path / "out", "is not empty: name a new folder")
    refused(pool, tmp_path / "other", "the share held_out must lie between 0 and 1, not be 1", held_out=1)


def test_from_the_command_line(tmp_path, pool):
    command = [sys.executable, "-m", "isc_fast.training.tiny.data_set", str(tmp_path), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: found no image in")
    assert len(done.stderr.splitlines()) == 1
