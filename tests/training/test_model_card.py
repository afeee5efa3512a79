from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("timm")

from isc_fast.assets import DEMO_ENGINE, demo_photos
from isc_fast.engines.base import file_sha256
from isc_fast.errors import InputError, IscFastError, MissingExtraError
from isc_fast.evaluation.edits.held_out import HELD_OUT_EDITS
from isc_fast.matching.lists.matches import Matches, Truth
from isc_fast.matching.two_sides import search
from isc_fast.sources.listing import list_images
from isc_fast.training.tiny import baselines, model_card
from isc_fast.training.tiny.baselines import HASH_SIDES, HASHES, ImageNetEngine, as_hamming, describe_by_hash
from isc_fast.training.tiny.data_set import FOUR_EDITS, build_tiny_data
from isc_fast.training.tiny.figures import NEW_KINDS, measure, restrict
from isc_fast.training.tiny.model_card import make_card

FIRST_SUBSETS = ["all", "one edit", NEW_KINDS, "four edits"]  # of the first held-out set
SYSTEMS = [
    "fake",
    "fake, with NES",
    "demo",
    "demo, with NES",
    "ImageNet features, 32 px",  # as the first engine has them
    "ImageNet features, 32 px, with NES",
    "phash, 256 bits",
    "phash, 64 bits",
    "dhash, 256 bits",
    "dhash, 64 bits",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    pool = tmp_path_factory.mktemp("pool")
    for photo in demo_photos():
        image = Image.open(photo).convert("RGB")
        image.thumbnail((200, 200))
        image.save(pool / f"{photo.stem}__0.jpg")
    return build_tiny_data(pool, tmp_path_factory.mktemp("out") / "data").folder


@pytest.fixture(scope="module")
def card(data, tmp_path_factory):
    """Of the demo's engine and a fake one, with random weights in place of ImageNet's."""
    out = tmp_path_factory.mktemp("card")
    real = model_card.load_engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "load_imagenet", lambda net: None)
        patch.setattr(model_card, "load_engine", lambda path: FakeEngine() if path == "fake" else real(path))
        rows = make_card({"fake": "fake", "demo": DEMO_ENGINE}, data, out)
    return out, rows


def test_the_table_has_every_system_and_every_kind(card):
    out, rows = card
    assert [row.name for row in rows] == SYSTEMS
    table = (out / "figures.md").read_text("utf-8")
    for system in SYSTEMS:
        assert f"\n| {system} | " in table
    kinds = {*HELD_OUT_EDITS, FOUR_EDITS}
    for kind in kinds:
        assert f"\n| {kind} | " in table or f"\n| {kind}* | " in table
    assert all(set(row.recall_at_1_by_kind) == kinds for row in rows)
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {
        2 + 2 * len(FIRST_SUBSETS),
        2 + len(SYSTEMS),
    }


def test_figures_are_in_range_and_their_interval_is_around_them(card):
    for row in card[1]:
        assert list(row.subsets) == FIRST_SUBSETS
        for figures in row.subsets.values():
            low, high = figures.interval
            assert 0 <= low <= high <= 1
            assert low - 0.05 <= figures.micro_ap <= high + 0.05
            assert 0 <= figures.recall_at_1 <= 1
            assert figures.recall_at_p90 is None or 0 < figures.recall_at_p90 <= 1
        assert all(0 <= share <= 1 for share in row.recall_at_1_by_kind.values())


def test_a_trained_engine_stands_out(card):
    """A random projection of an 8 × 8 thumbnail finds less, and four edits are harder than one."""
    rows = {row.name: row.subsets for row in card[1]}
    assert rows["demo"]["all"].micro_ap > rows["fake"]["all"].micro_ap
    assert rows["demo"]["one edit"].micro_ap > rows["demo"]["four edits"].micro_ap


def test_the_json_holds_the_same_and_says_what_was_measured(card, data):
    out, rows = card
    figures = json.loads((out / "figures.json").read_text("utf-8"))
    assert [system["name"] for system in figures["systems"]] == SYSTEMS
    assert figures["systems"][0]["subsets"]["all"]["micro_ap"] == rows[0].subsets["all"].micro_ap
    assert figures["data"]["queries"] == len(list((data / "heldout" / "query_images").iterdir()))
    assert figures["data"]["copies"] * 2 == figures["data"]["queries"]
    assert figures["versions"]["numpy"] == np.__version__
    text = json.dumps(figures)
    assert str(data) not in text
    assert str(Path.home()) not in text


