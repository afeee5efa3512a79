"""Wrapping an ONNX network of another tool as an engine: pixels in, unit rows out, verified against the file by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ... import __version__
from ...engines.ort import OrtEngine
from ...engines.spec import EngineSpec
from ...errors import EngineError
from ...files.reading import file_sha256, one_line
from ..agree import Standard, agree
from ..operating_point import measure_operating_point
from ..photos import load_photos
from ..preparing import Preparing
from ..request import Request
from .base import Draft, Making, Verdict
from .foreign_graph import ForeignGraph, around, check_preparing, prepared, read_foreign
from .model_file import INPUT, OUTPUT, check_graph, restamped, write_engine


class ForeignMaking(Making):
    """One engine while it is made around an ONNX file.

    Args:
        request: names the file.
        preparing: how a photo becomes its input.
        path: where the candidate is written.

    Raises:
        EngineError: the file takes or gives something else than images and vectors, or fails on a photo.
    """

    def __init__(self, request: Request, preparing: Preparing, path: Path) -> None:
        self.request, self.preparing, self.path = request, preparing, path
        file = Path(request.ckpt)
        request.say(f"reading {file}")
        self.graph: ForeignGraph = read_foreign(file, request.size)
        check_preparing(self.graph, preparing)
        self._own = self._opened()
        self.pixels = load_photos(request.photos[:4], preparing.sized(self.graph.height, self.graph.width))
        self.spec = EngineSpec(
            name=request.name or file.name.partition(".")[0],
            arch=None,
            height=self.graph.height,
            width=self.graph.width,
            dim=self._describe(self.pixels[:1]).shape[1],
            gem_p=None,
            precision="int8" if self.graph.lowered else "fp32",
            preprocessing=preparing.sized(self.graph.height, self.graph.width).name,
            checkpoint_sha256=file_sha256(file),
            tools={"isc-fast": __version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        )
        self._model: Any = None
        self._engine: OrtEngine | None = None

    def _opened(self) -> Any:
        """The file in its own runtime."""
        try:
            return onnxruntime.InferenceSession(
                self.graph.model.SerializeToString(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions share no base class
            raise EngineError(
                f"ONNX Runtime cannot load {self.graph.path} ({one_line(error)}); weights must lie inside the file"
            ) from error

    def _describe(self, pixels: Any) -> Any:
        """What the file itself gives for pixels, brought to unit length."""
        name = self._own.get_inputs()[0].name
        try:
            (vectors,) = self._own.run(None, {name: prepared(self.graph, self.preparing, pixels)})
        except Exception as error:  # as above
            raise EngineError(f"{self.graph.path} fails on {len(pixels)} photos: {one_line(error)}") from error
        vectors = vectors.astype(np.float64)
        with np.errstate(invalid="ignore"):  # a vector of zeros has no direction; `agree` refuses what comes of it
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def build(self, draft: Draft) -> None:
        """Write the graph with the pixels' part before it and unit length behind it."""
        self._model = around(self.graph, self.preparing, INPUT, OUTPUT, self.spec.dim)
        check_graph(self._model)
        write_engine(self._model, self.spec, self.path)

    def gate(self, draft: Draft) -> Verdict:
        """Compare the engine with the file by itself on every photo: values, unit length, independence of the batch."""
        self._engine = OrtEngine(self.path)
        standard = Standard(
            self._describe,
            of="the file by itself",
            min_cosine=self.request.min_cosine,
            remedy="does it compute each image apart from the others?",
        )
        parity = agree(self._engine, standard, self.request.photos, self.request.say)
        point = measure_operating_point(self._engine, self.request.photos, self.request.say)
        return Verdict({"parity": parity, "operating_point": point})

    def stamp(self, verdict: Verdict) -> EngineSpec:
        """Write the file again with the figures in it, and compare the two."""
        spec = replace(self.spec, **verdict.figures)
        if self._engine is None:
            raise ValueError("the candidate has not passed its gate")
        restamped(self._model, spec, self._engine, self.pixels, self.request.output)
        return spec
