"""Views of a photo: which ones words stand for, and their pixels, against a statement in NumPy that shares nothing with us."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from images import noise
from PIL import Image

from isc_fast.decoders.base import choose_decoder, make_decoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.decoders.rules import load_rgb, prepare
from isc_fast.decoders.views import VIEWS, WORDS, in_words, view_names
from isc_fast.errors import InputError
from isc_fast.items import Problem

CUT = {  # what is cut out of (h, w, 3)
    "whole": lambda p, h, w: p,
    "top-left": lambda p, h, w: p[: h - h // 2, : w - w // 2],
    "top-right": lambda p, h, w: p[: h - h // 2, w // 2 :],
    "bottom-left": lambda p, h, w: p[h // 2 :, : w - w // 2],
    "bottom-right": lambda p, h, w: p[h // 2 :, w // 2 :],
    "middle": lambda p, h, w: p[h // 5 : h - h // 5, w // 5 : w - w // 5],
    "left": lambda p, h, w: p[:, : w - w // 2],
    "right": lambda p, h, w: p[:, w // 2 :],
    "top": lambda p, h, w: p[: h - h // 2],
    "bottom": lambda p, h, w: p[h // 2 :],
}
MOVED = {  # and how it is moved then
    "": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "turned-90": lambda p: np.rot90(p, -1),
    "turned-180": lambda p: p[::-1, ::-1],
    "turned-270": lambda p: np.rot90(p),
    "mirrored-turned-90": lambda p: np.rot90(p[:, ::-1], -1),
    "mirrored-turned-180": lambda p: p[::-1],
    "mirrored-turned-270": lambda p: np.rot90(p[:, ::-1]),
}
SEEN = {
    f"{move}-{cut}".removeprefix("-") if not move or cut != "whole" else move: (CUT[cut], MOVED[move])
    for move, cut in product(MOVED, CUT)
}


def stated(photo, view, height, width):
    """A view of a photo as the input of a network, in words of Pillow and NumPy."""
    pixels = np.asarray(load_rgb(photo))
    cut, moved = SEEN[view]
    part = moved(cut(pixels, *pixels.shape[:2]))
    return np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((width, height), Image.Resampling.BILINEAR))


def jpeg(orientation, size=(97, 63), mode="RGB"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    small = Image.fromarray(noise(13, 9)).resize(size, Image.Resampling.BICUBIC).convert(mode)
    small.save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


def test_the_words_and_the_views_that_they_stand_for():
    quarters = ["top-left", "top-right", "bottom-left", "bottom-right"]
    halves = ["left", "right", "top", "bottom"]
    assert view_names("whole") == ("whole",)
    assert view_names("5") == view_names("whole, 5") == ("whole", *quarters)
    assert view_names("6") == ("whole", *quarters, "middle")
    assert view_names("10") == view_names("5,10") == ("whole", *quarters, "middle", *halves)
    assert view_names("mirror") == ("whole", "mirrored")
    assert view_names("turn") == ("whole", "turned-90", "turned-180", "turned-270")
    assert view_names("mirror,5") == ("whole", *quarters, "mirrored", *(f"mirrored-{name}" for name in quarters))
    assert set(view_names("10,mirror,turn")) == VIEWS.keys() == SEEN.keys()
    for words in ("whole", "5", "6", "10", "mirror", "turn", "mirror,turn", "5,mirror", "10,mirror,turn", "6,turn"):
        assert in_words(view_names(words)) == words
    assert in_words(("whole", "middle")) == "whole,middle"
    for words in ("7", "", "10,", "scales", "top-left"):
        with pytest.raises(InputError, match=r"there are no views .*; give one or several of whole, 5, 6, 10"):
            view_names(words)
    assert all(view_names(word) for word in WORDS)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_cut_from_the_upright_photo_at_its_full_size(view):
    """Its pixels are those of the statement, to the last one."""
    for photo in (jpeg(1), jpeg(6, (64, 97)), jpeg(3, (33, 32), "L")):
        made = prepare(photo, Preprocessing(24, 40, views=("whole", view)))
        assert made.shape == (48, 40, 3)
        np.testing.assert_array_equal(made[:24], stated(photo, "whole", 24, 40))
        np.testing.assert_array_equal(made[24:], stated(photo, view, 24, 40))


def test_another_preprocessing_is_carried_out_on_each_view():
    how = Preprocessing(32, 32, "pad", "bicubic", fill=(1, 2, 3), views=("whole", "left"))
    photo = jpeg(1, (120, 60))
    left = Image.fromarray(np.ascontiguousarray(np.asarray(load_rgb(photo))[:, :60]))
    made = prepare(photo, how)[32:]
    np.testing.assert_array_equal(made, np.asarray(left.resize((32, 32), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_turbo_cuts_and_turns_stored_pixels_and_gets_the_same(orientation, mode):
    """Within one grey level, as it has whole photos; where it decodes, Pillow's decoder of the same file has the same pixels."""
    pytest.importorskip("simplejpeg")
    names = view_names("10,mirror,turn")
    photo = jpeg(orientation, (97, 63), mode)
    how = Preprocessing(28, 36, views=names)
    made, same = (next(iter(make_decoder(name, 1).batches([[photo]], how))) for name in ("turbo", "pillow"))
    assert made.problems == same.problems == [None]
    assert made.pixels.shape == same.pixels.shape == (len(names), 28, 36, 3)
    apart = np.abs(made.pixels.astype(int) - same.pixels)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.02


