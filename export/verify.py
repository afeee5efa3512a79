"""Comparing an engine with the network it came from, on real photos, before the engine is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..engines.base import Engine
from ..engines.spec import EngineSpec
from ..errors import CheckpointError
from ..networks.model import DescriptorNet
from .agree import MIN_ROUNDED_COSINE, Vectors, agree, cosines, counting_photos

__all__ = ["MIN_ROUNDED_COSINE", "check_runs", "cosines", "counting_photos", "describe", "verify"]


def describe(net: DescriptorNet, pixels: npt.NDArray[np.uint8]) -> Vectors:
    """What the network itself makes of ``uint8 (n, h, w, 3)``: written apart from the engine's graph, on purpose."""
    with torch.inference_mode():
        images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float().div(255)
        mean, std = torch.tensor(net.mean), torch.tensor(net.std)
        vectors: Vectors = net((images - mean[:, None, None]) / std[:, None, None]).numpy()
    return vectors


def check_runs(net: DescriptorNet, spec: EngineSpec, pixels: npt.NDArray[np.uint8]) -> None:
    """Try the network on one photo, before minutes of other work.

    Raises:
        CheckpointError: it does not run at this size.
    """
    try:
        describe(net, pixels[:1])
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{spec.arch} does not run at {spec.height} pixels: {reason}; try another --size"
        ) from error


def verify(
    engine: Engine,
    network: DescriptorNet,
    photos: Sequence[Path],
    *,
    min_cosine: float,
    original: DescriptorNet | None = None,
    progress: Callable[[int, int], None] | None = None,
    remedy: str | None = None,
) -> dict[str, Any]:
    """Compare the engine's descriptors with the network's and return what was measured.

    Args:
        engine: the engine, loaded from the file that is to be published.
        network: what the engine has to agree with, in evaluation mode.
        photos: real images; noise hides errors that photos show.
        min_cosine: every photo's two descriptors have to agree at least this well.
        original: the network before its weights were rounded; with it they have to agree to `MIN_ROUNDED_COSINE`.
        progress: is told (photos done, photos in all).
        remedy: what to try where the engine disagrees; by default other versions of the libraries.

    Returns:
        Numbers and strings only: they travel in the engine's specification.

    Raises:
        InputError: there is no photo, or one cannot be decoded.
        ParityError: the engine disagrees, gives values that are not finite or rows that are not of unit length, or
            depends on the batch; the worst photos are named.
    """
    return agree(
        engine,
        lambda pixels: describe(network, pixels),
        photos,
        of="the network it came from",
        min_cosine=min_cosine,
        remedy=remedy or f"try another version of torch ({torch.__version__}) or ONNX Runtime",
        original=None if original is None else lambda pixels: describe(original, pixels),
        progress=progress,
    )
