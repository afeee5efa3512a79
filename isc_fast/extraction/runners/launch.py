"""Starting worker processes, talking with them in lines of JSON, and ending them.

Each worker runs `isc_fast.extraction.runners.worker` and sees one device alone. It inherits the lock of the output's
folder, and it ends by itself when the process that started it is gone, whatever ended that process.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ... import errors
from ...errors import EngineError, IscFastError
from ...machine.devices import split_device

_PATIENCE_S = 10.0
"""Seconds that a worker whose output is closed gets to end."""


@dataclass(frozen=True)
class Worker:
    """A worker process.

    Attributes:
        number: which of the workers it is, from 0.
        device: the name of its device.
        process: the process itself.
    """

    number: int
    device: str
    process: subprocess.Popen[str]

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message. If the worker is gone the message is lost; the end of its output tells that it is gone."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def how_it_ended(self) -> str:
        """How the process ended, in words. Call it when its output is closed."""
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


Event = tuple[Worker, dict[str, Any] | None]
"""A worker and a message from it. The message is None once the worker's output is closed: it is ending or dead."""


def environment(device: str) -> dict[str, str]:
    """The environment of a process that imports what this one would, and whose first GPU is the given one.

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
def started(
    devices: Sequence[str], job: Mapping[str, Any], lock: int | None = None
) -> Iterator[tuple[list[Worker], queue.SimpleQueue[Event]]]:
    """Start a worker for each device and give all of them a job. No worker outlives the ``with`` block.

    Args:
        devices: the names of the devices.
        job: the first message to each worker, which here gets its device and its share added.
        lock: a file descriptor that the workers inherit.

    Returns:
        the workers, and the queue that receives their messages.
    """
    workers: list[Worker] = []
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def listen(worker: Worker) -> None:
        assert worker.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # ValueError: the worker, or this run, ended within a message
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
                    env=environment(device),
                    pass_fds=() if lock is None else (lock,),
                )
                stack.callback(_end, process)
            worker = Worker(number, device, process)
            workers.append(worker)
            alone = "cuda" if split_device(device)[0] == "cuda" else "cpu"
            worker.say({**job, "device": alone, "part": [number, len(devices)]})
            threading.Thread(target=listen, args=(worker,), daemon=True).start()
        yield workers, events


def raise_reported(worker: Worker, message: Mapping[str, Any]) -> None:
    """Raise the error that a worker reported, with its device if that is one of several GPUs.

    Raises:
        IscFastError: always.
    """
    kind = getattr(errors, message["type"], IscFastError)
    raise kind(message["text"] if worker.device == "cpu" else f"{worker.device}: {message['text']}")


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes that are started here ignore SIGINT and SIGTERM.

    A terminal sends Ctrl-C to all its processes, and a supervisor may stop all processes of a service. The workers must
    not die of that one by one: they end when the process that started them ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a process if it still runs. Nothing is lost by that, since parts appear whole or not at all."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            assert stream is not None
            stream.close()
