"""ONNX Runtime on a GPU: it chooses providers and their options, and keeps buffers on the device for all calls."""

from __future__ import annotations

import contextlib
import importlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..assets import ASSETS
from ..errors import EngineError, OutputError
from ..files.atomic import make_folder
from ..machine.versions import installed
from .spec import EngineSpec

LARGEST_BATCH = 64
"""Images of one run; a larger batch is cut into several runs. TensorRT builds for sizes up to this one."""
BEST_BATCH = 32

_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_KEPT_SIZES = 4  # batch sizes with buffers of their own: the full batch, the last batch of a shard, a single image
_REPAIR = (
    "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'isc-fast[gpu]', then look at: isc-fast doctor"
)

Provider = tuple[str, dict[str, str]]


def cache_folder(path: Path, engine_id: str, ort_version: str) -> Path:
    """Return the folder beside an engine where TensorRT's builds of it are kept, for these very weights and versions.

    ONNX Runtime tells its cached builds apart by the graph, the file's name and the GPU, not by the weights. So an engine
    that was exported again under the same name would keep the old weights. A build by another TensorRT does not load.
    """
    versions = f"onnxruntime-{ort_version}-tensorrt-{_tensorrt_version()}"
    return path.with_name(path.name + ".trt-cache") / f"{engine_id[:16]}-{versions}"


def _tensorrt_version() -> str:
    """Return the version of pip's package without loading it; ``"system"`` where there is none."""
    return next(iter(installed(("tensorrt-cu13", "tensorrt-cu12", "tensorrt")).values()), "system")


def cuda_options(device_index: int = 0) -> dict[str, str]:
    """Return the options of the CUDA provider: full fp32, the same algorithms in each run, no spare memory."""
    return {
        "device_id": str(device_index),
        # TF32 keeps three digits of seven: an fp32 engine would not be the one that was verified.
        "use_tf32": "0",
        # The default, EXHAUSTIVE, times the algorithms at each new batch size and may choose differently each time. That
        # would change the last bits of a result that was interrupted.
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
    }


def tensorrt_options(spec: EngineSpec, input_name: str, cache: Path | None, device_index: int = 0) -> dict[str, str]:
    """Return the options of the TensorRT provider: the engine's own precision, one build for all batch sizes, on disk.

    The provider has no switch for TF32, which TensorRT uses for fp32; ``NVIDIA_TF32_OVERRIDE=0`` in the environment
    turns it off for the whole process.
    """

    def shape(n: int) -> str:
        return f"{input_name}:{n}x{spec.height}x{spec.width}x3"

    options = {
        "device_id": str(device_index),
        "trt_fp16_enable": "1" if spec.precision == "fp16" else "0",
        "trt_bf16_enable": "1" if spec.precision == "bf16" else "0",
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(BEST_BATCH),
        "trt_profile_max_shapes": shape(LARGEST_BATCH),
    }
    if cache is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache.parent),  # timings of kernels hold for any weights
        }
    return options


def choose_providers(
    ort: Any, provider: str, spec: EngineSpec, input_name: str, cache: Path, device_index: int = 0
) -> list[Provider]:
    """Return the providers to ask for with their options, the wanted one first.

    Args:
        ort: the module onnxruntime.
        provider: one of `isc_fast.engines.kind.PROVIDERS`.
        spec: of the engine.
        input_name: of its graph.
        cache: the folder for TensorRT's builds, see `cache_folder`. It is made if it is needed, and not inside the package.
        device_index: which GPU.

    Raises:
        EngineError: this ONNX Runtime does not have them.
    """
    wanted = [_TENSORRT, _CUDA] if provider == "tensorrt" else [_CUDA]
    offered = ort.get_available_providers()
    missing = [name for name in wanted if name not in offered]
    if missing:
        raise EngineError(
            f"the device cuda needs ONNX Runtime's {missing[0]}, and the one installed here offers only "
            f"{', '.join(offered)}; run: pip uninstall -y onnxruntime && pip install 'isc-fast[gpu]'"
        )
    if provider == "cuda":
        return [(_CUDA, cuda_options(device_index))]
    kept: Path | None = None
    if ASSETS not in cache.parents:  # nothing is written into the installed package
        # Without a cache each start takes some minutes longer, no more.
        with contextlib.suppress(OutputError):
            kept = make_folder(cache)
    # CUDA computes what TensorRT does not take, such as the cast of the pixels.
    options = tensorrt_options(spec, input_name, kept, device_index)
    return [(_TENSORRT, options), (_CUDA, cuda_options(device_index))]


