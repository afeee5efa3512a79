"""Which photos an epoch shows in which order, and how they lie in a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from helpers_training import make_collection, toy

from isc_fast.items import Item
from isc_fast.training.data.collection import Collection, collect
from isc_fast.training.data.dataset import SampleDataset, collate
from isc_fast.training.data.photos import PhotoReader
from isc_fast.training.data.sampling import KeySampler, epoch_order, steps_per_epoch
from isc_fast.training.stages import MOST_PHOTOS, NO_PHOTO, STAGES


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photos: Sequence[Path]) -> Path:
    return make_collection(tmp_path_factory.mktemp("data"), photos)


# Sampling


@pytest.mark.parametrize(
    ("name", "samples", "steps"),
    [("v83", 1_000_000, 7812), ("v86", 1_000_000, 7812), ("v98", 1_000_000, 15625), ("v107", 4991, 312)],
)
def test_an_epoch_has_the_published_number_of_steps(name, samples, steps):
    assert steps_per_epoch(STAGES[name], samples) == steps


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_any_number_of_processes_sees_the_same_batches(world):
    stage = toy("v98", batch_size=8)
    samplers = [KeySampler(stage, 45, seed=3, rank=rank, world_size=world) for rank in range(world)]
    alone = KeySampler(stage, 45, seed=3, rank=0, world_size=1)
    for sampler in (alone, *samplers):
        sampler.epoch = 2
    together = [[key for part in parts for key in part] for parts in zip(*samplers, strict=True)]
    assert together == list(alone)
    assert len(together) == len(alone) == 5


def test_an_epoch_sees_every_sample_once_and_each_epoch_in_another_order():
    stage = toy("v98", batch_size=5)
    sampler = KeySampler(stage, 40, seed=0, rank=0, world_size=1)
    numbers = [number for batch in sampler for _, number in batch]
    assert sorted(numbers) == list(range(40))
    sampler.epoch = 1
    assert [number for batch in sampler for _, number in batch] != numbers
    assert not np.array_equal(epoch_order(0, 0, 40, 40), epoch_order(1, 0, 40, 40))
    # Beyond the last sample, as the published sampler padded its epochs, it goes on from the front.
    padded = epoch_order(0, 0, 40, 48)
    assert np.array_equal(padded[40:], padded[:8])


def test_a_sampler_goes_on_where_it_was_stopped():
    stage = toy("v98")
    whole, rest = (KeySampler(stage, 40, seed=0, rank=0, world_size=1) for _ in range(2))
    rest.first_step = 3
    assert list(rest) == list(whole)[3:]
    assert len(rest) == 2


# Data and batches


def test_v107_trains_on_pairs_against_the_other_references(data):
    collection = collect(data, toy("v107"))
    assert [tuple(item.id for item in pair) for pair in collection.samples[:2]] == [
        ("Q00000", "R000000"),
        ("Q00001", "R000001"),
    ]
    assert [item.id for item in collection.negatives] == [f"R{number:06d}" for number in range(20, 60)]


def test_the_download_s_own_layout_is_the_same_collection(data, tmp_path):
    names = {"training_images": "train", "reference_images": "references", "query_images": "dev_queries"}
    for name, other in names.items():
        (tmp_path / other).symlink_to(data / name)
    (tmp_path / "dev_queries_groundtruth.csv").symlink_to(data / "public_ground_truth.csv")
    for stage in ("v98", "v107"):
        assert collect(tmp_path, toy(stage)).digest() == collect(data, toy(stage)).digest()


def test_pairs_that_share_an_image_share_a_label():
    def pair(*names: str) -> tuple[Item, ...]:
        return tuple(Item(name, f"{name}.jpg") for name in names)

    chain = [pair("q0", "r0"), pair("q1", "r1"), pair("q2", "r0"), pair("q1", "r2"), pair("q4", "r3"), pair("q5", "r2")]
    assert Collection(chain).labels.tolist() == [0, 1, 0, 1, 4, 1]
    # The last pair shows that the first two belong together.
    assert Collection([*chain, pair("q0", "r1")]).labels.tolist() == [0, 0, 0, 0, 4, 0, 0]
    assert Collection([pair("a"), pair("b"), pair("c")]).labels.tolist() == [0, 1, 2]


def test_v207_takes_its_negatives_from_the_training_images(data):
    assert [item.id for item in collect(data, toy("v207")).negatives] == [f"T{number:06d}" for number in range(40)]
    assert [item.id for item in collect(data, toy("v98")).negatives] == [f"R{number:06d}" for number in range(60)]
    assert len(collect(data, toy("v83", sample_size=7)).samples) == 7
    assert collect(data, toy("v83")).negatives == ()


def test_the_digest_tells_collections_apart(data):
    assert collect(data, toy("v98")).digest() == collect(data, toy("v98")).digest()
    digests = {collect(data, toy(name)).digest() for name in ("v83", "v98", "v107", "v207")}
    assert len(digests) == 4


def test_a_batch_is_laid_out_as_published(data):
    """All moderate views, all hard ones, the negatives in turn; labels of negatives lie beyond those of samples."""
    stage = toy("v98", negatives_per_sample=2)
    collection = collect(data, stage)
    dataset = SampleDataset(collection, stage, seed=0, artwork=_artwork())
    batch = collate([dataset[(0, number)] for number in (5, 9, 11)])
    assert batch.pixels.shape == (12, 64, 64, 3)
    assert batch.pixels.dtype == torch.uint8
    assert batch.labels.tolist()[:6] == [5, 9, 11, 5, 9, 11]
    drawn = [label - 1_000_000 for label in batch.labels.tolist()[6:]]
    assert all(0 <= place < 60 for place in drawn)
    assert batch.names[6:] == [collection.negatives[place].id for place in drawn]
    assert batch.names[:6] == ["T000005", "T000009", "T000011"] * 2
    assert batch.erase[:3].sum() == 0, "only the hard view is erased from"
    assert batch.erase[6:].sum() == 0


def test_a_sample_can_have_several_hard_views_and_name_every_photo_that_they_show(data):
    stage = toy("v83", hard_views=2, shows_others=True)
    stage = replace(stage, hard_view=replace(stage.hard_view, parts=1.0))
    collection, artwork = collect(data, stage), _artwork()
    dataset = SampleDataset(collection, stage, seed=0, artwork=artwork)
    batch = collate([dataset[(0, number)] for number in (5, 9)])
    assert batch.pixels.shape == (6, 64, 64, 3)
    assert stage.images_per_step == 3 * stage.batch_size
    assert batch.labels.shape == (6, MOST_PHOTOS)
    assert batch.labels[:, 0].tolist() == [5, 9] * 3
    assert (batch.labels[:2, 1:] == NO_PHOTO).all(), "a moderate view shows its own photo"
    assert (batch.labels[2:, 1] != NO_PHOTO).all(), "a page shows others too"
    assert not torch.equal(batch.pixels[2], batch.pixels[4])
    # The first hard view is the one that a stage with a single hard view has.
    alone = SampleDataset(collection, replace(stage, hard_views=1, shows_others=False), seed=0, artwork=artwork)[(0, 5)]
    np.testing.assert_array_equal(alone.pixels[1], batch.pixels[2].numpy())
    assert alone.labels == [5, 5]


def test_pairs_are_not_augmented(data):
    stage = toy("v107", negatives_per_sample=1)
    collection = collect(data, stage)
    sample = SampleDataset(collection, stage, seed=0, artwork=None)[(0, 4)]
    from isc_fast.decoders.rules import load_input

    for pixels, item in zip(sample.pixels, collection.samples[4], strict=False):
        np.testing.assert_array_equal(pixels, load_input(item.path, 64, 64))
    again = SampleDataset(collection, stage, seed=0, artwork=None)[(1, 4)]
    np.testing.assert_array_equal(sample.pixels[0], again.pixels[0])


@pytest.mark.parametrize("value", [1, 3, 5, 6, 8, 9, 0])
def test_a_header_tells_the_size_that_decoding_gives(tmp_path, value):
    """A view's recipe is drawn for that size; 9 and 0 are no orientations and turn nothing."""
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    item = Item("a", str(tmp_path / "a.jpg"))
    sizes = [PhotoReader(decoded=decoded).open([item])[0].size for decoded in (False, True)]
    assert sizes == [(20, 30) if value in (5, 6, 8) else (30, 20)] * 2


def test_negatives_are_drawn_evenly():
    stage = toy("v107", negatives_per_sample=30)
    photo = str(_photo())
    collection = Collection([(Item("q", photo), Item("r", photo))], [Item(f"n{number}", photo) for number in range(6)])
    dataset = SampleDataset(collection, replace(stage, input_size=32), seed=0, artwork=None)
    counts = Counter(name for epoch in range(20) for name in dataset[(epoch, 0)].names[2:])
    assert sum(counts.values()) == 600
    assert all(60 < counts[f"n{number}"] < 145 for number in range(6))


def _artwork():
    from isc_fast.training.views.artwork import find_artwork

    return find_artwork()


def _photo() -> Path:
    from isc_fast.assets import demo_photos

    return demo_photos()[0]
