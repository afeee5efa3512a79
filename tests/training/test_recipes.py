"""What is drawn for the views: rates, ranges and orders of the recipe, and that nothing else decides them."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the table of stages stands beside the networks'")

from isc_fast.evaluation.edits.perspective import perspective_matrix
from isc_fast.training.stages import STAGES, HardView
from isc_fast.training.views import edits
from isc_fast.training.views.artwork import Artwork, Smiley
from isc_fast.training.views.recipes import draw_hard, draw_moderate, draw_plain, inscribed, view_random

PHOTO = (640, 480)
OTHER = Image.new("RGB", (300, 200), "red")
COUNT = 4000


@pytest.fixture(scope="module")
def artwork(tmp_path_factory: pytest.TempPathFactory) -> Artwork:
    path = tmp_path_factory.mktemp("emoji") / "face.png"
    Image.new("RGBA", (72, 72), (255, 200, 0, 255)).save(path)
    return Artwork((), (Smiley(str(path)),))


def hard_of(stage: str) -> HardView:
    hard = STAGES[stage].hard_view
    assert hard is not None
    return hard


def draw(
    artwork: Artwork, settings: HardView, index: int, size: int = 64, photo: tuple[int, int] = PHOTO
) -> edits.ViewRecipe:
    random = view_random(7, 0, index, 1)
    return draw_hard(settings, photo, size, random, open_other=lambda: OTHER, artwork=artwork)


@pytest.fixture(scope="module")
def recipes(artwork: Artwork) -> dict[str, list[edits.ViewRecipe]]:
    return {name: [draw(artwork, hard_of(name), i) for i in range(COUNT)] for name in ("v83", "v86", "v98")}


def kind(edit: Any) -> str:
    return edit.kind if isinstance(edit, edits.Paste) else type(edit).__name__


def edits_of(recipes: Sequence[edits.ViewRecipe], name: str) -> list[Any]:
    return [edit for recipe in recipes for edit in recipe.edits if kind(edit) == name]


RATES = {  # of the publication, by stage
    "Rotate": (0.25, 0.30, 0.35), "Overlay": (0.05, 0.075, 0.10), "Crop": (1, 1, 1), "Jitter": (1, 1, 1),
    "Pixelize": (0.25, 0.25, 0.25), "ShufflePixels": (0.25, 0.25, 0.25), "Jpeg": (0.25, 0.30, 0.35),
    "Grayscale": (0.25, 0.25, 0.25), "Blur": (0.25, 0.25, 0.25), "Perspective": (0.25, 0.30, 0.35),
    "Flip": (0.5, 0.5, 0.5), "TurnOver": (0.1, 0.1, 0.1), "text": (0.25, 0.30, 0.35), "emoji": (0.25, 0.30, 0.35),
    "EdgeEnhance": (0.25, 0.30, 0.30),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_rates(recipes, name):
    for stage, rate in zip(("v83", "v86", "v98"), RATES[name], strict=True):
        found = len(edits_of(recipes[stage], name)) / COUNT
        assert abs(found - rate) < 4 * math.sqrt(rate * (1 - rate) / COUNT) + 1e-9, (stage, found)


def test_the_frame_of_a_hard_view(recipes):
    for recipe in recipes["v98"]:
        names = [kind(edit) for edit in recipe.edits]
        frame = [name for name in names if name in ("Rotate", "Overlay", "Crop")]
        assert names[: len(frame)] == frame
        assert frame == sorted(frame, key=["Rotate", "Overlay", "Crop"].index)
        assert max(Counter(names).values()) == 1


def test_the_order_of_the_twelve_is_uniform(artwork):
    always = HardView(
        rotation=0, overlay=0, overlay_opacity=0.5, overlay_size=(0.3, 0.7), colour_jitter=0.7, jpeg=1, perspective=1, text=1,
        emoji=1, edge_enhance=1, pixelize=1, shuffle_pixels=1, grayscale=1, blur=1, flip=1, turn_over=1, erase=0,
    )  # fmt: skip
    counts = np.zeros((12, 12))
    names = [name for name in RATES if name not in ("Rotate", "Overlay", "Crop")]
    runs = 1200
    for i in range(runs):
        order = [kind(edit) for edit in draw(artwork, always, i).edits[1:]]
        assert len(order) == 12
        for place, name in enumerate(order):
            counts[names.index(name), place] += 1
    chi_square = ((counts - runs / 12) ** 2 / (runs / 12)).sum()
    assert 60 < chi_square < 190, "121 degrees of freedom: 121 ± 4 · 15.6"


def near_uniform(values: Sequence[float], low: float, high: float) -> None:
    """Within the range, and the distribution function never further away than chance allows."""
    shares = (np.sort(np.array(values)) - low) / (high - low)
    assert shares[0] >= 0
    assert shares[-1] <= 1
    assert np.abs(shares - (np.arange(len(shares)) + 0.5) / len(shares)).max() < 2 / math.sqrt(len(shares))


@pytest.mark.parametrize(("stage", "strength"), [("v83", 0.70), ("v86", 0.75), ("v98", 0.80)])
def test_colours(recipes, stage, strength):
    found = edits_of(recipes[stage], "Jitter")
    for name in ("brightness", "contrast", "saturation"):
        near_uniform([getattr(edit, name) for edit in found], 1 - strength, 1 + strength)
    near_uniform([edit.hue for edit in found], -0.2, 0.2)
    orders = Counter(edit.order for edit in found)
    assert len(orders) == 24
    assert max(orders.values()) < 1.6 * COUNT / 24


def test_other_ranges(recipes):
    found = recipes["v98"]
    near_uniform([edit.angle for edit in edits_of(found, "Rotate")], 0, 180)
    near_uniform([edit.radius for edit in edits_of(found, "Blur")], 0, 10)
    near_uniform([(edit.width + 0.5) / 64 for edit in edits_of(found, "Pixelize")], 0.1 - 0.01, 1 + 0.01)
    qualities = Counter(edit.quality for edit in edits_of(found, "Jpeg"))
    assert sorted(qualities) == [10, 20, 30, 50]
    assert max(qualities.values()) < 1.3 * min(qualities.values())
    more = [edit.more for edit in edits_of(found, "EdgeEnhance")]
    assert abs(np.mean(more) - 0.5) < 0.06
    assert {edit.share for edit in edits_of(found, "ShufflePixels")} == {0.1}


def test_the_blur_scales_with_the_view_where_that_is_asked(artwork):
    scaled = replace(hard_of("v98"), blur_reference_size=512, blur=1.0)
    radii = [edit.radius for edit in edits_of([draw(artwork, scaled, i) for i in range(200)], "Blur")]
    assert len(radii) == 200
    assert 1.1 < max(radii) <= 10 * 64 / 512


@pytest.mark.parametrize(("stage", "opacity", "sizes"), [("v83", 0.6, (0.4, 0.6)), ("v98", 0.4, (0.2, 0.8))])
def test_overlays(recipes, stage, opacity, sizes):
    for recipe in recipes[stage]:
        before: tuple[int, int] = PHOTO
        for edit in recipe.edits:
            if isinstance(edit, edits.Rotate):
                before = (edit.width, edit.height)
            if isinstance(edit, edits.Overlay):
                back, pasted = (OTHER.size, before) if edit.onto else (before, OTHER.size)
                share = (edit.height + 1) / back[1]
                assert sizes[0] <= share <= sizes[1] + 0.02 + 1 / back[1]
                assert edit.width == max(1, int(pasted[0] * edit.height / pasted[1]))
                assert int(255 * opacity) <= edit.opacity <= 255
                assert 0 <= edit.top <= back[1] - edit.height
                assert 0 <= edit.left <= back[0] * (1 - sizes[0])
                before = back
            if isinstance(edit, edits.Crop):
                assert edit.top + edit.height <= before[1]
                assert edit.left + edit.width <= before[0]
    both = Counter(edit.onto for edit in edits_of(recipes[stage], "Overlay"))
    assert abs(both[True] - both[False]) < 4 * math.sqrt(sum(both.values()))


def test_an_overlay_opens_the_other_photo_and_nothing_else_does(artwork):
    calls = []

    def open_other() -> Image.Image:
        calls.append(1)
        return OTHER.convert("L")  # whatever its mode, the recipe has RGB

    rates = replace(hard_of("v98"), overlay=0.3)
    made = [
        draw_hard(rates, PHOTO, 64, view_random(1, 0, i, 1), open_other=open_other, artwork=artwork) for i in range(50)
    ]
    overlays = edits_of(made, "Overlay")
    assert len(calls) == len(overlays) > 5
    assert {edit.picture.mode for edit in overlays} == {"RGB"}


def crops_of(recipes: Sequence[edits.ViewRecipe], overlaid: bool) -> np.ndarray[Any, Any]:
    """Area as a share of the photo, and ratio, of the crops of photos that were not rotated, nor another's background."""
    rows = []
    for recipe in recipes:
        if any(isinstance(edit, edits.Rotate) for edit in recipe.edits):
            continue
        overlay = [edit for edit in recipe.edits if isinstance(edit, edits.Overlay)]
        if bool(overlay) is not overlaid or (overlay and overlay[0].onto):
            continue
        (crop,) = (edit for edit in recipe.edits if isinstance(edit, edits.Crop))
        rows.append((crop.width * crop.height / (PHOTO[0] * PHOTO[1]), crop.width / crop.height, crop.top, crop.left))
    return np.array(rows)


