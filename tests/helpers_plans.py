"""A TensorRT plan for the imitation of the GPU (`fake_gpu`): a graph of five nodes, its sidecar, and its results."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from fake_gpu import FakeTensorRT
from onnx import TensorProto, helper, numpy_helper

from isc_fast.engines.spec import EngineSpec
from isc_fast.engines.trt.sidecar import PlanFacts, network_name, sidecar_path, sidecar_text

SIZE, DIM = 8, 16


def tiny_graph(seed: int = 0) -> Any:
    """Make a model uint8 (n, 8, 8, 3) → random projections of unit length, so that other pixels give other rows."""
    weights = np.random.default_rng(seed).normal(size=(SIZE * SIZE * 3, DIM)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("Sub", ["flat", "middle"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["descriptors"], axis=1, p=2),
    ]
    constants = {"middle": np.array(127.5, np.float32), "weights": weights}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def describe(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Compute by numpy what `tiny_graph` computes."""
    weights = numpy_helper.to_array(tiny_graph(seed).graph.initializer[1])
    rows = (pixels.reshape(len(pixels), SIZE * SIZE * 3).astype(np.float32) - 127.5) @ weights
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def make_plan(
    trt: FakeTensorRT, folder: Path, *, batch: tuple[int, int, int] = (1, 4, 6), code: bool = False, **changes: Any
) -> Path:
    """Write a TensorRT plan and its sidecar. ``changes`` replaces facts in the sidecar."""
    path = folder / "tiny.plan"
    name = network_name("0" * 64)
    graph = tiny_graph().SerializeToString()
    content = trt.seal(graph, name=name, batch=batch, any_gpu=changes.get("hardware_compatible", False), code=code)
    path.write_bytes(content)
    facts = PlanFacts(
        flavour="tensorrt",
        tensorrt=trt.__version__,
        gpu="Fake H100",
        capability="9.0",
        batch=batch,
        version_compatible=code,
        hardware_compatible=False,
        network=name,
        plan_sha256=hashlib.sha256(content).hexdigest(),
        source_sha256="0" * 64,
        graph_sha256="1" * 64,
    )
    spec = EngineSpec("tiny", "none", SIZE, SIZE, DIM, 1.0, precision="fp16", runtime="tensorrt")
    sidecar_path(path).write_text(sidecar_text(spec, dataclasses.replace(facts, **changes)))
    return path


def nothing_held(trt: FakeTensorRT) -> None:
    """Check that everything on the imitated GPU was freed."""
    gc.collect()
    assert trt.cuda.held == {}
    assert not +trt.alive
