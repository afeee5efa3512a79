"""What an engine is made from: the network of a checkpoint, with the specification that its engines have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.spec import EngineSpec
from ..errors import CheckpointError, InputError
from ..networks.presets import preset_in_name
from ..networks.weights import fetch_weights
from .photos import load_photos
from .request import Request

_TRIED = 4  # photos


@dataclass(frozen=True)
class Origin:
    """A network that engines are made from.

    Attributes:
        net: `isc_fast.networks.model.DescriptorNet` in evaluation mode, on the processor; or
            `isc_fast.networks.augmented.AugmentedNet` around one.
        spec: of an fp32 engine of it.
        pixels: a few photos ``uint8 (n, h, w, 3)`` on which it was tried.
    """

    net: Any
    spec: EngineSpec
    pixels: npt.NDArray[np.uint8]


@contextlib.contextmanager
def open_network(request: Request, *, augmented: bool = False) -> Iterator[Origin]:
    """Load the network of the request's checkpoint and try it; torch has as many threads as help until the block ends.

    Args:
        request: names the checkpoint.
        augmented: whether the engine is to sum the views of `isc_fast.networks.augmented`.

    Raises:
        CheckpointError: the network does not run at this size; or as `load_network`.
        DownloadError, InputError: as `load_network`; or a photo cannot be decoded.
    """
    from .targets.threads import best_threads
    from .verify import check_runs, describe

    net, spec = load_network(request)
    if augmented:
        net, spec = _augment(net, spec)
        spec = spec if request.name else replace(spec, name=f"{spec.name}-tta")
    pixels = load_photos(request.photos[:_TRIED], spec.height, spec.width)
    check_runs(net, spec, pixels)
    with best_threads(lambda: describe(net, pixels)):
        yield Origin(net, spec, pixels)


def load_network(request: Request) -> tuple[Any, EngineSpec]:
    """The network of the request's checkpoint, in evaluation mode, and the specification of an fp32 engine of it.

    Raises:
        CheckpointError: the checkpoint cannot be read, or does not say its size.
        DownloadError: published weights cannot be fetched.
        InputError: the power of the pooling is not above 0.
    """
    from ..networks.checkpoint import build_network, load_checkpoint

    file = _find_checkpoint(request.ckpt, request.progress)
    request.say(f"reading {file}")
    checkpoint = load_checkpoint(file)
    side = request.size or checkpoint.input_size
    if side is None:
        raise CheckpointError(f"{file} does not say the size of its input; pass it, for example --size 512")
    preset = preset_in_name(file.name) or preset_in_name(request.name or "")
    # The published networks were evaluated with the power of their presets; any other with the one that it names itself.
    powers = (request.gem_p, preset.gem_p if preset else None, checkpoint.gem_p, 1.0)
    power = next(power for power in powers if power is not None)
    if preset and request.gem_p is None and checkpoint.gem_p not in (None, preset.gem_p):
        request.say(
            f"warning: {file} is named like {preset.name}, which pools with the power {preset.gem_p:g}, but its own arguments "
            f"say {checkpoint.gem_p:g}; the engine pools with {preset.gem_p:g}: choose with --gem-p, or rename the file"
        )
    if not power > 0:
        raise InputError(f"the power of the pooling is {power}; expected a number above 0")
    net = build_network(checkpoint, gem_p=power)
    spec = EngineSpec(
        name=request.name or (preset.name if preset else file.name.partition(".")[0]),
        arch=checkpoint.arch,
        height=side,
        width=side,
        dim=net.dim,
        gem_p=power,
        checkpoint_sha256=checkpoint.sha256,
    )
    return net, spec


def _augment(net: Any, spec: EngineSpec) -> tuple[Any, EngineSpec]:
    """The network with test-time augmentation, and its specification: its input is larger."""
    from ..networks.augmented import SCALES_AND_MIRROR, AugmentedNet, large_side

    side = large_side(spec.height)
    augmented = AugmentedNet(net, spec.height).eval()
    return augmented, replace(spec, height=side, width=side, augmentation=SCALES_AND_MIRROR)


def _find_checkpoint(ckpt: str | os.PathLike[str], progress: Callable[[int, int | None], None] | None) -> Path:
    """The checkpoint's file; published weights are fetched by their name."""
    path = Path(ckpt)
    return path if path.is_file() else fetch_weights(os.fspath(ckpt), progress=progress)