def test_queries_that_are_the_references_are_all_found(tmp_path):
    root = tmp_path / "data" / "heldout"
    for name in ("query_images", "reference_images"):
        (root / name).mkdir(parents=True)
    (tmp_path / "data" / "training_images").mkdir()
    rows = ["query_id,reference_id"]
    for photo in demo_photos()[:6]:
        shutil.copy(photo, root / "reference_images" / photo.name)
        shutil.copy(photo, tmp_path / "data" / "training_images" / photo.name)
        for query in (f"{photo.stem}-crop", f"{photo.stem}-1-{FOUR_EDITS}"):
            shutil.copy(photo, root / "query_images" / f"{query}.jpg")
            rows.append(f"{query},{photo.stem}")
    (root / "ground_truth.csv").write_text("\n".join(rows) + "\n")
    row, _ = make_card({"demo": DEMO_ENGINE}, tmp_path / "data", tmp_path / "card", baselines=False)
    assert set(row.subsets) == {"all", "one edit", "four edits"}  # crop has a counterpart in training
    for figures in row.subsets.values():
        assert (figures.micro_ap, figures.interval) == (1, (1, 1))
        assert (figures.recall_at_p90, figures.recall_at_1) == (1, 1)
    assert row.recall_at_1_by_kind == {"crop": 1, FOUR_EDITS: 1}


# --- subsets ---

TRUTH = Truth(
    frozenset(("a-crop", "b-meme", "c-1-4edits", "s-crop", "s-meme")),
    frozenset((("a-crop", "a"), ("b-meme", "b"), ("c-1-4edits", "c"))),
)
MATCHES = Matches(
    ["s-crop", "a-crop", "b-meme", "s-meme", "c-1-4edits", "c-1-4edits"],
    ["b", "a", "b", "b", "a", "c"],
    np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32),
)


def test_a_subset_keeps_the_strangers_of_its_kinds():
    matches, truth = restrict(MATCHES, TRUTH, lambda kind: kind == "crop")
    assert truth == Truth(frozenset(("a-crop", "s-crop")), frozenset((("a-crop", "a"),)))
    assert list(matches.query_ids) == ["s-crop", "a-crop"]
    assert matches.scores.tolist() == pytest.approx([0.9, 0.8])


def test_figures_by_hand():
    """Right at places 2, 3 and 6 of 6: µAP is (1/2 + 2/3 + 3/6) / 3; the best match is wrong for c alone."""
    row = measure("x", MATCHES, TRUTH)
    everything, one, new = (row.subsets[name] for name in ("all", "one edit", "one edit, new kinds"))
    assert everything.micro_ap == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3)
    assert everything.recall_at_p90 is None
    assert everything.recall_at_1 == pytest.approx(2 / 3)
    assert one.micro_ap == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (new.micro_ap, new.recall_at_p90) == (1, 1)  # b-meme before s-meme
    assert row.subsets["four edits"].micro_ap == pytest.approx(1 / 2)
    assert row.recall_at_1_by_kind == {"crop": 1, "meme": 1, FOUR_EDITS: 0}
    low, high = everything.interval
    assert low < everything.micro_ap < high


def test_queries_are_told_apart_by_the_number_of_their_edits():
    """As the second set has them. Its kinds are none of this package's, so none counts as new."""
    queries = ["a-pad", "a-2-2edits", "b-12-3edits", "b-2-4edits", "s-pad", "s-1-2edits"]
    truth = Truth(frozenset(queries), frozenset((query, query[0]) for query in queries[:4]))
    matches = Matches(queries, ["a", "b", "b", "b", "a", "a"], np.linspace(0.9, 0.4, 6, dtype=np.float32))
    found = {name: figures.recall_at_1 for name, figures in measure("x", matches, truth).subsets.items()}
    assert found == {"all": 0.75, "one edit": 1, "two edits": 0, "three edits": 1, "four edits": 1}