def test_crops_are_those_of_torchvision(recipes):
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    torch.manual_seed(0)
    photo = torch.empty(3, PHOTO[1], PHOTO[0])
    for scale, found in (
        ((0.15, 1.0), crops_of([recipe for name in recipes for recipe in recipes[name]], overlaid=False)),
        (
            (0.7, 1.0),
            crops_of([draw_moderate(PHOTO, 64, view_random(3, 0, i, 0)) for i in range(4000)], overlaid=False),
        ),
    ):
        oracle = []
        for _ in range(4000):
            top, left, h, w = transforms.RandomResizedCrop.get_params(photo, scale, (3 / 4, 4 / 3))
            oracle.append((w * h / (PHOTO[0] * PHOTO[1]), w / h, top, left))
        for own, other in zip(found.T, np.array(oracle).T, strict=True):
            together = np.concatenate((own, other))
            steps_at = np.searchsorted(np.sort(own), together, "right") / len(own)
            other_at = np.searchsorted(np.sort(other), together, "right") / len(other)
            assert np.abs(steps_at - other_at).max() < 2 * math.sqrt(1 / len(own) + 1 / len(other))
    assert crops_of(recipes["v98"], overlaid=True)[:, 0].min() > 0.69, "after an overlay the crop is moderate"


@pytest.mark.parametrize("photo", [(1, 1), (1, 300), (300, 1), (2, 3), (1000, 40), (40, 1000)])
def test_crops_of_odd_photos_are_inside(photo):
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    for i in range(50):
        (crop, *_) = draw_moderate(photo, 32, view_random(0, 0, i, 0)).edits
        assert isinstance(crop, edits.Crop)
        assert 0 <= crop.top <= crop.top + crop.height <= photo[1]
        assert 0 <= crop.left <= crop.left + crop.width <= photo[0]
        assert min(crop.width, crop.height) >= 1
    if max(photo) / min(photo) > 4:  # no ratio fits: torchvision's way out, which is not random
        expected = transforms.RandomResizedCrop.get_params(torch.empty(3, *photo[::-1]), (0.7, 1.0), (3 / 4, 4 / 3))
        assert (crop.top, crop.left, crop.height, crop.width) == expected