def open_session(ort: Any, path: Path, options: Any, providers: Sequence[Provider]) -> Any:
    """Open a session that runs on these providers and nowhere else.

    Raises:
        EngineError: ONNX Runtime cannot, or would leave the work to another provider.
    """
    # Without these entries the processor would silently take over, or CUDA instead of TensorRT.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    wanted = providers[0][0]
    ort.preload_dlls()
    if wanted == _TENSORRT:
        # TensorRT's package loads its libraries from where pip put them; an installation by the system needs no help.
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module("tensorrt")
    try:
        session = ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    except Exception as error:  # the runtime's exceptions share no base class
        raise EngineError(f"ONNX Runtime cannot run {path} on the GPU: {first_line(error)}; {_REPAIR}") from error
    taken = session.get_providers()
    if wanted not in taken:
        libraries = "TensorRT 10 (libnvinfer.so.10)" if wanted == _TENSORRT else "CUDA 13 and cuDNN 9"
        raise EngineError(
            f"ONNX Runtime did not take {wanted}, it chose {', '.join(taken)}: the libraries of {libraries}, or the driver, "
            f"are missing; {_REPAIR}"
        )
    assigned = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    if wanted == _TENSORRT and assigned and wanted not in assigned:
        raise EngineError(
            f"TensorRT took no part of the graph of {path} and left all of it to {', '.join(sorted(assigned))}; use the "
            "provider cuda"
        )
    return session


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class DeviceRunner:
    """Runs a session on batches from this machine's memory, through buffers on the GPU that stay bound.

    The copies go straight from and to the caller's arrays. Page-locked memory in between would not help: filling it
    takes as long as the driver's own copy, and ONNX Runtime starts no copy before the last run has ended.

    Args:
        ort: the module ``onnxruntime``.
        session: a session with one input and one output.
        spec: the engine's specification.
        input_name, output_name: names in the graph.
        device_index: number of the GPU.
    """

    def __init__(
        self, ort: Any, session: Any, spec: EngineSpec, input_name: str, output_name: str, device_index: int = 0
    ) -> None:
        self._ort, self._session, self._spec = ort, session, spec
        self._names = input_name, output_name
        self._index = device_index
        self._bound: OrderedDict[int, tuple[Any, Any, Any]] = OrderedDict()

    def _buffers(self, n: int) -> tuple[Any, Any, Any]:
        """Return (binding, pixels, vectors) for a batch of n images; they are made once for each size."""
        if n in self._bound:
            self._bound.move_to_end(n)
            return self._bound[n]
        if len(self._bound) == _KEPT_SIZES:
            self._bound.popitem(last=False)
        make = self._ort.OrtValue.ortvalue_from_shape_and_type
        spec = self._spec
        pixels = make((n, spec.height, spec.width, 3), np.uint8, "cuda", self._index)
        vectors = make((n, spec.dim), np.float32, "cuda", self._index)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._names[0], pixels)
        binding.bind_ortvalue_output(self._names[1], vectors)
        self._bound[n] = binding, pixels, vectors
        return self._bound[n]

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Describe ``uint8 (n, height, width, 3)`` → ``float32 (n, dim)``; the runtime's exceptions pass through."""
        found = np.empty((len(pixels), self._spec.dim), np.float32)
        for start in range(0, len(pixels), LARGEST_BATCH):
            rows = np.ascontiguousarray(pixels[start : start + LARGEST_BATCH])
            binding, source, target = self._buffers(len(rows))
            source.update_inplace(rows)
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            found[start : start + len(rows)] = target.numpy()
        return found
