"""The graph of a TensorRT plan in its precision; for bf16, int8 and fp8 with the choice of layers that bear it.

The choice is measured on the processor, where ONNX Runtime computes what the plan will compute: Q/DQ pairs as they are, and
bf16 by rounding every result. So the choice needs no GPU. The gate then measures the plan itself on the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from ...errors import ParityError
from ...machine.cores import available_cores
from ..targets.plan_options import GATED
from ..telling import Say
from .calibration import lower_layers
from .gate import LOSS_BUDGET, MEASURED_PHOTOS, mean_loss
from .layers import Layer, find_layers, followers, kept_nodes, load_graph
from .mixed import Choice, by_layer, choose_measured, measure_groups, shares
from .precision_graph import Scaled, bears_scaling, imitated, lower_scaled, to_half, with_scaled
from .quantize import Lowered, lower_to_bf16, with_lowered

_BATCH = 4

Pixels = npt.NDArray[np.uint8]


def describe_graph(model: Any, pixels: Pixels) -> npt.NDArray[np.float32]:
    """Run a graph as it is, on the processor: ``uint8 (n, h, w, 3)`` → descriptors ``float32 (n, dim)``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 4
    if any("fp8" in tensor.name for tensor in model.graph.initializer):
        # ONNX Runtime 1.32 merges a Clip into the quantisation behind it and fails where that is to fp8.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    blocks = [session.run(None, {name: pixels[i : i + _BATCH]})[0] for i in range(0, len(pixels), _BATCH)]
    return np.concatenate(blocks)


class PlanPrecision:
    """Writes the graph of an fp32 engine in one precision.

    Args:
        source: an fp32 ``.onnx`` engine.
        precision: one of `isc_fast.engines.spec.PLAN_PRECISIONS`.
        pixels: calibration photos ``uint8 (n, h, w, 3)``; only the precisions in `GATED` need them.
        say: gets one line for each thing that begins.
    """

    def __init__(self, source: Path, precision: str, pixels: Pixels | None, say: Say) -> None:
        self.precision, self.say = precision, say
        self.model = load_graph(source)
        self.layers = {layer.name: layer for layer in find_layers(self.model)}
        self._followers = followers(self.model, list(self.layers.values()))
        self._bf16: dict[str, Lowered] = {}
        self._scaled: dict[str, Scaled] = {}
        self._able: list[Layer] = []
        self._losses: dict[str, float] = {}
        self.lost = 0.0
        """Measured loss of the layers that `write` chose last."""
        if precision in GATED:
            if pixels is None:
                raise ValueError(f"{precision} needs calibration photos")
            self._measured = pixels[:MEASURED_PHOTOS]
            self._expected = describe_graph(self.model, self._measured)
            self._lower(pixels)
            say(f"measuring which layers bear {precision}")
            self._able = [layer for layer in self.layers.values() if layer.name in {*self._bf16, *self._scaled}]
            if self._able:
                self._losses = by_layer(measure_groups(self._able, self._loss, LOSS_BUDGET))

    def _lower(self, pixels: Pixels) -> None:
        """Lower every layer that the precision has a kernel for."""
        every = list(self.layers.values())
        if self.precision == "bf16":
            self._bf16 = lower_layers(self.model, every, pixels, lower_to_bf16, "bf16", self.say)
        else:
            able = [layer for layer in every if bears_scaling(self.precision, layer)]
            how = partial(lower_scaled, self.precision)
            self._scaled = lower_layers(self.model, able, pixels, how, self.precision, self.say)

    def _loss(self, layers: Sequence[Layer]) -> float:
        """1 − mean cosine with fp32 when these layers alone are computed in the lower precision."""
        names = {layer.name for layer in layers}
        model = imitated(self._in_bf16(names)) if self.precision == "bf16" else self._in_scaled(names, None)
        return mean_loss(describe_graph(model, self._measured), self._expected)

    def _in_bf16(self, names: set[str]) -> Any:
        """The graph with these layers in bf16 and all others in fp32."""
        model = with_lowered(self.model, self.layers, {name: self._bf16[name] for name in names})
        return to_half(model, "bf16", kept=kept_nodes(self._followers, names))

    def _in_scaled(self, names: set[str], half: str | None) -> Any:
        """The graph with these layers in int8 or fp8, and the others in half precision or, for None, in fp32."""
        lowered = {name: self._scaled[name] for name in names}
        model = to_half(self.model, half) if half else self.model
        return with_scaled(model, self.layers, lowered, half)

    def write(self, budget: float = LOSS_BUDGET) -> tuple[Any, dict[str, float]]:
        """Write the graph, and say which share of the arithmetic is computed in which type.

        Args:
            budget: mean loss that a precision in `GATED` may cost.

        Raises:
            ParityError: no layer bears the precision within the budget.
            EngineError: a weight is beyond the range of fp16.
        """
        if self.precision == "fp32":
            return self.model, {"fp32_share": 1.0}
        if self.precision == "fp16":
            return to_half(self.model, "fp16"), {"fp16_share": 1.0}
        label = "bf16" if self.precision == "bf16" else "int8"  # the choice counts fp8 as int8: both have eight bits

        def loss(choice: Choice) -> float:
            return self._loss([self.layers[name] for name in choice])

        chosen, found = choose_measured(self._able, {label: self._losses}, loss, budget)
        if not chosen:
            raise ParityError(
                f"no layer bears {self.precision} within the bounds; nothing was published; export with --precision fp16"
            )
        self.lost = found
        share = shares(list(self.layers.values()), chosen)[label]
        self.say(f"{len(chosen)} of {len(self.layers)} layers, {share:.0%} of the arithmetic, at a loss of {found:.1e}")
        names = set(chosen)
        if self.precision == "bf16":
            return self._in_bf16(names), {"bf16_share": share, "fp32_share": 1 - share}
        return self._in_scaled(names, "fp16"), {f"{self.precision}_share": share, "fp16_share": 1 - share}
