"""Extracting with several processes beside each other, one on each device; the same bytes as with one.

Shards are handed out one by one, as each process asks for them, so a slow device does fewer. What is in a part depends on
the plan alone, not on who computed it. This process computes nothing and touches no GPU.

A process that ends by itself, killed for its memory or by a fault of a driver, loses only what it had in hand. Each shard of
that is tried once more by another process, alone and after all else, since one of them may be what ended it; one that ends
two processes is left, and the run ends with an error when the rest is done. A process that reports an error ends the run with
it, as it would have ended a run of one. In every case the parts that are complete stay, and the same command goes on.

The processes have the output's lock too and end when this one does, whatever ended it.

Several GPUs in one machine have not been tried: the tests run this with several processes on the processor.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ... import errors
from ...engines.spec import EngineSpec
from ...errors import EngineError, IscFastError, MissingExtraError
from ...machine import cuda
from ...machine.devices import split_device
from ...progress import Tally
from ..parts import PartsFolder
from ..plan import Plan

MOST_DEATHS = 2
"""Processes that a shard may end before it is left."""
_PATIENCE_S = 10.0  # that a process gets to end by itself


@dataclass(frozen=True)
class EngineFacts:
    """What an extraction has to know of an engine that it does not load itself; see `isc_fast.engines.base.Engine`."""

    id: str
    spec: EngineSpec
    default_batch_size: int
    takes_pixels_there: bool
    """Whether it takes batches that are on its GPU already, as `isc_fast.engines.base.DeviceEngine` does."""


@dataclass
class _Worker:
    """A process, and what it has in hand.

    Attributes:
        device: its name.
        process: the process itself.
        has: the shards that it was given and has not stored.
        told: images and failures of those that it has reported.
        waits: whether it has nothing to do and asked for more.
        ended: whether it was told that there is no more.
    """

    device: str
    process: subprocess.Popen[str]
    has: list[int] = field(default_factory=list)
    told: dict[int, tuple[int, int]] = field(default_factory=dict)
    waits: bool = False
    ended: bool = False

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message. Where nobody is there to hear it, the reader of its words says so."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def how_it_ended(self) -> str:
        """In words, once it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE_S)
        code = self.process.returncode
        if code is None:
            return "stopped talking"
        if code >= 0:
            return f"ended with status {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
        return f"was ended by signal {-code}"


_Event = tuple[_Worker, dict[str, Any] | None]
"""A message of a worker; None where it says nothing any more."""


def _environment(device: str) -> dict[str, str]:
    """For a process that imports what this one would and sees one GPU alone, which is then its first.

    Raises:
        EngineError: this process does not see that GPU.
    """
    changes = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    kind, index = split_device(device)
    if kind == "cuda":
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = [str(index)] * (index + 1) if shown is None else [name.strip() for name in shown.split(",")]
        if not index < len(names):
            raise EngineError(f"there is no GPU {index}: CUDA_VISIBLE_DEVICES is {shown!r}")
        changes["CUDA_VISIBLE_DEVICES"] = names[index]
    return {**os.environ, **changes}


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal, and a supervisor may stop all of a service: what is started here sees
    neither, and ends with this process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _started(
    devices: Sequence[str], job: Mapping[str, Any], lock: int | None = None
) -> Iterator[tuple[list[_Worker], queue.SimpleQueue[_Event]]]:
    """A process for each device, given a job, and what they say; none of them outlives this."""
    workers: list[_Worker] = []
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()

    def listen(worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # ValueError: it ended within a message, or this run did
            for line in worker.process.stdout:
                events.put((worker, json.loads(line)))
        events.put((worker, None))

    with contextlib.ExitStack() as stack:
        for number, device in enumerate(devices):
            with _interrupts_blocked():
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "isc_fast.extraction.runners.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=_environment(device),
                    pass_fds=() if lock is None else (lock,),
                )
                stack.callback(_end, process)
            workers.append(_Worker(device, process))
            alone = "cuda" if split_device(device)[0] == "cuda" else "cpu"
            workers[-1].say({**job, "device": alone, "part": [number, len(devices)]})
            threading.Thread(target=listen, args=(workers[-1],), daemon=True).start()
        yield workers, events


