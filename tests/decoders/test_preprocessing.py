"""Preprocessing as data: its names, its pixels against plain Pillow and NumPy, and engines that ask for it."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes import FakeEngine
from images import encode, noise, orientation, with_exif
from PIL import Image, ImageOps

from isc_fast import extract
from isc_fast.decoders import rules
from isc_fast.decoders.base import AUTO, DECODERS, EXACT, Decoder, choose_decoder, make_decoder
from isc_fast.decoders.preprocessing import FILTERS, FIRST_NAME, RESIZES, Preprocessing
from isc_fast.decoders.rules import fit, prepare
from isc_fast.descriptors.store import load_descriptors
from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import EngineError, InputError

ALL = [
    Preprocessing(24, 40, resize, filter_, antialias, fill)
    for resize, filter_, antialias in itertools.product(RESIZES, FILTERS, (True, False))
    for fill in ([(9, 80, 200)] if resize == "pad" else [(0, 0, 0)])
]
PHOTOS = [(90, 60), (60, 90), (24, 40), (40, 24), (7, 300), (300, 7), (13, 11), (1, 1), (200, 30)]
PANORAMAS = [(7, 300), (300, 7)]


def named(preprocessing: Preprocessing) -> str:
    return preprocessing.name.removeprefix("rgb8-pillow-")


@pytest.fixture(params=DECODERS, scope="module")
def decoder(request) -> Decoder:
    if request.param.startswith("dali"):
        pytest.importorskip("nvidia.dali")
    elif request.param != "pillow":
        pytest.importorskip("simplejpeg")
        pytest.importorskip("cykooz_resizer")
    try:
        return make_decoder(request.param, 2)
    except InputError as error:  # there is no GPU
        pytest.skip(str(error))


# --- names ---


def test_each_preprocessing_has_a_name_that_reads_back():
    assert len({one.name for one in ALL}) == len(ALL)
    for one in ALL:
        assert Preprocessing.named(one.name, one.height, one.width) == one
    assert Preprocessing(8, 8).name == FIRST_NAME == "rgb8-pillow-bilinear-1"
    assert Preprocessing(8, 8, "pad", "bicubic", fill=(1, 2, 3)).name == (
        "rgb8-pillow-2 resize=pad filter=bicubic antialias=yes fill=1,2,3"
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "magic-7",
        "rgb8-pillow-bilinear-2",
        "rgb8-pillow-2",
        "rgb8-pillow-3 resize=pad filter=bicubic antialias=yes fill=1,2,3",
        "rgb8-pillow-2 resize=pad filter=bicubic antialias=yes",
        "rgb8-pillow-2 resize=pad filter=bicubic antialias=yes fill=1,2",
        "rgb8-pillow-2 resize=pad filter=bicubic antialias=yes fill=1,2,256",
        "rgb8-pillow-2 resize=pad filter=bicubic antialias=maybe fill=1,2,3",
        "rgb8-pillow-2 resize=zoom filter=bicubic antialias=yes",
        "rgb8-pillow-2 resize=stretch filter=box antialias=yes",
        "rgb8-pillow-2 resize=stretch filter=bicubic antialias=yes gamma=2.2",
        "rgb8-pillow-2 resize=stretch filter=bilinear antialias=yes",
    ],
)
def test_an_unknown_name_is_refused_with_the_remedy(name):
    with pytest.raises(EngineError, match=r"prepared by '.*' are unknown to this isc-fast.*install the isc-fast that"):
        Preprocessing.named(name, 8, 8)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"height": 0}, "at least one pixel, not 0 × 8"),
        ({"resize": "zoom"}, "no resize 'zoom'; choose one of stretch, short_side_crop, pad"),
        ({"filter": "box"}, "no filter 'box'; choose one of bilinear, bicubic, lanczos"),
        ({"fill": (0, 0, 256)}, "from 0 to 255"),
        ({"fill": (0, 0)}, "from 0 to 255"),
    ],
)
def test_a_senseless_preprocessing_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        Preprocessing(**{"height": 8, "width": 8, **values})


# --- pixels ---


def kernel(filter_: str, x: float) -> float:
    """Pillow's kernels, as their documentation and its C code state them."""
    x = abs(x)
    if filter_ == "bilinear":
        return 1 - x if x < 1 else 0.0
    if filter_ == "bicubic":
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return near if x < 1 else far if x < 2 else 0.0
    return float(np.sinc(x) * np.sinc(x / 3)) if x < 3 else 0.0


def weights(filter_: str, length: int, start: float, end: float, count: int) -> np.ndarray:
    """``float64 (count, length)``: the weight of each pixel of a side at each place of the result, nothing widened."""
    rows = []
    for place in range(count):
        centre = start + (place + 0.5) * (end - start) / count
        row = np.array([kernel(filter_, pixel + 0.5 - centre) for pixel in range(length)])
        rows.append(row / row.sum())
    return np.stack(rows)


