"""The kind ``.pt2``: a network that torch compiled ahead of time for one kind of processor or GPU."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..files.reading import file_sha256
from .kind import Described, EngineKind, LoadOptions
from .trials import AOTI_TRIALS

if TYPE_CHECKING:
    from .protocol import Engine


def _describe(path: Path) -> Described:
    from .aoti_file import read_package

    spec, made_for = read_package(path)  # the package is not loaded: that would run what is in it
    return Described(path, file_sha256(path), spec, {"made_for": asdict(made_for)})


def _load(file: Path, options: LoadOptions) -> Engine:
    if options.runtime is not None:
        raise EngineError(f"{file} is compiled by torch and is not run by {options.runtime}; leave out the runtime")
    if options.provider is not None:
        raise EngineError(
            f"{file} is compiled by torch and has no providers; leave out the provider {options.provider}"
        )
    from .aoti import AotiEngine

    return AotiEngine(file, device=options.device, index=options.gpu, threads=options.own_threads)


AOTI = EngineKind(
    suffix=".pt2",
    describe=_describe,
    load=_load,
    default_device="cpu",
    precisions=("fp32", "fp16", "bf16"),
    default_precision="fp32",
    takes_gpu_pixels=False,
    tunable=False,
    trials=AOTI_TRIALS,
)
