from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import socket
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("torchvision")

from helpers_export import ReferenceNet, calibrated, describe, published, read

from isc_fast.errors import CheckpointError, OutputError
from isc_fast.networks.checkpoint import build_network, load_checkpoint, save_checkpoint
from isc_fast.networks.model import DescriptorNet

ARCH = "resnet18"
SIZE = 64
V2_M = "tf_efficientnetv2_m_in21ft1k"


@pytest.fixture(scope="module")
def net(photos: Sequence[Path]) -> ReferenceNet:
    return calibrated(ARCH, photos[:8], SIZE)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write anything the way torch does."""

    def save(content: Any, *, old: bool = False) -> Path:
        path = tmp_path / "checkpoint.pth.tar"
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        return path

    return save


def refused(path: Path) -> str:
    """The message of the refusal, which has to be one line and to name the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


# --- what a good checkpoint gives


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old pickle"])
def test_a_published_checkpoint_gives_the_network_that_wrote_it(
    net: ReferenceNet, photos: Sequence[Path], write: Callable[..., Path], old: bool
) -> None:
    path = write(published(net, ARCH, SIZE), old=old)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.arch, checkpoint.input_size, checkpoint.epoch) == (ARCH, SIZE, 5)
    assert checkpoint.args["data"] == "../input/"
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    built = build_network(checkpoint)
    assert not built.training
    assert built.dim == 32
    with torch.inference_mode():
        found = built(read(net, photos[:4], SIZE)).numpy()
    assert found == pytest.approx(describe(net, photos[:4], SIZE), abs=1e-6)


@pytest.mark.parametrize("gem_p", [1.0, 3.0])
def test_pooling_power(net: ReferenceNet, photos: Sequence[Path], write: Callable[..., Path], gem_p: float) -> None:
    powered = ReferenceNet(ARCH, 32, gem_p)
    powered.load_state_dict(net.state_dict())
    built = build_network(load_checkpoint(write(published(net, ARCH, SIZE))), gem_p=gem_p)
    with torch.inference_mode():
        found = built(read(net, photos[:3], SIZE)).numpy()
    assert found == pytest.approx(describe(powered, photos[:3], SIZE), abs=1e-5)
    if gem_p != 1.0:
        assert abs(found - describe(net, photos[:3], SIZE)).max() > 1e-3


def test_no_options_and_options_as_a_dict(net: ReferenceNet, write: Callable[..., Path]) -> None:
    assert load_checkpoint(write(published(net, ARCH, SIZE, args=...))).input_size is None
    assert load_checkpoint(write(published(net, ARCH, SIZE, args={"input_size": 96}))).input_size == 96
    assert load_checkpoint(write(published(net, ARCH, None, epoch=...))).epoch is None


def test_names_without_the_wrapper_are_taken_as_they_are(net: ReferenceNet, write: Callable[..., Path]) -> None:
    bare = load_checkpoint(write(published(net, ARCH, SIZE, state_dict=net.state_dict())))
    assert set(bare.state_dict) == set(net.state_dict())
    build_network(bare)


# --- the network


def test_the_published_arch_has_the_published_tensors_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = DescriptorNet(V2_M).state_dict()
    backbone = [name for name in names if name.startswith("backbone.")]
    assert len(backbone) == 1112
    head = {"fc.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    assert set(names) - set(backbone) == head
    assert tuple(names["fc.weight"].shape) == (256, 512)
    assert names["backbone.blocks.6.4.conv_pwl.weight"].shape[0] == 512


@pytest.mark.parametrize("arch", ["resnet18", "tf_efficientnet_lite0", "convnext_atto", "mobilenetv3_small_100"])
def test_tensors_are_named_as_in_the_reference(arch: str) -> None:
    expected = ReferenceNet(arch, 16).state_dict()
    found = DescriptorNet(arch, 16).state_dict()
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        name: tuple(value.shape) for name, value in expected.items()
    }