def resized(image: Image.Image, size: tuple[int, int], how: Preprocessing, box: tuple[float, ...]) -> np.ndarray:
    if how.antialias:
        return np.asarray(image.resize(size, getattr(Image.Resampling, how.filter.upper()), box=box))
    down = weights(how.filter, image.height, box[1], box[3], size[1])
    across = weights(how.filter, image.width, box[0], box[2], size[0])
    made = np.einsum("yh,hwc,xw->yxc", down, np.asarray(image).astype(np.float64), across, optimize=True)
    return np.clip(np.floor(made + 0.5 + 1e-9), 0, 255).astype(np.uint8)


def stated(image: Image.Image, how: Preprocessing) -> np.ndarray:
    """The rule, said once more."""
    target, whole = (how.width, how.height), (0, 0, *image.size)
    if how.resize == "stretch":
        return resized(image, target, how, whole)
    ratio = how.width / how.height
    if how.resize == "short_side_crop":
        long = int(how.height * image.width / image.height), int(how.width * image.height / image.width)
        size = (long[0], how.height) if image.width / image.height > ratio else (how.width, long[1])
        left, top = (round((side - wanted) / 2) for side, wanted in zip(size, target, strict=True))
        return resized(image, size, how, whole)[top : top + how.height, left : left + how.width]
    if image.width / image.height > ratio:
        size = how.width, max(1, round(how.width * image.height / image.width))
    else:
        size = max(1, round(how.height * image.width / image.height)), how.height
    page = Image.new("RGB", target, how.fill)
    place = (how.width - size[0]) // 2, (how.height - size[1]) // 2
    page.paste(Image.fromarray(resized(image, size, how, whole)), place)
    return np.asarray(page)


@pytest.mark.parametrize("how", ALL, ids=named)
def test_pillow_carries_out_every_preprocessing_exactly(how):
    for number, (width, height) in enumerate(PHOTOS):
        image = Image.fromarray(noise(width, height, seed=number))
        made = fit(image, how)
        assert (made.dtype, made.shape) == (np.uint8, (24, 40, 3))
        expected = stated(image, how)
        if (width, height) in PANORAMAS and how.resize == "short_side_crop":
            assert np.abs(made.astype(int) - expected).mean() < 2, (width, height)
        else:
            np.testing.assert_array_equal(made, expected, err_msg=f"{width} × {height}")


@pytest.mark.parametrize("filter_", FILTERS)
def test_well_known_statements_make_the_same(photos, filter_):
    """What other programs do: plain resize, Pillow's own pad, and torchvision's Resize and CenterCrop."""
    filter_number = getattr(Image.Resampling, filter_.upper())
    for photo in photos[::12]:
        image = Image.open(photo).convert("RGB")
        size = 96
        made = prepare(str(photo), Preprocessing(size, size, "stretch", filter_))
        np.testing.assert_array_equal(made, np.asarray(image.resize((size, size), filter_number)))

        padded = ImageOps.pad(image, (size, size), filter_number, color=(7, 8, 9), centering=(0.5, 0.5))
        made = prepare(str(photo), Preprocessing(size, size, "pad", filter_, fill=(7, 8, 9)))
        odd = (size - min(round(size * side / max(image.size)) for side in image.size)) % 2
        if not odd:  # half a pixel: Pillow rounds it to even, and the rule is to the left or up
            np.testing.assert_array_equal(made, np.asarray(padded))

        transforms = pytest.importorskip("torchvision.transforms")
        mode = transforms.InterpolationMode(filter_)
        crop = transforms.Compose([transforms.Resize(size, mode), transforms.CenterCrop(size)])
        made = prepare(str(photo), Preprocessing(size, size, "short_side_crop", filter_))
        np.testing.assert_array_equal(made, np.asarray(crop(image)))


def test_without_antialiasing_a_growing_photo_is_resized_as_with_it():
    image = Image.fromarray(
        noise(9, 7) // 4 + 96
    )  # Pillow also cuts off what is below 0 or above 255 between its two passes
    for how in ALL:
        if how.resize == "stretch":
            one, two = fit(image, replace(how, antialias=False)), fit(image, replace(how, antialias=True))
            assert np.abs(one.astype(int) - two).max() <= 1, how  # Pillow rounds twice


