"""From an fp32 ``.onnx`` engine to a published TensorRT plan: write the precision, build, verify on the GPU; torch-free.

A plan and its sidecar appear together, and only after the plan has run on this GPU and agreed with the engine that it
comes from. The GPU part has not run on hardware yet; the tests go through all of it with an imitation of the GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ... import __version__
from ...engines.base import file_sha256, load_engine
from ...engines.spec import EngineSpec
from ...engines.trt.engine import TrtEngine
from ...engines.trt.load import installed_flavour
from ...engines.trt.sidecar import PlanFacts, network_name, sidecar_path, sidecar_text
from ...errors import EngineError, ParityError
from ...files.atomic import replacing, write_text
from ...machine.cuda import Device, find_device
from ..agree import agree, counting_photos
from ..photos import load_photos, split_photos
from ..precision.gate import (
    ATTEMPTS,
    LOSS_BUDGET,
    compare,
    describe_benchmark,
    in_words,
    make_benchmark,
    next_budget,
    objections,
)
from ..precision.plan_precision import GATED, PlanPrecision
from ..precision.precision_graph import with_fixed_batch
from ..telling import Say
from .to_tensorrt import DEFAULT_BATCH, PlanOptions, build_plan, check_batch, find_flavour

MIN_COSINE = {"fp32": 0.9999, "fp16": 0.9995}
"""Lowest cosine of any photo with the fp32 engine on the processor. Precisions that are not here pass the gate instead."""

_REMEDIES = {
    "fp32": "install another version of TensorRT, or check the GPU",
    "fp16": "export with --precision bf16, which has the range of fp32, or fp32",
}


def plan_options(
    batch: Sequence[int] | None,
    timing_cache: str | os.PathLike[str] | None,
    version_compatible: bool,
    hardware_compatible: bool,
) -> PlanOptions:
    """The options of a plan from what a user gave; the machine is asked whether it can make one, before any other work.

    Raises:
        InputError: the batch is none.
        EngineError, MissingExtraError: as `check_possible`.
    """
    profile = check_batch(tuple(batch), 1, 1) if batch is not None else DEFAULT_BATCH
    check_possible()
    cache = None if timing_cache is None else Path(timing_cache)
    return PlanOptions(profile, cache, version_compatible, hardware_compatible)


def check_possible() -> tuple[str, Device]:
    """Which TensorRT and which GPU will build the plan; to be asked before minutes of other work.

    Raises:
        EngineError: there is no GPU to build the plan for and to verify it on.
        MissingExtraError: no TensorRT is installed.
    """
    flavour = find_flavour()
    device = find_device()
    installed_flavour(flavour)
    return flavour, device


@contextlib.contextmanager
def replacing_plan(target: Path) -> Iterator[tuple[Path, Path]]:
    """Give temporary paths for a plan and its sidecar; when the block ends well, both stand, else both are as before.

    Between the two renames a power cut can leave the new sidecar beside the old plan, which loading notices by the sum.

    Raises:
        OutputError: one of them cannot be written.
    """
    beside = sidecar_path(target)
    before = beside.read_text("utf-8", "surrogateescape") if beside.is_file() else None
    renamed = False
    try:
        with replacing(target) as plan:
            with replacing(beside) as sidecar:
                yield plan, sidecar
            renamed = True
    except BaseException:
        if renamed:
            with contextlib.suppress(Exception):
                if before is None:
                    beside.unlink()
                else:
                    write_text(beside, before)
        raise


def export_plan(
    source: Path,
    target: Path,
    *,
    precision: str,
    options: PlanOptions,
    photos: Sequence[Path],
    name: str | None = None,
    say: Say = lambda line: None,
) -> EngineSpec:
    """Build, verify and publish a plan.

    Args:
        source: fp32 ``.onnx`` engine.
        target: the plan; its sidecar ``<target>.json`` is written beside it.
        precision: one of `isc_fast.engines.spec.PLAN_PRECISIONS`.
        options: how it is built.
        photos: to verify with; for bf16, int8 and fp8 every second one calibrates and edited copies of the others measure.
        name: what the engine calls itself; by default as the source does.
        say: is told in one line what is being done.

    Returns:
        the specification in the sidecar.

    Raises:
        EngineError: there is no GPU, TensorRT cannot build or run the plan, or the source is no fp32 engine.
        InputError: the batch or the photos cannot be used.
        ParityError: the plan disagrees with its source beyond the bounds of its precision; nothing is published.
        OutputError: the plan cannot be written.
        MissingExtraError: TensorRT is not installed.
    """
    flavour, device = check_possible()
    exact = load_engine(source, device="cpu", runtime="onnxruntime")
    if exact.spec.precision != "fp32":
        raise EngineError(f"{source} is in {exact.spec.precision} already; start from the fp32 engine")
    height, width = exact.spec.height, exact.spec.width
    options = replace(options, batch=check_batch(options.batch, height, width))
    split = split_photos(photos) if precision in GATED else None
    pixels = load_photos(split.calibration, height, width) if split else None
    with replacing_plan(target) as (plan, sidecar), tempfile.TemporaryDirectory(prefix="isc-fast-") as scratch:
        writer = PlanPrecision(source, precision, pixels, say)
        maker = _Maker(exact, source, flavour, device, options, Path(scratch, "engine.plan"), say)
        spec = replace(
            exact.spec,
            name=name or exact.spec.name,
            precision=precision,
            runtime="tensorrt",
            weights_as="fp32",
            tools={**exact.spec.tools, "isc-fast": __version__, flavour: maker.version},
        )
        if split is None:
            spec = maker.agreeing(writer, spec, photos)
        else:
            spec = maker.passing(writer, spec, split.held_out)
            spec = maker.stamp(replace(spec, accuracy={**spec.accuracy, "calibration_photos": len(split.calibration)}))
        with TrtEngine(maker.path, slots=1, trust_code=True) as stamped:
            if stamped.spec != spec:
                raise ParityError(f"{target} changed when its figures were written beside it; nothing was published")
        shutil.copyfile(maker.path, plan)
        shutil.copyfile(sidecar_path(maker.path), sidecar)
    return spec


class _Maker:
    """Builds plans at one path and measures them on this GPU."""

    def __init__(
        self, exact: Any, source: Path, flavour: str, device: Device, options: PlanOptions, path: Path, say: Say
    ) -> None:
        self.exact, self.flavour, self.device = exact, flavour, device
        self.options, self.path, self.say = options, path, say
        self.source_sha256 = file_sha256(source)
        self.version = str(installed_flavour(flavour).__version__)
        self._facts: PlanFacts | None = None

    def build(self, model: Any, spec: EngineSpec) -> None:
        """Write the plan and its sidecar."""
        if self.options.static:
            model = with_fixed_batch(model, self.options.batch[0])
        graph = model.SerializeToString()
        network = network_name(self.source_sha256)
        self.say(f"building the plan for {self.device.name}; this can take minutes")
        plan = build_plan(graph, network, self.options, flavour=self.flavour, device=self.device, say=self.say)
        self.path.write_bytes(plan)
        self._facts = PlanFacts(
            flavour=self.flavour,
            tensorrt=self.version,
            gpu=self.device.name,
            capability=self.device.capability,
            batch=self.options.batch,
            version_compatible=self.options.version_compatible,
            hardware_compatible=self.options.hardware_compatible,
            network=network,
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            source_sha256=self.source_sha256,
            graph_sha256=hashlib.sha256(graph).hexdigest(),
        )
        self.stamp(spec)

    def stamp(self, spec: EngineSpec) -> EngineSpec:
        """Write the sidecar of the plan that was built last."""
        if self._facts is None:
            raise ValueError("no plan was built")
        sidecar_path(self.path).write_text(sidecar_text(spec, self._facts), "utf-8")
        return spec

    def agreeing(self, writer: PlanPrecision, spec: EngineSpec, photos: Sequence[Path]) -> EngineSpec:
        """Build a plan that agrees with its source on every photo.

        Raises:
            ParityError: it does not; the worst photos are named.
        """

        model, _ = writer.write()
        self.build(model, spec)
        with TrtEngine(self.path, trust_code=True) as engine:
            parity = agree(
                engine,
                self.exact.run,
                photos,
                of="the fp32 engine it came from",
                min_cosine=MIN_COSINE[spec.precision],
                remedy=_REMEDIES[spec.precision],
                progress=counting_photos(self.say),
            )
        return self.stamp(replace(spec, parity=parity))

    def passing(self, writer: PlanPrecision, spec: EngineSpec, held_out: Sequence[Path]) -> EngineSpec:
        """Build a plan that passes the gate, with fewer layers in the lower precision until it does.

        Raises:
            ParityError: none does; the message names what is off and the worst edits.
        """
        self.say("describing edited copies of the held-out photos in fp32")
        benchmark = make_benchmark(held_out, spec.height, spec.width)
        expected = describe_benchmark(self.exact, benchmark)
        budget = LOSS_BUDGET
        for _ in range(ATTEMPTS):
            model, shares = writer.write(budget)
            self.build(model, spec)
            with TrtEngine(self.path, trust_code=True) as engine:
                found = describe_benchmark(engine, benchmark)
            accuracy = compare(benchmark, expected, found)
            problems = objections(accuracy)
            self.say(in_words(accuracy))
            if not problems:
                return replace(spec, accuracy={**accuracy, **shares, "fp32_engine": self.exact.id})
            budget = next_budget(budget, writer.lost)
        raise ParityError(
            f"the network does not bear {spec.precision} on this GPU: {'; '.join(problems)}; worst edits: "
            f"{', '.join(accuracy['worst_edits'])}; nothing was published; export with --precision fp16, or calibrate with "
            "more photos of the kind that it is meant for: --photos FOLDER"
        )