def test_turbo_scaled_keeps_the_pixels_that_quarters_need():
    """A photo four times the input is decoded at a quarter; its quarters need it at a half."""
    pytest.importorskip("simplejpeg")
    photo = jpeg(1, (256, 192))
    sharp = stated(photo, "top-left", 48, 64).astype(int)
    how = Preprocessing(48, 64, views=("whole", "top-left"))
    (batch,) = make_decoder("turbo-scaled", 1).batches([[photo]], how)
    assert np.abs(batch.pixels[1] - sharp).mean() < 3
    (alone,) = make_decoder("turbo", 1).batches([[photo]], how)
    assert np.abs(alone.pixels[1] - sharp).max() <= 1


@pytest.mark.parametrize("size", [(31, 90), (90, 31), (1, 1), (5, 31)])
@pytest.mark.parametrize("decoder", ["pillow", "turbo"])
def test_a_photo_that_is_too_small_is_not_cut(size, decoder):
    pytest.importorskip("simplejpeg")
    names = view_names("10,mirror")
    (batch,) = make_decoder(decoder, 1).batches([[jpeg(1, size)]], Preprocessing(16, 16, views=names))
    for pixels, name in zip(batch.pixels, names, strict=True):
        like = names.index("mirrored" if "mirrored" in name else "whole")
        np.testing.assert_array_equal(pixels, batch.pixels[like])


def test_32_pixels_are_cut():
    made = prepare(jpeg(1, (32, 32)), Preprocessing(16, 16, views=("whole", "left")))
    assert (made[:16] != made[16:]).any()


@pytest.mark.parametrize("name", ["pillow", "turbo"])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_photo_is_decoded_once_and_a_bad_one_has_no_pixels(monkeypatch, photos, name, isolated):
    """In processes of their own, the same pixels; neighbours of a bad photo have theirs."""
    pytest.importorskip("simplejpeg")
    opened = []
    job = [
        lambda: (opened.append(1), photos[0].read_bytes())[1],
        b"no picture",
        photos[1].read_bytes()[:3000],
        Problem("read", "gone"),
        str(photos[2]),
    ]
    how = Preprocessing(20, 24, views=view_names("6"))
    decoder = make_decoder(name, 2, isolated=isolated)
    (batch,) = decoder.batches([job], how)
    assert opened == [1]
    assert [problem is None for problem in batch.problems] == [True, False, False, False, True]
    inputs = batch.pixels.reshape(5, 6, 20, 24, 3)
    assert not inputs[1:4].any()
    for number, photo in ((0, photos[0]), (4, photos[2])):
        for place, view in enumerate(how.views):
            assert np.abs(inputs[number, place] - stated(str(photo), view, 20, 24).astype(int)).max() <= 1


def test_views_that_dali_cannot_cut_go_to_pillow():
    how = Preprocessing(20, 24)
    cut = Preprocessing(20, 24, views=view_names("5"))
    assert choose_decoder("dali", how) == "dali"
    assert choose_decoder("dali", cut) == "pillow"
    assert choose_decoder("auto", cut, stays_there=True) == choose_decoder("auto", how)
    assert choose_decoder("turbo", cut) == "turbo"
