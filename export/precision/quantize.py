"""Writing a lower precision into an engine's graph: rounded weights, corrected biases, Q/DQ pairs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from .layers import Floats, Layer, constants_of, set_constant
from .rounding import ActivationGrid, activation_grid, int8_scales, round_layer, to_bf16, to_int8


@dataclass(frozen=True)
class Lowered:
    """One layer in a lower precision.

    Attributes:
        weights: float32 values on the grid, in the shape of the layer.
        bias: the bias, corrected for the mean error.
        scales: the scales of int8 weights, one for each output channel; None in bf16.
        grid: the grid of the int8 layer's input; None in bf16.
    """

    weights: Floats
    bias: Floats
    scales: Floats | None = None
    grid: ActivationGrid | None = None


def lower_to_bf16(weights: Floats, bias: Floats, inputs: Floats) -> Lowered:
    """Round a layer's weights for bf16 so that its output changes least.

    Args:
        weights, bias: those of the layer in fp32.
        inputs: a sample of its patches ``(groups, n, k)``.
    """
    flat = weights.reshape(len(weights), -1)
    rounded, correction = round_layer(flat, inputs, to_bf16(inputs), lambda column: to_bf16(column).astype(np.float64))
    return Lowered(rounded.reshape(weights.shape), bias + correction)


def lower_to_int8(weights: Floats, bias: Floats, inputs: Floats) -> Lowered:
    """Round a layer to int8 weights with a scale for each output channel, and a uint8 input with one scale for all."""
    flat = weights.reshape(len(weights), -1)
    scales, grid = int8_scales(flat), activation_grid(inputs)
    rounded, correction = round_layer(flat, inputs, grid.round(inputs), lambda column: to_int8(column, scales))
    return Lowered(rounded.reshape(weights.shape), bias + correction, scales, grid)


def with_lowered(model: Any, layers: Mapping[str, Layer], lowered: Mapping[str, Lowered]) -> Any:
    """Copy the graph and put these layers into their lower precision.

    Args:
        model: the graph in fp32.
        layers: the layers of the graph, by name.
        lowered: the layers to change, by name.
    """
    changed = copy.deepcopy(model)
    graph = changed.graph
    constants = constants_of(changed)
    inserted: dict[str, list[Any]] = {}
    for name, low in lowered.items():
        layer = layers[name]
        set_constant(constants[layer.bias], low.bias)
        if low.scales is None or low.grid is None:
            set_constant(constants[layer.weight], low.weights)
            continue
        steps = low.scales.reshape(-1, *[1] * (low.weights.ndim - 1))
        integers = np.clip(np.rint(low.weights / steps), -127, 127).astype(np.int8)
        constants[layer.weight].CopyFrom(numpy_helper.from_array(integers, f"{layer.weight}.int8"))
        graph.initializer.extend(_scales(name, low.scales, low.grid))
        inserted[name] = _pairs(layer)
    if inserted:
        nodes = []
        for node in graph.node:
            node = copy.deepcopy(node)
            if node.name in inserted:
                nodes += inserted[node.name]
                node.input[0], node.input[1] = f"{node.name}.seen", f"{node.name}.weight"
            nodes.append(node)
        graph.ClearField("node")
        graph.node.extend(nodes)
    return changed


def _scales(name: str, scales: Floats, grid: ActivationGrid) -> list[Any]:
    """The scales and zeros of a layer's weights and input, as constants."""
    values: dict[str, npt.NDArray[Any]] = {
        f"{name}.weight_scale": scales,
        f"{name}.weight_zero": np.zeros(len(scales), np.int8),
        f"{name}.scale": np.array(grid.scale, np.float32),
        f"{name}.zero": np.array(grid.zero, np.uint8),
    }
    return [numpy_helper.from_array(array, key) for key, array in values.items()]


def _pairs(layer: Layer) -> list[Any]:
    """The nodes that widen a layer's int8 weights, and those that round its input and widen it again."""
    name = layer.name
    quantized, seen = f"{name}.quantized", f"{name}.seen"
    return [
        helper.make_node(
            "DequantizeLinear",
            [f"{layer.weight}.int8", f"{name}.weight_scale", f"{name}.weight_zero"],
            [f"{name}.weight"],
            f"{name}_weight_dq",
            axis=0,
        ),
        helper.make_node("QuantizeLinear", [layer.input, f"{name}.scale", f"{name}.zero"], [quantized], f"{name}_q"),
        helper.make_node("DequantizeLinear", [quantized, f"{name}.scale", f"{name}.zero"], [seen], f"{name}_dq"),
    ]
