"""The seam of the families: what a family says of a file of weights, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..model import DescribingNet


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    Attributes:
        path: the file.
        content: what `isc_fast.networks.checkpoint.read_safely` gives; of a TorchScript file, its tensors by names.
        sha256: of the file, in hexadecimal.
    """

    path: Path
    content: Any
    sha256: str


@dataclass(frozen=True)
class Wishes:
    """What a user asks for; None leaves it to the family and the file.

    Attributes:
        size: side of the square input in pixels.
        gem_p: power of the generalised-mean pooling.
        name: what the engine calls itself.
        say: gets one line for each thing that a user should know.
    """

    size: int | None
    gem_p: float | None
    name: str | None
    say: Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """A network with its weights, and how a photo becomes its input.

    Attributes:
        net: in evaluation mode, on the processor.
        name: of the network, by its file.
        size: side of the square input in pixels.
        resize, filter: see `isc_fast.decoders.preprocessing.Preprocessing`.
        teacher: see `isc_fast.engines.spec.EngineSpec`.
    """

    net: DescribingNet
    name: str
    size: int
    resize: str = "stretch"
    filter: str = "bilinear"
    teacher: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Attributes:
        name: what people call it.
        holds: whether a file of weights is one of this family, judged by what only this family has; a file that is damaged or
            lacks a tensor may still be one.
        build: makes the network. It checks every tensor.

            Raises:
                CheckpointError: the weights do not fit, or do not say what is needed.
                InputError: a wish cannot be fulfilled.
    """

    name: str
    holds: Callable[[Weights], bool]
    build: Callable[[Weights, Wishes], Built]


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue; see `isc_fast.networks.model.DescribingNet`."""


def checked_power(power: float) -> float:
    """A power of the generalised-mean pooling.

    Raises:
        InputError: it is not above 0.
    """
    if not power > 0:
        raise InputError(f"the power of the pooling is {power}; expected a number above 0")
    return power


def plain_name(path: Path) -> str:
    """The name of a file without what follows the first full stop."""
    return path.name.partition(".")[0]
