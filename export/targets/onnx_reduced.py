"""The target of engines for the processor in bf16 or int8: an ``.onnx`` file made from an fp32 engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from ...engines.kind_onnx import ONNX, REDUCED
from ...engines.spec import RUNTIMES, uses_bf16
from ...errors import EngineError, require
from ..photos import split_photos
from ..request import Request, check_engine_is_taken_as_it_is
from .base import Making, Target
from .onnx_fp32 import OnnxTarget

_SLOW_INT8 = (
    "ONNX Runtime computes int8 hardly faster than fp32 between layers that stay in fp32; OpenVINO does: "
    "pip install 'isc-fast[cpu,openvino]'"
)


@dataclass(frozen=True)
class ReducedOptions:
    """Options of an ``.onnx`` engine in a lower precision.

    Attributes:
        runtime: what measures the engine and will run it, one of `RUNTIMES`; None takes OpenVINO, for int8 alone ONNX Runtime
            where OpenVINO is not installed.
    """

    runtime: str | None = None


class ReducedTarget(Target):
    """Lowers the layers of an fp32 engine that bear it, and measures the result on edited copies of photos."""

    kind = "an .onnx engine"
    suffix = ONNX.suffix
    precisions = REDUCED
    options = ReducedOptions
    from_engine = True
    implied: ClassVar[Mapping[str, Any]] = {"weights_as": "fp32"}
    refusals: ClassVar[Mapping[str, str]] = {"device": OnnxTarget.refusals["device"]}

    def check(self, request: Request) -> Request:
        """Choose the runtime, and refuse what could not be measured on this machine."""
        precision, runtime = request.precision, request.options.runtime
        if runtime is not None and runtime not in RUNTIMES:
            raise EngineError(f"there is no runtime {runtime!r}; choose one of {', '.join(RUNTIMES)}")
        require("onnx", "export")
        require("onnxruntime", "cpu")
        runtime = runtime or ("openvino" if uses_bf16(precision) or find_spec("openvino") else "onnxruntime")
        if runtime == "onnxruntime" and precision == "int8":
            request.say(f"note: {_SLOW_INT8}")
        from ..precision.reduce import check_possible

        check_possible(precision, runtime)
        require(runtime, "openvino" if runtime == "openvino" else "cpu")
        split_photos(request.photos)
        check_engine_is_taken_as_it_is(request)
        return replace(request, options=ReducedOptions(runtime))

    @contextlib.contextmanager
    def open(self, request: Request, path: Path) -> Iterator[Making]:
        """Load the fp32 engine and describe the copies with it."""
        from ..precision.reduce import ReducedMaking

        yield ReducedMaking(request, split_photos(request.photos), path)
