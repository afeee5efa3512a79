"""Engines turn batches of pixels into descriptors; `load_engine` opens any engine file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..assets import DEMO_ENGINE
from ..errors import EngineError, MissingExtraError
from ..machine.cores import Part, available_cores
from ..machine.devices import split_device
from .spec import RUNTIMES, EngineSpec

if TYPE_CHECKING:
    from .tuning import Setting

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".safetensors")
SUFFIXES = (".onnx", ".pt2", ".plan")
PROVIDERS = ("cuda", "tensorrt")
"""What ONNX Runtime computes with on a GPU: its own CUDA kernels and cuDNN, or TensorRT."""


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


class Pending(Protocol):
    """Descriptors that an engine is working on."""

    def result(self) -> npt.NDArray[np.float32]:
        """Wait for the descriptors ``float32 (n, dim)``, in the order of the images. May be called again.

        Raises:
            EngineError: the runtime failed on this batch, or on one before it in a way that nothing after it survived.
        """
        ...


@runtime_checkable
class AsyncEngine(Engine, Protocol):
    """An engine that begins a batch without waiting for it, as `isc_fast.engines.trt.engine.TrtEngine` does."""

    def start(self, pixels: npt.NDArray[np.uint8]) -> Pending:
        """Begin what `run` does; the array may be changed when this returns.

        Batches are described in the order in which they were begun, and asking for one waits for those before it.

        Raises:
            EngineError: as `run`; batches that were begun before keep what became of them.
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
        """The same, waiting for the descriptors.

        Raises:
            EngineError: as `run`.
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


def engine_file(path: str | os.PathLike[str]) -> Path:
    """The file of an engine: ``"demo"`` stands for the one inside the package.

    Raises:
        EngineError: there is no such file, or its name is not an engine's.
    """
    file = DEMO_ENGINE if os.fspath(path) == "demo" and not os.path.exists(path) else Path(path)
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
    if suffix not in SUFFIXES:
        raise EngineError(
            f"cannot tell what kind of engine {file} is: expected a name that ends in {' or '.join(SUFFIXES)}"
        )
    return file


def load_engine(
    path: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    runtime: str | None = None,
    provider: str | None = None,
    trust_plan: bool = False,
    part: Part | None = None,
) -> Engine:
    """Open an engine file.

    What `isc_fast.tune` found for this engine on such a machine is used, as far as the arguments leave it open.

    Args:
        path: a file made by ``isc-fast export``, ``.onnx``, ``.pt2`` or ``.plan``; ``"demo"`` stands for the engine inside
            the package.
            Loading a ``.pt2`` runs code that is in it: load only those that you trust.
        device: ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` for another GPU than the first; by default cuda for a ``.plan`` and
            else cpu. A device that is asked for and is not there is an error, never a slower run.
        threads: of the processor, for the arithmetic; by default one for each core of this process.
        runtime: ``"onnxruntime"`` or ``"openvino"``, for an engine in fp32, which both can run; an engine in reduced
            precision is run by the one it was verified with.
        provider: of ONNX Runtime on the device cuda: ``"cuda"`` (the default), or ``"tensorrt"``, which takes minutes to build
            at first and keeps what it built beside the engine. One that is asked for and is not there is an error.
        trust_plan: let a version-compatible ``.plan`` run the program code that it holds.
        part: which of several processes beside each other this is, so that it takes its share of the threads.

    Raises:
        EngineError: there is no such file, it is not an engine, it is damaged, the device is missing, or the processor
            cannot compute in the engine's precision.
        MissingExtraError: the runtime is not installed.
    """
    file = engine_file(path)
    is_plan = file.suffix.lower() == ".plan"
    kind, index = split_device(device or ("cuda" if is_plan else "cpu"))
    if threads is not None and threads < 1:
        raise EngineError(f"threads must be at least 1, not {threads}")
    if runtime is not None and runtime not in RUNTIMES:
        raise EngineError(f"there is no runtime {runtime!r}; choose one of {', '.join(RUNTIMES)}")
    if provider is not None and (provider not in PROVIDERS or kind != "cuda" or runtime == "openvino"):
        raise EngineError(
            f"there is no provider {provider!r}; choose one of {', '.join(PROVIDERS)}"
            if provider not in PROVIDERS
            else f"the provider {provider} is ONNX Runtime's on the device cuda; leave it out, or use that device"
        )
    if is_plan:
        if kind != "cuda":
            raise EngineError(f"{file} runs on an NVIDIA GPU only, not on the {kind}; use the .onnx engine there")
        return _open_plan(file, index, threads, runtime, provider, trust_plan)
    return _open(file, kind, index, threads, runtime, provider, part or Part())


def gpu_of(engine: Engine) -> int:
    """Which GPU an engine is on, as CUDA counts those that this process sees; 0 where it is on none or does not say."""
    return int(getattr(engine, "gpu", 0))


def _open_plan(
    file: Path, index: int, threads: int | None, runtime: str | None, provider: str | None, trust: bool
) -> Engine:
    for what, given in (("threads", threads), ("runtime", runtime), ("provider", provider)):
        if given is not None:
            raise EngineError(
                f"{file} is run by TensorRT on the GPU, which has no {what} to choose; leave out the {what}"
            )
    from .trt.engine import TrtEngine

    return TrtEngine(file, index=index, trust_code=trust)


def _open(
    file: Path,
    device: str,
    index: int,
    threads: int | None,
    runtime: str | None,
    provider: str | None,
    part: Part,
) -> Engine:
    shared = part.share(threads or available_cores()) if part.of > 1 else threads
    if file.suffix.lower() == ".pt2":
        if runtime is not None:
            raise EngineError(f"{file} is compiled by torch and is not run by {runtime}; leave out the runtime")
        if provider is not None:
            raise EngineError(f"{file} is compiled by torch and has no providers; leave out the provider {provider}")
        from .aoti import AotiEngine

        return AotiEngine(file, device=device, index=index, threads=shared)
    from .header import read_spec
    from .tuning import saved_setting, tuning_path

    spec = read_spec(file)
    if spec.precision != "fp32" and runtime not in (None, spec.runtime):
        raise EngineError(
            f"{file} in {spec.precision} was verified with {spec.runtime}; run by {runtime} it would be another engine; "
            "leave out the runtime"
        )
    if spec.precision != "fp32" and device != "cpu":
        raise EngineError(
            f"{file} in {spec.precision} is made for the processor; use the device cpu, or an fp32 engine"
        )
    tuned = device == "cpu" and tuning_path(file).exists()
    setting = saved_setting(file, file_sha256(file)) if tuned else None
    fits = (
        setting
        and threads in (None, setting.threads)
        and runtime in (None, setting.runtime)
        and (spec.precision == "fp32" or setting.runtime == spec.runtime)
    )
    if setting and fits:
        # A setting is about speed only: where its runtime is gone by now, the engine is opened as if there were none.
        with contextlib.suppress(EngineError, MissingExtraError):
            return open_with(file, setting.runtime, setting=setting, part=part)
    return open_with(file, runtime or spec.runtime, device=device, index=index, threads=shared, provider=provider)


def open_with(
    file: Path,
    runtime: str,
    *,
    device: str = "cpu",
    index: int = 0,
    threads: int | None = None,
    setting: Setting | None = None,
    provider: str | None = None,
    part: Part | None = None,
) -> Engine:
    """Open an ``.onnx`` engine with one runtime and, where there is one, this part of a setting that `isc_fast.tune` found.

    What decides over the bytes of descriptors, the runtime and the sizes of batches, is the same for every part.
    """
    engine: Engine
    share = (part or Part()).share
    threads = share(setting.threads) if setting else threads
    if runtime == "openvino":
        if device != "cpu":
            raise EngineError(f"OpenVINO runs engines on the processor here, not on {device}; leave out the runtime")
        from .ov import OvEngine

        streams, size = (share(setting.streams), setting.request_size) if setting else (None, None)
        engine = OvEngine(file, threads=threads, streams=streams, request_size=size)
    else:
        from .ort import OrtEngine

        engine = OrtEngine(file, device=device, index=index, threads=threads, provider=provider)
    if setting:
        engine.default_batch_size = setting.batch_size
    return engine
