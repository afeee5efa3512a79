"""The network as the standard that an engine has to agree with, in torch, on real photos."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..engines.spec import EngineSpec
from ..errors import CheckpointError
from ..networks.model import DescribingNet
from .agree import Standard, Vectors


def describe(net: DescribingNet, pixels: npt.NDArray[np.uint8]) -> Vectors:
    """What the network itself makes of ``uint8 (n, h, w, 3)``: written apart from the engine's graph, on purpose."""
    with torch.inference_mode():
        images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float().div(255)
        mean, std = torch.tensor(net.mean), torch.tensor(net.std)
        vectors: Vectors = net((images - mean[:, None, None]) / std[:, None, None]).numpy()
    return vectors


def check_runs(net: DescribingNet, spec: EngineSpec, pixels: npt.NDArray[np.uint8]) -> None:
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


def as_standard(
    network: DescribingNet,
    *,
    min_cosine: float,
    remedy: str | None = None,
    original: DescribingNet | None = None,
) -> Standard:
    """What an engine has to agree with: the network that it comes from.

    Args:
        network: in evaluation mode.
        min_cosine: every photo's two descriptors have to agree at least this well.
        remedy: what a user can try where they do not; by default other versions of the libraries.
        original: the network before its weights were rounded; None where none was.
    """
    return Standard(
        lambda pixels: describe(network, pixels),
        of="the network it came from",
        min_cosine=min_cosine,
        remedy=remedy or f"try another version of torch ({torch.__version__}) or ONNX Runtime",
        original=None if original is None else lambda pixels: describe(original, pixels),
    )
