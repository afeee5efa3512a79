"""From an fp32 engine to one in bf16 or int8 that passes the accuracy gate; torch-free."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cores import has_bf16, processor
from ..engines import Engine, engine_file, load_engine, open_with
from ..engines.header import read_spec
from ..errors import EngineError, ParityError
from ..spec import EngineSpec, uses_bf16
from ..versions import installed
from .calibration import lower_layers
from .gate import (
    ATTEMPTS,
    LOSS_BUDGET,
    MEASURED_PHOTOS,
    Benchmark,
    compare,
    describe_all,
    describe_benchmark,
    in_words,
    make_benchmark,
    mean_loss,
    next_budget,
    objections,
)
from .layers import Layer, find_layers, followers, kept_nodes, load_graph, skips_places, surroundings
from .mixed import Choice, by_layer, choose_measured, measure_groups, shares
from .model_file import write_engine
from .photos import Photos, load_photos
from .quantize import Lowered, lower_to_bf16, lower_to_int8, with_lowered
from .telling import Say

REDUCED = ("bf16", "int8", "int8-bf16")


class _Workshop:
    """One fp32 engine with everything that is needed to try lower precisions on it."""

    def __init__(
        self, source: Path, name: str | None, precision: str, runtime: str, photos: Photos, scratch: Path, say: Say
    ) -> None:
        self.source, self.precision, self.runtime, self.say = source, precision, runtime, say
        found = read_spec(engine_file(source)).precision
        if found != "fp32":
            raise EngineError(f"{source} is in {found} already; start from the fp32 engine, or from the checkpoint")
        self.exact = load_engine(source, runtime="onnxruntime")
        self.name = name or self.exact.spec.name
        self.model = load_graph(source)
        self.layers = {layer.name: layer for layer in find_layers(self.model)}
        self.around = surroundings(self.model, list(self.layers.values()))
        self.followers = followers(self.model, list(self.layers.values()))
        self.pixels = load_photos(photos.calibration, self.exact.spec.height, self.exact.spec.width)
        self.measured = self.pixels[:MEASURED_PHOTOS]
        self.expected = describe_all(self.exact, self.measured)
        self.scratch = scratch
        self.made = 0

    def lower(self, layers: Sequence[Layer], to: str) -> dict[str, Lowered]:
        """Every layer in the lower precision ``"bf16"`` or ``"int8"``."""
        how = lower_to_bf16 if to == "bf16" else lower_to_int8
        return lower_layers(self.model, layers, self.pixels, how, to, self.say)

    def build(self, lowered: dict[str, Lowered], path: Path, **changes: Any) -> Engine:
        """Write and open an engine with these layers lowered and every other in fp32."""
        kept = kept_nodes(self.followers, lowered)
        spec = replace(
            self.exact.spec,
            name=self.name,
            precision=self.precision,
            runtime=self.runtime,
            fp32_layers=tuple(dict.fromkeys((*self.around, *kept))) if uses_bf16(self.precision) else (),
            weights_as="fp32",
            **changes,
        )
        write_engine(with_lowered(self.model, self.layers, lowered), spec, path)
        return open_with(path, self.runtime)

    def loss(self, lowered: dict[str, Lowered]) -> float:
        """1 − mean cosine with the fp32 engine on some calibration photos."""
        self.made += 1
        path = self.scratch / f"try-{self.made}.onnx"
        engine = self.build(lowered, path)
        path.unlink()
        return mean_loss(describe_all(engine, self.measured), self.expected)


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
        shop = _Workshop(source, name, precision, runtime, photos, Path(scratch), say)
        say("describing edited copies of the held-out photos in fp32")
        benchmark = make_benchmark(photos.held_out, shop.exact.spec.height, shop.exact.spec.width)
        return _search(shop, target, benchmark, describe_benchmark(shop.exact, benchmark), enforce)


def _measure(shop: _Workshop) -> tuple[dict[str, dict[str, Lowered]], dict[str, dict[str, float]]]:
    """Every layer in each lower precision that the engine may use, and what each loses."""
    lowered, losses = {}, {}
    for to in ("bf16", "int8"):
        if to not in shop.precision:
            continue
        layers = list(shop.layers.values())
        if to == "int8" and shop.runtime == "openvino":
            layers = [layer for layer in layers if not skips_places(layer)]
        table = lowered[to] = shop.lower(layers, to)
        shop.say(f"measuring which layers bear {to}")

        def loss(some: Sequence[Layer], table: dict[str, Lowered] = table) -> float:
            return shop.loss({layer.name: table[layer.name] for layer in some})

        losses[to] = by_layer(measure_groups(layers, loss, LOSS_BUDGET))
    return lowered, losses


def _search(
    shop: _Workshop,
    target: Path,
    benchmark: Benchmark,
    exact: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    enforce: bool,
) -> EngineSpec:
    """Choose layers, write the engine, take it to the gate; with less to lose if it does not pass."""
    layers = list(shop.layers.values())
    lowered, losses = _measure(shop)

    def table_of(choice: Choice) -> dict[str, Lowered]:
        return {name: lowered[to][name] for name, to in choice.items()}

    budget = LOSS_BUDGET
    problems: list[str] = []
    accuracy: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        choice, lost = choose_measured(layers, losses, lambda choice: shop.loss(table_of(choice)), budget)
        if not choice:
            break
        parts = {f"{to}_share": share for to, share in shares(layers, choice).items()}
        listed = ", ".join(f"{share:.0%} in {name.partition('_')[0]}" for name, share in parts.items() if share)
        shop.say(f"of the arithmetic {listed}, at a loss of {lost:.1e}")
        engine = shop.build(table_of(choice), target)
        accuracy = {**compare(benchmark, exact, describe_benchmark(engine, benchmark)), **parts}
        problems = objections(accuracy)
        shop.say(in_words(accuracy))
        if not problems or not enforce:
            return _stamp(shop, table_of(choice), target, accuracy, engine, benchmark)
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
    shop: _Workshop,
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
