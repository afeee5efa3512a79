"""Opening an engine file of any kind: `load_engine`, or `describe_engine` where nothing is to be run."""

from __future__ import annotations

import os
from pathlib import Path

from ..assets import DEMO_ENGINE
from ..errors import EngineError
from ..files.reading import file_sha256 as file_sha256
from ..machine.cores import Part, wrong_count
from ..machine.devices import split_device
from .kind import PROVIDERS as PROVIDERS
from .kind import Described, EngineKind, LoadOptions
from .kind_onnx import open_with as open_with
from .kinds import kind_of, suffixes
from .protocol import Abilities as Abilities
from .protocol import AsyncEngine as AsyncEngine
from .protocol import DeviceEngine as DeviceEngine
from .protocol import Engine as Engine
from .protocol import Pending as Pending
from .protocol import abilities as abilities
from .protocol import check_pixels as check_pixels
from .protocol import gpu_of as gpu_of
from .spec import RUNTIMES

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".safetensors")
_DEMO = "demo"


def names_engine(path: str | os.PathLike[str]) -> bool:
    """Whether a name is an engine's: ``"demo"``, or one with a suffix of the table."""
    return os.fspath(path) == _DEMO or kind_of(path) is not None


def engine_file(path: str | os.PathLike[str]) -> Path:
    """Return the file of an engine: ``"demo"`` stands for the one inside the package.

    Raises:
        EngineError: there is no such file, or its name is not an engine's.
    """
    return _find(path)[0]


def _find(path: str | os.PathLike[str]) -> tuple[Path, EngineKind]:
    file = DEMO_ENGINE if os.fspath(path) == _DEMO and not os.path.isfile(path) else Path(path)
    if not file.exists():
        raise EngineError(f"there is no engine {file}; make one: isc-fast export --ckpt CHECKPOINT -o {file.stem}.onnx")
    if not file.is_file():
        raise EngineError(f"{file} is not a file; expected an engine made by isc-fast export")
    if file.suffix.lower() in CHECKPOINT_SUFFIXES:
        made = file.name.partition(".")[0] + ".onnx"
        raise EngineError(
            f"{file} is a training checkpoint, not an engine; run: isc-fast export --ckpt {file} -o {made}"
        )
    kind = kind_of(file)
    if kind is None:
        raise EngineError(
            f"cannot tell what kind of engine {file} is: expected a name that ends in {' or '.join(suffixes())}"
        )
    return file, kind


def describe_engine(path: str | os.PathLike[str]) -> Described:
    """Read what an engine file says of itself. Nothing in the file is run, and its runtime need not be installed.

    Args:
        path: as `load_engine` takes it.

    Raises:
        EngineError: there is no such file, it is not an engine, or what it says of itself is damaged.
    """
    file, kind = _find(path)
    return kind.describe(file)


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
    file, kind = _find(path)
    name, gpu = split_device(device or kind.default_device)
    options = LoadOptions(name, gpu, threads, runtime, provider, trust_plan, part or Part())
    _check(options)
    return kind.load(file, options)


def _check(options: LoadOptions) -> None:
    """Refuse what no kind of engine can do."""
    wrong = wrong_count(options.threads)
    if wrong:
        raise EngineError(f"threads {wrong}")
    if options.runtime is not None and options.runtime not in RUNTIMES:
        raise EngineError(f"there is no runtime {options.runtime!r}; choose one of {', '.join(RUNTIMES)}")
    if options.provider is None:
        return
    if options.provider not in PROVIDERS:
        raise EngineError(f"there is no provider {options.provider!r}; choose one of {', '.join(PROVIDERS)}")
    if options.device != "cuda" or options.runtime == "openvino":
        raise EngineError(
            f"the provider {options.provider} is ONNX Runtime's on the device cuda; leave it out, or use that device"
        )
