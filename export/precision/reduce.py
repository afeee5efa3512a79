"""From an fp32 engine to one in bf16 or int8 that passes the accuracy gate; torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...engines.base import Engine
from ...engines.kind_onnx import REDUCED
from ...engines.spec import EngineSpec, uses_bf16
from ...errors import EngineError, ParityError
from ...evaluation.copies import describe_all
from ...machine.cores import has_bf16, processor
from ...machine.versions import installed
from ..loop import first_that_passes
from ..photos import Photos
from ..publishing import publish, scratch_folder
from ..request import Request
from ..targets.base import Draft, Making, Verdict
from .gate import AccuracyGate
from .quantize import Lowered
from .workshop import Workshop

_COMPARED = 8  # references that are described again after the figures were written into the file


def check_possible(precision: str, runtime: str) -> None:
    """Refuse a precision that this machine cannot compute or cannot measure.

    Raises:
        EngineError: the precision cannot be made here; the message says why, and what can.
    """
    if precision not in REDUCED:
        raise EngineError(
            f"an engine for the processor is reduced to one of {', '.join(REDUCED)}, not to {precision!r}"
        )
    if uses_bf16(precision):
        if runtime != "openvino":
            raise EngineError(f"{runtime} does not compute in bf16 on a processor; openvino does: leave out --runtime")
        if not has_bf16():
            raise EngineError(
                f"this processor ({processor()}) has no bf16 instructions, so the engine could not be measured here; "
                "export with --precision int8, or on another machine"
            )


class ReducedMaking(Making):
    """One ``.onnx`` engine in a lower precision while it is made from an fp32 engine.

    Args:
        request: ``ckpt`` is the fp32 engine, ``options.runtime`` what the new engine is measured with and will be run by.
        photos: to calibrate and to measure with.
        path: where the candidate is written; engines that are only tried stand beside it for a moment.
        enforce: False lets the first choice pass whatever its figures are; they say how far it is off. For benchmarks.
    """

    def __init__(self, request: Request, photos: Photos, path: Path, *, enforce: bool = True) -> None:
        self.request, self.path, self.enforce = request, path, enforce
        self.shop = Workshop(request, photos, path.parent)
        self.accuracy = AccuracyGate(self.shop.exact, photos, request.say)
        self._lowered: dict[str, Lowered] = {}
        self._engine: Engine | None = None

    def choose(self, budget: float) -> Draft | None:
        """The layers to lower for the most speed within the budget; None where no layer bears the precision."""
        lowered, shares, lost = self.shop.choose(budget)
        if not lowered:
            return None
        listed = ", ".join(f"{share:.0%} in {name.partition('_')[0]}" for name, share in shares.items() if share)
        self.request.say(f"of the arithmetic {listed}, at a loss of {lost:.1e}")
        return Draft(lowered, shares, lost)

    def build(self, draft: Draft) -> None:
        """Write and open an engine with these layers lowered."""
        self._lowered = draft.content
        self._engine = self.shop.build(self._lowered, self.path)

    def gate(self, draft: Draft) -> Verdict:
        """Measure the engine on edited copies of the held-out photos."""
        verdict = self.accuracy.measure(self._candidate(), draft.shares)
        if not verdict.problems or not self.enforce:
            if "int8" in self.request.precision and not draft.shares["int8_share"]:
                self.request.say("note: within the bounds int8 saves no time, so this engine has no layer in it")
            return Verdict(verdict.figures)
        return verdict

    def stamp(self, verdict: Verdict) -> EngineSpec:
        """Write the engine again with the figures in it, and compare the two."""
        accuracy: dict[str, Any] = verdict.figures["accuracy"]
        tools = {**self.shop.exact.spec.tools, **installed([self.shop.runtime])}
        stamped = self.shop.build(self._lowered, self.path, accuracy=accuracy, tools=tools)
        sample = self.accuracy.benchmark.references[:_COMPARED]
        again, before = (describe_all(which, sample) for which in (stamped, self._candidate()))
        if stamped.spec.accuracy != accuracy or not float(np.abs(again - before).max()) < 1e-5:
            raise ParityError(
                f"{self.request.output} changed when its figures were written into it; nothing was published"
            )
        return stamped.spec

    def refusal(self, last: Verdict | None) -> ParityError:
        """What is off, and the edits that it is worst for."""
        source, precision = self.shop.source, self.request.precision
        if last is None:
            return ParityError(
                f"no layer of {source} bears {precision} within the bounds; nothing was published; keep it in fp32"
            )
        return ParityError(
            f"{source} does not bear {precision}: {'; '.join(last.problems)}; worst edits: "
            f"{', '.join(last.figures['accuracy']['worst_edits'])}; nothing was published; keep it in fp32, or calibrate "
            "with more photos of the kind that it is meant for: --photos FOLDER"
        )

    def _candidate(self) -> Engine:
        if self._engine is None:
            raise ValueError("no candidate was built")
        return self._engine


def reduce_engine(request: Request, photos: Photos, *, enforce: bool = True) -> EngineSpec:
    """Make one engine in a lower precision from an fp32 engine, with photos that are split already. For benchmarks.

    Args:
        request: as `ReducedMaking` takes it; the engine is published at its ``output``.
        photos: to calibrate and to measure with.
        enforce: False publishes the first choice whatever its figures are.

    Returns:
        the specification inside the engine; its ``accuracy`` is what was measured.

    Raises:
        EngineError: this machine cannot compute in the precision, or the source is no fp32 engine.
        ParityError: no choice of layers passes the gate; the message names what is off and the worst edits.
    """
    check_possible(request.precision, request.options.runtime)
    with scratch_folder() as scratch:
        made = scratch / "reduced.onnx"
        spec = first_that_passes(ReducedMaking(request, photos, made, enforce=enforce))
        publish([made], [request.output])
    return spec
