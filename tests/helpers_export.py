"""Checkpoints in the published format, and their descriptors. This code shares nothing with the package."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

torch.set_num_threads(1)  # two threads on two busy cores are a hundred times slower than one


class ReferenceNet(nn.Module):
    """The network as the reference solution's paper describes it."""

    def __init__(self, arch: str, dim: int, gem_p: float = 1.0) -> None:
        super().__init__()
        self.backbone = timm.create_model(arch, features_only=True, pretrained=False)
        self.fc = nn.Linear(self.backbone.feature_info.channels()[-1], dim, bias=False)
        self.bn = nn.BatchNorm1d(dim)
        self.gem_p = gem_p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.backbone(x)[-1]
        pooled = torch.mean(torch.clamp(maps, min=1e-6) ** self.gem_p, dim=(2, 3)) ** (1 / self.gem_p)
        return nn.functional.normalize(self.bn(self.fc(pooled)))


def read(net: ReferenceNet, paths: Sequence[Path], size: int) -> torch.Tensor:
    """Read photos as the reference solution does, by torchvision on Pillow images and not by our decoder."""
    config = timm.data.resolve_model_data_config(net.backbone)
    prepare = transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])]
    )
    return torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])


def describe(net: ReferenceNet, paths: Sequence[Path], size: int) -> np.ndarray:
    with torch.inference_mode():
        return net.eval()(read(net, paths, size)).numpy()


def calibrated(arch: str, photos: Sequence[Path], size: int, dim: int = 32, seed: int = 0) -> ReferenceNet:
    """Make a network with random weights and the batch statistics of real photos.

    Without these statistics all photos would get nearly the same descriptor.
    """
    torch.manual_seed(seed)
    net = ReferenceNet(arch, dim)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        net.train()(read(net, photos, size))
    return net.eval()


def published(net: ReferenceNet, arch: str, size: int | None, /, **changes: Any) -> dict[str, Any]:
    """Return the content of a checkpoint file. ``changes`` replaces values by key; the value ``...`` removes a key."""
    decay = [p for p in net.parameters() if p.ndim > 1]
    no_decay = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([{"params": no_decay, "weight_decay": 0.0}, {"params": decay}], lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    args = argparse.Namespace(data="../input/", arch=arch, epochs=10, lr=0.1, gem_p=1.0, rank=0, resume=None)
    if size is not None:
        args.input_size = size
    content = {
        "epoch": 5,
        "arch": arch,
        "state_dict": {f"module.{key}": value for key, value in net.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "args": args,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not ...}


def published_file(folder: Path, net: ReferenceNet, arch: str, size: int) -> Path:
    """Write a checkpoint under the name of the published one, and return its path."""
    path = folder / "isc_ft_v107.pth.tar"
    torch.save(published(net, arch, size), path)
    return path


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def written_once(to_onnx: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Return a function that lets torch write the graph of each network and size once, which takes ten seconds, and copies it.

    Networks are the same if they are built alike and every number in them is.
    """
    written: dict[str, Any] = {}

    def remembered(net: Any, size: int) -> Any:
        facts = hashlib.sha256(repr((net, net.arch, net.dim, net.gem_p, net.mean, net.std, size)).encode())
        for name, values in net.state_dict().items():
            facts.update(name.encode() + values.numpy().tobytes())
        key = facts.hexdigest()
        if key not in written:
            written[key] = to_onnx(net, size)
        model = type(written[key])()
        model.CopyFrom(written[key])
        return model

    return remembered
