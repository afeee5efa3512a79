"""Small engines made by hand. Each has a part of real networks that rounding to lower precisions must get right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
from onnx import TensorProto, helper, numpy_helper

from isc_fast.assets import DEMO_ENGINE
from isc_fast.engines.header import read_spec
from isc_fast.engines.spec import METADATA_KEY, EngineSpec
from isc_fast.export.targets.model_file import write_engine

DIM = 8


class Graph:
    """A graph ``uint8 (n, size, size, 3)`` → unit rows ``(n, DIM)``. Methods add nodes and return an output's name."""

    def __init__(self, size: int = 16, seed: int = 0) -> None:
        self.size = size
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.images = self.add("Cast", "pixels", to=TensorProto.FLOAT)
        self.images = self.add("Sub", self.images, self.constant(np.float32(127)))
        self.images = self.add("Mul", self.images, self.constant(np.float32(1 / 64)))
        self.images = self.add("Transpose", self.images, perm=[0, 3, 1, 2])

    def constant(self, values: Any, name: str | None = None) -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"node_{output}", **attributes))
        return output

    def conv(
        self, x: str, shape: tuple[int, ...], *, bias: bool = True, weight: str | None = None, **attributes: Any
    ) -> str:
        spread = np.sqrt(2 / np.prod(shape[1:]))
        weight = weight or self.constant(self.random.normal(0, spread, shape).astype(np.float32))
        more = [self.constant(self.random.normal(0, 0.1, shape[0]).astype(np.float32))] if bias else []
        return self.add("Conv", x, weight, *more, kernel_shape=list(shape[2:]), **attributes)

    def finished(self, x: str, channels: int) -> Any:
        """Return the model, after adding a lower bound as in GeM, the mean, the head and the division by the length."""
        x = self.add("Clip", x, self.constant(np.float32(1e-6)))
        x = self.add("ReduceMean", x, self.constant(np.array([2, 3])), keepdims=0)
        head = self.constant(self.random.normal(0, 1, (DIM, channels)).astype(np.float32))
        x = self.add("Gemm", x, head, self.constant(np.zeros(DIM, np.float32)), transB=1)
        length = self.add("ReduceL2", x, self.constant(np.array([1])), keepdims=1)
        x = self.add("Div", x, length, output="descriptors")
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", self.size, self.size, 3])
        rows = helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", DIM])
        graph = helper.make_graph(self.nodes, "small", [pixels], [rows], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model)
        return model


def spec(size: int = 16, **changes: Any) -> EngineSpec:
    return EngineSpec(name="small", arch="none", height=size, width=size, dim=DIM, gem_p=1.0, **changes)


def save(model: Any, path: Path, size: int = 16, **changes: Any) -> Path:
    helper.set_model_props(model, {METADATA_KEY: spec(size, **changes).to_json()})
    onnx.save(model, path)
    return path


def residual(seed: int = 0) -> Any:
    """Make a model with squeeze-excite, activations and two kinds of residual sums; the last node before GeM is a sum.

    One sum adds the outputs of two convolutions, the other adds the output of a convolution to an earlier tensor.
    """
    g = Graph(seed=seed)
    x = g.add("Relu", g.conv(g.images, (8, 3, 3, 3), pads=[1, 1, 1, 1]))
    y = g.add("Relu", g.conv(x, (8, 8, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], bias=False))
    main = g.conv(y, (16, 8, 1, 1))
    x = g.add("Relu", g.add("Add", main, g.conv(x, (16, 8, 1, 1), strides=[2, 2])))
    y = g.conv(x, (16, 1, 3, 3), group=16, pads=[1, 1, 1, 1])
    y = g.add("Mul", y, g.add("Sigmoid", y))
    gate = g.conv(g.add("GlobalAveragePool", y), (16, 16, 1, 1))
    y = g.add("Mul", y, g.add("Sigmoid", gate))
    return g.finished(g.add("Add", g.conv(y, (16, 16, 1, 1)), x), 16)


def every_kind_of_convolution() -> Any:
    """Make a model with strides, uneven pads, groups, no bias, and two convolutions that share one weight.

    The two that share a weight cannot be rounded one by one.
    """
    g = Graph()
    x = g.add("Relu", g.conv(g.images, (8, 3, 3, 3), pads=[0, 1, 2, 1], strides=[1, 1]))
    x = g.add("Relu", g.conv(x, (8, 1, 5, 3), group=8, pads=[2, 0, 2, 1], strides=[2, 1]))
    x = g.add("Relu", g.conv(x, (12, 4, 3, 3), group=2, strides=[1, 2], bias=False))
    x = g.add("Relu", g.conv(x, (16, 12, 1, 1), auto_pad="NOTSET"))
    x = g.conv(x, (16, 16, 2, 2), pads=[1, 0, 0, 1])
    shared = g.constant(g.random.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32))
    x = g.conv(g.conv(x, (16, 16, 1, 1), weight=shared), (16, 16, 1, 1), weight=shared)
    return g.finished(g.conv(x, (16, 16, 2, 2), dilations=[2, 2]), 16)


def noise(count: int, size: int = 16, seed: int = 0) -> Any:
    """Return random images that differ in colour and structure, ``uint8 (count, size, size, 3)``."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, size // 4, size // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return np.clip(coarse + random.normal(0, 25, coarse.shape), 0, 255).astype(np.uint8)


def first_blocks(path: Path, last: str = "add_514") -> Path:
    """Write the demo's trained network cut off behind one of its sums, pooled and normalised as the whole one is."""
    model = onnx.load(DEMO_ENGINE)
    by_output = {node.output[0]: node for node in model.graph.node}
    by_kind = {node.op_type: node for node in model.graph.node}
    pooled = by_kind["Gemm"].input[0]
    by_output["clamp"].input[0] = last
    by_kind["ReduceL2"].input[0] = by_kind["Div"].input[0] = pooled
    convolution = by_output[by_output[last].input[0]]
    (dim,) = (tensor.dims[0] for tensor in model.graph.initializer if tensor.name == convolution.input[2])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = dim
    model.graph.ClearField("value_info")
    short = onnx.utils.Extractor(model).extract_model(["pixels"], ["descriptors"])
    write_engine(short, replace(read_spec(DEMO_ENGINE), name="first-blocks", dim=dim), path)
    return path
