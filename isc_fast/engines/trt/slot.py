"""A slot runs one execution of a TensorRT plan: it has a context, a stream, and memory on both sides."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ...machine import cuda
from ..spec import EngineSpec
from .log import reason

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

_Resource = TypeVar("_Resource", cuda.Stream, cuda.Event, cuda.DeviceBuffer, cuda.PinnedBuffer)


def _opened(stack: contextlib.ExitStack, resource: _Resource) -> _Resource:
    stack.callback(resource.close)
    return resource


class Slot:
    """A place where one execution runs.

    Attributes:
        size: images in one execution.
        output: descriptors ``float32 (size, dim)`` of the last execution, once `wait` has returned.
        graph: the recorded execution, or None where it could not be recorded.
    """

    def __init__(self, engine: Any, spec: EngineSpec, size: int, names: tuple[str, str], logger: Any) -> None:
        self.size, self.logger = size, logger
        self._image_bytes = spec.height * spec.width * 3
        self._filled = size  # so many images in the GPU's memory may be other than black
        self.graph: cuda.Graph | None = None
        self._context: Any = None
        with contextlib.ExitStack() as stack:
            self.stream = _opened(stack, cuda.Stream())
            self._ended = _opened(stack, cuda.Event())
            self.copied = _opened(stack, cuda.Event())
            self._ready = _opened(stack, cuda.Event())
            self._pinned_in = _opened(stack, cuda.PinnedBuffer(size * self._image_bytes))
            self._pinned_out = _opened(stack, cuda.PinnedBuffer(size * spec.dim * 4))
            self._device_in = _opened(stack, cuda.DeviceBuffer(size * self._image_bytes))
            self._device_out = _opened(stack, cuda.DeviceBuffer(size * spec.dim * 4))
            self._input: Pixels = self._pinned_in.array((size, spec.height, spec.width, 3), np.uint8)
            self.output: Vectors = self._pinned_out.array((size, spec.dim), np.float32)
            self._context = engine.create_execution_context()
            if self._context is None:
                raise EngineError(f"TensorRT made no execution context: {reason(logger.messages)}")
            stack.callback(self._drop)
            stack.callback(self._settle)  # runs first on closing, because queued work still uses the rest
            self._prepare(names, (size, spec.height, spec.width, 3))
            self._resources = stack.pop_all()

    def _prepare(self, names: tuple[str, str], shape: tuple[int, ...]) -> None:
        context, stream = self._context, self.stream.handle
        if context.active_optimization_profile != 0:  # only the first of several contexts has one by itself
            self._ask(context.set_optimization_profile_async(0, stream), "take its profile")
            self.stream.synchronize()
        self._ask(context.set_input_shape(names[0], shape), f"take {shape[0]} images")
        self._ask(context.set_tensor_address(names[0], self._device_in.pointer), "take its input")
        self._ask(context.set_tensor_address(names[1], self._device_out.pointer), "take its output")
        # TensorRT may allocate and choose in its first execution, which cannot be recorded.
        self.put(self._input[:0])
        self._ask(self._execute(), "execute the plan")
        self.stream.synchronize()
        self.graph = cuda.capture(self.stream, self._execute)

    def _ask(self, worked: bool, doing: str) -> None:
        if not worked:
            raise EngineError(f"TensorRT failed to {doing}: {reason(self.logger.messages)}")

    def _execute(self) -> bool:
        """Queue one execution and the copy of its output."""
        if not self._context.execute_async_v3(self.stream.handle):
            return False
        cuda.copy(self._pinned_out.pointer, self._device_out.pointer, self._pinned_out.size, "to host", self.stream)
        return True

    def put(self, pixels: Pixels) -> None:
        """Queue the copy of at most ``size`` images; the caller may use their memory again when this returns."""
        count, copied = len(pixels), max(len(pixels), self._filled)
        self._input[:count] = pixels
        self._input[count:copied] = 0
        self._filled = count
        size = copied * self._image_bytes
        cuda.copy(self._device_in.pointer, self._pinned_in.pointer, size, "to device", self.stream)

    def put_from_device(self, pointer: int, count: int, ready: int | None, stream: int | None) -> None:
        """Queue the copy of ``count`` images that are on the GPU already; the event `copied` follows it."""
        if stream is not None:
            self._ready.record(stream)
            cuda.wait_in(self.stream.handle, self._ready.handle)
        elif ready is not None:
            cuda.wait_in(self.stream.handle, ready)
        end, filled = count * self._image_bytes, self._filled * self._image_bytes
        cuda.copy(self._device_in.pointer, pointer, end, "on device", self.stream)
        if filled > end:
            cuda.zero(self._device_in.pointer + end, filled - end, self.stream)
        self._filled = count
        self.copied.record(self.stream)

    def launch(self) -> None:
        """Queue the execution of the images that were put."""
        if self.graph is not None:
            self.graph.launch(self.stream)
        else:
            self._ask(self._execute(), "execute the plan")
        self._ended.record(self.stream)

    def wait(self) -> None:
        """Wait for the execution that was queued last."""
        self._ended.synchronize()

    def _settle(self) -> None:
        with contextlib.suppress(EngineError):
            self.stream.synchronize()

    def _drop(self) -> None:
        if self.graph is not None:
            self.graph.close()
        self.graph = self._context = None

    def close(self) -> None:
        """Wait for the queued work, then free everything."""
        self._resources.close()
