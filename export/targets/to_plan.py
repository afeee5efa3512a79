"""From an fp32 ``.onnx`` engine to a TensorRT plan: write the precision, build, verify on the GPU; torch-free.

A plan and its sidecar appear together, and only after the plan has run on this GPU and agreed with the engine that it
comes from. The tests go through all of it with an imitation of the GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ... import __version__
from ...engines.base import Engine, file_sha256, load_engine
from ...engines.spec import EngineSpec
from ...engines.trt.engine import TrtEngine
from ...engines.trt.load import installed_flavour
from ...engines.trt.sidecar import PlanFacts, network_name, sidecar_path, sidecar_text
from ...errors import EngineError, ParityError
from ...machine.cuda import Device, find_device
from ..agree import Standard, agree
from ..photos import load_photos, split_photos
from ..precision.gate import AccuracyGate
from ..precision.plan_precision import PlanPrecision
from ..precision.precision_graph import with_fixed_batch
from ..request import Request
from .base import Draft, Making, Verdict
from .plan_options import GATED, PlanOptions
from .to_tensorrt import build_plan, check_batch, find_flavour

MIN_COSINE = {"fp32": 0.9999, "fp16": 0.9995}
"""Lowest cosine of any photo with the fp32 engine on the processor. Precisions that are not here pass the gate instead."""

_REMEDIES = {
    "fp32": "install another version of TensorRT, or check the GPU",
    "fp16": "export with --precision bf16, which has the range of fp32, or fp32",
}


def check_possible() -> tuple[str, Device]:
    """Say which TensorRT and which GPU will build the plan, before minutes of other work.

    Raises:
        EngineError: there is no GPU to build the plan for and to verify it on.
        MissingExtraError: no TensorRT is installed.
    """
    flavour = find_flavour()
    device = find_device()
    installed_flavour(flavour)
    return flavour, device


class PlanMaking(Making):
    """One TensorRT plan and its sidecar while they are made from an fp32 engine.

    Args:
        request: ``ckpt`` is the fp32 ``.onnx`` engine; ``options`` is a `PlanOptions`.
        path: where the candidate is written; its sidecar stands beside it.

    Raises:
        EngineError: there is no GPU, or the source is no fp32 engine.
        InputError: the batch or the photos cannot be used.
        MissingExtraError: TensorRT is not installed.
    """

    def __init__(self, request: Request, path: Path) -> None:
        self.request, self.path = request, path
        self.flavour, self.device = check_possible()
        self.version = str(installed_flavour(self.flavour).__version__)
        source, precision = Path(request.ckpt), request.precision
        self.exact = load_engine(source, device="cpu", runtime="onnxruntime")
        exact = self.exact.spec
        if exact.precision != "fp32":
            raise EngineError(f"{source} is in {exact.precision} already; start from the fp32 engine")
        options: PlanOptions = request.options
        self.options = replace(options, batch=check_batch(options.batch, exact.height, exact.width))
        self.source_sha256 = file_sha256(source)
        self.spec = replace(
            exact,
            name=request.name or exact.name,
            precision=precision,
            runtime="tensorrt",
            weights_as="fp32",
            tools={**exact.tools, "isc-fast": __version__, self.flavour: self.version},
        )
        self._facts: PlanFacts | None = None
        self._measure: Callable[[Engine, Mapping[str, float]], Verdict] = self._agreement
        pixels = None
        photos = split_photos(request.photos) if precision in GATED else None
        if photos is not None:
            pixels = load_photos(photos.calibration, exact.input)
        self.writer = PlanPrecision(source, precision, pixels, request.say)
        if photos is not None:
            self._measure = AccuracyGate(self.exact, photos, request.say).measure

    def choose(self, budget: float) -> Draft | None:
        """The graph in its precision; in those of `GATED` with as many layers lowered as the budget allows."""
        graph, shares = self.writer.write(budget)
        return Draft(graph, shares, self.writer.lost if self.request.precision in GATED else None)

    def build(self, draft: Draft) -> None:
        """Build the plan and write it with its sidecar."""
        say, options = self.request.say, self.options
        model = with_fixed_batch(draft.content, options.batch[0]) if options.static else draft.content
        graph = model.SerializeToString()
        network = network_name(self.source_sha256)
        say(f"building the plan for {self.device.name}; this can take minutes")
        plan = build_plan(graph, network, options, flavour=self.flavour, device=self.device, say=say)
        self.path.write_bytes(plan)
        self._facts = PlanFacts(
            flavour=self.flavour,
            tensorrt=self.version,
            gpu=self.device.name,
            capability=self.device.capability,
            batch=options.batch,
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
            network=network,
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            source_sha256=self.source_sha256,
            graph_sha256=hashlib.sha256(graph).hexdigest(),
        )
        self._write_sidecar(self.spec)

    def gate(self, draft: Draft) -> Verdict:
        """Run the plan on this GPU: on every photo, or on edited copies of the held-out ones."""
        with TrtEngine(self.path, trust_code=True) as engine:
            return self._measure(engine, draft.shares)

    def stamp(self, verdict: Verdict) -> EngineSpec:
        """Write the figures into the sidecar, and open the two once more."""
        spec = replace(self.spec, **verdict.figures)
        self._write_sidecar(spec)
        with TrtEngine(self.path, slots=1, trust_code=True) as stamped:
            if stamped.spec != spec:
                raise ParityError(
                    f"{self.request.output} changed when its figures were written beside it; nothing was published"
                )
        return spec

    def refusal(self, last: Verdict | None) -> ParityError:
        """What is off, and the edits that it is worst for."""
        if last is None:
            return super().refusal(last)
        return ParityError(
            f"the network does not bear {self.request.precision} on this GPU: {'; '.join(last.problems)}; worst edits: "
            f"{', '.join(last.figures['accuracy']['worst_edits'])}; nothing was published; export with --precision fp16, or "
            "calibrate with more photos of the kind that it is meant for: --photos FOLDER"
        )

    def _agreement(self, engine: Engine, shares: Mapping[str, float]) -> Verdict:
        """Whether the plan agrees with the fp32 engine on every photo."""
        precision = self.request.precision
        standard = Standard(
            self.exact.run,
            of="the fp32 engine it came from",
            min_cosine=MIN_COSINE[precision],
            remedy=_REMEDIES[precision],
        )
        return Verdict({"parity": agree(engine, standard, self.request.photos, self.request.say)})

    def _write_sidecar(self, spec: EngineSpec) -> None:
        """Write the sidecar of the plan that was built last."""
        if self._facts is None:
            raise ValueError("no plan was built")
        sidecar_path(self.path).write_text(sidecar_text(spec, self._facts), "utf-8")
