"""The target of engines that torch compiles ahead of time: a ``.pt2`` package for one kind of machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ...engines.kind_aoti import AOTI
from ...errors import EngineError, require
from ..request import Request
from .base import Making, Target

DEVICES = ("cpu", "cuda")
"""What a package can be compiled for."""


@dataclass(frozen=True)
class AotiOptions:
    """Options of a ``.pt2`` engine.

    Attributes:
        device: what it is compiled for, one of `DEVICES`; None takes a GPU if torch sees one.
    """

    device: str | None = None


class AotiTarget(Target):
    """Compiles the network of a checkpoint with AOTInductor, and verifies what was compiled."""

    kind = "a .pt2 engine"
    suffix = AOTI.suffix
    precisions = AOTI.precisions
    default_precision = AOTI.default_precision
    options = AotiOptions
    implied: ClassVar[Mapping[str, Any]] = {"weights_as": "fp32"}
    refusals: ClassVar[Mapping[str, str]] = {
        "weights_as": "a .pt2 engine stores its weights as it computes, not as {value}",
        "runtime": "a .pt2 engine is run by torch, not by {value}",
    }

    def check(self, request: Request) -> Request:
        """Choose the device, and refuse one for which nothing can be compiled here."""
        for module in ("torch", "timm"):
            require(module, "export")
        import torch

        precision, device = request.precision, request.options.device
        if request.given_engine:
            raise EngineError(f"{request.ckpt} is an engine already; a .pt2 is compiled from a checkpoint: give that")
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if chosen not in DEVICES:
            raise EngineError(f"there is no device {chosen!r}; choose one of {', '.join(DEVICES)}")
        if chosen == "cuda" and not torch.cuda.is_available():
            raise EngineError(
                f"{request.output} cannot be compiled for cuda here: torch {torch.__version__} sees no GPU; look at: "
                "isc-fast doctor"
            )
        if chosen == "cpu" and precision != "fp32":
            raise EngineError(
                f"a .pt2 engine in {precision} is for a GPU; for a processor export with --precision fp32, or an .onnx engine "
                "with --precision bf16"
            )
        return replace(request, options=AotiOptions(chosen))

    @contextlib.contextmanager
    def open(self, request: Request, path: Path) -> Iterator[Making]:
        """Load the network; torch has as many threads as help until the block ends."""
        from ..origin import open_network
        from .to_aoti import AotiMaking

        with open_network(request) as origin:
            yield AotiMaking(origin, request, path)
