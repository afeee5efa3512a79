"""The graph of an ONNX file of another tool, and an engine's graph around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from ...errors import EngineError
from ...files.reading import one_line
from ..preparing import EXAMPLE, Preparing

_INSIDE = "wrapped/"  # in front of every name of the other tool, so that none meets one of ours
_FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
_LOWERED = frozenset(("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv"))


@dataclass(frozen=True)
class ForeignGraph:
    """What a graph of another tool takes and gives.

    Attributes:
        path: its file.
        model: the `onnx.ModelProto`.
        height, width: of the input in pixels.
        dtype: of the input: uint8, float32 or float16.
        channels_first: whether the input is ``(n, 3, h, w)`` and not ``(n, h, w, 3)``.
    """

    path: Path
    model: Any
    height: int
    width: int
    dtype: Any
    channels_first: bool

    @property
    def lowered(self) -> bool:
        """Whether a part of it is computed in bytes."""
        return any(node.op_type in _LOWERED for node in self.model.graph.node)


def _sizes(value: Any) -> list[int | None]:
    """The shape of a tensor; None for an axis of any length."""
    return [axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim]


def _in_words(value: Any) -> str:
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"{value.name} {kind} ({', '.join('any' if size is None else str(size) for size in _sizes(value))})"


def read_foreign(path: Path, size: int | None) -> ForeignGraph:
    """Read an ONNX file of another tool.

    Args:
        path: the file; its weights are inside.
        size: side of a square input, for a graph that takes any size.

    Raises:
        EngineError: it is no ONNX file, or takes or gives something else than images and vectors.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        known = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in known]
        outputs = list(model.graph.output)
    except Exception as error:  # a damaged file can raise nearly any error
        raise EngineError(f"{path} cannot be read as ONNX ({one_line(error)}); get or export it again") from error
    if len(inputs) != 1 or len(outputs) != 1:
        takes, gives = (", ".join(map(_in_words, some)) or "nothing" for some in (inputs, outputs))
        raise EngineError(
            f"{path} takes {takes} and gives {gives}; expected one input of images and one output of vectors: export it again so"
        )
    shape, dtype = _sizes(inputs[0]), inputs[0].type.tensor_type.elem_type
    kinds = {TensorProto.UINT8: np.uint8, **_FLOATS}
    if len(shape) != 4 or dtype not in kinds or 3 not in (shape[1], shape[3]):
        raise EngineError(
            f"{path} takes {_in_words(inputs[0])}; expected uint8, float or float16 images, (any, 3, h, w) or (any, h, w, 3)"
        )
    if shape[0] is not None:
        raise EngineError(
            f"{path} takes {_in_words(inputs[0])}, which fixes the number of images; export it again with a first axis of any "
            "length"
        )
    if len(_sizes(outputs[0])) != 2 or outputs[0].type.tensor_type.elem_type not in _FLOATS:
        raise EngineError(f"{path} gives {_in_words(outputs[0])}; expected vectors, float or float16 (any, d)")
    first = shape[1] == 3
    height, width = (shape[2], shape[3]) if first else (shape[1], shape[2])
    for given in (height, width):
        if size is not None and given not in (None, size):
            raise EngineError(f"{path} takes {_in_words(inputs[0])}, not {size} pixels; leave out --size")
        if size is None and given is None:
            raise EngineError(f"{path} takes images of any size; say which: --size 224, or what it was trained for")
    side = size or 0
    return ForeignGraph(path, model, height or side, width or side, kinds[dtype], first)


def check_preparing(graph: ForeignGraph, preparing: Preparing) -> None:
    """Refuse a mean and deviation for a graph of bytes, and their lack for a graph of floats.

    Raises:
        EngineError: one of the two.
    """
    if graph.dtype == np.uint8 and preparing.mean:
        raise EngineError(
            f"{graph.path} takes bytes, so it has its mean and std inside; leave them out of --preprocess"
        )
    if graph.dtype != np.uint8 and not preparing.mean:
        raise EngineError(
            f"{graph.path} takes numbers that are normalised, and does not say how; say it as its authors do: "
            f"--preprocess {EXAMPLE!r}"
        )


def prepared(graph: ForeignGraph, preparing: Preparing, pixels: Any) -> Any:
    """What the graph takes of ``uint8 (n, h, w, 3)``, computed apart from the graph that `around` makes."""
    images = pixels
    if preparing.mean and preparing.std:
        images = (pixels / 255.0 - np.array(preparing.mean)) / np.array(preparing.std)
    images = images[..., ::-1] if preparing.bgr else images
    images = images.transpose(0, 3, 1, 2) if graph.channels_first else images
    return np.ascontiguousarray(images, graph.dtype)


def around(graph: ForeignGraph, preparing: Preparing, pixels: str, vectors: str, dim: int) -> Any:
    """The graph of an engine: pixels ``uint8 (n, h, w, 3)`` to unit rows.

    Args:
        graph, preparing: what is wrapped.
        pixels, vectors: names of the input and the output.
        dim: length of a descriptor.
    """
    model = compose.add_prefix(graph.model, _INSIDE)
    inside = model.graph
    known = {tensor.name for tensor in inside.initializer}
    (taken,) = (value for value in inside.input if value.name not in known)
    given = inside.output[0]
    kind, raw = taken.type.tensor_type.elem_type, given.type.tensor_type.elem_type
    before: list[Any] = []
    behind: list[Any] = []
    constants: list[Any] = []
    nodes, last = before, pixels

    def add(operator: str, *more: str, **attributes: Any) -> None:
        nonlocal last
        name = f"{operator.lower()}_{len(before) + len(behind)}"
        nodes.append(helper.make_node(operator, [last, *more], [name], **attributes))
        last = name

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    if preparing.mean and preparing.std:
        mean, std = np.array(preparing.mean), np.array(preparing.std)
        add("Cast", to=TensorProto.FLOAT)
        add("Sub", constant("middle", (255 * mean).astype(np.float32)))
        add("Mul", constant("scale", (1 / (255 * std)).astype(np.float32)))
    if preparing.bgr:
        add("Gather", constant("blue_first", np.array([2, 1, 0])), axis=3)
    if graph.channels_first:
        add("Transpose", perm=[0, 3, 1, 2])
    if kind == TensorProto.FLOAT16:
        add("Cast", to=kind)
    nodes.append(helper.make_node("Identity", [last], [taken.name]))
    nodes, last = behind, given.name
    if raw != TensorProto.FLOAT:
        add("Cast", to=TensorProto.FLOAT)
    nodes.append(helper.make_node("LpNormalization", [last], [vectors], axis=1, p=2))
    wrapped = [*before, *inside.node, *behind]
    inputs = [value for value in inside.input if value.name in known]
    for field in ("node", "input", "output", "value_info"):
        inside.ClearField(field)
    inside.node.extend(wrapped)
    inside.initializer.extend(constants)
    shape: tuple[str | int, ...] = ("n", graph.height, graph.width, 3)
    inside.input.extend([helper.make_tensor_value_info(pixels, TensorProto.UINT8, shape), *inputs])
    inside.output.append(helper.make_tensor_value_info(vectors, TensorProto.FLOAT, ["n", dim]))
    return model