def test_moderate_views_are_mirrored_half_of_the_time():
    made = [draw_moderate(PHOTO, 64, view_random(2, 0, i, 0)) for i in range(1000)]
    assert {tuple(kind(edit) for edit in recipe.edits) for recipe in made} == {("Crop",), ("Crop", "Flip")}
    assert abs(np.mean([len(recipe.edits) == 2 for recipe in made]) - 0.5) < 0.06
    assert not any(recipe.erase for recipe in made)


def test_plain_views():
    assert draw_plain(64) == edits.ViewRecipe((edits.Resize(64),), 64)


def test_perspectives_are_those_of_torchvision(recipes):
    functional = pytest.importorskip("torchvision.transforms.functional")
    corners = [[0, 0], [63, 0], [63, 63], [0, 63]]
    ends = [[3, 7], [50, 11], [48, 62], [9, 55]]
    expected = functional._get_perspective_coeffs(corners, ends)
    found = perspective_matrix(np.array(corners, dtype=float), np.array(ends, dtype=float))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)
    # Back from the matrix to the corners: each lies within a quarter of the side of its own corner, anywhere there.
    places = []
    for edit in edits_of(recipes["v98"], "Perspective"):
        a, b, c, d, e, f, g, h = edit.matrix
        forward = np.linalg.inv(np.array([[a, b, c], [d, e, f], [g, h, 1]]))
        x, y, z = forward @ np.array([(0, 0, 1), (63, 0, 1), (63, 63, 1), (0, 63, 1)]).T
        places.append(np.abs(np.stack((x / z, y / z), 1) - corners))
    moved = np.array(places)
    assert moved.max() < 16.01
    assert moved.min() > -0.01
    assert np.abs(moved.mean(0) - 8).max() < 0.7
    assert {round(float(m)) for m in moved.ravel()} == set(range(17))


