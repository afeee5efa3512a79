"""Engines turn batches of pixels into descriptors; `load_engine` opens any engine file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..assets import DEMO_ENGINE
from ..errors import EngineError
from ..spec import EngineSpec

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".safetensors")
DEVICES = ("cpu", "cuda")


class Engine(Protocol):
    """One loaded engine file. It owns the arithmetic: normalisation, pooling, head and unit length are inside."""

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


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_engine(path: str | os.PathLike[str], *, device: str = "cpu", threads: int | None = None) -> Engine:
    """Open an engine file.

    Args:
        path: an ``.onnx`` file made by ``isc-fast export``; ``"demo"`` stands for the engine inside the package.
        device: ``"cpu"`` or ``"cuda"``. A device that is asked for and is not there is an error, never a slower run.
        threads: of the processor, for the arithmetic; by default one for each core of this process.

    Raises:
        EngineError: there is no such file, it is not an engine, it is damaged, or the device is missing.
        MissingExtraError: the runtime is not installed.
    """
    file = DEMO_ENGINE if os.fspath(path) == "demo" and not os.path.exists(path) else Path(path)
    if device not in DEVICES:
        raise EngineError(f"there is no device {device!r}; choose one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise EngineError(f"threads must be at least 1, not {threads}")
    if not file.exists():
        raise EngineError(f"there is no engine {file}; make one: isc-fast export --ckpt CHECKPOINT -o {file.stem}.onnx")
    if not file.is_file():
        raise EngineError(f"{file} is not a file; expected an engine made by isc-fast export")
    suffix = file.suffix.lower()
    if suffix in CHECKPOINT_SUFFIXES:
        made = file.name.partition(".")[0] + ".onnx"
        raise EngineError(
            f"{file} is a training checkpoint, not an engine; run: isc-fast export --ckpt {file} -o {made}"
        )
    if suffix != ".onnx":
        raise EngineError(f"cannot tell what kind of engine {file} is: expected a name that ends in .onnx")
    from .ort import OrtEngine

    return OrtEngine(file, device=device, threads=threads)
