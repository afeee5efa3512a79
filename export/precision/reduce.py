"""From an fp32 engine to one in bf16 or int8 that passes the accuracy gate; torch-free."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...engines.base import Engine
from ...engines.spec import EngineSpec, uses_bf16
from ...errors import EngineError, ParityError
from ...machine.cores import has_bf16, processor
from ...machine.versions import installed
from ..photos import Photos
from ..telling import Say
from .gate import (
    ATTEMPTS,
    LOSS_BUDGET,
    Benchmark,
    compare,
    describe_all,
    describe_benchmark,
    in_words,
    make_benchmark,
    next_budget,
    objections,
)
from .quantize import Lowered
from .workshop import Workshop

REDUCED = ("bf16", "int8", "int8-bf16")


def check_possible(precision: str, runtime: str) -> None:
    """Refuse what could not be computed, or not be measured, on this machine.

    Raises:
        EngineError: with the reason and what to do.
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


def reduce_engine(
    source: Path,
    target: Path,
    *,
    precision: str,
    runtime: str,
    photos: Photos,
    name: str | None = None,
    say: Say = lambda line: None,
    enforce: bool = True,
) -> EngineSpec:
    """Write an engine in a lower precision whose accuracy on held-out photos is within the gate's bounds.

    Args:
        source: engine in fp32.
        target: where to write; the caller publishes it.
        precision: ``"bf16"``, ``"int8"`` or ``"int8-bf16"``.
        runtime: that the engine is measured with, and will be run by.
        photos: to calibrate and to measure with.
        name: what the engine calls itself; by default as the source does.
        say: is told in one line what is being done.
        enforce: False writes the first choice whatever the gate says; its figures say how far it is off. For benchmarks.

    Returns:
        the specification inside the engine; its ``accuracy`` is what was measured.

    Raises:
        EngineError: this machine cannot compute so, or the source is no fp32 engine.
        ParityError: no choice of layers passes the gate; the message names what is off and the worst edits.
    """
    check_possible(precision, runtime)
    with tempfile.TemporaryDirectory(prefix="isc-fast-") as scratch:
        shop = Workshop(source, name, precision, runtime, photos, Path(scratch), say)
        say("describing edited copies of the held-out photos in fp32")
        benchmark = make_benchmark(photos.held_out, shop.exact.spec.height, shop.exact.spec.width)
        return _search(shop, target, benchmark, describe_benchmark(shop.exact, benchmark), enforce)


def _search(
    shop: Workshop,
    target: Path,
    benchmark: Benchmark,
    exact: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    enforce: bool,
) -> EngineSpec:
    """Choose layers, write the engine, take it to the gate; with less to lose if it does not pass."""
    budget = LOSS_BUDGET
    problems: list[str] = []
    accuracy: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        lowered, parts, lost = shop.choose(budget)
        if not lowered:
            break
        listed = ", ".join(f"{share:.0%} in {name.partition('_')[0]}" for name, share in parts.items() if share)
        shop.say(f"of the arithmetic {listed}, at a loss of {lost:.1e}")
        engine = shop.build(lowered, target)
        accuracy = {**compare(benchmark, exact, describe_benchmark(engine, benchmark)), **parts}
        problems = objections(accuracy)
        shop.say(in_words(accuracy))
        if not problems or not enforce:
            if "int8" in shop.precision and not parts["int8_share"]:
                shop.say("note: within the bounds int8 saves no time, so this engine has no layer in it")
            return _stamp(shop, lowered, target, accuracy, engine, benchmark)
        budget = next_budget(budget, lost)
    if not accuracy:
        raise ParityError(
            f"no layer of {shop.source} bears {shop.precision} within the bounds; nothing was published; keep it in fp32"
        )
    raise ParityError(
        f"{shop.source} does not bear {shop.precision}: {'; '.join(problems)}; worst edits: "
        f"{', '.join(accuracy['worst_edits'])}; nothing was published; keep it in fp32, or calibrate with more photos of the "
        "kind that it is meant for: --photos FOLDER"
    )


def _stamp(
    shop: Workshop,
    lowered: dict[str, Lowered],
    target: Path,
    accuracy: dict[str, Any],
    measured: Engine,
    benchmark: Benchmark,
) -> EngineSpec:
    """Write the figures into the engine, and read it back once more."""
    accuracy = {**accuracy, "calibration_photos": len(shop.pixels), "fp32_engine": shop.exact.id}
    tools = {**shop.exact.spec.tools, **installed([shop.runtime])}
    engine = shop.build(lowered, target, accuracy=accuracy, tools=tools)
    again, before = (describe_all(which, benchmark.references[:8]) for which in (engine, measured))
    if engine.spec.accuracy != accuracy or not float(np.abs(again - before).max()) < 1e-5:
        raise ParityError(f"{target} changed when its figures were written into it; nothing was published")
    return engine.spec
