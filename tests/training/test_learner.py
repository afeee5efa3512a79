"""One step, against an independent statement of what it should do, and what the optimiser keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from helpers_training import ARCH, toy

from isc_fast.errors import CheckpointError
from isc_fast.networks.model import DescriptorNet
from isc_fast.training.loop import learner as learner_module
from isc_fast.training.loop.batchnorm import batch_norms, kept_statistics
from isc_fast.training.loop.distributed import Process
from isc_fast.training.loop.learner import Learner, usable_precision
from isc_fast.training.loop.optimizer import make_optimizer, set_learning_rate, take_over_momentum
from isc_fast.training.stages import MOST_PHOTOS, NO_PHOTO, STAGES

CPU = Process(0, 1, torch.device("cpu"))


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
