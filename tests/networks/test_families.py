"""The families of networks, each against a statement of its own in torch or torchvision."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("torchvision")

from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import transforms
from torchvision.models.resnet import Bottleneck, ResNet

from isc_fast.engines.base import load_engine
from isc_fast.errors import CheckpointError, InputError
from isc_fast.export import export_engine
from isc_fast.networks.families.base import Wishes
from isc_fast.networks.families.table import build, read_weights
from isc_fast.networks.torchscript import is_torchscript, read_tensors

SIZE = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_WISHES = Wishes(None, None, None, lambda _: None)

torch.set_num_threads(1)


def images_of(paths: list[Path], size: int, how: Any = transforms.InterpolationMode.BILINEAR) -> Any:
    """Photos as torchvision prepares them, ``(n, 3, size, size)``."""
    prepare = transforms.Compose(
        [transforms.Resize((size, size), how), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    return torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])


class Sscd(nn.Module):
    """SSCD on torchvision's networks, as its authors describe it."""

    def __init__(self, blocks: list[int], dim: int, **kind: int) -> None:
        super().__init__()
        self.backbone = ResNet(Bottleneck, blocks, num_classes=dim, **kind)
        self.backbone.avgpool = nn.Identity()

    def forward(self, x: Any) -> Any:
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        pooled = x.clamp(min=1e-6).pow(3).flatten(2).mean(2).pow(1 / 3)
        return functional.normalize(net.fc(pooled))


