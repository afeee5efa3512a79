"""The kind ``.plan``: a network that TensorRT compiled for one kind of NVIDIA GPU, with a JSON file beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError
from .kind import Described, EngineKind, LoadOptions
from .spec import PLAN_PRECISIONS
from .trials import PLAN_TRIALS
from .trt.sidecar import read_sidecar

if TYPE_CHECKING:
    from .protocol import Engine


def _describe(path: Path) -> Described:
    spec, facts = read_sidecar(path)  # the plan is not loaded: that takes the GPU it was built for
    return Described(path, facts.plan_sha256, spec, {"plan": asdict(facts)})


def _load(file: Path, options: LoadOptions) -> Engine:
    if options.device != "cuda":
        raise EngineError(f"{file} runs on an NVIDIA GPU only, not on the {options.device}; use the .onnx engine there")
    for what in ("threads", "runtime", "provider"):
        if getattr(options, what) is not None:
            raise EngineError(
                f"{file} is run by TensorRT on the GPU, which has no {what} to choose; leave out the {what}"
            )
    from .trt.engine import TrtEngine

    return TrtEngine(file, index=options.gpu, trust_code=options.trust_plan)


PLAN = EngineKind(
    suffix=".plan",
    describe=_describe,
    load=_load,
    default_device="cuda",
    precisions=PLAN_PRECISIONS,
    default_precision="fp16",
    takes_gpu_pixels=True,
    tunable=False,
    trials=PLAN_TRIALS,
)
