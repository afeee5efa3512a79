"""Training reads photos through a source: here they are in memory, and no file is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers_training import SIZE, make_collection, toy
from images import UNKNOWN, encode, noise
from PIL import Image

from isc_fast.items import Item, Photo, Problem
from isc_fast.networks.model import DescriptorNet
from isc_fast.training.data.collection import collect
from isc_fast.training.data.dataset import SampleDataset, make_loader
from isc_fast.training.data.held_out import read_held_out
from isc_fast.training.data.inputs import InputMaker
from isc_fast.training.data.photos import PhotoReader
from isc_fast.training.data.sampling import KeySampler
from isc_fast.training.loop.distributed import Process
from isc_fast.training.loop.evaluation import evaluate_net
from isc_fast.training.loop.learner import Learner

CPU = Process(0, 1, torch.device("cpu"))
LOST = "the toy has lost it"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photos: Sequence[Path]) -> Path:
    return make_collection(tmp_path_factory.mktemp("data"), photos)


class Memory:
    """The files of a folder, in memory."""

    def __init__(self, folder: Path, lost: Sequence[str] = ()) -> None:
        self._files = {str(path): path.read_bytes() for path in folder.rglob("*.jpg")}
        self._lost = lost

    def open(self, item: Item) -> Photo:
        return Problem("read", LOST) if item.id in self._lost else self._files[item.path]


def batches(collection, stage, views_on: str, workers: int = 0):
    dataset = SampleDataset(collection, stage, seed=3, artwork=None, views_on=views_on)
    sampler = KeySampler(stage, len(dataset), seed=3, rank=0, world_size=1)
    return dataset, list(make_loader(dataset, sampler, workers=workers, pin=False))


@pytest.mark.parametrize("views_on", ["workers", "device"])
def test_the_loader_makes_the_same_batches_from_memory(data, views_on):
    stage = toy("v107", batch_size=4, negatives_per_sample=1)
    collection = collect(data, stage)
    _, expected = batches(collection, stage, views_on)
    dataset, made = batches(replace(collection, open_photo=Memory(data).open), stage, views_on, workers=1)
    assert len(made) == len(expected) > 1
    for one, two in zip(expected, made, strict=True):
        assert one.names == two.names
        assert [file for file, _ in one.files] == [file for file, _ in two.files]
        assert torch.equal(one.pixels, two.pixels)
        assert not two.skipped
    net = DescriptorNet(stage.arch, stage.dim)
    inputs, labels = InputMaker(net, dataset, CPU.device)(made[0])
    assert inputs.shape == (12, 3, SIZE, SIZE)
    assert labels.tolist() == made[0].labels.tolist()


def test_a_network_learns_from_memory(data, monkeypatch):
    stage = toy("v107", batch_size=4, negatives_per_sample=1)
    collection = replace(collect(data, stage), open_photo=Memory(data).open)
    monkeypatch.setattr("isc_fast.decoders.opening._open_regular", _no_file)
    dataset, (batch, *_) = batches(collection, stage, "workers")
    torch.manual_seed(0)
    learner = Learner(DescriptorNet(stage.arch, stage.dim), stage, CPU)
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    losses = [float(learner.step(*InputMaker(learner.net, dataset, CPU.device)(batch)).loss.detach()) for _ in range(2)]
    assert all(np.isfinite(losses))
    assert any(not torch.equal(value, before[name]) for name, value in learner.net.state_dict().items())


def _no_file(path: str) -> None:
    raise AssertionError(f"the file {path} was opened")


def test_a_photo_that_a_source_has_lost_is_replaced_and_reported(data):
    stage = toy("v107", batch_size=4, negatives_per_sample=0)
    collection = collect(data, stage)
    lost = collection.samples[2][0]
    for decoded in (True, False):
        reader = PhotoReader(decoded=decoded, open_photo=Memory(data, [lost.id]).open)
        assert reader.open([lost]) is None
        assert reader.skipped == [(lost.path, LOST)]
    _, made = batches(replace(collection, open_photo=Memory(data, [lost.id]).open), stage, "workers")
    assert (lost.path, LOST) in [entry for batch in made for entry in batch.skipped]


def test_a_network_is_evaluated_on_memory(data, monkeypatch):
    torch.manual_seed(0)
    net = DescriptorNet(toy("v107").arch, 16).eval()
    held_out = read_held_out(data)
    expected = evaluate_net(net, held_out, SIZE, CPU)
    in_memory = replace(held_out, open_photo=Memory(data).open)
    monkeypatch.setattr("isc_fast.decoders.opening._open_regular", _no_file)
    assert evaluate_net(net, in_memory, SIZE, CPU) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encode(Image.new("RGB", (9, 9)), "EPS"), UNKNOWN),
        (encode(noise(30, 20), "JPEG")[:1], UNKNOWN),
        (b"", "the file is empty"),
    ],
)
def test_what_the_contract_refuses_is_refused_when_only_the_content_is_read(content, reason):
    for decoded in (True, False):
        reader = PhotoReader(decoded=decoded, open_photo=lambda _: content)
        assert reader.open([Item("a", "a.jpg")]) is None
        assert reason in reader.skipped[0][1]


def test_a_bomb_is_refused_when_only_the_content_is_read(monkeypatch):
    monkeypatch.setattr("isc_fast.decoders.limits.MAX_PIXELS", 24)
    content = encode(noise(5, 5), "PNG")
    reader = PhotoReader(decoded=False, open_photo=lambda _: content)
    assert reader.open([Item("a", "a.png")]) is None
    assert "decompression bomb: 5 × 5 pixels" in reader.skipped[0][1]
