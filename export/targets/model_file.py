"""Writing an ``.onnx`` engine: a graph with its specification inside; torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from ...engines.ort import OrtEngine
from ...engines.spec import METADATA_KEY, EngineSpec
from ...errors import EngineError, ParityError
from ...items import Pixels

INPUT, OUTPUT = "pixels", "descriptors"
"""The names of an engine's input and output."""


def write_engine(model: Any, spec: EngineSpec, path: Path) -> None:
    """Write the graph with its specification; an older specification in it is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    model.ClearField("metadata_props")
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    with open(path, "wb") as stream:
        stream.write(model.SerializeToString())


def check_graph(model: Any) -> None:
    """Check with onnx that the graph is valid.

    Raises:
        EngineError: it is not; the first line of the reason is in the message.
    """
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EngineError(
            f"the exported graph is not valid: {str(error).splitlines()[0]}; try another torch"
        ) from error


def restamped(model: Any, spec: EngineSpec, engine: OrtEngine, pixels: Pixels, output: Path) -> None:
    """Write an engine's file again with another specification, and compare the two.

    Args:
        model: its graph.
        spec: the new specification.
        engine: loaded from the file as it is.
        pixels: photos ``uint8 (n, h, w, 3)`` to compare with.
        output: where it will be published, for the message.

    Raises:
        ParityError: the two do not compute the same.
        OSError: the file cannot be written.
    """
    before = engine.run(pixels)
    write_engine(model, spec, engine.path)
    stamped = OrtEngine(engine.path)
    if stamped.spec != spec or not float(abs(stamped.run(pixels) - before).max()) < 1e-5:
        raise ParityError(f"{output} changed when its parity was written into it; nothing was published")