def test_what_is_erased(recipes):
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    erased = [recipe.erase for recipe in recipes["v98"] if recipe.erase]
    assert abs(len(erased) / COUNT - 0.25) < 4 * math.sqrt(0.25 * 0.75 / COUNT)
    torch.manual_seed(0)
    oracle = []
    while len(oracle) < 1000:
        top, left, h, w, _ = transforms.RandomErasing.get_params(torch.empty(3, 64, 64), (0.02, 0.33), (0.3, 3.3))
        oracle.append((top, left, h, w))
    own = np.array([(e.top, e.left, e.height, e.width) for e in erased])
    assert (own[:, :2] + own[:, 2:]).max() <= 64
    for a, b in zip(own.T, np.array(oracle).T, strict=True):
        assert abs(a.mean() - b.mean()) < 4 * math.sqrt(a.var() / len(a) + b.var() / len(b))
        assert 0.85 < a.std() / b.std() < 1.15
    assert len({e.seed for e in erased}) == len(erased)
    recipe = next(recipe for recipe in recipes["v98"] if recipe.erase)
    assert recipe.erase_row == (
        recipe.erase.top,
        recipe.erase.left,
        recipe.erase.height,
        recipe.erase.width,
        recipe.erase.seed,
    )
    assert draw_plain(8).erase_row == (0, 0, 0, 0, 0)


def test_writing_and_emoji(recipes):
    for edit in edits_of(recipes["v98"], "text"):
        assert 0 <= edit.left < 32
        assert 0 <= edit.top < 32
        assert edit.left + edit.patch.shape[1] <= 64
        assert edit.top + edit.patch.shape[0] <= 64
        assert len(np.unique(edit.patch[..., :3].reshape(-1, 3), axis=0)) == 1, "one colour"
    tops = [edit.patch.shape[0] for edit in edits_of(recipes["v98"], "text")]
    assert len(set(tops)) > 20
    for edit in edits_of(recipes["v98"], "emoji"):
        assert 6 <= edit.patch.shape[0] <= 19
        assert 0 <= edit.left < 64
        assert 0 <= edit.top < 64
    assert any(edit.left + edit.patch.shape[1] > 64 for edit in edits_of(recipes["v98"], "emoji")), "over the edge"


