"""The target of TensorRT plans: a ``.plan`` for this GPU, made from an fp32 engine, with a JSON file beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ...engines.kind_plan import PLAN
from ...engines.trt.sidecar import sidecar_path
from ...errors import require
from ..photos import split_photos
from ..request import Request, check_engine_is_taken_as_it_is
from .base import Making, Target
from .plan_options import GATED, PlanOptions


class PlanTarget(Target):
    """Writes a precision into the graph of an fp32 engine, builds it with TensorRT, and runs the plan on this GPU."""

    kind = "a .plan"
    suffix = PLAN.suffix
    precisions = PLAN.precisions
    default_precision = PLAN.default_precision
    options = PlanOptions
    from_engine = True
    only: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("batch", "timing_cache", "version_compatible", "hardware_compatible"), "{flag} is for TensorRT plans only"
    )
    implied: ClassVar[Mapping[str, Any]] = {"weights_as": "fp32", "runtime": "tensorrt", "device": "cuda"}
    refusals: ClassVar[Mapping[str, str]] = {
        "runtime": "a .plan is run by TensorRT, not by {value}",
        "device": "a .plan runs on an NVIDIA GPU only, not on {value}",
    }

    def check(self, request: Request) -> Request:
        """Look for TensorRT and a GPU, and bring the batch into its three numbers."""
        from .to_plan import check_possible
        from .to_tensorrt import check_batch

        for module, extra in (("onnx", "export"), ("onnxruntime", "cpu")):
            require(module, extra)
        options: PlanOptions = request.options
        batch = check_batch(tuple(options.batch), 1, 1)  # the size of the input is not known yet
        cache = None if options.timing_cache is None else Path(options.timing_cache)
        check_possible()
        if request.precision in GATED:
            split_photos(request.photos)
        check_engine_is_taken_as_it_is(request)
        return replace(request, options=replace(options, batch=batch, timing_cache=cache))

    @contextlib.contextmanager
    def open(self, request: Request, path: Path) -> Iterator[Making]:
        """Load the fp32 engine that the plan has to agree with."""
        from .to_plan import PlanMaking

        yield PlanMaking(request, path)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The plan, and the JSON file that says what it is."""
        return path, sidecar_path(path)
