"""What an engine is to the rest of isc-fast: a loaded file that turns batches of pixels into descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .spec import EngineSpec


class Engine(Protocol):
    """One loaded engine file. It owns the arithmetic: normalisation, pooling, head and unit length are inside.

    An engine that computes on a GPU also has the attribute ``gpu``: its number, as CUDA counts those that this process
    sees. An engine that can do more also has the methods of `AsyncEngine` or `DeviceEngine`. `abilities` reads all three.
    """

    spec: EngineSpec
    """What the file promises; `spec.height` and `spec.width` are the input's size."""
    id: str
    """SHA-256 of the engine file, in hexadecimal; descriptors of one id may be compared."""
    path: Path
    device: str
    """What it runs on, as the runtime names it."""
    default_batch_size: int
    """Images in one call that suit this engine on this device."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Describe a batch: ``uint8 (n, height, width, 3)`` RGB → ``float32 (n, dim)``, rows of unit length.

        Raises:
            EngineError: the pixels have another shape or type, or the runtime failed.
        """
        ...


class Pending(Protocol):
    """Descriptors that an engine is working on."""

    def result(self) -> npt.NDArray[np.float32]:
        """Wait for the descriptors ``float32 (n, dim)``, in the order of the images. May be called again.

        Raises:
            EngineError: the runtime failed on this batch, or on an earlier one in a way that lost the later ones too.
        """
        ...


@runtime_checkable
class AsyncEngine(Engine, Protocol):
    """An engine that begins a batch without waiting for it, as `isc_fast.engines.trt.engine.TrtEngine` does."""

    def start(self, pixels: npt.NDArray[np.uint8]) -> Pending:
        """Begin what `run` does; the caller may change the array when this returns.

        The engine describes batches in the order in which they were begun. Asking for one waits for those before it.

        Raises:
            EngineError: as `run`; batches that were begun before keep their results.
        """
        ...


@runtime_checkable
class DeviceEngine(AsyncEngine, Protocol):
    """An engine that also takes batches which are on its GPU already."""

    def start_device(self, pointer: int, count: int, *, stream: int | None = None, event: int | None = None) -> Pending:
        """Begin to describe ``uint8 (count, height, width, 3)`` RGB at a device address.

        Without a stream the memory may be used again when this returns; see `isc_fast.engines.trt.engine.TrtEngine.start_device`.

        Raises:
            EngineError: as `start`.
        """
        ...

    def run_device(
        self, pointer: int, count: int, *, stream: int | None = None, event: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Do the same, and wait for the descriptors.

        Raises:
            EngineError: as `run`.
        """
        ...


@dataclass(frozen=True)
class Abilities:
    """How the pipeline may feed an engine. The defaults hold for an engine that has `Engine`'s members alone.

    Attributes:
        gpu: number of the GPU that it is on, as CUDA counts those that this process sees; 0 also where it is on none.
        is_async: whether it begins a batch without waiting for it (`AsyncEngine`).
        takes_gpu_pixels: whether it takes batches that are on its GPU already (`DeviceEngine`).
    """

    gpu: int = 0
    is_async: bool = False
    takes_gpu_pixels: bool = False


def abilities(engine: Engine) -> Abilities:
    """Read from an engine's members how it may be fed, so that an engine declares nothing twice."""
    return Abilities(
        gpu=int(getattr(engine, "gpu", 0)),
        is_async=hasattr(engine, "start"),
        takes_gpu_pixels=hasattr(engine, "start") and hasattr(engine, "start_device"),
    )


def gpu_of(engine: Engine) -> int:
    """Return the GPU that an engine is on, as CUDA counts those that this process sees; 0 also where it is on none."""
    return abilities(engine).gpu


def check_pixels(spec: EngineSpec, pixels: npt.NDArray[np.uint8]) -> None:
    """Refuse pixels that are not what the engine takes.

    Raises:
        EngineError: naming both shapes.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (spec.height, spec.width, 3):
        raise EngineError(
            f"the engine {spec.name} takes uint8 (n, {spec.height}, {spec.width}, 3) "
            f"and was given {pixels.dtype} {pixels.shape}"
        )