@pytest.mark.parametrize("angle", [0.0, 1e-9, 10.0, 45.0, 45.0001, 60.0, 90.0, 135.0, 179.0, 180.0])
@pytest.mark.parametrize("photo", [(640, 480), (480, 640), (500, 500), (900, 30), (30, 900)])
def test_the_inscribed_rectangle_is_inside_and_touches(photo, angle):
    width, height = inscribed(photo, angle)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def reach(w: float, h: float) -> float:
        """How far the corners are from the middle of the turned photo, as a share of its half sides."""
        x, y = w / 2, h / 2
        across = max(abs(cos * x - sin * y), abs(cos * x + sin * y)) / (photo[0] / 2)
        along = max(abs(sin * x + cos * y), abs(sin * x - cos * y)) / (photo[1] / 2)
        return max(across, along)

    assert reach(width, height) <= 1 + 1e-9
    assert reach(width + 2, height + 2) > 1, "cut off to whole pixels, it is the largest that fits"
    area = max(w * h for w in range(1, 1000, 7) for h in range(1, 1000, 7) if reach(w, h) <= 1)
    assert (width + 1) * (height + 1) >= area


def test_the_same_four_numbers_give_the_same_plan_and_any_other_another(artwork):
    def bytes_of(*key: int) -> bytes:
        recipe = draw_hard(
            hard_of("v98"),
            PHOTO,
            64,
            view_random(*key),
            open_other=lambda: OTHER,
            artwork=pickle.loads(pickle.dumps(artwork)),
        )
        return pickle.dumps(recipe)

    one = bytes_of(1, 2, 3, 4)
    assert one == bytes_of(1, 2, 3, 4)
    others = {
        bytes_of(0, 2, 3, 4),
        bytes_of(1, 0, 3, 4),
        bytes_of(1, 2, 0, 4),
        bytes_of(1, 2, 3, 0),
        bytes_of(2, 1, 3, 4),
    }
    assert len(others | {one}) == 6


def test_one_value_has_not_moved():
    """Views of a run that is resumed after an update are those it would have had."""
    assert view_random(1, 2, 3, 4).integers(2**32, size=3).tolist() == [1105992647, 129821682, 1107820790]


NEW = {"parts": 0.3, "frame": 0.2, "bend": 0.25, "screen": 0.15}


@pytest.fixture(scope="module")
def with_pages(artwork: Artwork) -> list[edits.ViewRecipe]:
    return [draw(artwork, replace(hard_of("v98"), **NEW), i) for i in range(COUNT)]


def test_rates_of_the_edits_that_the_published_stages_lack(recipes, with_pages):
    assert not any(edits_of(recipes[stage], name) for stage in recipes for name in ("Page", "Bend", "Screen"))
    for name, rate in {"Page": 0.5, "Bend": 0.25, "Screen": 0.15, "Overlay": 0.5 * 0.1}.items():
        found = len(edits_of(with_pages, name)) / COUNT
        assert abs(found - rate) < 4 * math.sqrt(rate * (1 - rate) / COUNT), (name, found)
    framed = [page for page in edits_of(with_pages, "Page") if not page.pictures]
    assert abs(len(framed) / COUNT - 0.2) < 0.03


def test_the_photo_lies_on_its_page_and_most_of_the_page_is_seen(with_pages):
    beside = Counter()
    for recipe in with_pages:
        names = [kind(edit) for edit in recipe.edits]
        if "Page" not in names:
            continue
        page, cut = recipe.edits[names.index("Page")], recipe.edits[names.index("Page") + 1]
        left, top, width, height = page.box
        assert min(left, top) >= 0
        assert left + width <= page.width
        assert top + height <= page.height
        assert max(page.width, page.height) <= 2 * 64 + 20, "a page costs no more than it must"
        assert cut.width * cut.height >= 0.78 * page.width * page.height
        beside[len(page.pictures)] += 1
    assert set(beside) == {0, 1, 2, 3, 5}


def test_a_small_photo_keeps_its_shape(with_pages):
    on_another = [
        page for page in edits_of(with_pages, "Page") if page.pictures and page.pictures[0][1][:2] == (0, 0)
        and page.pictures[0][1][2:] == (page.width, page.height)
    ]  # fmt: skip
    assert len(on_another) > 0.1 * COUNT
    for page in on_another:
        assert max(page.box[2] / page.width, page.box[3] / page.height) < 0.75