def settled(net: nn.Module, images: Any, seed: int) -> nn.Module:
    """The network with seeded weights and the statistics of real photos; else all photos would be described alike."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, (2 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def classy(state: dict[str, Any]) -> dict[str, Any]:
    """A state with the names that Classy Vision gives the same layers."""
    inside = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6"}
    made = OrderedDict()
    for name, value in state.items():
        rest = name.removeprefix("backbone.")
        layer = re.fullmatch(r"layer(\d)\.(\d+)\.(\w+)\.(.*)", rest)
        if layer:
            stage, block, part, last = int(layer[1]) - 1, layer[2], layer[3], layer[4]
            part = {"bn3": "bn", "downsample": "downsample"}.get(part) or f"convolutional_block.{inside[part]}"
            made[f"backbone.blocks.{stage}.block{stage}-{block}.{part}.{last}"] = value
        elif rest.startswith("fc."):
            made[f"embeddings.1.{rest.removeprefix('fc.')}"] = value
        else:
            first, _, last = rest.partition(".")
            made[f"backbone.initial_block._module.{inside[first]}.{last}"] = value
    return made


class Holder(nn.Module):
    """Modules in modules that hold tensors by given names, for TorchScript."""

    def forward(self, x):  # TorchScript reads these itself
        return x


def scripted(state: dict[str, Any], path: Path) -> None:
    """Write tensors as a TorchScript file, under their names."""
    root = Holder()
    for name, value in state.items():
        module: nn.Module = root
        *parts, last = name.split(".")
        for part in parts:
            if part not in dict(module.named_children()):
                module.add_module(part, Holder())
            module = module.get_submodule(part)
        module.register_buffer(last, value.clone())
    torch.jit.save(torch.jit.script(root), str(path))


FORMS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "torchvision": lambda state, path: torch.save(OrderedDict(state), path),
    "wrapped": lambda state, path: torch.save({f"module.{name}": value for name, value in state.items()}, path),
    "classy": lambda state, path: torch.save(classy(state), path),
    "torchscript": scripted,
    "torchscript of classy": lambda state, path: scripted(classy(state), path),
}


@pytest.fixture(scope="module")
def some(photos: list[Path]) -> list[Path]:
    return photos[:6]


@pytest.fixture(scope="module")
def sscd(some: list[Path]) -> nn.Module:
    return settled(Sscd([3, 4, 6, 3], 48), images_of(some, SIZE), 1)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_sscd_gives_the_network(form, sscd, some, tmp_path):
    path = tmp_path / "sscd_disc_mixup.pt"
    FORMS[form](sscd.state_dict(), path)
    assert is_torchscript(path) == form.startswith("torchscript")
    made = build(read_weights(path), NO_WISHES)
    assert (made.name, made.net.arch, made.size, made.net.dim) == ("sscd_disc_mixup", "resnet50", 320, 48)
    images = images_of(some, SIZE)
    with torch.inference_mode():
        found, expected = made.net(images).numpy(), sscd(images).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (expected @ expected.T)[~np.eye(len(some), dtype=bool)].max() < 0.999  # the photos are told apart


@pytest.mark.slow
def test_the_large_sscd_is_read_in_its_only_form_of_tensors(some, tmp_path):
    large = settled(Sscd([3, 4, 23, 3], 40, groups=32, width_per_group=4), images_of(some, SIZE), 2)
    path = tmp_path / "sscd_disc_large.classy.pt"
    torch.save(classy(large.state_dict()), path)
    made = build(read_weights(path), NO_WISHES)
    assert (made.net.arch, made.net.dim) == ("resnext101_32x4d", 40)
    images = images_of(some, SIZE)
    with torch.inference_mode():
        np.testing.assert_allclose(made.net(images).numpy(), large(images).numpy(), atol=2e-6)


@pytest.mark.slow
def test_an_engine_of_sscd_describes_photos_as_the_network_does(sscd, some, tmp_path):
    path, engine = tmp_path / "sscd.torchscript.pt", tmp_path / "sscd.onnx"
    scripted(sscd.state_dict(), path)
    made = export_engine(path, engine, size=SIZE, photos=some)
    assert (made.spec.gem_p, made.spec.dim, made.spec.arch, made.spec.input.resize) == (3, 48, "resnet50", "stretch")
    pixels = np.stack([np.asarray(Image.open(p).convert("RGB").resize((SIZE, SIZE), 2)) for p in some])
    with torch.inference_mode():
        expected = sscd(images_of(some, SIZE)).numpy()
    found = load_engine(engine).run(pixels)
    assert (found * expected).sum(1).min() > 0.99999


class CopyNce:
    """CopyNCE's network in the operations of torch, on a state with its own names."""

    def __init__(self, state: dict[str, Any], heads: int) -> None:
        self.state, self.heads = state, heads

    def linear(self, name: str, x: Any) -> Any:
        return functional.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: Any) -> Any:
        return functional.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-4)

    def __call__(self, images: Any) -> Any:
        s, n = self.state, len(images)
        patches = functional.conv2d(
            images, s["encoder.patch_embed.proj.weight"], s["encoder.patch_embed.proj.bias"], stride=16
        )
        x = torch.cat([s["encoder.cls_token"].expand(n, -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        x = x + s["encoder.pos_embed"]
        for block in range(12):
            at = f"encoder.blocks.{block}."
            qkv = self.linear(at + "attn.qkv", self.norm(at + "norm1", x)).unflatten(-1, (3, self.heads, -1))
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
            x = x + self.linear(at + "attn.proj", (weights @ v).transpose(1, 2).flatten(2))
            hidden = functional.gelu(self.linear(at + "mlp.fc1", self.norm(at + "norm2", x)))
            x = x + self.linear(at + "mlp.fc2", hidden)
        x = self.linear("heads.linear_head.fc1", x[:, 0])
        bn = [s[f"heads.linear_head.bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return functional.normalize(functional.batch_norm(x, *bn))


@pytest.fixture(scope="module")
def copynce() -> dict[str, Any]:
    """Seeded tensors of CopyNCE's true names and shapes."""
    torch.manual_seed(3)
    wide = 384

    def draw(*shape: int, size: float = 0.05) -> Any:
        return torch.randn(*shape) * size

    state = {
        "encoder.cls_token": draw(1, 1, wide),
        "encoder.pos_embed": draw(1, 197, wide),
        "encoder.patch_embed.proj.weight": draw(wide, 3, 16, 16),
        "encoder.patch_embed.proj.bias": draw(wide),
        "heads.linear_head.fc1.weight": draw(512, wide),
        "heads.linear_head.bn.weight": 1 + draw(512),
        "heads.linear_head.bn.bias": draw(512),
        "heads.linear_head.bn.running_mean": draw(512),
        "heads.linear_head.bn.running_var": draw(512).abs() + 0.1,
        "heads.linear_head.bn.num_batches_tracked": torch.tensor(7),
    }
    for block in range(12):
        for name, shape in (("attn.qkv", (3 * wide, wide)), ("attn.proj", (wide, wide)), ("mlp.fc1", (4 * wide, wide))):
            state[f"encoder.blocks.{block}.{name}.weight"] = draw(*shape)
            state[f"encoder.blocks.{block}.{name}.bias"] = draw(shape[0])
        state[f"encoder.blocks.{block}.mlp.fc2.weight"] = draw(wide, 4 * wide)
        state[f"encoder.blocks.{block}.mlp.fc2.bias"] = draw(wide)
        for norm in ("norm1", "norm2"):
            state[f"encoder.blocks.{block}.{norm}.weight"] = 1 + draw(wide)
            state[f"encoder.blocks.{block}.{norm}.bias"] = draw(wide)
    return state


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_copynce_is_read_and_computes_what_its_authors_state(wrapper, copynce, some, tmp_path):
    path = tmp_path / "descriptor_vits_224.pth.tar"
    torch.save({"model": {wrapper + name: value for name, value in copynce.items()}, "epoch": 29}, path)
    made = build(read_weights(path), NO_WISHES)
    assert (made.net.arch, made.size, made.filter, made.net.gem_p) == ("vit_small_patch16_224", 224, "bicubic", None)
    images = images_of(some[:2], 224, transforms.InterpolationMode.BICUBIC)
    with torch.inference_mode():
        np.testing.assert_allclose(made.net(images).numpy(), CopyNce(copynce, 6)(images).numpy(), atol=5e-6)


@pytest.mark.slow
def test_an_engine_of_copynce_takes_photos_as_the_network_does(copynce, some, tmp_path):
    path, engine = tmp_path / "descriptor_vits_224.pth.tar", tmp_path / "copynce.onnx"
    torch.save({"model": copynce, "epoch": 29}, path)
    made = export_engine(path, engine, photos=some[:3])
    assert (made.spec.height, made.spec.dim, made.spec.input.filter, made.spec.gem_p) == (224, 512, "bicubic", None)


# --- what does not fit


def changed(state: dict[str, Any], how: str) -> dict[str, Any]:
    made = dict(state)
    if how == "one missing":
        del made["backbone.layer2.1.bn2.running_var"]
    elif how == "one more":
        made["backbone.layer2.9.bn2.running_var"] = torch.ones(3)
    elif how == "another shape":
        made["backbone.layer2.1.bn2.running_var"] = torch.ones(3)
    elif how == "no head":
        del made["backbone.fc.weight"]
    elif how == "another kind":
        del made["backbone.layer3.5.conv1.weight"]
    elif how == "twice":
        made["backbone.initial_block._module.0.weight"] = made["backbone.conv1.weight"]
    return made


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("one missing", "1 missing: backbone.layer2.1.bn2.running_var"),
        ("one more", "1 unexpected: backbone.layer2.9.bn2.running_var"),
        ("another shape", "(3,) instead of (128,)"),
        ("no head", "no linear head"),
        ("another kind", "third layer has 5 blocks"),
        ("twice", "two forms"),
    ],
)
def test_a_network_that_is_not_quite_sscd_is_refused_in_one_line(how, words, sscd, tmp_path):
    path = tmp_path / "sscd.pt"
    torch.save(changed(sscd.state_dict(), how), path)
    with pytest.raises(CheckpointError) as caught:
        build(read_weights(path), NO_WISHES)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "wishes", "words"),
    [
        ({"encoder.blocks.3.norm1.bias": None}, NO_WISHES, "1 missing: backbone.vit.blocks.3.norm1.bias"),
        ({"heads.linear_head.fc1.weight": None}, NO_WISHES, "the matcher"),
        ({"encoder.pos_embed": torch.zeros(1, 1, 384)}, NO_WISHES, "not known here"),
        ({}, Wishes(256, None, None, print), "an input of 224 pixels, not 256"),
        ({}, Wishes(None, 3.0, None, print), "leave out --gem-p"),
    ],
)
def test_what_does_not_fit_copynce_is_refused(change, wishes, words, copynce, tmp_path):
    state = {name: change.get(name, value) for name, value in copynce.items()}
    path = tmp_path / "copynce.pth.tar"
    torch.save({"model": {name: value for name, value in state.items() if value is not None}, "epoch": 1}, path)
    with pytest.raises((CheckpointError, InputError)) as caught:
        build(read_weights(path), wishes)
    assert words in str(caught.value)


# --- TorchScript files are read and never run


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], tuple[bytes, int] | None]) -> None:
    """Copy an archive, with some of its members changed: a new content, and how it is packed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            other = change(entry.filename, data)
            new.writestr(entry.filename, *(other if other else (data, zipfile.ZIP_STORED)))


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "whole.pt"
    scripted(
        {"backbone.conv1.weight": torch.arange(6.0).reshape(2, 3), "a.b.bias": torch.ones(2, dtype=torch.half)}, path
    )
    return path


def test_tensors_of_torchscript_have_their_names_and_values(script):
    found = read_tensors(script)
    assert found.keys() == {"backbone.conv1.weight", "a.b.bias"}
    assert found["backbone.conv1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["a.b.bias"].dtype == torch.half


def test_a_program_in_torchscript_is_not_run(script, tmp_path):
    bad, mark = tmp_path / "bad.pt", tmp_path / "mark"
    evil = pickle.dumps(Evil(f"touch {mark}"), 2)
    rewritten(script, bad, lambda name, _: (evil, zipfile.ZIP_STORED) if name.endswith("data.pkl") else None)
    with pytest.raises(CheckpointError, match=r"wants to run (posix|nt)\.system"):
        read_tensors(bad)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("member", "content", "packed", "words"),
    [
        ("data/0", b"\0" * 8, zipfile.ZIP_STORED, "another size"),
        ("data/0", b"\0" * 24, zipfile.ZIP_DEFLATED, "another size"),
        ("byteorder", b"big", zipfile.ZIP_STORED, "byte order"),
        ("data.pkl", pickle.dumps({"a": 1}), zipfile.ZIP_STORED, "names no tensors"),
        ("data.pkl", b"\x80\x02", zipfile.ZIP_STORED, "cannot be read"),
    ],
)
def test_a_damaged_torchscript_file_is_refused_in_one_line(member, content, packed, words, script, tmp_path):
    bad = tmp_path / "bad.pt"
    rewritten(script, bad, lambda name, _: (content, packed) if name.partition("/")[2] == member else None)
    with pytest.raises(CheckpointError) as caught:
        read_tensors(bad)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 10, 200, 600])
def test_a_torchscript_file_cut_short_is_refused(length, script, tmp_path):
    bad = tmp_path / "cut.pt"
    bad.write_bytes(script.read_bytes()[:length])
    with pytest.raises(CheckpointError):
        read_weights(bad)
