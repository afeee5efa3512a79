"""Decoders turn photos into batches of network input. `choose_decoder` names one, and `make_decoder` makes it.

| name | what it is | pixels |
|---|---|---|
| pillow | the contract itself (`isc_fast.decoders.rules`) | |
| turbo | libjpeg-turbo and a vectorised resize | within one grey level, but for one value in 100 million |
| turbo-scaled | as turbo, but large JPEGs are decoded at a fraction of their size | other ones: only used where it is named |
| dali | NVIDIA DALI: JPEGs are decoded and resized on the GPU | other ones: chosen for engines that take pixels there |
| dali-cpu | the same on the processor, slower than the others: to test and to compare | other ones: only used where it is named |

All but pillow stretch with an antialiased bilinear filter and nothing else. They hand photos of another preprocessing to the
contract itself, and `choose_decoder` names pillow for those, so that a result says what made its pixels.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..errors import InputError, MissingExtraError
from ..items import Photo, Pixels, Problem
from .preprocessing import Preprocessing

AUTO = "auto"
"""Stands for turbo where its libraries are installed, else for pillow. For an engine that takes pixels on the GPU it stands for
dali where that works."""


@dataclass(frozen=True)
class _Row:
    """One row of the table of decoders.

    Attributes:
        module, kind: where the class is, which is imported when it is needed.
        exact: whether its pixels are those of the contract, to one grey level.
        on_gpu: whether it is made for one GPU.
    """

    module: str
    kind: str
    exact: bool = False
    on_gpu: bool = False

    def load(self) -> Any:
        return getattr(importlib.import_module(f"{__package__}.{self.module}"), self.kind)


_TABLE = {
    "pillow": _Row("pillow", "CpuDecoder", exact=True),
    "turbo": _Row("turbo", "TurboDecoder", exact=True),
    "turbo-scaled": _Row("turbo", "TurboScaledDecoder"),
    "dali": _Row("dali", "DaliDecoder", on_gpu=True),
    "dali-cpu": _Row("dali", "DaliCpuDecoder"),
}
DECODERS = tuple(_TABLE)
EXACT = tuple(name for name, row in _TABLE.items() if row.exact)
"""Decoders whose pixels are those of the contract, to one grey level."""


@dataclass(frozen=True)
class Batch:
    """One batch of network input.

    Attributes:
        pixels: ``uint8 (n, height, width, 3)`` RGB, an input for each view, those of an image one behind the other; those of an
            image that failed are zero.
        problems: for each image what went wrong, or None.
    """

    pixels: Pixels
    problems: Sequence[Problem | None]


@dataclass(frozen=True)
class DeviceBatch:
    """One batch of network input on the GPU. It is complete: nobody has to wait for it.

    Attributes:
        pointer: device address of dense ``uint8 (n, height, width, 3)`` RGB.
        problems: see `Batch`.
        owner: the object that keeps the memory. Whoever drops it may no longer read there.
        flat: which images are of one single colour.
    """

    pointer: int
    problems: Sequence[Problem | None]
    owner: object
    flat: Sequence[bool]


def one_colour(pixels: Pixels) -> list[bool]:
    """Which images of a batch ``uint8 (n, height, width, 3)`` are of one single colour.

    Nearly all are told by a few of their pixels, so that it takes no time: 0.1 ms for 32 images of 512 × 512.
    """
    few = pixels[:, ::37, ::37]
    found = (few == pixels[:, :1, :1]).all(axis=(1, 2, 3))
    return [bool(maybe and (image == image[:1, :1]).all()) for maybe, image in zip(found, pixels, strict=True)]


class Decoder(Protocol):
    """Turns lists of photos into batches, in order, and decodes ahead of its consumer.

    The pixels of a photo do not depend on its neighbours, on its batch or on the number of threads. It is decoded once for all
    its views. A photo that cannot be decoded is a `Problem` in its slot, never an exception.
    """

    name: str
    """Stands in the plan: two decoders of one name give the same pixels."""

    def can(self, preprocessing: Preprocessing) -> bool:
        """Whether it carries a preprocessing out itself. Otherwise the contract does, photo by photo."""
        ...

    def batches(self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing) -> Generator[Batch, None, None]:
        """Yield one `Batch` for each list of photos."""
        ...


@runtime_checkable
class DeviceDecoder(Decoder, Protocol):
    """A decoder that can leave batches on the GPU, for engines that take them there."""

    def device_batches(
        self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing
    ) -> Generator[Batch | DeviceBatch, None, None]:
        """As `batches`, but a batch that is on the GPU as a whole is a `DeviceBatch` of the same pixels."""
        ...


def check_decoder(name: str) -> None:
    """Refuse a decoder that cannot work on this machine, without making one. `AUTO` always works.

    Raises:
        InputError: there is no such decoder, or no GPU for it.
        MissingExtraError: what the decoder needs is not installed.
    """
    if name != AUTO:
        _row(name).load().check()


def choose_decoder(name: str = AUTO, preprocessing: Preprocessing | None = None, *, stays_there: bool = False) -> str:
    """The name of the decoder that makes the pixels on this machine; `make_decoder` makes it.

    Args:
        name: one of `DECODERS`, or `AUTO`.
        preprocessing: of the engine, with the views of a photo. If the decoder cannot carry it out, pillow does.
        stays_there: for `AUTO`: whether the engine takes pixels that are on its GPU, so that decoding there is worth most.

    Raises:
        InputError: there is no such decoder.
    """
    cuts = preprocessing is not None and not preprocessing.only_whole  # which nothing does on a GPU
    chosen = _best(stays_there and not cuts) if name == AUTO else name
    able = preprocessing is None or _row(chosen).load().can(preprocessing)
    return chosen if able else "pillow"


def _row(name: str) -> _Row:
    if name not in _TABLE:
        raise InputError(f"there is no decoder {name!r}; choose one of {', '.join((AUTO, *DECODERS))}")
    return _TABLE[name]


def _best(stays_there: bool) -> str:
    """The fastest decoder that works here and is chosen without being named."""
    for candidate in ("dali", "turbo") if stays_there else ("turbo",):
        with contextlib.suppress(MissingExtraError, InputError):  # it is not installed, or sees no GPU
            check_decoder(candidate)
            return candidate
    return "pillow"


def can_isolate(name: str) -> bool:
    """Whether a decoder can work in processes of its own, a photo each; see `isc_fast.decoders.isolated`."""
    return not name.startswith("dali")


def make_decoder(
    name: str = AUTO, workers: int | None = None, *, gpu: int = 0, stays_there: bool = False, isolated: bool = False
) -> Decoder:
    """Make a decoder.

    Args:
        name: one of `DECODERS`, or `AUTO`.
        workers: threads that decode; by default one for each core of this process.
        gpu: for ``"dali"``, which GPU of those that this process sees: the one that the engine is on.
        stays_there: see `choose_decoder`.
        isolated: whether photos are decoded in processes of their own (`isc_fast.decoders.isolated`).

    Raises:
        InputError: there is no such decoder, no thread, no GPU for it, the program accepts truncated photos, or DALI is to be
            isolated.
        MissingExtraError: what the decoder needs is not installed.
    """
    chosen = choose_decoder(name, stays_there=stays_there)
    row = _row(chosen)
    if isolated:
        if not can_isolate(chosen):
            raise InputError(f"the decoder {chosen} cannot be isolated; use the decoder turbo or pillow")
        check_decoder(chosen)
        isolating: Decoder = importlib.import_module(f"{__package__}.isolated").IsolatedDecoder(chosen, workers)
        return isolating
    made: Decoder = row.load()(workers, **({"index": gpu} if row.on_gpu else {}))
    return made
