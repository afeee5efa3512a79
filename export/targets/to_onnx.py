"""Writing a network as an ONNX graph that takes pixels and gives descriptors, in one file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from ...errors import EngineError
from ...networks.model import DescriptorNet
from .graph import PixelGraph, quiet

INPUT, OUTPUT = "pixels", "descriptors"
LARGE = 1024
"""Weights of this many values and of two or more axes are stored as float16 when that is asked for."""


def to_onnx(net: DescriptorNet, size: int) -> Any:
    """Export the network as an `onnx.ModelProto` with a fixed square input and a free batch.

    Raises:
        EngineError: the exporter cannot express this network.
    """
    graph = PixelGraph(net).eval()
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # with one image the batch would become a constant
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
            model = program.model_proto  # type: ignore[union-attr]
    except Exception as error:  # the exporter's errors share no base class and fill a screen
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EngineError(
            f"torch {torch.__version__} cannot export {net.arch} as ONNX: {first[:200]}; try another version of torch"
        ) from error
    _tidy(model)
    return model


def _tidy(model: Any) -> None:
    """Remove the exporter's notes: thousands of stack traces with paths of this machine, a megabyte in all."""
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        thing.ClearField("doc_string")
        thing.ClearField("metadata_props")
    graph.ClearField("value_info")


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether a weight of this shape is among those stored as float16."""
    return len(shape) >= 2 and int(np.prod(shape)) >= LARGE


def round_weights(net: DescriptorNet) -> None:
    """Round the large weights to float16, in place, as `store_as_fp16` will store them.

    Raises:
        EngineError: a weight is beyond what float16 can hold.
    """
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if is_large(tuple(weight.shape)):
                rounded = weight.half().float()
                if not bool(torch.isfinite(rounded).all()):
                    raise EngineError(f"{name} holds values beyond the range of float16; store the weights as fp32")
                weight.copy_(rounded)


def store_as_fp16(model: Any) -> None:
    """Store the large float32 weights as float16, each widened to float32 by the graph's first nodes, in place."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or not is_large(tuple(tensor.dims)):
            continue
        name = tensor.name
        with np.errstate(over="raise"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], f"widen {name}", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*casts, *nodes])
