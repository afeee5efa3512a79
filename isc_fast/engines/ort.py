"""Engines in ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cores import available_cores
from ..errors import EngineError, require
from ..spec import METADATA_KEY, PREPROCESSING, EngineSpec
from . import check_pixels, file_sha256

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3  # ONNX Runtime's severity


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class OrtEngine:
    """See `isc_fast.engines.Engine` and `isc_fast.engines.load_engine`."""

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        ort = require("onnxruntime", "gpu" if device == "cuda" else "cpu")
        provider = _PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise EngineError(
                f"the device {device} needs ONNX Runtime's {provider}, and the one installed here offers only "
                f"{', '.join(ort.get_available_providers())}; "
                "run: pip uninstall -y onnxruntime && pip install 'isc-fast[gpu]'"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = _ERRORS_ONLY
        if device == "cuda":
            # Without this ONNX Runtime falls back to the processor in silence, 50 times slower.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            ort.preload_dlls()
        try:
            self._session: Any = ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # the runtime's exceptions share no base class
            if device == "cuda":
                raise EngineError(f"ONNX Runtime cannot run {path} on the GPU: {_first_line(error)}") from error
            raise EngineError(
                f"{path} is not an ONNX file that ONNX Runtime can load, or it is damaged ({_first_line(error)}); "
                "export it again"
            ) from error
        if provider not in self._session.get_providers():
            raise EngineError(f"ONNX Runtime did not take {provider}; it chose {self._session.get_providers()}")
        self.path = path
        self.device = provider
        # Measured on two cores at 512 × 512: 3.3 images/s at 1, 3.1 at 8; small networks gain a little from 4.
        self.default_batch_size = 32 if device == "cuda" else 4
        self.spec = self._read_spec()
        self.id = file_sha256(path)

    def _read_spec(self) -> EngineSpec:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise EngineError(
                f"{self.path} is an ONNX file without an isc-fast specification; make the engine with isc-fast export"
            )
        spec = EngineSpec.from_json(text)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(f"{self.path} has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each")
        found = (inputs[0].type, tuple(inputs[0].shape[1:]), outputs[0].type, tuple(outputs[0].shape[1:]))
        expected = ("tensor(uint8)", (spec.height, spec.width, 3), "tensor(float)", (spec.dim,))
        if found != expected:
            raise EngineError(
                f"the graph of {self.path} is {found} and its specification says {expected}; export it again"
            )
        if spec.preprocessing != PREPROCESSING:
            raise EngineError(
                f"{self.path} wants images prepared by {spec.preprocessing!r}; this isc-fast does {PREPROCESSING!r}; "
                "export the engine again"
            )
        self._input, self._output = inputs[0].name, outputs[0].name
        return spec

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `isc_fast.engines.Engine.run`."""
        check_pixels(self.spec, pixels)
        try:
            (vectors,) = self._session.run([self._output], {self._input: pixels})
        except Exception as error:  # as above: no common base class
            raise EngineError(f"{self.path} failed on a batch of {len(pixels)}: {_first_line(error)}") from error
        return np.asarray(vectors, np.float32)