def test_a_panorama_takes_no_more_memory_than_its_crop():
    """Resized as a whole, these would be 2.4 million pixels wide, and 1.4 GB large at 200 rows."""
    image = Image.fromarray(noise(20_000, 2))
    for antialias in (True, False):
        began = time.monotonic()
        made = fit(image, Preprocessing(240, 240, "short_side_crop", antialias=antialias))
        expected = fit(
            image.crop((9_000, 0, 11_000, 2)), Preprocessing(240, 240, "short_side_crop", antialias=antialias)
        )
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("how", ALL, ids=named)
def test_every_decoder_makes_the_pixels_of_every_preprocessing(tmp_path, decoder, photos, how):
    files = {
        "photo.jpg": photos[0].read_bytes(),
        "turned.jpg": with_exif(encode(noise(50, 30), "JPEG"), orientation(6)),
        "x.png": encode(noise(31, 47), "PNG"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        expected = stated(rules.load_rgb(content), how)
        for photo in (str(tmp_path / name), content):
            (batch,) = decoder.batches([[photo]], how)
            assert batch.problems == [None]
            difference = np.abs(batch.pixels[0].astype(int) - expected).max()
            exact = not decoder.can(how) or decoder.name in EXACT or name == "x.png"
            # What turbo can, it makes to one grey level; dali's and turbo-scaled's pixels are others.
            assert difference <= (60 if not exact else int(decoder.can(how))), (name, isinstance(photo, bytes))
    slot = np.zeros((24, 40, 3), np.uint8)
    decoder.decode_into(content, how, slot)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(slot, outcome_of(decoder, content, how))


def outcome_of(decoder: Decoder, content: bytes, how: Preprocessing) -> np.ndarray:
    (batch,) = decoder.batches([[content]], how)
    return batch.pixels[0]


def test_decoders_say_what_they_can(decoder):
    able = [how for how in ALL if decoder.can(how)]
    if decoder.name == "pillow":
        assert able == ALL
    else:
        assert able == [Preprocessing(24, 40)]


# --- decoders are named before the run ---


def test_a_decoder_that_cannot_gives_way_to_pillow_by_name():
    can, cannot = Preprocessing(8, 8), Preprocessing(8, 8, "pad", "bicubic")
    for name in DECODERS:
        assert choose_decoder(name, can) == choose_decoder(name) == name
        assert choose_decoder(name, cannot) == "pillow"
    assert choose_decoder(AUTO, cannot) == "pillow"
    assert choose_decoder(AUTO) == make_decoder().name
    with pytest.raises(InputError, match="there is no decoder 'opencv'; choose one of auto, pillow"):
        choose_decoder("opencv", can)


class Padding(FakeEngine):
    """An engine whose photos keep their aspect ratio."""

    def __init__(self) -> None:
        super().__init__()
        how = Preprocessing(32, 32, "pad", "bicubic", fill=(120, 130, 140))
        self.spec = replace(self.spec, arch=None, gem_p=None, preprocessing=how.name)


@pytest.mark.parametrize("name", [AUTO, "turbo", "pillow"])
def test_extract_prepares_photos_as_the_engine_says(tmp_path, photos, folder_of, name):
    pytest.importorskip("simplejpeg")
    folder = folder_of(tmp_path / "photos", 6)
    made = extract(folder, Padding(), tmp_path / "out.h5", decoder=name)
    how = Preprocessing(32, 32, "pad", "bicubic", fill=(120, 130, 140))
    images = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
    found = load_descriptors(made.path)
    np.testing.assert_array_equal(found.vectors, Padding().run(np.stack([stated(image, how) for image in images])))
    assert found.meta["decoder"] == "pillow"
    assert found.meta["engine"]["preprocessing"] == how.name
    assert (found.meta["engine"]["arch"], found.meta["engine"]["gem_p"]) == (None, None)
    assert extract(folder, Padding(), tmp_path / "out.h5", decoder=name).computed == 0


# --- specifications ---

OLD = (
    '{"accuracy": {}, "arch": "resnet18", "checkpoint_sha256": "ab", "dim": 256, "fp32_layers": [], "gem_p": 1.0, '
    '"height": 512, "name": "v107", "parity": {"max": 1e-06}, "precision": "fp32", "preprocessing": '
    '"rgb8-pillow-bilinear-1", "runtime": "onnxruntime", "tools": {"onnx": "1.19"}, "version": 1, "weights_as": "fp32", '
    '"width": 384}'
)


def test_an_old_specification_reads_as_the_old_rules_and_is_written_byte_for_byte():
    spec = EngineSpec.from_json(OLD)
    assert spec.input == Preprocessing(512, 384, "stretch", "bilinear", antialias=True)
    assert spec.to_json() == OLD
    assert spec.to_json() == OLD


def test_the_attribute_of_a_descriptor_file_is_what_it_was(tmp_path, folder_of, engine):
    made = extract(folder_of(tmp_path / "photos", 2), engine, tmp_path / "out.h5", decoder="pillow")
    with h5py.File(made.path) as file:
        (text,) = [value for value in map(str, file.attrs.values()) if '"engine"' in value]
    assert json.dumps(json.loads(text)["engine"], separators=None) in text
    assert json.loads(text)["engine"] == json.loads(engine.spec.to_json())
    assert '"preprocessing": "rgb8-pillow-bilinear-1"' in text


def test_a_specification_without_architecture_and_pooling_reads_back():
    how = Preprocessing(512, 384, "short_side_crop", "lanczos")
    spec = replace(EngineSpec.from_json(OLD), arch=None, gem_p=None, preprocessing=how.name)
    assert EngineSpec.from_json(spec.to_json()) == spec
    assert spec.input == how


def test_a_specification_of_an_unknown_preprocessing_says_so(tmp_path: Path):
    spec = EngineSpec.from_json(OLD.replace("rgb8-pillow-bilinear-1", "magic-7"))
    with pytest.raises(EngineError, match="images prepared by 'magic-7' are unknown to this isc-fast, which knows"):
        _ = spec.input
