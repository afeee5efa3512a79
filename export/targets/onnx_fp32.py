"""The target of portable engines: an ``.onnx`` file that computes in fp32 on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...engines.header import has_spec
from ...engines.kind_onnx import ONNX
from ...engines.spec import RUNTIMES
from ...errors import EngineError, require
from ..preparing import read_preparing
from ..request import Request
from .base import Making, Target

WEIGHTS_AS = ("fp32", "fp16")
"""How the weights of an fp32 engine can be stored."""


@dataclass(frozen=True)
class OnnxOptions:
    """Options of an ``.onnx`` engine in fp32.

    Attributes:
        weights_as: one of `WEIGHTS_AS`; fp16 halves the file, the arithmetic stays fp32.
        tta: whether the engine sums the descriptors of six views of a photo, as the published script does on request; see
            `isc_fast.networks.augmented`.
        preprocess: for an ONNX file of another tool: how a photo becomes its input, in the words of
            `isc_fast.export.preparing`.
    """

    weights_as: str = "fp32"
    tta: bool = False
    preprocess: str | None = None


def _check_foreign(request: Request) -> None:
    """Refuse options that need the network itself, which an ONNX file of another tool is not.

    Raises:
        EngineError: one of them was given, or the preprocessing cannot be read.
    """
    options = request.options
    for flag, given in (
        ("--tta", options.tta),
        ("--weights-as", options.weights_as != "fp32"),
        ("--gem-p", request.gem_p is not None),
    ):
        if given:
            raise EngineError(f"{request.ckpt} is an ONNX file, which is wrapped as it is; leave out {flag}")
    read_preparing(options.preprocess or "")


class OnnxTarget(Target):
    """Exports the network of a checkpoint with torch, or wraps an ONNX file of another tool; ONNX Runtime verifies the engine."""

    kind = "an .onnx engine"
    suffix = ONNX.suffix
    precisions = (ONNX.default_precision,)
    default_precision = ONNX.default_precision
    options = OnnxOptions
    only: ClassVar[Mapping[str, str]] = {"weights_as": "weights are stored as {value} in fp32 engines only"}
    refusals: ClassVar[Mapping[str, str]] = {
        "precision": "an .onnx engine is not made in {value}, in which no processor computes",
        "runtime": f"the runtime {{value!r}} cannot be chosen here: an fp32 engine is run by any of {', '.join(RUNTIMES)}",
        "device": "an .onnx engine is made for any device, not for {value} alone",
    }

    def check(self, request: Request) -> Request:
        """Refuse an unknown way to store weights, and an engine in the place of a checkpoint."""
        weights_as = request.options.weights_as
        if weights_as not in WEIGHTS_AS:
            raise EngineError(f"cannot store weights as {weights_as!r}; choose one of {', '.join(WEIGHTS_AS)}")
        require("onnx", "export")
        require("onnxruntime", "cpu")
        if request.given_engine == self.suffix and not has_spec(request.ckpt):
            _check_foreign(request)
            return request
        if request.given_engine:
            raise EngineError(
                f"{request.ckpt} is not a checkpoint but, by its name, an engine; give a checkpoint, or for an engine another "
                "--precision: bf16, int8 or int8-bf16"
            )
        if request.options.preprocess is not None:
            raise EngineError(
                f"{request.ckpt} says itself how a photo becomes its input; leave out --preprocess, which is for ONNX files of "
                "other tools"
            )
        for module in ("torch", "timm", "onnxscript"):
            require(module, "export")
        return request

    @contextlib.contextmanager
    def open(self, request: Request, path: Path) -> Iterator[Making]:
        """Load the network; torch has as many threads as help until the block ends. An ONNX file is wrapped without torch."""
        if request.given_engine:
            from .foreign import ForeignMaking

            yield ForeignMaking(request, read_preparing(request.options.preprocess or ""), path)
            return
        from ..origin import open_network
        from .to_onnx import OnnxMaking

        with open_network(request, augmented=request.options.tta) as origin:
            yield OnnxMaking(origin, request, path)
