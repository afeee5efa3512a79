"""Engines in lower precisions for benchmarks of speed. They are made fast, without the steps that keep accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from isc_fast.assets import demo_photos
from isc_fast.engines.header import read_spec
from isc_fast.engines.spec import uses_bf16
from isc_fast.export.photos import load_photos
from isc_fast.export.precision.calibration import layer_inputs
from isc_fast.export.precision.layers import (
    Layer,
    constants_of,
    find_layers,
    followers,
    kept_nodes,
    load_graph,
    skips_places,
    surroundings,
)
from isc_fast.export.precision.quantize import Lowered, with_lowered
from isc_fast.export.precision.rounding import activation_grid, int8_scales, to_bf16
from isc_fast.export.targets.model_file import write_engine

ACCEPTED = {"bf16": (0.0, 0.96), "int8-bf16": (0.38, 0.46), "int8": (0.54, 0.0)}
"""Shares of the arithmetic in int8 and in bf16 that passed the accuracy gate on the trained network. `precision.py` prints
them."""


def split_by_share(layers: Sequence[Layer], int8: float, bf16: float) -> tuple[list[Layer], list[Layer]]:
    """Choose the layers in int8 and those in bf16, so that they have these shares of the arithmetic.

    The first layers stay in fp32, the next ones are in bf16, and the last ones in int8, because the first layers of the
    trained network lose most.
    """
    total = sum(layer.operations for layer in layers)
    low: list[Layer] = []
    middle: list[Layer] = []
    done = 0.0
    for layer in reversed(layers):
        done += layer.operations
        if done <= int8 * total * 1.0001:
            low.append(layer)
        elif done <= (int8 + bf16) * total * 1.0001:
            middle.append(layer)
    return low, middle


def lowered_engine(source: Path, target: Path, precision: str, int8: float, bf16: float, runtime: str) -> None:
    """Write an fp32 engine in a lower precision for these shares of its arithmetic. Weights are rounded to the nearest.

    This engine is for measuring speed. `isc_fast.export.precision.reduce` keeps the accuracy too, but takes minutes, and its
    engine runs at the same rate.
    """
    model = load_graph(source)
    layers = find_layers(model)
    in_int8, in_bf16 = split_by_share(layers, int8, bf16)
    if runtime == "openvino":
        in_int8 = [layer for layer in in_int8 if not skips_places(layer)]
    constants = constants_of(model)

    def plain(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
        return tuple(numpy_helper.to_array(constants[name]) for name in (layer.weight, layer.bias))  # type: ignore[return-value]

    lowered = {}
    for layer in in_bf16:
        weights, bias = plain(layer)
        lowered[layer.name] = Lowered(to_bf16(weights), bias)
    if in_int8:
        spec = read_spec(source)
        pixels = load_photos(demo_photos()[:2], spec.input)
        for layer, inputs in layer_inputs(model, in_int8, pixels):
            weights, bias = plain(layer)
            scales = int8_scales(weights.reshape(len(weights), -1))
            lowered[layer.name] = Lowered(weights, bias, scales, activation_grid(inputs))
    behind = followers(model, layers)
    kept = kept_nodes(behind, lowered)
    spec = replace(
        read_spec(source),
        precision=precision,
        runtime=runtime,
        fp32_layers=tuple(dict.fromkeys((*surroundings(model, layers), *kept))) if uses_bf16(precision) else (),
    )
    write_engine(with_lowered(model, {layer.name: layer for layer in layers}, lowered), spec, target)
