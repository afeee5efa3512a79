"""The part of CUDA that engines need, through ``cuda.bindings``: memory, streams, events, graphs; no torch.

Every call returns a code and raises nothing by itself; `isc_fast.machine.gpus.check` turns codes into `EngineError`. What is
made here is freed by its ``close``, which may be called twice and never raises: after a fault CUDA refuses to free as well,
and the first error is the one to report.

Nothing in this file has run on a GPU yet: the tests run it against an imitation whose functions are compared with the
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
