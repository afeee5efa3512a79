"""Writing a network as an ONNX graph that takes pixels and gives descriptors, in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from onnx import TensorProto, helper, numpy_helper

from ... import __version__
from ...engines.ort import OrtEngine
from ...engines.spec import EngineSpec
from ...errors import EngineError
from ...networks.model import DescribingNet
from ..agree import agree
from ..operating_point import measure_operating_point
from ..origin import Origin
from ..request import Request
from ..verify import as_standard
from .base import Draft, Making, Verdict
from .fold import fold_norms
from .graph import PixelGraph, quiet
from .model_file import INPUT, OUTPUT, check_graph, restamped, write_engine

LARGE = 1024
"""A weight of at least so many values and of two or more axes is stored as float16 where a user asks for fp16."""

_SAME_FOR_ALL = 0.999  # mean cosine between different photos from which on a comparison says little


class OnnxMaking(Making):
    """One ``.onnx`` engine in fp32 while it is made from a network.

    Args:
        origin: the network.
        request: its options say how the weights are stored.
        path: where the candidate is written.
    """

    def __init__(self, origin: Origin, request: Request, path: Path) -> None:
        self.origin, self.request, self.path = origin, request, path
        self.spec = replace(origin.spec, weights_as=request.options.weights_as)
        self._written = origin.net  # as its weights are in the file
        self._model: Any = None
        self._engine: OrtEngine | None = None

    def build(self, draft: Draft) -> None:
        """Export the network, its weights rounded where they are stored as fp16."""
        spec, halved = self.spec, self.spec.weights_as == "fp16"
        self.request.say(f"exporting {spec.arch} at {spec.height} pixels")
        if halved:
            self._written = fold_norms(self.origin.net, self.origin.pixels)
            round_weights(self._written)
        self._model = to_onnx(self._written, spec.height)
        if halved:
            store_as_fp16(self._model)
        check_graph(self._model)
        self.spec = replace(spec, tools=_tools(self._model))
        write_engine(self._model, self.spec, self.path)

    def gate(self, draft: Draft) -> Verdict:
        """Compare the file, run by ONNX Runtime, with the network on every photo."""
        self._engine = OrtEngine(self.path)
        net, request = self.origin.net, self.request
        original = net if self._written is not net else None
        standard = as_standard(self._written, min_cosine=request.min_cosine, original=original)
        parity = agree(self._engine, standard, request.photos, request.say)
        if parity.get("cosine_between_photos", 0.0) > _SAME_FOR_ALL:
            request.say(
                "warning: the network describes all photos nearly alike, so verifying says little; is it trained?"
            )
        point = measure_operating_point(self._engine, request.photos, request.say)
        return Verdict({"parity": parity, "operating_point": point})

    def stamp(self, verdict: Verdict) -> EngineSpec:
        """Write the file again with the figures in it, and compare the two."""
        spec, pixels = replace(self.spec, **verdict.figures), self.origin.pixels
        if self._engine is None:
            raise ValueError("the candidate has not passed its gate")
        restamped(self._model, spec, self._engine, pixels, self.request.output)
        return spec


def _tools(model: Any) -> dict[str, str]:
    """Versions of what made the file."""
    return {
        "isc-fast": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opset": str(model.opset_import[0].version),
    }


def to_onnx(net: DescribingNet, size: int) -> Any:
    """Export the network as an `onnx.ModelProto` with a fixed square input and any number of images.

    Raises:
        EngineError: the exporter cannot express this network.
    """
    graph = PixelGraph(net).eval()
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # a batch of 1 would become a constant
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
    """Remove what the exporter notes in the graph: thousands of stack traces with paths of this machine, a megabyte in all."""
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        thing.ClearField("doc_string")
        thing.ClearField("metadata_props")
    graph.ClearField("value_info")


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether a weight of this shape is stored as float16."""
    return len(shape) >= 2 and int(np.prod(shape)) >= LARGE


def round_weights(net: DescribingNet) -> None:
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
    """Store the large float32 weights as float16, in place; the first nodes of the graph widen them to float32."""
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
