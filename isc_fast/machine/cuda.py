"""Work on one GPU, through ``cuda.bindings``: memory, streams, events and graphs; no torch.

Every call returns a code and raises nothing by itself; `isc_fast.machine.gpus.check` turns codes into `EngineError`. What is
made here has a ``close`` that frees it, may be called twice and never raises: after a fault CUDA refuses to free as well,
and the first error is the one to report.

The tests run this file against an imitation whose functions are compared with the
signatures of the real bindings, and ``pytest -m gpu`` runs it for real.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .gpus import Device as Device
from .gpus import check as check
from .gpus import check_alike as check_alike
from .gpus import count_devices as count_devices
from .gpus import find_device as find_device
from .gpus import runtime as _cuda


def use_device(index: int) -> None:
    """Let this thread use that GPU; CUDA keeps the choice for each thread.

    Raises:
        EngineError: CUDA refuses.
    """
    check(_cuda().cudaSetDevice(index), f"use GPU {index}")


class Stream:
    """A queue of work on the GPU; it does not wait for the default stream.

    Attributes:
        handle: the stream as an integer, for calls of other libraries.
    """

    def __init__(self) -> None:
        cuda = _cuda()
        self._stream: Any = check(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking), "make a stream")
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait until all queued work is done.

        Raises:
            EngineError: some of the work failed.
        """
        check(_cuda().cudaStreamSynchronize(self.handle), "finish its work")

    def close(self) -> None:
        """Wait for the queued work, whatever becomes of it, and free the stream."""
        stream, self._stream = self._stream, None
        if stream is not None:
            _cuda().cudaStreamSynchronize(stream)
            _cuda().cudaStreamDestroy(stream)


class Event:
    """A mark in a stream. A thread that waits for it sleeps and leaves the core to the threads that decode."""

    def __init__(self) -> None:
        cuda = _cuda()
        flags = cuda.cudaEventDisableTiming | cuda.cudaEventBlockingSync
        self._event: Any = check(cuda.cudaEventCreateWithFlags(flags), "make an event")
        self.handle = int(self._event)

    def record(self, stream: Stream | int) -> None:
        """Put the mark behind all work that is queued in the stream, which may also be given by its handle."""
        handle = stream if isinstance(stream, int) else stream.handle
        check(_cuda().cudaEventRecord(self.handle, handle), "record an event")

    def synchronize(self) -> None:
        """Wait until the mark is reached.

        Raises:
            EngineError: work before the mark failed.
        """
        check(_cuda().cudaEventSynchronize(self.handle), "finish its work")

    def close(self) -> None:
        """Free the event."""
        event, self._event = self._event, None
        if event is not None:
            _cuda().cudaEventDestroy(event)


def wait_in(stream: int, event: int) -> None:
    """Let work that is queued in a stream from now on wait for an event; the caller does not wait.

    Both are given by their handles.

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
    """Queue work that sets so many bytes of the GPU's memory to 0.

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
        stream: a stream that is idle.
        work: queues something, allocates nothing and waits for nothing; returns False or raises `EngineError` where it fails.

    Raises:
        EngineError: recording cannot begin.
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
        cuda.cudaGetLastError()  # otherwise the next call that asks for an error would get this one
        return None
    return Graph(executable)
