"""Whether faiss works on the GPUs that are asked for. Another process tries it out before this one depends on it.

faiss ends the process where CUDA fails: without a driver, or where a wheel counts a card but has no code for it. So this process
calls nothing of faiss that touches CUDA before another process has searched on every GPU that is asked for and has found
what numpy finds. It is written from faiss' sources and their Python wrappers.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError, MissingExtraError, require
from ...machine.devices import EXPECTED, parse_devices, split_device
from ...machine.trial_run import ABSENT, WORKS, Answer, run_trial

TIMEOUT_S = 120.0
"""For all GPUs together. CUDA has to start, and may have to compile faiss' kernels for a new card."""

_INSTALL = "pip uninstall -y faiss-cpu && pip install 'isc-fast[gpu]'"
_ROWS, _QUERIES, _DIM, _K = 4096, 512, 256, 5


@dataclass(frozen=True)
class Gpu:
    """A GPU that faiss was tried on.

    Attributes:
        number: the one that CUDA counts it by, from 0.
        free: bytes of its memory that were free when it was tried; None where that could not be asked.
    """

    number: int
    free: int | None


def gpu_indices(text: str, count: int) -> tuple[int, ...]:
    """The GPUs that a device's name stands for: ``"cuda"`` → (0,), ``"cuda:0,2"`` → (0, 2), ``"cuda:all"`` → all.

    Args:
        text: the name.
        count: how many GPUs this machine has.

    Raises:
        EngineError: it is not such a name, it names a GPU twice, or it names one that is not here.
    """
    kinds, found = zip(*map(split_device, parse_devices(text, lambda: count)), strict=True)
    if set(kinds) != {"cuda"}:
        raise EngineError(f"there is no device {text!r} to search on; {EXPECTED}")
    if len(set(found)) < len(found):
        raise EngineError(f"{text} names a GPU twice")
    if max(found) >= count:
        raise EngineError(f"{text} names GPU {max(found)}, and faiss sees {count}, counted from 0; {EXPECTED}")
    return found


def try_gpus(device: str) -> tuple[int, dict[int, int | None]]:
    """Search on every GPU that a name stands for and compare with numpy. Call it only in a process that may end with it.

    Returns:
        how many GPUs there are, and the free memory in bytes of each one that was tried; None where it is unknown.

    Raises:
        EngineError: faiss is built without GPU support, sees none, or finds other neighbours than numpy.
        MissingExtraError: faiss is not installed.
    """
    faiss = require("faiss", "gpu")
    if not hasattr(faiss, "StandardGpuResources"):
        raise EngineError(f"this faiss is built without GPU support; run: {_INSTALL}")
    count = int(faiss.get_num_gpus())
    if count < 1:
        raise EngineError("faiss sees no GPU; look at: isc-fast doctor")
    numbers = gpu_indices(device, count)
    free = {number: _free_memory(number) for number in numbers}
    rows, queries = _probe_rows()
    for metric, exact in _distances(faiss, queries, rows):
        best = np.sort(exact, axis=1)[:, :_K]
        bound = 4 * (_DIM + 8) * 2.0**-23 * _DIM  # what single precision allows; TF32 is off by 0.08 and 0.19
        bound /= 1 if metric == faiss.METRIC_L2 else 4
        for number in numbers:
            resources = faiss.StandardGpuResources()
            scores, indices = faiss.knn_gpu(resources, queries, rows, _K, metric=metric, device=number)
            if metric != faiss.METRIC_L2:
                scores = -scores
            named = np.take_along_axis(exact, np.clip(indices, 0, _ROWS - 1), axis=1)
            off = max(np.abs(scores - best).max(), np.abs(named - best).max())
            if not off <= bound:
                raise EngineError(
                    f"faiss finds other neighbours on GPU {number} than numpy (scores off by {off:.1e}); unset "
                    "NVIDIA_TF32_OVERRIDE and the like, or use the device cpu"
                )
    return count, free


def _probe_rows() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Make numbers a little above 1. Arithmetic that keeps fewer than 13 bits, as TF32 does, loses all that they differ by."""
    rng = np.random.default_rng(0)
    sizes = 1 + rng.integers(0, 8, (_ROWS, _DIM)) * 2.0**-12
    rows = (sizes * rng.choice([-1, 1], (_ROWS, 1))).astype(np.float32)
    return rows, rows[:: _ROWS // _QUERIES].copy()


def _distances(faiss: ModuleType, queries: Any, rows: Any) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield each metric of faiss with its distances ``(queries, rows)``: minus the inner products, and the squared distances."""
    xq, xb = queries.astype(np.float64), rows.astype(np.float64)
    products = xq @ xb.T
    yield faiss.METRIC_INNER_PRODUCT, -products
    yield faiss.METRIC_L2, (xq**2).sum(axis=1)[:, None] + (xb**2).sum(axis=1) - 2 * products


def _free_memory(number: int) -> int | None:
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError):
        return None
    if int(runtime.cudaSetDevice(number)[0]):
        return None
    code, free, _ = runtime.cudaMemGetInfo()
    return None if int(code) else int(free)


def try_gpus_as_json(device: str) -> str:
    """Do what `try_gpus` does, for `isc_fast.machine.trial_run`."""
    return json.dumps(try_gpus(device))


@functools.cache
def _tried(device: str) -> Answer:
    return run_trial(try_gpus_as_json, device, timeout_s=TIMEOUT_S)


def find_gpus(device: str) -> tuple[Gpu, ...]:
    """The GPUs that a name stands for. faiss is tried out on each of them, once in the life of this process.

    Raises:
        EngineError: it is not such a name, it names a GPU that is not here, or faiss does not work there; the message says why.
        MissingExtraError: faiss is not installed.
    """
    if device != "cuda:all":
        gpu_indices(device, 1 << 30)
    if not hasattr(require("faiss", "gpu"), "StandardGpuResources"):
        raise EngineError(f"{device} is asked for and this faiss is built without GPU support; run: {_INSTALL}")
    answer = _tried(device)
    if answer.state == ABSENT:
        raise MissingExtraError(f"{answer.detail}; run: {_INSTALL}")
    if answer.state != WORKS:
        remedy = f"; run: {answer.repair}" if answer.repair else "; look at isc-fast doctor, or use the device cpu"
        raise EngineError(f"faiss does not work on {device}: {answer.detail}{remedy}")
    count, free = json.loads(answer.detail)
    return tuple(Gpu(number, free[str(number)]) for number in gpu_indices(device, count))
