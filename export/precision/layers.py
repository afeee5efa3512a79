"""The convolutions of an engine's graph, read from its ONNX file, each with what rounding needs; torch-free."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import EngineError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        name: the name of its node in the graph.
        input: the name of the tensor that it takes.
        weight: the name of its weights, ``(channels_out, channels_in / groups, height, width)``.
        bias: the name of its bias, ``(channels_out,)``.
        shape: the shape of the weights.
        groups: the number of groups of channels; in a depthwise convolution as many as channels.
        strides, pads: as in ONNX, ``(down, right)`` and ``(top, left, bottom, right)``.
        operations: multiplications and additions for one image; a lower precision makes them faster.
    """

    name: str
    input: str
    weight: str
    bias: str
    shape: tuple[int, ...]
    groups: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    operations: float


def load_graph(path: Path) -> Any:
    """Read an engine's graph and bring it into one form.

    Every weight becomes a plain fp32 constant, every convolution gets a bias, and every node is named like the tensor that it
    makes.

    Raises:
        EngineError: the file is damaged, or holds no convolution that can be rounded.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # the errors of protocol buffers share no base class with those of onnx
        raise EngineError(f"{path} is not an ONNX file that can be read ({type(error).__name__})") from error
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, biases = [], []
    for node in graph.node:
        stored = constants.get(node.input[0]) if node.op_type == "Cast" and node.input else None
        if stored is not None and stored.data_type == TensorProto.FLOAT16:  # weights stored as fp16
            values = numpy_helper.to_array(stored).astype(np.float32)
            stored.CopyFrom(numpy_helper.from_array(values, node.output[0]))
            constants[stored.name] = stored
            continue
        node.name = node.output[0]  # unique, and every runtime calls its operation so
        if node.op_type == "Clip" and len(node.input) == 2:
            # OpenVINO 2026.4 splits a Clip with a lower bound only into two operations, forgets that they stay in fp32, and
            # then fails to compile a convolution in fp32 that one of them is joined to.
            node.op_type = "Max"
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in constants:
            bias = f"{node.name}.bias"
            biases.append(numpy_helper.from_array(np.zeros(constants[node.input[1]].dims[0], np.float32), bias))
            node.input.append(bias)
        nodes.append(copy.deepcopy(node))
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.initializer.extend(biases)
    if not find_layers(model):
        raise EngineError(
            f"{path} holds no convolution with constant weights, so there is nothing to compute in a lower precision"
        )
    return model


def constants_of(model: Any) -> dict[str, Any]:
    """The constant tensors of the graph, by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def set_constant(tensor: Any, values: npt.NDArray[Any]) -> None:
    """Replace the values of a constant, and with them its type."""
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _map_sizes(model: Any) -> dict[str, int]:
    """The number of positions (height × width) of every four-dimensional tensor whose size shape inference finds."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    sizes = {}
    for value in inferred.graph.value_info:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if len(dims) == 4 and dims[2] and dims[3]:
            sizes[value.name] = dims[2] * dims[3]
    return sizes


def find_layers(model: Any) -> list[Layer]:
    """Find the convolutions whose weights are constants that nothing else uses, in the order of the graph."""
    constants, sizes = constants_of(model), _map_sizes(model)
    uses: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    layers = []
    for node in model.graph.node:
        if node.op_type != "Conv" or len(node.input) < 3:
            continue
        weight = constants.get(node.input[1])
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = set(given.get("dilations", (1,))) == {1} and given.get("auto_pad", b"NOTSET") == b"NOTSET"
        if weight is None or node.input[2] not in constants or len(weight.dims) != 4 or not plain:
            continue
        if uses[node.input[1]] > 1 or uses[node.input[2]] > 1:
            continue
        shape = tuple(weight.dims)
        layers.append(
            Layer(
                name=node.name,
                input=node.input[0],
                weight=node.input[1],
                bias=node.input[2],
                shape=shape,
                groups=given.get("group", 1),
                strides=tuple(given.get("strides", (1, 1))),
                pads=tuple(given.get("pads", (0, 0, 0, 0))),
                operations=2.0 * float(np.prod(shape)) * sizes.get(node.output[0], 1),
            )
        )
    return layers


def surroundings(model: Any, layers: Sequence[Layer]) -> list[str]:
    """Names of the nodes before the first convolution and after the last: normalisation, pooling, head and unit length.

    They stay in fp32, because they cost next to nothing and every error in them goes straight into the descriptor.
    """
    places = {node.name: place for place, node in enumerate(model.graph.node)}
    inside = [places[layer.name] for layer in layers]
    return [node.name for place, node in enumerate(model.graph.node) if not min(inside) <= place <= max(inside)]


def followers(model: Any, layers: Sequence[Layer]) -> dict[str, list[str]]:
    """For each layer the nodes that work on what it makes, up to the next layer: activation, gate, residual sum.

    They have the precision of the layer. A runtime computes most of them together with the layer, and a residual sum even in
    place: OpenVINO 2026.4 fails to compile a convolution in fp32 whose sum is not in fp32. A sum of two layers follows both.
    """
    order = {layer.name: number for number, layer in enumerate(layers)}
    behind: dict[str, set[int]] = {}  # tensor → numbers of the last layers before it
    found: dict[str, list[str]] = {layer.name: [] for layer in layers}
    for node in model.graph.node:
        if node.name in order:
            owners = {order[node.name]}
        else:
            owners = max(
                (behind.get(name, set()) for name in node.input), key=lambda some: max(some, default=-1), default=set()
            )
            owners = owners | {order[name] for name in node.input if name in order}
            for number in owners:
                found[layers[number].name].append(node.name)
        behind.update((name, owners) for name in node.output)
    return found


def kept_nodes(behind: Mapping[str, Sequence[str]], lowered: Collection[str]) -> list[str]:
    """Names of the layers that are not lowered and of the nodes that follow them.

    Args:
        behind: what `followers` returned.
        lowered: names of the layers that are lowered.
    """
    return list(dict.fromkeys(name for layer in behind if layer not in lowered for name in (layer, *behind[layer])))


def skips_places(layer: Layer) -> bool:
    """Whether the layer is a 1 × 1 convolution with a stride, which OpenVINO 2026.4 does not compute in int8.

    OpenVINO moves the stride in front of the input's rounding. Then it cannot join the two, and widens the int8 weights when
    the engine is loaded. Several streams disturb each other while they do that: of 100 engines opened from one file, 3 gave
    other descriptors.
    """
    return layer.shape[2:] == (1, 1) and layer.strides != (1, 1)
