"""What an engine is made from: the network of a checkpoint, with the specification that its engines have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.spec import EngineSpec
from ..errors import CheckpointError, InputError
from ..networks.presets import preset_in_name
from ..networks.weights import RELEASES, fetch_weights
from .photos import load_photos
from .request import Request

_TRIED = 4  # photos


@dataclass(frozen=True)
class Origin:
    """A network that engines are made from.

    Attributes:
        net: `isc_fast.networks.model.DescriptorNet` in evaluation mode, on the processor.
        spec: of an fp32 engine of it.
        pixels: a few photos ``uint8 (n, h, w, 3)`` on which it was tried.
    """

    net: Any
    spec: EngineSpec
    pixels: npt.NDArray[np.uint8]


@contextlib.contextmanager
def open_network(request: Request) -> Iterator[Origin]:
    """Load the network of the request's checkpoint and try it; torch has as many threads as help until the block ends.

    Raises:
        CheckpointError: the network does not run at this size; or as `load_network`.
        DownloadError, InputError: as `load_network`; or a photo cannot be decoded.
    """
    from .targets.threads import best_threads
    from .verify import check_runs, describe

    net, spec = load_network(request)
    pixels = load_photos(request.photos[:_TRIED], spec.height, spec.width)
    check_runs(net, spec, pixels)
    with best_threads(lambda: describe(net, pixels)):
        yield Origin(net, spec, pixels)


def load_network(request: Request) -> tuple[Any, EngineSpec]:
    """The network of the request's checkpoint, in evaluation mode, and the specification of an fp32 engine of it.

    Raises:
        CheckpointError: the checkpoint does not exist, cannot be read, or does not say its size.
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
    # The published networks were evaluated with the power of their presets; any other with that of its training.
    powers = (request.gem_p, preset.gem_p if preset else None, checkpoint.gem_p, 1.0)
    power = next(power for power in powers if power is not None)
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


def _find_checkpoint(ckpt: str | os.PathLike[str], progress: Callable[[int, int | None], None] | None) -> Path:
    """The checkpoint's file; published weights are fetched by their name."""
    path = Path(ckpt)
    if path.is_file():
        return path
    name = os.fspath(ckpt)
    if name in RELEASES:
        return fetch_weights(name, progress=progress)
    found = "is a folder" if path.is_dir() else "does not exist"
    raise CheckpointError(
        f"the checkpoint {path} {found}; expected a file, or published weights: {', '.join(RELEASES)}"
    )
