"""Everything that is needed to try lower precisions on one fp32 engine; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...engines.base import Engine, engine_file, load_engine, open_with
from ...engines.header import read_spec
from ...engines.spec import uses_bf16
from ...errors import EngineError
from ...evaluation.copies import describe_all
from ..photos import Photos, load_photos
from ..request import Request
from ..targets.model_file import write_engine
from .calibration import lower_layers
from .gate import LOSS_BUDGET, MEASURED_PHOTOS, mean_loss
from .layers import Layer, find_layers, followers, kept_nodes, load_graph, skips_places, surroundings
from .mixed import Choice, by_layer, choose_measured, measure_groups, shares
from .quantize import Lowered, lower_to_bf16, lower_to_int8, with_lowered


class Workshop:
    """One fp32 engine with everything that is needed to try lower precisions on it.

    Args:
        request: ``ckpt`` is the engine in fp32, ``precision`` one of `isc_fast.engines.kind_onnx.REDUCED`, and
            ``options.runtime`` what losses are measured with.
        photos: its calibration photos are used.
        scratch: a folder for engines that are only tried.

    Raises:
        EngineError: the source is no fp32 engine.
    """

    def __init__(self, request: Request, photos: Photos, scratch: Path) -> None:
        source = self.source = Path(request.ckpt)
        self.precision, self.runtime, self.say = request.precision, request.options.runtime, request.say
        found = read_spec(engine_file(source)).precision
        if found != "fp32":
            raise EngineError(f"{source} is in {found} already; start from the fp32 engine, or from the checkpoint")
        self.exact = load_engine(source, runtime="onnxruntime")
        self.name = request.name or self.exact.spec.name
        self.model = load_graph(source)
        self.layers = {layer.name: layer for layer in find_layers(self.model)}
        self.around = surroundings(self.model, list(self.layers.values()))
        self.followers = followers(self.model, list(self.layers.values()))
        self.pixels = load_photos(photos.calibration, self.exact.spec.input)
        self.measured = self.pixels[:MEASURED_PHOTOS]
        self.expected = describe_all(self.exact, self.measured)
        self.scratch = scratch
        self.made = 0

    @cached_property
    def _lowered(self) -> dict[str, dict[str, Lowered]]:
        """Every layer in each lower precision that the engine may use, by precision and by name."""
        tables = {}
        for to in ("bf16", "int8"):
            if to not in self.precision:
                continue
            layers = list(self.layers.values())
            if to == "int8" and self.runtime == "openvino":
                layers = [layer for layer in layers if not skips_places(layer)]
            tables[to] = self._lower(layers, to)
        return tables

    @cached_property
    def losses(self) -> dict[str, dict[str, float]]:
        """What is lost where one layer alone is lowered: by precision, then by the layer's name."""
        found = {}
        for to, table in self._lowered.items():
            self.say(f"measuring which layers bear {to}")

            layers = [layer for name, layer in self.layers.items() if name in table]

            def loss(some: Sequence[Layer], table: dict[str, Lowered] = table) -> float:
                return self._loss({layer.name: table[layer.name] for layer in some})

            found[to] = by_layer(measure_groups(layers, loss, LOSS_BUDGET))
        return found

    def choose(self, budget: float) -> tuple[dict[str, Lowered], dict[str, float], float]:
        """Choose the layers to lower for the most speed while the mean cosine loses no more than the budget.

        Returns:
            the layers; the share of the arithmetic in each precision, as ``"int8_share"`` and so on; and the measured loss.
            Where the budget holds no layer, there are none.
        """
        layers = list(self.layers.values())
        choice, lost = choose_measured(layers, self.losses, lambda choice: self._loss(self._table(choice)), budget)
        return self._table(choice), {f"{to}_share": share for to, share in shares(layers, choice).items()}, lost

    def _table(self, choice: Choice) -> dict[str, Lowered]:
        return {name: self._lowered[to][name] for name, to in choice.items()}

    def _lower(self, layers: Sequence[Layer], to: str) -> dict[str, Lowered]:
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

    def _loss(self, lowered: dict[str, Lowered]) -> float:
        """Build an engine for a moment, and measure 1 − mean cosine with the fp32 engine on some calibration photos."""
        self.made += 1
        path = self.scratch / f"try-{self.made}.onnx"
        engine = self.build(lowered, path)
        path.unlink()
        return mean_loss(describe_all(engine, self.measured), self.expected)
