"""Engines in ONNX files, run by OpenVINO, which computes in fp32, in bf16, and in int8 with fp32 or bf16 around it.

An image's descriptor does not depend on its neighbours, because every request has the same fixed number of images; black ones
fill up the last request. The last bits may depend on the size of a request: on AVX2, sizes 1 to 4 gave equal bits, and larger
ones differed from them by 3e-7. Several requests run beside each other, each on its share of the cores (a stream).
"""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, require
from ..files.reading import file_sha256
from ..machine.cores import available_cores, has_bf16, processor
from .header import read_spec
from .protocol import check_pixels
from .spec import uses_bf16
from .tuning import LARGEST_REQUEST

# OpenVINO reads the wish to keep an operation's precision from a model's XML, and offers no call that makes one.
_MARKED_MODEL = b"""<?xml version="1.0"?><net name="marked" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1" element_type="f32"/>
<rt_info><attribute name="precise" version="0"/></rt_info>
<output><port id="0" precision="FP32"><dim>1</dim></port></output></layer>
<layer id="1" name="y" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>"""


class OvEngine:
    """An ``.onnx`` engine in OpenVINO; see `isc_fast.engines.protocol.Engine` and `isc_fast.engines.base.load_engine`.

    Args:
        path: the ``.onnx`` file.
        threads: threads of the processor, for all streams together; by default one for each core.
        streams: requests that run beside each other; by default one for each thread, which is fastest on few cores.
        request_size: images of one request; 1 by default, 64 at most.

    Raises:
        EngineError: the file is damaged, OpenVINO cannot run it, or this processor has no bf16 and the engine needs it.
        MissingExtraError: OpenVINO is not installed.
    """

    def __init__(
        self, path: Path, *, threads: int | None = None, streams: int | None = None, request_size: int | None = None
    ) -> None:
        ov = require("openvino", "openvino")
        self.path, self.spec = path, read_spec(path)
        if uses_bf16(self.spec.precision) and not has_bf16():
            raise EngineError(
                f"{path} computes in bf16, and this processor ({processor()}) has no instructions for it; imitating them "
                "would be slower than fp32: export the engine with --precision fp32, or int8"
            )
        threads = threads or available_cores()
        self._streams = min(streams or threads, threads)
        self._size = request_size or 1
        if not 1 <= self._size <= LARGEST_REQUEST:
            raise EngineError(f"a request takes 1 to {LARGEST_REQUEST} images, not {self._size}")
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if uses_bf16(self.spec.precision) else "f32",
            "NUM_STREAMS": self._streams,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # pinned threads would make other programs wait
        }
        try:
            core = _core(ov)
            model = core.read_model(path)
            model.reshape([self._size, self.spec.height, self.spec.width, 3])
            self._check_graph(model)
            if uses_bf16(self.spec.precision):
                _keep_fp32(core, model, self.spec.fp32_layers, path)
            compiled = core.compile_model(model, "CPU", options)
            _refuse_widened_weights(compiled, path)
            self._requests: list[Any] = [compiled.create_infer_request() for _ in range(self._streams)]
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot run {path}: {_reason(error)}; install the version it was verified with "
                f"({self.spec.tools.get('openvino', 'unknown')}), or export the engine again"
            ) from error
        self.device = "OpenVINO CPU"
        self.default_batch_size = max(4, 2 * self._streams * self._size)
        self.id = file_sha256(path)

    def _check_graph(self, model: Any) -> None:
        found = [
            (port.get_element_type().get_type_name(), list(port.get_partial_shape().get_max_shape()))
            for port in (*model.inputs, *model.outputs)
        ]
        spec = self.spec
        expected = [("u8", [self._size, spec.height, spec.width, 3]), ("f32", [self._size, spec.dim])]
        if found != expected:
            raise EngineError(
                f"the graph of {self.path} is {found} and its specification says {expected}; export it again"
            )

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `isc_fast.engines.protocol.Engine.run`."""
        check_pixels(self.spec, pixels)
        vectors = np.empty((len(pixels), self.spec.dim), np.float32)
        waiting: dict[int, slice] = {}

        def collect(slot: int) -> None:
            where = waiting[slot]
            self._requests[slot].wait()
            del waiting[slot]
            vectors[where] = self._requests[slot].get_output_tensor().data[: where.stop - where.start]

        try:
            for number, start in enumerate(range(0, len(pixels), self._size)):
                slot = number % self._streams
                if slot in waiting:
                    collect(slot)
                rows = pixels[start : start + self._size]
                into = self._requests[slot].get_input_tensor().data
                into[: len(rows)] = rows
                into[len(rows) :] = 0
                self._requests[slot].start_async()
                waiting[slot] = slice(start, start + len(rows))
            for slot in list(waiting):
                collect(slot)
        except RuntimeError as error:
            raise EngineError(f"{self.path} failed on a batch of {len(pixels)}: {_reason(error)}") from error
        finally:
            # After an error or Ctrl-C this brings every request to rest before the next call. A request that was cancelled
            # instead would refuse the next image too.
            for slot in waiting:
                with contextlib.suppress(RuntimeError):
                    self._requests[slot].wait()
        return vectors


@functools.cache
def _core(ov: Any) -> Any:
    """Return OpenVINO's core: one for the whole process, never freed.

    Each core gives the thread that makes it a stack for signals. When two cores end in the order in which they were made,
    OpenVINO (2026.4) leaves the thread with a stack whose memory is gone, and the next signal that Python handles, such as
    Ctrl-C, kills the process.
    """
    return ov.Core()


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's message; the lines before it name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _refuse_widened_weights(compiled: Any, path: Path) -> None:
    """Refuse an engine whose int8 weights OpenVINO widens on loading, rather than multiplies as they are.

    OpenVINO 2026.4 lets its streams disturb each other while they widen: 3 of 100 loads of an engine with such a layer gave
    wrong descriptors. `isc_fast.export.precision.reduce` makes no such layer.

    Raises:
        EngineError: there is such a layer.
    """
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = operation.get_rt_info()
        if [info[key].astype(str) for key in ("layerType", "runtimePrecision")] == ["Convert", "i8"]:
            raise EngineError(
                f"this OpenVINO does not compute {path} in int8 as it was made to; install the version it was verified "
                "with, or export the engine again"
            )


def _keep_fp32(core: Any, model: Any, names: tuple[str, ...], path: Path) -> None:
    """Keep in fp32 the operations that come from these nodes of the ONNX graph, or that make these tensors.

    Raises:
        EngineError: an operation is missing, so this OpenVINO would compute something else.
    """
    wanted = set(names)
    marked = core.read_model(io.BytesIO(_MARKED_MODEL)).get_parameters()[0].get_rt_info()
    found: set[str] = set()
    for operation in model.get_ordered_ops():
        # One node may become several operations: "conv/WithoutBiases" and "conv" for a convolution and its bias.
        known_as = {operation.get_friendly_name().partition("/")[0]}
        known_as.update(*(output.get_names() for output in operation.outputs()))
        if known_as & wanted:
            found |= known_as & wanted
            for key, value in marked.items():
                operation.set_rt_info(value, key)
    lost = sorted(wanted - found)
    if lost:
        raise EngineError(
            f"OpenVINO lost {len(lost)} layers of {path} that must stay in fp32 ({', '.join(lost[:3])}); install the version "
            "it was verified with, or export the engine again"
        )