def test_the_interval_is_narrower_with_more_photos():
    def made(count):
        random = np.random.default_rng(3)
        photos = [f"p{i}" for i in range(count)]
        queries = [f"{photo}-crop" for photo in photos]
        found = [photo if random.random() < 0.6 else "other" for photo in photos]
        matches = Matches(queries, found, random.random(count).astype(np.float32))
        truth = Truth(frozenset(queries), frozenset(zip(queries, photos, strict=True)))
        low, high = measure("x", matches, truth).subsets["all"].interval
        return high - low

    assert made(800) < made(200) < made(50)


# --- baselines ---


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("side", HASH_SIDES)
def test_hashes_are_compared_by_the_bits_that_differ(photos, name, side):
    import imagehash

    items = list_images([str(photo) for photo in photos[:12]], ids="stem").items
    described = describe_by_hash(items, name, side)
    assert described.vectors.shape == (12, side * side)
    np.testing.assert_allclose(np.linalg.norm(described.vectors, axis=1), 1, atol=1e-6)
    hashes = {photo.stem: getattr(imagehash, name)(Image.open(photo), hash_size=side) for photo in photos[:12]}
    found = as_hamming(search(described, described, k=12), side * side)
    assert len(found) == 144
    for query, reference, score in found:
        assert -score == hashes[query] - hashes[reference]


def test_imagenet_features_are_an_engine(monkeypatch):
    monkeypatch.setattr(baselines, "load_imagenet", lambda net: None)
    engine = ImageNetEngine(64)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    vectors = engine.run(pixels)
    assert vectors.shape == (3, engine.spec.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(engine.run(pixels[1:2])[0], vectors[1], atol=1e-4)


def test_without_imagehash_the_line_that_installs_it_is_said(monkeypatch, photos):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MissingExtraError, match=r"isc-fast\[dev\]"):
        describe_by_hash(list_images(str(photos[0]), ids="stem").items, "phash", 8)


# --- bad input ---


def test_bad_input_is_refused(tmp_path, data):
    with pytest.raises(InputError, match="no engine is given"):
        make_card({}, data, tmp_path / "card")
    with pytest.raises(InputError, match=r"no folder .*heldout"):
        make_card({"demo": DEMO_ENGINE}, tmp_path, tmp_path / "card")
    broken = shutil.copytree(data, tmp_path / "broken")
    (broken / "heldout" / "reference_images" / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"bad\.jpg cannot be used"):
        make_card({"demo": DEMO_ENGINE}, broken, tmp_path / "card")


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("just-a-path.onnx", "takes NAME=ENGINE"),
        ("demo=demo", "two engines would have one name"),
        ("x=no.onnx", "no engine"),
    ],
)
def test_bad_flags_are_refused(tmp_path, data, also, message):
    flags = ["--engine", "demo", "--also", also, "--data", str(data), "-o", str(tmp_path / "card")]
    with pytest.raises(IscFastError, match=message):
        model_card.main(flags)


def test_from_the_command_line(tmp_path):
    flags = ["--engine", "demo", "--data", str(tmp_path), "-o", str(tmp_path / "card")]
    command = [sys.executable, "-m", "isc_fast.training.tiny.model_card", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no folder")
    assert len(done.stderr.splitlines()) == 1


# --- the card in the package ---


def test_the_card_in_the_package_shows_what_was_measured_of_this_engine():
    root = Path(__file__).resolve().parents[2]
    figures = json.loads((root / "bench/results/model_card.json").read_text("utf-8"))
    assert figures["engines"]["demo"]["sha256"] == file_sha256(DEMO_ENGINE)
    card = (root / "isc_fast/data/MODEL_CARD.md").read_text("utf-8")
    names = {
        "**demo.onnx**": "demo", "**demo.onnx, with NES**": "demo, with NES",
        "ImageNet features, 224 px": "ImageNet features, 224 px",
        "ImageNet features, with NES": "ImageNet features, 224 px, with NES", "perceptual hash, 256 bits": "phash, 256 bits",
        "difference hash, 64 bits": "dhash, 64 bits",
    }  # fmt: skip
    measured = {row["name"]: row["subsets"] for row in figures["systems"]}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("| ")]
    shown = {row[0]: row[1:] for row in rows if row[0] in names}
    assert set(shown) == set(names)
    for name, cells in shown.items():
        expected = [value for subset in FIRST_SUBSETS for value in _shown(measured[names[name]][subset])]
        assert [cell.split(" ")[0] for cell in cells] == expected, name


def _shown(figures):
    return f"{figures['micro_ap']:.3f}", f"{figures['recall_at_p90']:.3f}"
