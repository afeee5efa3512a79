"""Engines in ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, require
from ..files.reading import file_sha256
from ..machine.cores import available_cores
from .header import read_spec
from .ort_gpu import BEST_BATCH, DeviceRunner, cache_folder, choose_providers, first_line, open_session
from .protocol import check_pixels
from .spec import EngineSpec

_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # ONNX Runtime's severity
_SMALL_PIXELS = 256 * 256
"""Threads of a network with so many pixels of input, or fewer, sleep while they wait. If they spun, the decoder's threads, which
have a quarter as much to do, would find the cores taken. See decision 0011."""
INPUT = "pixels"  # the name that isc-fast export gives the input


class OrtEngine:
    """An ``.onnx`` engine in ONNX Runtime; see `isc_fast.engines.protocol.Engine` and `isc_fast.engines.base.load_engine`.

    Args:
        path: the ``.onnx`` file.
        device: ``"cpu"`` or ``"cuda"``.
        threads: threads of the processor; by default one for each core.
        provider: on a GPU, one of `isc_fast.engines.kind.PROVIDERS`; by default ``"cuda"``.
        index: number of the GPU, among those that this process sees.

    Raises:
        EngineError: the file is damaged, or ONNX Runtime cannot run it on this device.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        threads: int | None = None,
        provider: str | None = None,
        index: int = 0,
    ) -> None:
        ort = require("onnxruntime", "gpu" if device == "cuda" else "cpu")
        spec = read_spec(path)
        self.path, self.spec, self.id = path, spec, file_sha256(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = _ERRORS_ONLY
        self._session: Any
        self._on_gpu: DeviceRunner | None = None
        if device == "cuda":
            cache = cache_folder(path, self.id, ort.__version__)
            providers = choose_providers(ort, provider or "cuda", spec, INPUT, cache, index)
            self._session = open_session(ort, path, options, providers)
            self._check_graph(spec)
            self._on_gpu = DeviceRunner(ort, self._session, spec, self._input, self._output, index)
            self.gpu = index
            self.device = providers[0][0]
            self.default_batch_size = BEST_BATCH
            return
        if spec.height * spec.width <= _SMALL_PIXELS:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[_CPU])
        except Exception as error:  # the runtime's exceptions share no base class
            raise EngineError(
                f"{path} is not an ONNX file that ONNX Runtime can load, or it is damaged ({first_line(error)}); "
                "export it again"
            ) from error
        self._check_graph(spec)
        self.device = _CPU
        # Measured on two cores at 512 × 512: 3.3 images/s at 1, 3.1 at 8; small networks gain a little from 4.
        self.default_batch_size = 4

    def _check_graph(self, spec: EngineSpec) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(f"{self.path} has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each")
        found = (inputs[0].type, tuple(inputs[0].shape[1:]), outputs[0].type, tuple(outputs[0].shape[1:]))
        expected = ("tensor(uint8)", (spec.height, spec.width, 3), "tensor(float)", (spec.dim,))
        if found != expected:
            raise EngineError(
                f"the graph of {self.path} is {found} and its specification says {expected}; export it again"
            )
        self._input, self._output = inputs[0].name, outputs[0].name

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `isc_fast.engines.protocol.Engine.run`."""
        check_pixels(self.spec, pixels)
        try:
            if self._on_gpu:
                return self._on_gpu.run(pixels)
            (vectors,) = self._session.run([self._output], {self._input: pixels})
        except Exception as error:  # as above, they share no base class
            raise EngineError(f"{self.path} failed on a batch of {len(pixels)}: {first_line(error)}") from error
        return np.asarray(vectors, np.float32)
