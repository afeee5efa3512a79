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

from ..decoders.preprocessing import Preprocessing
from ..engines.spec import EngineSpec
from ..networks.weights import fetch_weights
from .photos import load_photos
from .request import Request

_TRIED = 4  # photos


@dataclass(frozen=True)
class Origin:
    """A network that engines are made from.

    Attributes:
        net: `isc_fast.networks.model.DescribingNet` in evaluation mode, on the processor; or
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
    pixels = load_photos(request.photos[:_TRIED], spec.input)
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
    from ..networks.families.base import Wishes
    from ..networks.families.table import build, read_weights

    file = _find_checkpoint(request.ckpt, request.progress)
    request.say(f"reading {file}")
    weights = read_weights(file)
    made = build(weights, Wishes(request.size, request.gem_p, request.name, request.say))
    net = made.net
    spec = EngineSpec(
        name=request.name or made.name,
        arch=net.arch,
        height=made.size,
        width=made.size,
        dim=net.dim,
        gem_p=net.gem_p,
        preprocessing=Preprocessing(made.size, made.size, made.resize, made.filter).name,
        checkpoint_sha256=weights.sha256,
        teacher=made.teacher,
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
