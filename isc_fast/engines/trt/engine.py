"""Engines in TensorRT plans, on an NVIDIA GPU; no torch.

An engine loads its plan once and makes two or three slots. Each slot has an execution context, a stream and buffers of its
own, so that one slot copies while another computes. A slot always executes the same number of images, and black ones fill up
the last execution. So a descriptor does not depend on how many images came with it, all addresses and shapes stay the same,
and the whole execution is recorded once as a CUDA graph and then queued by one call.

The tests run this file against an imitation of CUDA and TensorRT that queues work as streams
do and executes real graphs on the processor; `tests/engines/test_gpu_trt.py` runs it for real, where there is a GPU.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import EngineError
from ...machine import cuda
from ...machine.gpus import find_device
from ..protocol import check_pixels
from .load import check_machine, installed_flavour, load_plan
from .sidecar import read_plan
from .slot import Pixels, Slot, Vectors

SLOTS = 3
"""One that copies in, one that computes, one that copies out."""


class Pending:
    """Descriptors that the GPU is working on; `TrtEngine.start` and `TrtEngine.start_device` return it."""

    def __init__(self, engine: TrtEngine, count: int, dim: int) -> None:
        self._engine = engine
        self.vectors: Vectors = np.empty((count, dim), np.float32)
        self.left = 0
        self.problem: EngineError | None = None

    def result(self) -> Vectors:
        """Wait for the descriptors ``float32 (n, dim)``, in the order of the images.

        Raises:
            EngineError: the GPU or TensorRT failed.
        """
        self._engine.finish(self)
        return self.vectors


class TrtEngine:
    """An engine in a TensorRT plan; see `isc_fast.engines.protocol.Engine` and `isc_fast.engines.base.load_engine`.

    Threads may share it; their calls wait for each other. `close`, or the end of a ``with`` block, frees the GPU's memory. An
    engine that nobody holds any more frees it by itself.

    Args:
        path: the plan's file; its sidecar stands beside it.
        slots: executions in flight; there are fewer where the GPU's memory does not hold so many, but at least one.
        size: images in one execution; by default what the plan is tuned for.
        index: number of the GPU, among those that this process sees.
        trust_code: whether program code in the plan may run. Only version-compatible plans hold some. To allow it is to
            start a program that came with the plan.
    """

    def __init__(
        self, path: Path, *, slots: int = SLOTS, size: int | None = None, index: int = 0, trust_code: bool = False
    ) -> None:
        plan = read_plan(path)
        spec, facts = plan.spec, plan.facts
        fewest, best, most = facts.batch
        self._size = size or best
        if not fewest <= self._size <= most:
            raise EngineError(
                f"{path} executes {fewest} to {most} images at once, not {self._size}; build another plan with --batch"
            )
        if slots < 1:
            raise EngineError(f"an engine needs at least one slot, not {slots}")
        if facts.version_compatible and not trust_code:
            raise EngineError(
                f"{path} is version-compatible: it holds program code that runs when it is loaded; if you trust where it came "
                "from, add --trust-plan (trust_plan=True), else build it again without --version-compatible"
            )
        found = find_device(index)  # first, because TensorRT crashes without a driver
        trt = installed_flavour(facts.flavour)
        check_machine(path, facts, found, str(trt.__version__))
        self.path, self.spec, self.facts, self.id = path, spec, facts, facts.plan_sha256
        self.gpu = index
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Slot, Pending, int, int]] = deque()
        cuda.use_device(index)
        resources = contextlib.ExitStack()
        self._free = weakref.finalize(self, _close, resources, index)
        try:
            self._slots = load_plan(trt, plan, self._size, slots, resources)
        except BaseException:
            self._free()
            raise
        self._next = 0
        self.default_batch_size = len(self._slots) * self._size
        shape = f"{len(self._slots)} × {self._size} images" if self.recorded else f"{self._size} images, not recorded"
        self.device = f"{facts.flavour} {trt.__version__} on {found.name}, {shape}"

    @property
    def recorded(self) -> bool:
        """Whether executions run as CUDA graphs."""
        return all(slot.graph is not None for slot in self._slots)

    def run(self, pixels: Pixels) -> Vectors:
        """See `isc_fast.engines.protocol.Engine.run`."""
        return self.start(pixels).result()

    def start(self, pixels: Pixels) -> Pending:
        """Begin to describe ``uint8 (n, height, width, 3)``; the caller may change the array when this returns.

        This returns as soon as the last images are on their way. A caller keeps the GPU busy by starting a batch before it
        asks for the descriptors of the one before.

        Raises:
            EngineError: as `run`.
        """
        check_pixels(self.spec, pixels)
        return self._start(len(pixels), lambda slot, a, b: slot.put(pixels[a:b]))

    def run_device(self, pointer: int, count: int, *, stream: int | None = None, event: int | None = None) -> Vectors:
        """Describe images that are on the GPU already, such as a GPU decoder's output; see `start_device`."""
        return self.start_device(pointer, count, stream=stream, event=event).result()

    def start_device(self, pointer: int, count: int, *, stream: int | None = None, event: int | None = None) -> Pending:
        """Begin to describe images that are on the GPU already.

        They are copied once, into the slots' own memory, at the speed of the GPU's memory (0.03 ms for 64 images at
        512 × 512 on an H100, by its data sheet).

        Args:
            pointer: device address of dense ``uint8 (count, height, width, 3)`` RGB.
            count: number of images.
            stream: handle of the stream that makes the images. The copy waits for the work that is in the stream now, and
                work that is queued later waits for the copy, so the maker may begin its next batch at once.
            event: handle of an event that the maker recorded, instead of a stream. With an event, as with neither, the
                memory may be used again when this returns.

        Raises:
            EngineError: the GPU or TensorRT failed, or both a stream and an event are given.
        """
        if stream is not None and event is not None:
            raise EngineError("give the stream that the images are made in, or an event behind them, not both")
        if count < 0 or (count and not pointer):
            raise EngineError(f"there are no {count} images at the address {pointer}")
        size = self.spec.height * self.spec.width * 3

        def put(slot: Slot, start: int, end: int) -> None:
            slot.put_from_device(pointer + start * size, end - start, event, stream)
            if stream is not None:
                cuda.wait_in(stream, slot.copied.handle)

        def copied() -> None:
            for slot in self._slots if stream is None else []:
                slot.copied.synchronize()

        return self._start(count, put, copied)

    def _start(
        self, count: int, put: Callable[[Slot, int, int], None], after: Callable[[], None] = lambda: None
    ) -> Pending:
        with self._lock:
            if not self._free.alive:
                raise EngineError(f"{self.path} was closed; load it again")
            pending = Pending(self, count, self.spec.dim)
            try:
                cuda.use_device(self.gpu)  # this may be another thread than the one before
                for start in range(0, count, self._size):
                    if len(self._waiting) == len(self._slots):
                        self._finish_oldest()
                    slot = self._slots[self._next]
                    self._next = (self._next + 1) % len(self._slots)
                    end = min(start + self._size, count)
                    put(slot, start, end)
                    slot.launch()
                    self._waiting.append((slot, pending, start, end))
                    pending.left += 1
                after()
            except EngineError as error:
                raise self._abandon(error, count) from error
            return pending

    def _finish_oldest(self) -> None:
        slot, pending, start, end = self._waiting[0]
        slot.wait()
        pending.vectors[start:end] = slot.output[: end - start]
        pending.left -= 1
        self._waiting.popleft()

    def finish(self, pending: Pending) -> None:
        """Wait until these descriptors are there.

        Raises:
            EngineError: the GPU or TensorRT failed.
        """
        with self._lock:
            if pending.left and not pending.problem:
                try:
                    cuda.use_device(self.gpu)
                    while pending.left:
                        self._finish_oldest()
                except EngineError as error:
                    raise self._abandon(error, len(pending.vectors)) from error
            if pending.problem:
                raise pending.problem

    def _abandon(self, error: EngineError, count: int) -> EngineError:
        """Stop all writing after a failure, and hand the error to everyone who waits."""
        problem = EngineError(f"{self.path} failed on a batch of {count}: {error}")
        for slot in self._slots:
            with contextlib.suppress(EngineError):
                slot.stream.synchronize()
        for _, pending, _, _ in self._waiting:
            pending.problem = problem
        self._waiting.clear()
        return problem

    def close(self) -> None:
        """Free what the engine holds on the GPU. Descriptors that were not fetched are lost. May be called twice."""
        with self._lock:
            lost = EngineError(f"{self.path} was closed before these descriptors were fetched; load it again")
            for _, pending, _, _ in self._waiting:
                pending.problem = lost
            self._waiting.clear()
            self._slots = []
            self._free()

    def __enter__(self) -> TrtEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(resources: contextlib.ExitStack, index: int) -> None:
    with contextlib.suppress(EngineError):
        cuda.use_device(index)  # the collector may run in any thread
    resources.close()
