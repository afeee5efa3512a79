"""Decoders turn image files into batches of network input; `make_decoder` makes any of them by its name.

| name | what it is | pixels |
|---|---|---|
| pillow | the contract itself (`isc_fast.decoders.rules`) | |
| turbo | libjpeg-turbo and a vectorised resize | within one grey level, but for one value in 100 million |
| turbo-scaled | as turbo, large JPEGs decoded at a fraction of their size | other ones: never chosen unless named |
| dali | NVIDIA DALI: JPEGs decoded and resized on the GPU | other ones: chosen for engines that take them there |
| dali-cpu | the same on the processor, slower than the others: to test and to compare | other ones: never chosen unless named |
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MissingExtraError

DECODERS = ("pillow", "turbo", "turbo-scaled", "dali", "dali-cpu")
AUTO = "auto"
"""Stands for turbo where its libraries are installed, else for pillow; for an engine that takes pixels on the GPU, for dali
where that works."""
EXACT = ("pillow", "turbo")
"""Decoders whose pixels are those of the contract, to one grey level."""


@dataclass(frozen=True)
class Problem:
    """Why an image could not become network input: the stage (``"read"``, ``"decode"``) and one line of reason."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """One batch of network input.

    Attributes:
        pixels: ``uint8 (n, height, width, 3)`` RGB; the slot of an image that failed is zero.
        problems: for each slot what went wrong, or None.
    """

    pixels: npt.NDArray[np.uint8]
    problems: Sequence[Problem | None]


@dataclass(frozen=True)
class DeviceBatch:
    """One batch of network input that lies on the GPU, complete: nothing has to be waited for.

    Attributes:
        pointer: device address of dense ``uint8 (n, height, width, 3)`` RGB.
        problems: as of `Batch`.
        owner: what keeps the memory; who drops it may no longer read there.
    """

    pointer: int
    problems: Sequence[Problem | None]
    owner: object


class Decoder(Protocol):
    """Turns lists of paths into batches, in order, decoding ahead of the consumer.

    The pixels of an image may not depend on its neighbours, on the batch it is in or on how many workers there are. A
    file that cannot be decoded is a `Problem` in its slot, never an exception.
    """

    name: str
    """Stands in the plan: two decoders of one name give the same pixels."""

    def batches(self, jobs: Iterable[Sequence[str]], height: int, width: int) -> Generator[Batch, None, None]:
        """Yield one `Batch` for each list of paths."""
        ...


@runtime_checkable
class DeviceDecoder(Decoder, Protocol):
    """A decoder that can leave batches on the GPU, for engines that take them there."""

    def device_batches(
        self, jobs: Iterable[Sequence[str]], height: int, width: int
    ) -> Generator[Batch | DeviceBatch, None, None]:
        """As `batches`, but where all of a batch is on the GPU it is yielded as a `DeviceBatch`, of the same pixels."""
        ...


def _class_of(name: str) -> Any:
    """The class of a decoder, whose module is imported only now."""
    if name not in DECODERS:
        raise InputError(f"there is no decoder {name!r}; choose one of {', '.join((AUTO, *DECODERS))}")
    if name == "pillow":
        from .pillow import CpuDecoder

        return CpuDecoder
    if name.startswith("dali"):
        from .dali import DaliCpuDecoder, DaliDecoder

        return DaliDecoder if name == "dali" else DaliCpuDecoder
    from .turbo import TurboDecoder, TurboScaledDecoder

    return TurboDecoder if name == "turbo" else TurboScaledDecoder


def check_decoder(name: str) -> None:
    """Refuse a decoder that cannot work on this machine, without making one. `AUTO` always works.

    Raises:
        InputError: there is no such decoder, or no GPU for it.
        MissingExtraError: what the decoder needs is not installed.
    """
    if name != AUTO:
        _class_of(name).check()


def choose_decoder(name: str = AUTO, *, stays_there: bool = False) -> str:
    """The name of the decoder that `make_decoder` would make on this machine.

    Args:
        name: one of `DECODERS`, or `AUTO`.
        stays_there: for `AUTO`: whether the engine takes pixels that are on its GPU, so that decoding there is worth most.
    """
    if name != AUTO:
        return name
    for candidate in ("dali", "turbo") if stays_there else ("turbo",):
        with contextlib.suppress(MissingExtraError, InputError):  # it is not installed, or sees no GPU
            check_decoder(candidate)
            return candidate
    return "pillow"


def make_decoder(name: str = AUTO, workers: int | None = None, *, gpu: int = 0, stays_there: bool = False) -> Decoder:
    """Make a decoder.

    Args:
        name: one of `DECODERS`, or `AUTO`.
        workers: threads that decode; by default one for each core of this process.
        gpu: for ``"dali"``, which GPU of those that this process sees: the one that the engine is on.
        stays_there: see `choose_decoder`.

    Raises:
        InputError: there is no such decoder, no worker, no GPU for it, or the program accepts truncated photos.
        MissingExtraError: what the decoder needs is not installed.
    """
    name = choose_decoder(name, stays_there=stays_there)
    decoder: Decoder = _class_of(name)(workers, **({"index": gpu} if name == "dali" else {}))
    return decoder
