"""Which GPUs this process can use: how many there are, what they are called, and whether they are alike.

`count_devices` and `find_device` ask CUDA, which counts only the GPUs that this process may see. `describe_gpus` asks the
driver, for ``isc-fast doctor``, also where CUDA's bindings are not installed.

The tests run this file against an imitation whose functions are compared with the
signatures of the real bindings, and ``pytest -m gpu`` runs it for real.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError, require

_NO_DEVICE, _OLD_DRIVER, _OUT_OF_MEMORY = 100, 35, 2
_REMEDIES = {
    _OUT_OF_MEMORY: "; end other programs on the GPU, or export the engine with a smaller --batch",
}
_BROKEN = (214, 700, 702, 710, 715, 716, 717, 718, 719)  # from these the process cannot go on using the GPU
_RESTART = "; the GPU is lost to this process: run the same command again"


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: its number, as CUDA counts those that this process may see.
        name: its name, such as ``"NVIDIA H100 80GB HBM3"``.
        capability: compute capability, such as ``"9.0"``.
        memory_bytes: size of its memory.
    """

    index: int
    name: str
    capability: str
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"


def runtime() -> Any:
    """Return NVIDIA's bindings of CUDA.

    Raises:
        MissingExtraError: ``cuda.bindings`` is not installed.
    """
    return require("cuda.bindings.runtime", "gpu")


def _words(code: Any) -> str:
    _, text = runtime().cudaGetErrorString(code)
    return f"{text.decode(errors='replace') if isinstance(text, bytes) else text} (error {int(code)})"


def check(result: tuple[Any, ...], doing: str) -> Any:
    """Return the value of a call of CUDA, or None where the call has no value.

    Args:
        result: the call's result: its code, then its values.
        doing: completes "CUDA failed to …".

    Raises:
        EngineError: the code is not success.
    """
    code, *values = result
    if int(code):
        remedy = _RESTART if int(code) in _BROKEN else _REMEDIES.get(int(code), "")
        raise EngineError(f"CUDA failed to {doing}: {_words(code)}{remedy}")
    return values[0] if values else None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def count_devices() -> int:
    """Count the GPUs that this process can use; there is at least one.

    Call this before any library of TensorRT, because those crash without a driver.

    Raises:
        EngineError: there is no driver, it is too old, or it shows no GPU.
        MissingExtraError: ``cuda.bindings`` is not installed.
    """
    cuda = runtime()
    code, count = cuda.cudaGetDeviceCount()
    if int(code) == _OLD_DRIVER:
        driver = int(check(cuda.cudaDriverGetVersion(), "ask for the driver's version"))
        if not driver:
            raise EngineError(
                "there is no NVIDIA driver on this machine; install one, or use the .onnx engine, which runs on the processor"
            )
        wanted = int(check(cuda.cudaRuntimeGetVersion(), "ask for its own version"))
        raise EngineError(
            f"the NVIDIA driver is too old: it brings CUDA {_version(driver)} and isc-fast needs {_version(wanted)}; "
            "update the driver"
        )
    if int(code) == _NO_DEVICE or (not int(code) and not count):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        raise EngineError(f"the NVIDIA driver shows no GPU to this process{shown}; look at: nvidia-smi")
    check((code,), "look for a GPU")
    return int(count)


def find_device(index: int = 0) -> Device:
    """Describe a GPU that this process can use.

    Raises:
        EngineError: as `count_devices`, or there is no such GPU.
        MissingExtraError: ``cuda.bindings`` is not installed.
    """
    count = count_devices()
    if not 0 <= index < count:
        raise EngineError(f"there is no GPU {index}: this process sees {count}, counted from 0")
    found = check(runtime().cudaGetDeviceProperties(index), f"describe GPU {index}")
    name = found.name.decode(errors="replace") if isinstance(found.name, bytes) else str(found.name)
    capability = f"{found.major}.{found.minor}"
    return Device(index, name.rstrip("\0"), capability, int(found.totalGlobalMem))


def check_alike(indices: Iterable[int]) -> None:
    """Refuse GPUs of several models for one result, because libraries choose other kernels for each, whose last bits differ.

    Raises:
        EngineError: as `find_device`, or they are not alike.
        MissingExtraError: ``cuda.bindings`` is not installed.
    """
    models: dict[str, int] = {}
    for index in indices:
        models.setdefault(str(find_device(index)), index)
    if len(models) > 1:
        (one, first), (other, second) = list(models.items())[:2]
        raise EngineError(
            f"GPU {first} is a {one} and GPU {second} a {other}, which do not give the same bytes; name those of one model"
        )


def describe_gpus() -> str:
    """Ask the driver for its version and for every GPU, by NVML or else by CUDA. For a process that may end with it.

    Returns:
        JSON: ``{"driver": "580.65, up to CUDA 13.0", "gpus": ["NVIDIA H100, …", …]}``.

    Raises:
        ImportError: neither library is installed.
        Exception: as the library does where there is no driver.
    """
    try:
        driver, gpus = _ask_nvml()
    except ImportError:
        driver, gpus = _ask_cuda()
    return json.dumps({"driver": driver, "gpus": gpus})


def _ask_nvml() -> tuple[str, list[str]]:
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()

    def text(value: str | bytes) -> str:
        return value.decode() if isinstance(value, bytes) else value

    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(gpu)
        gpus.append(
            f"{text(nvml.nvmlDeviceGetName(gpu))}, compute capability {major}.{minor}, "
            f"{memory.free / 2**30:.0f} of {memory.total / 2**30:.0f} GiB free"
        )
    driver = text(nvml.nvmlSystemGetDriverVersion())
    return f"{driver}, up to CUDA {_version(nvml.nvmlSystemGetCudaDriverVersion())}", gpus


def _ask_cuda() -> tuple[str, list[str]]:
    cuda: Any = importlib.import_module("cuda.bindings.runtime")
    error, count = cuda.cudaGetDeviceCount()
    if int(error):
        raise RuntimeError(f"CUDA finds no GPU: {cuda.cudaGetErrorName(error)[1].decode()}")
    error, version = cuda.cudaDriverGetVersion()
    found = [find_device(index) for index in range(count)]
    gpus = [f"{gpu.name}, compute capability {gpu.capability}, {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in found]
    return f"up to CUDA {_version(version)}", gpus
