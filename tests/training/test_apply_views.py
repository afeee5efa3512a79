"""Recipes carried out: against torchvision and plain statements of each edit, and the two ways against each other."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageEnhance, ImageFilter

pytest.importorskip("torchvision")

import torch
from torchvision.transforms import functional as oracle

from isc_fast.decoders.rules import load_rgb
from isc_fast.errors import InputError
from isc_fast.training.stages import STAGES
from isc_fast.training.views import apply_pil, apply_torch, edits
from isc_fast.training.views.artwork import Artwork, Smiley
from isc_fast.training.views.recipes import draw_hard, draw_moderate, draw_plain, inscribed, rotate_by, view_random

SIZE = 96
Pixels = npt.NDArray[np.int64]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(photos: Sequence[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB").resize((160, 120)) for path in photos[:8]]


@pytest.fixture(scope="module")
def artwork(tmp_path_factory: pytest.TempPathFactory) -> Artwork:
    path = tmp_path_factory.mktemp("emoji") / "face.png"
    face = Image.radial_gradient("L").resize((72, 72))
    Image.merge("RGBA", (face, face, face.rotate(90), face)).save(path)
    return Artwork((), (Smiley(str(path)),))


def array(image: Image.Image) -> Pixels:
    return np.asarray(image).astype(np.int64)


def by_pil(edit: edits.Edit, image: Image.Image) -> Pixels:
    return array(apply_pil.apply_edit(edit, image))


def by_torch(edit: edits.Edit, image: Image.Image) -> Pixels:
    made = apply_torch.apply_edit(edit, apply_torch.to_tensor(image))
    assert made.dtype == torch.uint8
    return made.permute(1, 2, 0).numpy().astype(np.int64)


def patch(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(256, size=(height, width, 4), dtype=np.uint8)


def perspective(size: tuple[int, int]) -> edits.Perspective:
    w, h = size[0] - 1, size[1] - 1
    start, end = [[0, 0], [w, 0], [w, h], [0, h]], [[9, 4], [w - 20, 11], [w - 2, h - 17], [30, h - 8]]
    return edits.Perspective(tuple(oracle._get_perspective_coeffs(start, end)))


OTHER = Image.linear_gradient("L").resize((90, 130)).convert("RGB").rotate(30)

# Mean difference allowed between the two ways, in grey levels, and what was measured on the photos of the package with
# Pillow 13.0 and torch 2.14 on an x86 processor (the worst photo). Resizing rounds its weights differently; in a JPEG, a
# value halfway between two steps may fall on the other side.
BOUNDS: list[tuple[str, edits.Edit, float, float]] = [
    ("crop", edits.Crop(11, 17, 83, 101, SIZE), 0.1, 0.0012),
    ("crop, enlarged", edits.Crop(60, 50, 31, 37, SIZE), 0.1, 0),
    ("resize", edits.Resize(SIZE), 0.2, 0.041),
    ("rotate", rotate_by((160, 120), 33.0), 0, 0),
    ("rotate far", rotate_by((160, 120), 158.0), 0, 0),
    ("overlay onto", edits.Overlay(OTHER, True, 69, 52, 30, 20, 153), 0.05, 0.0009),
    ("overlay over the edge", edits.Overlay(OTHER, False, 60, 86, 130, 30, 200), 0.05, 0),
    ("jitter", edits.Jitter((0, 1, 2, 3), 1.3, 0.6, 1.5, 0.13), 0.05, 0.0074),
    ("jitter, hue first", edits.Jitter((3, 2, 1, 0), 0.4, 1.7, 0.3, -0.2), 0.05, 0.0047),
    ("pixelize", edits.Pixelize(23, 23), 0.1, 0.0081),
    ("shuffle", edits.ShufflePixels(0.1), 0, 0),
    ("jpeg 10", edits.Jpeg(10), 0.4, 0.099),
    ("jpeg 50", edits.Jpeg(50), 0.5, 0.217),
    ("grayscale", edits.Grayscale(), 0, 0),
    ("blur", edits.Blur(0.4), 0.01, 0),
    ("wide blur", edits.Blur(9.7), 0.01, 0),
    ("perspective", perspective((160, 120)), 0.1, 0.012),
    ("flip", edits.Flip(), 0, 0),
    ("turn over", edits.TurnOver(), 0, 0),
    ("text", edits.Paste("text", patch(30, 70), 20, 40), 0, 0),
    ("emoji over the corner", edits.Paste("emoji", patch(30, 30), 140, 100), 0, 0),
    ("page", edits.Page(150, 130, (9, 200, 77), (40, 30, 80, 60), ((OTHER, (5, 3, 60, 90)),)), 0.2, 0.05),
    ("page over the edge", edits.Page(90, 90, (0, 0, 0), (60, 50, 80, 60)), 0.1, 0.02),
    ("lens", edits.Bend(0.3, 0.0, 5.0, 0.0), 0, 0),
    ("waves", edits.Bend(-0.2, 0.05, 9.0, 1.0), 0, 0),
    ("screen", edits.Screen(0.7, 30.0, 25.0, ((0.9, 0.2), (0.1, 1.3)), 90.0, (0.2, 0.7), 0.4), 0.01, 0),
    ("edge enhance", edits.EdgeEnhance(False), 0, 0),
    ("edge enhance more", edits.EdgeEnhance(True), 0, 0),
]


@pytest.mark.parametrize(("edit", "bound"), [row[1:3] for row in BOUNDS], ids=[row[0] for row in BOUNDS])
def test_both_ways_agree(images, edit, bound):
    for image in images:
        one, two = by_pil(edit, image), by_torch(edit, image)
        assert one.shape == two.shape
        assert np.abs(one - two).mean() <= bound


def test_whole_views_agree(images, artwork):
    differences = []
    for i in range(60):
        photo = images[i % len(images)]
        recipe = draw_hard(
            STAGES["v98"].hard_view, photo.size, SIZE, view_random(0, 0, i, 1), open_other=lambda: OTHER, artwork=artwork
        )  # fmt: skip
        one = apply_pil.apply_pil(recipe, photo)
        two = apply_torch.apply_torch(recipe, apply_torch.to_tensor(photo)).permute(1, 2, 0).numpy()
        assert one.shape == two.shape == (SIZE, SIZE, 3)
        assert one.dtype == two.dtype == np.uint8
        differences.append(np.abs(one.astype(int) - two).mean())
    assert np.mean(differences) < 0.25  # 0.06 measured
    assert max(differences) < 3  # 0.7 measured: sharpening after all else enlarges what there is


def test_the_photo_stays_as_it_is(images, artwork):
    photo, before = images[0], array(images[0])
    tensor = apply_torch.to_tensor(photo)
    for _, edit, _, _ in BOUNDS:
        apply_pil.apply_edit(edit, photo)
        apply_torch.apply_edit(edit, tensor)
    assert (array(photo) == before).all()
    assert (tensor.permute(1, 2, 0).numpy() == before).all()
    assert OTHER.size == (90, 130)


def test_the_same_plan_gives_the_same_bytes_also_after_a_journey(images, artwork):
    photo = images[1]
    for i in range(20):
        random = view_random(0, 0, i, 1)
        recipe = draw_hard(
            STAGES["v98"].hard_view, photo.size, SIZE, random, open_other=lambda: OTHER, artwork=artwork
        )  # fmt: skip
        again = pickle.loads(pickle.dumps(recipe))
        assert apply_pil.apply_pil(recipe, photo).tobytes() == apply_pil.apply_pil(again, photo).tobytes()
        tensor = apply_torch.to_tensor(photo)
        assert torch.equal(apply_torch.apply_torch(recipe, tensor), apply_torch.apply_torch(again, tensor))


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2), (17, 400)])
def test_tiny_photos(artwork, size):
    photo = Image.effect_noise(size, 80).convert("RGB")
    for i in range(25):
        random = view_random(5, 0, i, 1)
        recipes = [
            draw_moderate(photo.size, 16, random),
            draw_hard(STAGES["v98"].hard_view, photo.size, 16, random, open_other=lambda: photo, artwork=artwork),
            draw_plain(16),
        ]
        for recipe in recipes:
            assert apply_pil.apply_pil(recipe, photo).shape == (16, 16, 3)
            assert apply_torch.apply_torch(recipe, apply_torch.to_tensor(photo)).shape == (3, 16, 16)


def test_views_of_one_pixel(images, artwork):
    for i in range(40):
        recipe = draw_hard(
            STAGES["v98"].hard_view, images[0].size, 1, view_random(6, 0, i, 1), open_other=lambda: OTHER, artwork=artwork
        )  # fmt: skip
        assert apply_pil.apply_pil(recipe, images[0]).shape == (1, 1, 3)
        assert apply_torch.apply_torch(recipe, apply_torch.to_tensor(images[0])).shape == (3, 1, 1)


# Pillow's way against what the published training called.


def test_a_crop_is_torchvisions(images):
    for image in images[:3]:
        expected = oracle.resized_crop(image, 11, 17, 83, 101, [SIZE, SIZE], oracle.InterpolationMode.BILINEAR)
        assert (by_pil(edits.Crop(11, 17, 83, 101, SIZE), image) == array(expected)).all()


def test_a_plain_view_is_the_preprocessing_of_extraction(images, photos):
    from isc_fast.decoders.rules import load_input

    photo = load_rgb(str(photos[0]))
    assert (apply_pil.apply_pil(draw_plain(SIZE), photo) == load_input(str(photos[0]), SIZE, SIZE)).all()


@pytest.mark.parametrize("order", [(0,), (1,), (2,), (3,), (0, 1, 2, 3), (3, 1, 2, 0)])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 1.7])
def test_colours_are_torchvisions(images, order, strength):
    hue = strength / 5 - 0.15
    for image in images[:3]:
        expected = image
        for which in order:
            change = (oracle.adjust_brightness, oracle.adjust_contrast, oracle.adjust_saturation, oracle.adjust_hue)[
                which
            ]
            expected = change(expected, hue if which == 3 else strength)
        found = by_pil(edits.Jitter(order, strength, strength, strength, hue), image)
        assert (found == array(expected)).all()


def test_a_turned_photo_is_pillows(images):
    """`rotate(expand=True)`, and the middle of it: where both have whole pixels in the middle."""
    compared = 0
    for angle in (7.0, 33.0, 61.5, 90.0, 120.0, 178.0):
        turned = images[0].rotate(angle, expand=True)
        width, height = inscribed(images[0].size, angle)
        if (turned.width - width) % 2 or (turned.height - height) % 2:
            continue
        left, top = (turned.width - width) // 2, (turned.height - height) // 2
        expected = array(turned.crop((left, top, left + width, top + height)))
        found = by_pil(rotate_by(images[0].size, angle), images[0])
        assert (found != expected).any(2).mean() < 0.01, (
            "nearest neighbours: at a tie the sixteenth binary place decides"
        )
        compared += 1
    assert compared >= 2


def test_a_turned_photo_has_no_empty_corner():
    white = Image.new("RGB", (160, 120), "white")
    for angle in np.linspace(0.5, 179.5, 60):
        assert by_pil(rotate_by(white.size, float(angle)), white).min() == 255


@pytest.mark.parametrize("angle", [90.0, 0.0, 180.0])
def test_which_way_a_photo_turns(angle):
    """Counter-clockwise: what was right comes to the top."""
    image = Image.new("RGB", (40, 40), "black")
    image.paste("red", (20, 0, 40, 40))
    x, y = {0.0: (30, 20), 90.0: (20, 10), 180.0: (10, 20)}[angle]
    assert by_pil(rotate_by(image.size, angle), image)[y, x].tolist() == [255, 0, 0]


def test_perspective_is_torchvisions(images):
    w, h = 159, 119
    start, end = [[0, 0], [w, 0], [w, h], [0, h]], [[9, 4], [w - 20, 11], [w - 2, h - 17], [30, h - 8]]
    expected = oracle.perspective(images[0], start, end, oracle.InterpolationMode.BILINEAR, 0)
    assert (by_pil(perspective((160, 120)), images[0]) == array(expected)).all()
    assert by_torch(perspective((160, 120)), images[0])[0, 0].tolist() == [0, 0, 0]


def test_the_rest_is_pillows(images):
    image = images[2]
    grey = image.convert("L")
    bicubic = Image.Resampling.BICUBIC
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    for edit, expected in (
        (edits.Grayscale(), Image.merge("RGB", (grey, grey, grey))),
        (edits.Blur(3.3), image.filter(ImageFilter.GaussianBlur(3.3))),
        (edits.Pixelize(40, 40), image.resize((40, 40), bicubic).resize(image.size, bicubic)),
        (edits.Jpeg(20), Image.open(file)),
        (edits.EdgeEnhance(True), image.filter(ImageFilter.EDGE_ENHANCE_MORE)),
        (edits.EdgeEnhance(False), image.filter(ImageFilter.EDGE_ENHANCE)),
        (edits.Jitter((2,), 1, 1, 1.4, 0), ImageEnhance.Color(image).enhance(1.4)),
        (edits.Flip(), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        (edits.TurnOver(), image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
    ):
        assert (by_pil(edit, image) == array(expected)).all(), edit


def test_shuffled_pixels_are_the_same_at_every_photo_of_a_size(images):
    numbered = np.zeros((120, 160, 3), np.uint8)
    numbers = np.arange(120 * 160)
    numbered[..., 0], numbered[..., 1] = (numbers // 256).reshape(120, 160), (numbers % 256).reshape(120, 160)
    found = by_pil(edits.ShufflePixels(0.1), Image.fromarray(numbered))
    source = (found[..., 0] * 256 + found[..., 1]).ravel()
    assert sorted(source) == numbers.tolist(), "nothing is lost and nothing doubled"
    moved = (source != numbers).mean()
    assert 0.098 < moved <= 0.1
    again = by_pil(edits.ShufflePixels(0.1), images[0])
    assert (again.reshape(-1, 3) == array(images[0]).reshape(-1, 3)[source]).all()
    # As AugLy states it: numpy's old generator, seed 10, a choice without replacement, then a shuffle of those rows.
    random = np.random.RandomState(10)
    rows = array(images[0]).reshape(-1, 3)
    chosen = random.choice(len(rows), size=int(0.1 * len(rows)), replace=False)
    part = rows[chosen]
    random.shuffle(part)
    rows[chosen] = part
    assert (again.reshape(-1, 3) == rows).all()


def test_what_is_pasted_covers_by_its_alpha():
    black = Image.new("RGB", (20, 20))
    half = np.full((4, 4, 4), (200, 100, 50, 128), np.uint8)
    found = by_pil(edits.Paste("emoji", half, 18, 5), black)
    assert found[5, 18].tolist() == [100, 50, 25]
    assert found[:, :18].max() == 0
    overlay = edits.Overlay(Image.new("RGB", (8, 8), "white"), False, 4, 4, 1, 2, 51)
    assert by_pil(overlay, black)[3, 2].tolist() == [51, 51, 51]
    onto = edits.Overlay(Image.new("RGB", (8, 8), "white"), True, 4, 4, 1, 2, 255)
    assert by_pil(onto, black)[3, 2].tolist() == [0, 0, 0]
    assert by_pil(onto, black).shape == (8, 8, 3), "the other photo is the background"


# Batches for the network.


def views(count: int = 4, size: int = 32) -> Any:
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_finish_normalises_and_takes_both_orders():
    pixels = views()
    expected = (pixels.double() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.5, 0.2, 0.1]
    ).view(3, 1, 1)
    for given in (pixels, pixels.permute(0, 2, 3, 1).contiguous()):
        found = apply_torch.finish(given, None, (0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        assert torch.allclose(found.double(), expected, atol=1e-6)
    last = apply_torch.finish(pixels, None, (0.5,) * 3, (0.5,) * 3, torch.bfloat16, channels_last=True)
    assert last.dtype == torch.bfloat16
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_noise_is_inside_its_rectangle_only_and_normal():
    pixels = views(3, 200)
    rows = torch.tensor([(20, 30, 120, 150, 11), (0, 0, 0, 0, 0), (20, 30, 120, 150, 12)])
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    plain = apply_torch.finish(pixels, None, mean, std)
    found = apply_torch.finish(pixels, rows, mean, std)
    inside = torch.zeros(200, 200, dtype=torch.bool)
    inside[20:140, 30:180] = True
    assert torch.equal(found[1], plain[1])
    for i in (0, 2):
        assert torch.equal(found[i][:, ~inside], plain[i][:, ~inside])
        noise = found[i][:, inside] * 0.25 + 0.5  # back on the scale from 0 to 1
        assert abs(float(noise.mean())) < 0.02
        assert abs(float(noise.std()) - 1) < 0.02
    assert not torch.equal(found[0], found[2])
    assert torch.equal(found, apply_torch.finish(pixels, rows, mean, std)), "the seed decides"
    turned = apply_torch.finish(pixels.permute(0, 2, 3, 1).contiguous(), rows, mean, std, channels_last=True)
    assert torch.equal(found, turned), "whatever the memory order"


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 8, 4)])
def test_finish_refuses_other_shapes(shape):
    with pytest.raises(InputError, match="shape"):
        apply_torch.finish(torch.zeros(shape, dtype=torch.uint8), None, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(InputError, match="erase"):
        apply_torch.finish(views(), torch.zeros(3, 5, dtype=torch.int64), (0.5,) * 3, (0.5,) * 3)


# Decoding, on the processor in place of a GPU.


def jpeg_of(image: Image.Image, orientation: int = 0, **options: Any) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(file, "JPEG", quality=90, exif=exif, **options)
    return file.getvalue()


def test_decoding_turns_photos_upright_and_loses_none(images, tmp_path):
    photo = images[0]
    png = io.BytesIO()
    photo.convert("RGBA").save(png, "PNG")
    whole = jpeg_of(photo)
    files = [
        *(jpeg_of(photo, orientation) for orientation in range(9)),
        jpeg_of(photo.convert("L")),
        jpeg_of(photo.convert("CMYK")),
        png.getvalue(),
        whole[: len(whole) // 2],
        b"",
        b"no image",
        whole,
        jpeg_of(photo, 9),
        jpeg_of(photo, subsampling=0, progressive=True),
        whole[:300] + bytes(40) + whole[340:],
    ]
    found = apply_torch.decode_on_device(files, "cpu")
    assert [photo is None for photo in found[:18]] == [i in (12, 13, 14) for i in range(18)]
    for i, (file, made) in enumerate(zip(files, found, strict=True)):
        path = tmp_path / f"{i}"
        path.write_bytes(file)
        if made is not None and i < 18:
            expected = array(load_rgb(str(path)))
            assert made.dtype == torch.uint8
            assert made.permute(1, 2, 0).shape == expected.shape
            assert np.abs(made.permute(1, 2, 0).numpy() - expected).mean() < 1.5
    assert apply_torch.decode_on_device([], "cpu") == []


def test_a_device_that_refuses_one_file_decodes_the_others(images, monkeypatch):
    from isc_fast.training.views import decoding

    good, bad = jpeg_of(images[0]), jpeg_of(images[1])
    calls = []

    def picky(data: list[Any], **options: Any) -> list[Any]:
        calls.append(len(data))
        if any(len(entry) == len(bad) for entry in data):
            raise RuntimeError("nvjpeg: unsupported")
        return [torch.full((3, 120, 160), 7, dtype=torch.uint8) for _ in data]

    monkeypatch.setattr(decoding, "decode_jpeg", picky)
    found = decoding.decode_on_device([good, bad, good], "cpu")
    assert calls == [2, 1, 1], "the same content is decoded once"
    assert found[0] is found[2]
    assert int(found[0].max()) == 7
    assert np.abs(found[1].permute(1, 2, 0).numpy() - array(images[1])).mean() < 8, "Pillow's"


def test_a_page_shows_every_picture_in_its_box(images):
    white, black = (Image.new("RGB", (50, 40), colour) for colour in ("white", "black"))
    page = edits.Page(100, 60, (10, 20, 30), (40, 10, 50, 40), ((black, (0, 0, 100, 30)),))
    found = by_pil(page, white)
    assert found.shape == (60, 100, 3)
    assert (found[10:50, 40:90] == 255).all(), "the photo lies on top"
    assert (found[:10] == 0).all()
    assert (found[50:] == (10, 20, 30)).all()


def test_a_bend_without_strength_changes_nothing_and_a_lens_keeps_the_middle(images):
    photo = images[0].resize((91, 91))
    np.testing.assert_array_equal(by_pil(edits.Bend(0.0, 0.0, 5.0, 0.0), photo), array(photo))
    lens = by_pil(edits.Bend(0.4, 0.0, 5.0, 0.0), photo)
    np.testing.assert_array_equal(lens[45, 45], array(photo)[45, 45])
    assert np.abs(lens - array(photo)).mean() > 1


def test_a_screen_has_stripes_a_reflection_and_less_contrast():
    grey = Image.new("RGB", (64, 48), (100, 100, 100))
    still = ((0.5, 0.0), (0.0, 0.5))
    assert (by_pil(edits.Screen(0.5, 20.0, 0.0, still, 0.0, (0.5, 0.5), 0.5), grey) == 70).all()
    stripes = by_pil(edits.Screen(1.0, 0.0, 30.0, still, 0.0, (0.5, 0.5), 0.5), grey)
    assert stripes.min() < 75
    assert stripes.max() > 125
    glare = by_pil(edits.Screen(1.0, 0.0, 0.0, still, 80.0, (0.0, 0.0), 0.5), grey)
    assert glare[0, 0, 0] == 180
    assert glare[47, 63, 0] == 100