def _end(process: subprocess.Popen[str]) -> None:
    """End a process, at once unless it is about to end by itself; its files appear whole or not at all."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            assert stream is not None
            stream.close()


def _raise_reported(device: str, message: Mapping[str, Any]) -> None:
    kind = getattr(errors, message["type"], IscFastError)
    raise kind(message["text"] if device == "cpu" else f"{device}: {message['text']}")


@dataclass(frozen=True)
class Crew:
    """Which processes extract, and how each loads the engine.

    Args:
        engine: path of its file, or ``"demo"``.
        devices: one for each process, as `isc_fast.machine.devices.parse_devices` gives them.
        options: further arguments of `isc_fast.load_engine`; threads are those of all processes together.
        workers: threads that decode, of all processes together; by default one for each core.
    """

    engine: str
    devices: Sequence[str]
    options: Mapping[str, Any]
    workers: int | None

    def check(self) -> None:
        """Refuse GPUs that are not there or not alike, as far as ``cuda.bindings`` is there to tell.

        Raises:
            EngineError: they are not.
        """
        gpus = [index for kind, index in map(split_device, self.devices) if kind == "cuda"]
        if gpus:
            with contextlib.suppress(MissingExtraError):
                cuda.check_alike(gpus)

    @cached_property
    def facts(self) -> EngineFacts:
        """What the engine is when one process has the whole machine: a process of its own loads it, and ends.

        So the plan, with its size of batches, is the same for any number of processes, and what an engine only does once, such
        as building for a GPU, is not done by all of them at once.

        Raises:
            EngineError: it cannot be loaded.
        """
        job = {"engine": self.engine, "options": dict(self.options)}
        with _started(self.devices[:1], job) as ((worker,), events):
            _, message = events.get()
            if message is None:
                raise EngineError(
                    f"the process that loaded {self.engine} on {worker.device} {worker.how_it_ended()}; look at: "
                    "isc-fast doctor"
                )
            if message["kind"] == "error":
                _raise_reported(worker.device, message)
            spec = EngineSpec.from_json(message["spec"])
            return EngineFacts(message["id"], spec, message["batch_size"], message["takes_pixels_there"])

    def compute(self, parts: PartsFolder, plan: Plan, missing: Sequence[int], lock: int, tally: Tally) -> None:
        """Compute the missing shards of a plan.

        Args:
            parts: where they are stored.
            plan, missing: see `isc_fast.extraction.parts.PartsFolder.missing`.
            lock: the file descriptor of the folder's lock.
            tally: is told what was done.

        Raises:
            IscFastError: what a process reported, or that too many of them ended by themselves.
        """
        if not missing:
            tally.begin()
            return
        job = {
            "engine": self.engine,
            "options": dict(self.options),
            "engine_id": plan.engine_id,
            "output": os.fspath(parts.output),
            "plan_id": plan.id,
            "batch_size": plan.batch_size,
            "decoder": plan.decoder,
            "workers": self.workers,
        }
        with _started(self.devices[: len(missing)], job, lock) as (workers, events):
            _Run(plan, missing, workers, tally).until_done(events)


class _Run:
    """Hands shards out and keeps account of who has which."""

    def __init__(self, plan: Plan, missing: Sequence[int], workers: Sequence[_Worker], tally: Tally) -> None:
        self._plan, self._tally = plan, tally
        self._fresh = deque(missing)
        self._suspects: deque[int] = deque()  # in the hands of a process that ended
        self._left: dict[int, str] = {}  # with what became of the last process that tried it
        self._deaths: Counter[int] = Counter()
        self._alive = list(workers)
        self._last_words = ""

    def until_done(self, events: queue.SimpleQueue[_Event]) -> None:
        """Answer until all is done or nobody is left to do it.

        Raises:
            IscFastError: see `Crew.compute`.
        """
        begun = False
        while self._alive:
            worker, message = events.get()
            if message is None:
                self._gone(worker)
            elif message["kind"] == "error":
                _raise_reported(worker.device, message)
            elif message["kind"] == "told":
                self._told(worker, message)
            else:
                if not begun:  # the rate that users see is without the time of loading
                    self._tally.begin()
                    begun = True
                self._asked(worker, wait=message["wait"])
            self._serve()
        self._report()

    def _asked(self, worker: _Worker, *, wait: bool) -> None:
        if wait:
            worker.waits = True
        elif self._fresh and not any(self._deaths[index] for index in worker.has):
            self._give(worker, self._fresh.popleft())
        else:
            worker.say({"shard": None})

    def _give(self, worker: _Worker, index: int) -> None:
        worker.has.append(index)
        worker.say({"shard": index, "items": [[item.id, item.path] for item in self._plan.shard(index).items]})

    def _serve(self) -> None:
        """Give those that wait what there is; where there will be no more, let them end."""
        for worker in self._alive:
            todo = self._fresh or self._suspects
            if worker.waits and todo:
                worker.waits = False
                self._give(worker, todo.popleft())
        if not any(worker.has for worker in self._alive):
            for worker in self._alive:
                if worker.waits and not worker.ended:
                    worker.waits, worker.ended = False, True
                    worker.say({"shard": None})

    def _told(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        index, images, failed = message["shard"], message["images"], message["failed"]
        before = worker.told.pop(index, (0, 0))
        if message["stored"]:
            worker.has.remove(index)
        else:
            worker.told[index] = before[0] + images, before[1] + failed
        self._tally.add(images, failed)

    def _gone(self, worker: _Worker) -> None:
        self._alive.remove(worker)
        if worker.ended:
            return
        self._last_words = f"the process on {worker.device} {worker.how_it_ended()}"
        for images, failed in worker.told.values():
            self._tally.add(-images, -failed)
        for index in worker.has:
            self._deaths[index] += 1
            if self._deaths[index] == MOST_DEATHS:
                self._left[index] = self._last_words
            else:
                self._suspects.append(index)

    def _report(self) -> None:
        undone = len(self._fresh) + len(self._suspects)
        if self._left:
            index = min(self._left)
            items = self._plan.shard(index).items
            rest = f"{undone} other parts are not done either" if undone else "all else is done"
            raise EngineError(
                f"{MOST_DEATHS} processes ended over the images {items[0].path} to {items[-1].path} ({self._left[index]}); "
                f"{rest}; extract a few of them at a time to another output to find the one, move it away, and run the same "
                "command again"
            )
        if undone:
            raise EngineError(
                f"{self._last_words}, and no other is left; what is complete is kept: run the same command again, on fewer "
                "devices or with smaller batches if it was for want of memory"
            )
