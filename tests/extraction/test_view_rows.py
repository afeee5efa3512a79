"""Photos that are described in several views: rows, resuming, other views, updates, and what an older isc-fast does."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from fakes import FakeEngine
from killed import run_killed
from PIL import Image
from toy_runner import Toy

from isc_fast import assemble, open_descriptors
from isc_fast.assets import DEMO_ENGINE
from isc_fast.decoders.views import view_names
from isc_fast.descriptors.store import load_descriptors
from isc_fast.errors import FormatError, InputError, MismatchError
from isc_fast.extraction.job import Request
from isc_fast.extraction.pipeline import extract, extract_with
from isc_fast.extraction.plan import Plan
from isc_fast.items import Item

SIZES = {"batch_size": 2, "shard_size": 4}
BOXES = {  # of a photo of 2 × 2, as the statement cuts it
    "whole": (0, 0, 2, 2),
    "top-left": (0, 0, 1, 1),
    "top-right": (1, 0, 2, 1),
    "bottom-left": (0, 1, 1, 2),
    "bottom-right": (1, 1, 2, 2),
}


def stated(photo, engine):
    """The statement: Pillow crops, resizes, and the engine describes."""
    image = Image.open(photo).convert("RGB")
    (w, h), rows = image.size, []
    for left, top, right, bottom in BOXES.values():
        box = (left * w // 2, top * h // 2, w - (2 - right) * w // 2, h - (2 - bottom) * h // 2)
        rows.append(np.asarray(image.crop(box).resize((32, 32), Image.Resampling.BILINEAR)))
    return engine.run(np.stack(rows))


def test_a_row_holds_the_descriptors_of_all_views(tmp_path, folder_of, photos):
    folder = folder_of(tmp_path / "in", 5)
    (folder / "bad.jpg").write_text("no picture")
    made = extract(folder, FakeEngine(), tmp_path / "out.h5", views="5", decoder="pillow", **SIZES)
    assert (made.count, len(made.failures)) == (5, 1)
    found = load_descriptors(made.path)
    assert found.vectors.shape == (5, 5 * 16)
    assert (found.dim, found.width, found.views) == (16, 80, tuple(BOXES))
    expected = [stated(photo, FakeEngine()).ravel() for photo in sorted(photos)[:5]]
    np.testing.assert_array_equal(found.vectors, expected)


def test_whole_photos_alone_are_described_as_ever(tmp_path, folder_of):
    folder = folder_of(tmp_path / "in", 5)
    extract(folder, FakeEngine(), tmp_path / "a.h5", **SIZES)
    extract(folder, FakeEngine(), tmp_path / "b.h5", views="whole", **SIZES)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with open_descriptors(tmp_path / "a.h5") as found:
        assert "views" not in found.meta
        assert found.views == ("whole",)
    plain = Plan(["in"], [Item("a", "/a.jpg")], "e" * 64, "pillow", 2, 2)
    assert '"views"' not in "".join(plain.pieces())


@pytest.mark.parametrize(
    ("batch", "calls"), [(64, [60]), (10, [10] * 6), (25, [20] * 3), (4, [4] * 15), (3, [3, 3, 3, 1] * 6)]
)
def test_an_engine_never_gets_more_than_its_batch(tmp_path, folder_of, batch, calls):
    engine = FakeEngine()
    extract(folder_of(tmp_path / "in", 6), engine, tmp_path / "out.h5", views="10", batch_size=batch)
    assert engine.calls == calls
    extract(tmp_path / "in", FakeEngine(), tmp_path / "one.h5", views="10", batch_size=1)
    rows = [load_descriptors(tmp_path / name).vectors for name in ("out.h5", "one.h5")]
    np.testing.assert_array_equal(*rows)


# 11 photos and a bad one in shards of 4. The 5 views of a photo are more than the batch of 2: two photos fill 5 calls, 30 in all.
@pytest.mark.parametrize(
    ("point", "number"),
    [("engine", n) for n in (1, 2, 4, 13, 30)] + [(when, n) for n in (1, 3, 5) for when in ("before", "after")],
)
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, folder_of, point, number):
    folder = folder_of(tmp_path / "in", 11)
    (folder / "bad.jpg").write_text("no picture")
    whole, output = tmp_path / "whole.h5", tmp_path / "out.h5"
    extract(folder, FakeEngine(), whole, views="5", workers=3, **SIZES)
    killed = run_killed(folder, output, point, number, "5")
    assert killed.returncode == -9, killed.stderr
    again = run_killed(folder, output, "none", 0, "5")
    assert again.returncode == 0, again.stderr
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in", "out.h5", "whole.h5"], "no litter"


@pytest.mark.parametrize("seed", range(3))
def test_shards_in_any_order_and_a_folder_of_parts_give_the_same_bytes(tmp_path, folder_of, seed):
    folder = folder_of(tmp_path / "in", 11)
    extract(folder, FakeEngine(), tmp_path / "whole.h5", views="5,mirror", decoder="pillow", **SIZES)
    request = Request(decoder="pillow", views=view_names("mirror,5"), **SIZES)
    extract_with(Toy(FakeEngine(), seed, deaths=1), folder, tmp_path / "toy.h5", request)
    assert (tmp_path / "toy.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    extract_with(Toy(FakeEngine(), seed), folder, f"{tmp_path}/out/", request)
    with open_descriptors(tmp_path / "out") as parts, open_descriptors(tmp_path / "whole.h5") as one:
        assert (parts.views, parts.dim, parts.width) == (one.views, 16, 160)
        np.testing.assert_array_equal(parts.vectors[:], one.vectors[:])
        assert list(parts.ids) == list(one.ids)
    assemble(tmp_path / "out", tmp_path / "assembled.h5")
    assert (tmp_path / "assembled.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    again = FakeEngine()
    extract(folder, again, f"{tmp_path}/out/", views="5,mirror", decoder="pillow", **SIZES)
    assert again.calls == []


@pytest.mark.slow
def test_workers_and_isolated_photos_give_the_same_bytes(tmp_path, folder_of):
    pytest.importorskip("onnxruntime")
    folder = folder_of(tmp_path / "in", 6)
    sizes = {**SIZES, "views": "5", "engine_options": {"threads": 1}}
    extract(folder, DEMO_ENGINE, tmp_path / "one.h5", **sizes)
    extract(folder, DEMO_ENGINE, tmp_path / "two.h5", devices=["cpu", "cpu"], **sizes)
    extract(folder, DEMO_ENGINE, tmp_path / "apart.h5", isolated=True, **sizes)
    for name in ("two.h5", "apart.h5"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.parametrize("output", ["out.h5", "out/"])
def test_other_views_are_another_job(tmp_path, folder_of, output):
    folder, where = folder_of(tmp_path / "in", 9), f"{tmp_path}/{output}"

    class Dying(FakeEngine):
        def run(self, pixels):
            if len(self.calls) == 20:
                raise KeyboardInterrupt
            return super().run(pixels)

    with pytest.raises(KeyboardInterrupt):
        extract(folder, Dying(), where, views="5", **SIZES)
    with pytest.raises(
        MismatchError, match=r"unfinished extraction with other views \(--views 5 then, 10 now\): repeat"
    ):
        extract(folder, FakeEngine(), where, views="10", **SIZES)
    with pytest.raises(MismatchError, match=r"--views 5 then, whole now"):
        extract(folder, FakeEngine(), where, **SIZES)
    made = extract(folder, FakeEngine(), where, views="5", **SIZES)
    assert made.computed < 9
    for views, words in (("whole", "with --views 5, not whole"), ("5,turn", "with --views 5, not 5,turn")):
        with pytest.raises(MismatchError, match=words):
            extract(folder, FakeEngine(), where, views=views, **SIZES)
    assert extract(folder, FakeEngine(), where, views="whole", overwrite=True, **SIZES).computed == 9
    with pytest.raises(InputError, match="there are no views '4'"):
        extract(folder, FakeEngine(), where, views="4")


@pytest.mark.parametrize("output", ["out.h5", "out/"])
def test_a_collection_that_changes_is_brought_up_to_date(tmp_path, folder_of, photos, output):
    folder, where = folder_of(tmp_path / "in", 9), f"{tmp_path}/{output}"
    extract(folder, FakeEngine(), where, views="5", **SIZES)
    (folder / photos[3].name).unlink()
    (folder / "new.jpg").symlink_to(photos[20])
    engine = FakeEngine()
    made = extract(folder, engine, where, views="5", **SIZES)
    assert (made.computed, made.count) == (1, 9)
    assert sum(engine.calls) == 5
    extract(folder, FakeEngine(), tmp_path / "fresh.h5", views="5", **SIZES)
    with open_descriptors(where) as found, open_descriptors(tmp_path / "fresh.h5") as fresh:
        assert list(found.ids) == list(fresh.ids)
        np.testing.assert_array_equal(found.vectors[:], fresh.vectors[:])


def test_images_that_failed_are_tried_again(tmp_path, folder_of, photos):
    folder = folder_of(tmp_path / "in", 6)
    (folder / "z.jpg").write_text("no picture")
    out = tmp_path / "out.h5"
    extract(folder, FakeEngine(), out, views="5", **SIZES)
    (folder / "z.jpg").unlink()
    (folder / "z.jpg").symlink_to(photos[8])
    assert extract(folder, FakeEngine(), out, views="5", retry_failed=True, **SIZES).count == 7
    extract(folder, FakeEngine(), tmp_path / "fresh.h5", views="5", **SIZES)
    assert out.read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_the_whole_photo_stands_for_a_view_of_one_single_colour(tmp_path):
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    pixels[:40, :40] = 255
    Image.fromarray(pixels).save(tmp_path / "in" / "corner.png")
    Image.new("RGB", (80, 80), "white").save(tmp_path / "in" / "blank.png")
    made = extract(tmp_path / "in", FakeEngine(), tmp_path / "out.h5", views="5")
    assert [note.id for note in made.notes] == ["blank"], "a photo is noted once, and only if the whole of it is blank"
    found = load_descriptors(made.path)
    blank, corner = found.vectors.reshape(2, 5, 16)
    assert (blank == blank[0]).all()
    np.testing.assert_array_equal(corner[1], corner[0])
    assert len(np.unique(corner, axis=0)) == 4


def test_halves_of_the_disk(tmp_path, folder_of):
    folder = folder_of(tmp_path / "in", 5)
    extract(folder, FakeEngine(), tmp_path / "a.h5", views="5", **SIZES)
    extract(folder, FakeEngine(), tmp_path / "b.h5", views="5", dtype="float16", **SIZES)
    one, other = (load_descriptors(tmp_path / name) for name in ("a.h5", "b.h5"))
    assert other.views == one.views
    np.testing.assert_array_equal(other.vectors, one.vectors.astype(np.float16).astype(np.float32))


def test_an_older_isc_fast_refuses_the_file_and_the_plan(tmp_path, folder_of):
    """It compares the version, and knows the first one alone. What has no views says that one, as ever."""
    folder = folder_of(tmp_path / "in", 5)
    for views, version in (("whole", 1), ("5", 2)):
        extract(folder, FakeEngine(), tmp_path / f"{views}.h5", views=views, **SIZES)
        with h5py.File(tmp_path / f"{views}.h5") as file:
            assert json.loads(file.attrs["isc_fast"])["version"] == version
        plan = Plan(["in"], [Item("a", "/a.jpg")], "e" * 64, "pillow", 2, 2, view_names(views))
        assert json.loads("".join(plan.pieces()))["version"] == version
        plan.write(tmp_path / "plan.sqlite")
        assert Plan.read(tmp_path / "plan.sqlite") == plan


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ("whole", "does not understand"),
        (["whole", 3], "views are names that differ"),
        (["a", "a"], "views are names that differ"),
        ([], "is damaged|views are names that differ"),
        (["a", "b", "c"], "no descriptors of 3 views"),
    ],
)
def test_views_that_cannot_be_are_said_in_one_line(tmp_path, views, words):
    from isc_fast.descriptors.store import Descriptors

    found = Descriptors(np.ones((2, 16), np.float32), ["a", "b"], {"engine_id": "e", "views": views})
    with pytest.raises(FormatError, match=words):
        _ = found.views


def test_views_of_a_newer_isc_fast_in_a_plan_are_refused(tmp_path):
    plan = Plan(["in"], [Item("a", "/a.jpg")], "e" * 64, "pillow", 2, 2, ("whole", "seen-by-bees"))
    plan.write(tmp_path / "plan.sqlite")
    with pytest.raises(FormatError, match="seen-by-bees"):
        Plan.read(tmp_path / "plan.sqlite")