def test_mean_and_std_follow_the_arch() -> None:
    assert DescriptorNet("resnet18").mean == (0.485, 0.456, 0.406)
    assert DescriptorNet("resnet18").std == (0.229, 0.224, 0.225)
    assert DescriptorNet("tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)


def test_maps_with_channels_last_are_pooled_over_space() -> None:
    net = DescriptorNet("swin_tiny_patch4_window7_224", 16).eval()
    assert net(torch.rand(2, 3, 224, 224)).shape == (2, 16)


def test_an_unknown_arch_names_close_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'tf_efficientnetv2_mm' is not known to timm.*tf_efficientnetv2_m\b"):
        DescriptorNet("tf_efficientnetv2_mm")


def test_an_arch_without_feature_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_maps(*_: object, **options: object) -> None:
        assert options["features_only"]
        assert options["pretrained"] is False
        raise RuntimeError("features_only not implemented\nfor this model")

    monkeypatch.setattr("timm.create_model", no_maps)
    with pytest.raises(CheckpointError, match=r"'resnet18' gives no feature maps: features_only not implemented for"):
        DescriptorNet("resnet18")


@pytest.mark.parametrize("arch", ["hf-hub:somebody/something", "local-dir:/tmp", "hf_hub:a/b", "", "../x"])
def test_an_arch_in_a_file_cannot_reach_for_the_network(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(CheckpointError, match="is not a plain timm name"):
        DescriptorNet(arch)


# --- files that want to run something


class Command:
    """An object whose unpickling runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old pickle"])
@pytest.mark.parametrize("place", ["options", "top", "tensors"])
def test_a_malicious_file_is_refused_and_not_executed(
    net: ReferenceNet, write: Callable[..., Path], tmp_path: Path, place: str, old: bool
) -> None:
    marker = tmp_path / "executed"
    evil = Command(marker)
    content = {
        "options": lambda: published(net, ARCH, SIZE, args=argparse.Namespace(input_size=SIZE, lr=evil)),
        "top": lambda: evil,
        "tensors": lambda: published(net, ARCH, SIZE, state_dict={"module.fc.weight": evil}),
    }[place]()
    path = write(content, old=old)
    message = refused(path)
    assert "posix.system" in message
    assert "nothing in it was executed" in message
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file does what it threatens to do: the test can fail
    assert marker.exists()


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old pickle"])
def test_harmless_objects_are_refused_by_name_too(net: ReferenceNet, write: Callable[..., Path], old: bool) -> None:
    options = argparse.Namespace(input_size=SIZE, data=pathlib.PurePosixPath("/data"))
    assert "pathlib.PurePosixPath" in refused(write(published(net, ARCH, SIZE, args=options), old=old))


def test_a_tensor_that_pretends_to_be_huge_is_refused(net: ReferenceNet, write: Callable[..., Path]) -> None:
    huge = torch.zeros(1).expand(1 << 40)
    assert "module.fc.weight" in refused(write(published(net, ARCH, SIZE, state_dict={"module.fc.weight": huge})))


# --- files that are something else


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"\n<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "text that starts with"),
        (b"\x08\x0a\x12\x07pytorch\x1a\x062.14.1", "ONNX"),
        ((40).to_bytes(8, "little") + json.dumps({"fc.weight": {}}).encode(), "safetensors"),
        (bytes(range(130, 200)), "bytes 82 83"),
        (b"PK\x03\x04" + bytes(200), "damaged"),
        (b"\x80\x02" + bytes(200), "damaged"),
    ],
    ids=["empty", "html", "html later", "lfs", "onnx", "safetensors", "bytes", "zip", "pickle"],
)
def test_what_is_no_checkpoint_is_told_apart(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(content)
    assert said in refused(path)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old pickle"])
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.5, 0.999])
def test_a_file_that_is_cut_short(net: ReferenceNet, write: Callable[..., Path], old: bool, share: float) -> None:
    path = write(published(net, ARCH, SIZE), old=old)
    content = path.read_bytes()
    path.write_bytes(content[: max(3, int(len(content) * share))])
    refused(path)


def test_a_zip_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    refused(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nothing.pth")
    assert "directory" in refused(tmp_path)


# --- content that does not fit


@pytest.mark.parametrize("key", ["arch", "state_dict"])
def test_missing_keys_are_named(net: ReferenceNet, write: Callable[..., Path], key: str) -> None:
    assert f"lacks {key};" in refused(write(published(net, ARCH, SIZE, **{key: ...})))


def test_bare_tensors_and_other_objects(net: ReferenceNet, write: Callable[..., Path]) -> None:
    assert "bare tensors" in refused(write(dict(net.state_dict())))
    assert "holds a list" in refused(write([1, 2]))
    assert "holds a Tensor" in refused(write(torch.zeros(3)))


@pytest.mark.parametrize("value", [0, -5, "512", 3.5, True])
def test_an_input_size_that_is_none(net: ReferenceNet, write: Callable[..., Path], value: object) -> None:
    assert "input_size" in refused(write(published(net, ARCH, SIZE, args=argparse.Namespace(input_size=value))))


@pytest.mark.parametrize("value", [0, -1.0, "3", True])
def test_a_pooling_power_that_is_none(net: ReferenceNet, write: Callable[..., Path], value: object) -> None:
    options = argparse.Namespace(input_size=SIZE, gem_p=value)
    assert "gem_p" in refused(write(published(net, ARCH, SIZE, args=options)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(net: ReferenceNet, write: Callable[..., Path], bad: float) -> None:
    content = published(net, ARCH, SIZE)
    for name in ("module.backbone.layer1.0.conv1.weight", "module.bn.running_var"):
        content["state_dict"][name] = content["state_dict"][name].clone()
        content["state_dict"][name].view(-1)[3] = bad
    message = refused(write(content))
    assert "module.backbone.layer1.0.conv1.weight, module.bn.running_var" in message


def test_every_tensor_has_to_fit(net: ReferenceNet, write: Callable[..., Path]) -> None:
    content = published(net, ARCH, SIZE)
    tensors = content["state_dict"]
    del tensors["module.backbone.conv1.weight"], tensors["module.bn.num_batches_tracked"]
    tensors["module.fc.bias"] = torch.zeros(32)
    tensors["module.bn.bias"] = torch.zeros(31)
    with pytest.raises(CheckpointError) as caught:
        build_network(load_checkpoint(write(content)))
    message = str(caught.value)
    assert "2 missing: backbone.conv1.weight, bn.num_batches_tracked" in message
    assert "1 unexpected: fc.bias" in message
    assert "1 of another shape: bn.bias (31,) instead of (32,)" in message


def test_weights_of_another_arch_are_counted(net: ReferenceNet, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit tf_efficientnet_lite0 .* missing: .*… \(\d+ in all\)"):
        build_network(load_checkpoint(write(published(net, "tf_efficientnet_lite0", SIZE))))


def test_a_prefix_on_some_names_only_is_no_prefix(net: ReferenceNet, write: Callable[..., Path]) -> None:
    content = published(net, ARCH, SIZE)
    content["state_dict"]["fc.weight"] = content["state_dict"].pop("module.fc.weight")
    with pytest.raises(CheckpointError, match="unexpected: module"):
        build_network(load_checkpoint(write(content)))


# --- writing


def test_what_is_written_is_the_published_format(net: ReferenceNet, tmp_path: Path) -> None:
    ours = DescriptorNet(ARCH, 32)
    ours.load_state_dict(net.state_dict())
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    path = tmp_path / "checkpoint_0004.pth.tar"
    save_checkpoint(
        path, ours, arch=ARCH, input_size=SIZE, epoch=5, optimizer=optimizer, args={"data": tmp_path, "lr": 0.1}
    )
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(path, weights_only=True)
    assert list(content) == ["epoch", "arch", "state_dict", "optimizer", "args"]
    assert content["epoch"] == 5
    assert isinstance(content["args"], argparse.Namespace)
    assert (content["args"].input_size, content["args"].data) == (SIZE, str(tmp_path))
    assert content["optimizer"]["param_groups"][0]["lr"] == 0.1
    again = ReferenceNet(ARCH, 32)
    again.load_state_dict({key.removeprefix("module."): value for key, value in content["state_dict"].items()})
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in again.state_dict().items())
    assert load_checkpoint(path).input_size == SIZE
    assert os.listdir(tmp_path) == [path.name]


def test_a_wrapped_network_gets_one_prefix(tmp_path: Path) -> None:
    wrapped = torch.nn.ModuleDict({"module": DescriptorNet(ARCH, 8)})
    save_checkpoint(tmp_path / "c.pth", wrapped, arch=ARCH, input_size=SIZE, epoch=1)
    build_network(load_checkpoint(tmp_path / "c.pth"))


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.pth"
    net = DescriptorNet(ARCH, 8)
    save_checkpoint(path, net, arch=ARCH, input_size=SIZE, epoch=1)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="option hook is function"):
        save_checkpoint(path, net, arch=ARCH, input_size=SIZE, epoch=2, args={"hook": refused})

    def half(content: object, stream: Any) -> None:
        stream.write(b"PK half a file")
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OutputError, match=r"cannot write .*c\.pth"):
        save_checkpoint(path, net, arch=ARCH, input_size=SIZE, epoch=2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c.pth"]


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e8m0fnu", "complex64"])
def test_numbers_of_unusual_kinds_are_one_line(write, name):
    """They cannot even be compared: torch.isfinite is not there for eight bits."""
    tensor = torch.zeros(4, 4).to(getattr(torch, name))
    path = write({"arch": ARCH, "state_dict": {"fc.weight": tensor}})
    with pytest.raises(CheckpointError, match=r"not plain tensors of usual numbers with a name: fc\.weight") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
