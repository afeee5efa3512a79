"""Writing a precision into an engine's graph, for TensorRT: which nodes compute in fp16 or bf16, and which convolutions
take int8 or fp8; torch-free.

TensorRT 11 has no precision flags: it computes in the types that stand in the graph. Between the first and the last
convolution every node that bears it computes in half precision. Normalisation, pooling, head and unit length stay in fp32,
because they cost next to nothing and every error in them goes straight into the descriptor.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import EngineError
from .layers import Floats, Layer, constants_of, find_layers, surroundings
from .rounding import Doubles, round_layer, to_bf16

HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}

_BEARS_HALF = frozenset(
    "Conv ConvTranspose MatMul Gemm Sigmoid Relu LeakyRelu PRelu Elu Clip HardSigmoid HardSwish Gelu Tanh Add Sub Mul "
    "ReduceMean GlobalAveragePool AveragePool GlobalMaxPool MaxPool Concat Identity Flatten Reshape Transpose Squeeze "
    "Unsqueeze".split()
)
"""Kinds of node that are computed in half precision; normalisation, roots, powers and divisions are not among them."""

_LARGEST_FP8 = 448.0
_LARGEST_FP16 = 65504.0


def to_fp8(values: npt.NDArray[np.floating]) -> Doubles:
    """The nearest e4m3 numbers, ties to even; larger values become ±448, as in TensorRT."""
    clipped = np.clip(np.asarray(values, np.float64), -_LARGEST_FP8, _LARGEST_FP8)
    _, exponents = np.frexp(clipped)
    steps = np.exp2(np.maximum(exponents - 1, -6) - 3.0)  # three bits behind the leading one; below 2⁻⁶ steps of 2⁻⁹
    return np.asarray(np.rint(clipped / steps) * steps)


@dataclass(frozen=True)
class Scaled:
    """One layer whose input and weights are int8 or fp8 numbers times a scale.

    Attributes:
        kind: ``"int8"`` or ``"fp8"``.
        weights: as float32 with values on the grid, in the shape of the layer.
        bias: corrected for the mean error.
        scales: the scales of the weights, one for each output channel.
        input_scale: the scale of the whole input; TensorRT takes symmetric grids only.
    """

    kind: str
    weights: Floats
    bias: Floats
    scales: Floats
    input_scale: float


def _grid(kind: str, values: npt.NDArray[Any], scales: npt.NDArray[Any]) -> Doubles:
    """The nearest values on a grid of int8 or fp8 numbers times their scales."""
    steps = np.asarray(values, np.float64) / scales
    return np.asarray((np.clip(np.rint(steps), -127, 127) if kind == "int8" else to_fp8(steps)) * scales)


def _range(kind: str) -> float:
    """The largest number of the kind."""
    return 127.0 if kind == "int8" else _LARGEST_FP8


def _as_fp16(scales: npt.NDArray[Any]) -> Floats:
    """Round scales to what fp16 can hold, because they are stored in the type of the graph around them."""
    return np.asarray(np.maximum(scales, 1e-6).astype(np.float16), np.float32)


def input_scale(kind: str, sample: Floats) -> float:
    """Find the scale of the symmetric grid that has the least squared error on a sample of a tensor's values."""
    largest = max(float(np.abs(sample).max()), 1e-6)
    best, least = 1.0, np.inf
    # Clipping rare large values makes the spacing of int8 finer; that of fp8 is relative, so clipping gains nothing there.
    for share in np.linspace(0.4, 1.0, 13) if kind == "int8" else (1.0,):
        scale = float(_as_fp16(np.array(largest * share / _range(kind))))
        error = float(((_grid(kind, sample, np.array(scale)) - sample) ** 2).mean())
        if error < least:
            best, least = scale, error
    return best


def lower_scaled(kind: str, weights: Floats, bias: Floats, inputs: Floats) -> Scaled:
    """Round a layer to int8 or fp8 so that its output changes least.

    Args:
        kind: ``"int8"`` or ``"fp8"``.
        weights, bias: those of the layer in fp32.
        inputs: a sample of its patches ``(groups, n, k)``.
    """
    flat = weights.reshape(len(weights), -1)
    scales = _as_fp16(np.abs(flat).max(axis=1) / _range(kind))
    scale = input_scale(kind, inputs)
    seen = _grid(kind, inputs, np.array(scale)).astype(np.float32)
    rounded, correction = round_layer(flat, inputs, seen, lambda column: _grid(kind, column, scales.astype(np.float64)))
    return Scaled(kind, rounded.reshape(weights.shape), bias + correction, scales, scale)


