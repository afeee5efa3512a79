"""The part of CUDA that engines need, through ``cuda.bindings``: memory, streams, events, graphs; no torch.

Every call returns a code and raises nothing by itself; `check` turns codes into `EngineError`. What is made here is freed
by its ``close``, which may be called twice and never raises: after a fault CUDA refuses to free as well, and the first
error is the one to report.

Nothing in this file has run on a GPU yet: the tests run it against an imitation whose functions are compared with the
signatures of the real bindings, and ``pytest -m gpu`` runs it for real.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
        index: as CUDA counts those that this process may see.
        name: such as ``"NVIDIA H100 80GB HBM3"``.
        capability: compute capability, such as ``"9.0"``.
        memory_bytes: in all.
    """

    index: int
    name: str
    capability: str
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"


def _cuda() -> Any:
    return require("cuda.bindings.runtime", "gpu")


def _words(code: Any) -> str:
    _, text = _cuda().cudaGetErrorString(code)
    return f"{text.decode(errors='replace') if isinstance(text, bytes) else text} (error {int(code)})"


def check(result: tuple[Any, ...], doing: str) -> Any:
    """The value of a call, or None where it has none.

    Args:
        result: what the call returned: its code, then its values.
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
    """How many GPUs this process can use, at least one. To be called before any library of TensorRT: without a driver those
    crash.

    Raises:
        EngineError: there is no driver, it is too old, or it shows no GPU.
        MissingExtraError: ``cuda.bindings`` is not installed.
    """
    cuda = _cuda()
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
    """A GPU that this process can use.

    Raises:
        EngineError: as `count_devices`, or there is no such GPU.
        MissingExtraError: ``cuda.bindings`` is not installed.
    """
    count = count_devices()
    if not 0 <= index < count:
        raise EngineError(f"there is no GPU {index}: this process sees {count}, counted from 0")
    found = check(_cuda().cudaGetDeviceProperties(index), f"describe GPU {index}")
    name = found.name.decode(errors="replace") if isinstance(found.name, bytes) else str(found.name)
    capability = f"{found.major}.{found.minor}"
    return Device(index, name.rstrip("\0"), capability, int(found.totalGlobalMem))


def check_alike(indices: Iterable[int]) -> None:
    """Refuse GPUs of several models for one result: libraries choose other kernels for each, whose last bits differ.

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


def use_device(index: int) -> None:
    """Let this thread use that GPU; CUDA keeps that for each thread by itself.

    Raises:
        EngineError: CUDA refuses.
    """
    check(_cuda().cudaSetDevice(index), f"use GPU {index}")


class Stream:
    """A queue of work on the GPU; it does not wait for the default stream.

    Attributes:
        handle: as an integer, for calls of other libraries.
    """

    def __init__(self) -> None:
        cuda = _cuda()
        self._stream: Any = check(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking), "make a stream")
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait until all that is queued is done.

        Raises:
            EngineError: some of it failed.
        """
        check(_cuda().cudaStreamSynchronize(self.handle), "finish its work")

    def close(self) -> None:
        """Wait for what is queued, whatever became of it, and free the stream."""
        stream, self._stream = self._stream, None
        if stream is not None:
            _cuda().cudaStreamSynchronize(stream)
            _cuda().cudaStreamDestroy(stream)


class Event:
    """A mark in a stream. Who waits for it sleeps and leaves the core to the threads that decode."""

    def __init__(self) -> None:
        cuda = _cuda()
        flags = cuda.cudaEventDisableTiming | cuda.cudaEventBlockingSync
        self._event: Any = check(cuda.cudaEventCreateWithFlags(flags), "make an event")
        self.handle = int(self._event)

    def record(self, stream: Stream | int) -> None:
        """Put the mark behind all that is queued in the stream, given also by its handle."""
        handle = stream if isinstance(stream, int) else stream.handle
        check(_cuda().cudaEventRecord(self.handle, handle), "record an event")

    def synchronize(self) -> None:
        """Wait until the mark is reached.

        Raises:
            EngineError: what stands before it failed.
        """
        check(_cuda().cudaEventSynchronize(self.handle), "finish its work")

    def close(self) -> None:
        """Free the event."""
        event, self._event = self._event, None
        if event is not None:
            _cuda().cudaEventDestroy(event)


def wait_in(stream: int, event: int) -> None:
    """Let what is queued in a stream from now on wait for an event, both given by their handles; the caller goes on.

    Raises:
        EngineError: CUDA refuses.
    """
    check(_cuda().cudaStreamWaitEvent(stream, event, 0), "wait for an event")


class DeviceBuffer:
    """Memory of the GPU.

    Attributes:
        pointer: its address there.
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer = int(check(_cuda().cudaMalloc(size), f"allocate {size / 1e6:.0f} MB of its memory"))
        self._open = True

    def close(self) -> None:
        """Free it."""
        if self._open:
            self._open = False
            _cuda().cudaFree(self.pointer)


