"""Writing an ``.onnx`` engine: a graph with its specification inside; torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from ...engines.spec import METADATA_KEY, EngineSpec
from ...errors import EngineError


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