def bears_scaling(kind: str, layer: Layer) -> bool:
    """Whether int8 or fp8 can make this layer faster.

    TensorRT has such kernels for dense convolutions only: in int8 for multiples of 4 channels, in fp8 for multiples of 16.
    """
    out, inside = layer.shape[0], layer.shape[1]
    step = 16 if kind == "fp8" else 4
    return layer.groups == 1 and out % step == 0 and inside % step == 0


def _float_tensors(model: Any) -> set[str]:
    """Names of all tensors that are float32."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    typed = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.input)}
    typed |= {value.name: value.type.tensor_type.elem_type for value in inferred.output}
    typed |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return {name for name, kind in typed.items() if kind == TensorProto.FLOAT}


def halved_constant(name: str, values: Floats, half: str, *, exact: bool = False) -> Any:
    """Make a constant tensor in half precision.

    Args:
        name: the name of the tensor.
        values: its values in fp32.
        half: ``"fp16"`` or ``"bf16"``.
        exact: whether a value beyond the range of the type is an error; else it becomes the largest of the type.

    Raises:
        EngineError: with ``exact``, a value is beyond the range.
    """
    if half == "bf16":
        bits = (to_bf16(values).view(np.uint32) >> 16).astype(np.uint16)
        return helper.make_tensor(name, TensorProto.BFLOAT16, values.shape, bits.tobytes(), raw=True)
    if exact and not float(np.abs(values).max(initial=0.0)) <= _LARGEST_FP16:
        raise EngineError(f"{name} holds values beyond the range of float16; export with --precision bf16 or fp32")
    return numpy_helper.from_array(np.clip(values, -_LARGEST_FP16, _LARGEST_FP16).astype(np.float16), name)


def to_half(model: Any, half: str, *, kept: Collection[str] = ()) -> Any:
    """Copy the graph so that it computes in half precision between its first and its last convolution.

    Args:
        model: the graph in fp32, as `isc_fast.export.precision.layers.load_graph` gives it.
        half: ``"fp16"`` or ``"bf16"``.
        kept: names of more nodes that stay in fp32.

    Raises:
        EngineError: a weight is beyond the range of the type.
    """
    floats, constants = _float_tensors(model), constants_of(model)
    whole = {*surroundings(model, find_layers(model)), *kept}
    changed = copy.deepcopy(model)
    graph = changed.graph
    nodes: list[Any] = []
    made_as: dict[str, str] = {}  # the type of every computed tensor that is in half precision
    casts: dict[tuple[str, str], str] = {}

    def as_type(name: str, wanted: str, exact: bool) -> str:
        """The name of this tensor in that type; it is cast where it is not there yet."""
        found = made_as.get(name, "fp32")
        if found == wanted:
            return name
        if (name, wanted) not in casts:
            casts[name, wanted] = f"{name}.{wanted}"
            if name in constants:
                values = numpy_helper.to_array(constants[name]).astype(np.float32)
                graph.initializer.append(halved_constant(casts[name, wanted], values, wanted, exact=exact))
            else:
                to = HALVES.get(wanted, TensorProto.FLOAT)
                nodes.append(helper.make_node("Cast", [name], [casts[name, wanted]], casts[name, wanted], to=to))
        return casts[name, wanted]

    for original in model.graph.node:
        node = copy.deepcopy(original)
        halved = node.op_type in _BEARS_HALF and node.name not in whole and set(node.output) <= floats
        wanted = half if halved else "fp32"
        for place, name in enumerate(node.input):
            if name in floats:
                node.input[place] = as_type(name, wanted, node.op_type == "Conv" and place == 1)
        made_as.update({name: wanted for name in node.output if halved})
        nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    _drop_unused(graph)
    return changed


def with_scaled(model: Any, layers: Mapping[str, Layer], lowered: Mapping[str, Scaled], half: str | None = None) -> Any:
    """Copy the graph and put Q/DQ pairs on the inputs and weights of these layers.

    Args:
        model: the graph in fp32, or as `to_half` made it.
        layers: the layers of the fp32 graph, by name.
        lowered: the layers to change, by name.
        half: the type that the layers compute in, ``"fp16"``, or None for fp32.
    """
    changed = copy.deepcopy(model)
    graph = changed.graph
    suffix = f".{half}" if half else ""
    stored: list[Any] = []

    def store_floats(name: str, values: npt.NDArray[Any]) -> None:
        values = np.asarray(values, np.float32)
        stored.append(halved_constant(name, values, half) if half else numpy_helper.from_array(values, name))

    nodes: list[Any] = []
    for original in graph.node:
        node = copy.deepcopy(original)
        low = lowered.get(node.name)
        if low is not None and node.op_type == "Conv":
            name, bias = node.name, f"{layers[node.name].bias}.corrected{suffix}"
            stored += _stored_numbers(name, low)
            store_floats(f"{name}.scale", np.array(low.input_scale))
            store_floats(f"{name}.weight_scale", low.scales)
            nodes += _pairs(name, node.input[0], low.kind)
            node.input[0], node.input[1] = f"{name}.seen", f"{name}.weight"
            store_floats(bias, low.bias)
            node.input[2] = bias
        nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.initializer.extend(stored)
    _drop_unused(graph)
    return changed


def _stored_numbers(name: str, low: Scaled) -> list[Any]:
    """The int8 or fp8 weights of a layer and its zeros, as constants."""
    steps = low.weights / low.scales.reshape(-1, 1, 1, 1)
    dtype = np.int8 if low.kind == "int8" else ml_dtypes.float8_e4m3fn
    numbers = np.rint(steps).astype(np.int8) if low.kind == "int8" else steps.astype(dtype)
    return [
        _numbers(f"{name}.weight.{low.kind}", numbers),
        _numbers(f"{name}.zero", np.zeros((), dtype)),
        _numbers(f"{name}.weight_zero", np.zeros(len(low.scales), dtype)),
    ]


def _pairs(name: str, source: str, kind: str) -> list[Any]:
    """The nodes that widen a layer's weights, and those that round its input and widen it again."""
    number, seen, weight = f"{name}.{kind}", f"{name}.seen", f"{name}.weight"
    scale, zero = f"{name}.scale", f"{name}.zero"
    return [
        helper.make_node(
            "DequantizeLinear",
            [f"{name}.weight.{kind}", f"{name}.weight_scale", f"{name}.weight_zero"],
            [weight],
            f"{weight}_dq",
            axis=0,
        ),
        helper.make_node("QuantizeLinear", [source, scale, zero], [number], f"{name}_q"),
        helper.make_node("DequantizeLinear", [number, scale, zero], [seen], f"{name}_dq"),
    ]