class PinnedBuffer:
    """Memory of the host that the GPU copies from and to by itself.

    Attributes:
        pointer: its address.
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer = int(check(_cuda().cudaMallocHost(size), f"allocate {size / 1e6:.0f} MB of pinned memory"))
        self._open = True

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The memory as an array, without a copy; not to be used after `close`."""
        raw = memoryview((ctypes.c_ubyte * self.size).from_address(self.pointer)).cast("B")
        return np.asarray(np.frombuffer(raw, np.uint8).view(dtype).reshape(shape))

    def close(self) -> None:
        """Free it."""
        if self._open:
            self._open = False
            _cuda().cudaFreeHost(self.pointer)


def copy(target: int, source: int, size: int, kind: str, stream: Stream) -> None:
    """Queue a copy between two addresses.

    Args:
        target, source: addresses.
        size: in bytes.
        kind: ``"to device"``, ``"to host"`` or ``"on device"``.
        stream: that it is queued in.

    Raises:
        EngineError: CUDA refuses.
    """
    kinds = _cuda().cudaMemcpyKind
    code = {
        "to device": kinds.cudaMemcpyHostToDevice,
        "to host": kinds.cudaMemcpyDeviceToHost,
        "on device": kinds.cudaMemcpyDeviceToDevice,
    }[kind]
    check(_cuda().cudaMemcpyAsync(target, source, size, code, stream.handle), f"copy {size} bytes {kind}")


def zero(pointer: int, size: int, stream: Stream) -> None:
    """Queue that so many bytes of the GPU's memory become 0.

    Raises:
        EngineError: CUDA refuses.
    """
    check(_cuda().cudaMemsetAsync(pointer, 0, size, stream.handle), "clear its memory")


class Graph:
    """Queued work that was recorded once and is queued again by one call, with the same addresses."""

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Queue the work.

        Raises:
            EngineError: CUDA refuses.
        """
        check(_cuda().cudaGraphLaunch(self._executable, stream.handle), "launch a graph")

    def close(self) -> None:
        """Free it."""
        executable, self._executable = self._executable, None
        if executable is not None:
            _cuda().cudaGraphExecDestroy(executable)


def capture(stream: Stream, work: Callable[[], bool]) -> Graph | None:
    """Record what ``work`` queues in the stream, without running it; None where that cannot be recorded.

    Other threads may use the GPU meanwhile.

    Args:
        stream: idle.
        work: queues, allocates nothing, waits for nothing; False or `EngineError` where it did not work.

    Raises:
        EngineError: recording cannot even begin.
    """
    cuda = _cuda()
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    check(cuda.cudaStreamBeginCapture(stream.handle, mode), "begin recording")
    try:
        worked = work()
    except EngineError:
        worked = False
    code, graph = cuda.cudaStreamEndCapture(stream.handle)
    executable = None
    if worked and not int(code):
        code, executable = cuda.cudaGraphInstantiate(graph, 0)
    if graph is not None and int(graph):
        cuda.cudaGraphDestroy(graph)
    if int(code) or not worked or executable is None:
        cuda.cudaGetLastError()  # else the next call that asks would be told of this one
        return None
    return Graph(executable)
