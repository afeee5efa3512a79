"""What a kind of engine file is: one row of the table in `isc_fast.engines.kinds`.

A row is light. It names functions, and these import a runtime only when they are called, so that the command line and
``isc-fast doctor`` can ask the table where no runtime is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.cores import Part, available_cores
from ..machine.trial_run import Trial
from .spec import EngineSpec

if TYPE_CHECKING:
    from .protocol import Engine

PROVIDERS = ("cuda", "tensorrt")
"""What ONNX Runtime computes with on a GPU: its own CUDA kernels and cuDNN, or TensorRT."""


@dataclass(frozen=True)
class Described:
    """What an engine file says of itself.

    Attributes:
        path: the file.
        id: SHA-256 of the engine, in hexadecimal.
        spec: its specification.
        facts: what only this kind has, ready for JSON, such as the GPU that a TensorRT plan was built for.
    """

    path: Path
    id: str
    spec: EngineSpec
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadOptions:
    """How to load an engine: the arguments of `isc_fast.load_engine`, checked as far as they are the same for every kind.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        gpu: number of the GPU, among those that this process sees.
        threads: of the processor, for all processes together; None leaves the number to the kind.
        runtime: one of `isc_fast.engines.spec.RUNTIMES`, or None.
        provider: one of `PROVIDERS`, or None.
        trust_plan: whether program code in a plan may run.
        part: which of several processes beside each other this is.
    """

    device: str = "cpu"
    gpu: int = 0
    threads: int | None = None
    runtime: str | None = None
    provider: str | None = None
    trust_plan: bool = False
    part: Part = field(default_factory=Part)

    @property
    def own_threads(self) -> int | None:
        """This process' share of the threads; None where it is the only process and no number was given."""
        return self.part.share(self.threads or available_cores()) if self.part.of > 1 else self.threads


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine file.

    Attributes:
        suffix: of the file's name, in small letters; any case is accepted.
        describe: reads what the file says of itself, without its runtime. Raises `EngineError`.
        load: opens it. Raises `EngineError` or `MissingExtraError`.
        default_device: what it runs on if nobody says: ``"cpu"`` or ``"cuda"``.
        precisions: what isc-fast export can make it compute in.
        default_precision: what isc-fast export makes it compute in if nobody says.
        takes_gpu_pixels: whether its engines take batches that are on the GPU already, so that a decoder there pays off.
        tunable: whether there is a choice of runtime, threads and batch that `isc_fast.tune` can search.
        trials: what ``isc-fast doctor`` tries out to learn whether it runs here.
    """

    suffix: str
    describe: Callable[[Path], Described]
    load: Callable[[Path, LoadOptions], Engine]
    default_device: str
    precisions: tuple[str, ...]
    default_precision: str
    takes_gpu_pixels: bool
    tunable: bool
    trials: tuple[Trial, ...]