def _numbers(name: str, values: npt.NDArray[Any]) -> Any:
    """Make a constant tensor of int8 or fp8 numbers."""
    if values.dtype == np.int8:
        return numpy_helper.from_array(np.ascontiguousarray(values), name)
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, values.shape, values.tobytes(), raw=True)


def with_fixed_batch(model: Any, batch: int) -> Any:
    """Copy the graph so that it takes exactly this number of images."""
    changed = copy.deepcopy(model)
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    changed.graph.ClearField("value_info")
    return changed


def imitated(model: Any) -> Any:
    """Copy a graph in bf16 so that any processor can run it: it computes in fp32 and rounds every result to bf16."""
    changed = copy.deepcopy(model)
    graph = changed.graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
    for tensor in graph.initializer:
        if tensor.name in halves:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[Any] = []
    for original in graph.node:
        node = copy.deepcopy(original)
        nodes.append(node)
        if node.op_type == "Cast":
            (to,) = (entry for entry in node.attribute if entry.name == "to")
            lowers = to.i == TensorProto.BFLOAT16
            if node.input[0] in halves:
                node.CopyFrom(helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name))
                continue
            if not lowers:
                continue
            to.i = TensorProto.FLOAT
        elif not set(node.input) & halves:
            continue
        for place, name in enumerate(original.output):
            halves.add(name)
            node.output[place] = f"{name}.exact"
            for source, target, to_type in (
                (f"{name}.exact", f"{name}.rounded", TensorProto.BFLOAT16),
                (f"{name}.rounded", name, TensorProto.FLOAT),
            ):
                nodes.append(helper.make_node("Cast", [source], [target], f"{target}_cast", to=to_type))
    graph.ClearField("node")
    graph.node.extend(nodes)
    return changed


def _drop_unused(graph: Any) -> None:
    """Remove the constants that no node reads."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(left) != len(graph.initializer):
        kept = [copy.deepcopy(tensor) for tensor in left]
        graph.ClearField("initializer")
        graph.initializer.extend(kept)
