"""The line to the process that talks with Ray (`isc_fast.extraction.runners.ray_driver`)."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
import time
from typing import Any

from ...errors import EngineError, InputError, MissingExtraError
from ...machine.child import child_command
from ...machine.versions import installed
from .ray_address import find_cluster, no_answer, started_here

_START_S = 120.0
"""Seconds that importing Ray may take, and joining a cluster whose head answers, or starting one on this machine. All of it waits
for the processor, so that a busy machine takes many times the usual three seconds."""
_ASK_S = 2.0
"""Seconds between two questions to the head, while Ray joins it."""
_SILENT = 2
"""A head that does not answer so many questions is gone. Each of them has a limit of its own."""
_END_S = 4.0
"""Seconds that it gets to end, and to end its workers."""


class Link:
    """Starts that process, and joins or starts a cluster.

    Args:
        address: see `isc_fast.extraction.runners.cluster.Cluster`.

    Attributes:
        cores, gpus: what the cluster has.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: no cluster answers at the address, or this machine is not part of it.
        EngineError: no cluster can be started here.
    """

    def __init__(self, address: str | None) -> None:
        self._joined = find_cluster(address)
        if not installed(["ray"]):  # importing it takes seconds, and is the other process' business
            raise MissingExtraError("this needs ray, which is not installed; run: pip install 'isc-fast[ray]'")
        command, environment = child_command("isc_fast.extraction.runners.ray_driver")
        environment.pop("RAY_ADDRESS", None)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the line
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C of a terminal is meant for the run, which ends this process
        )
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            # Ray looks for the token of a cluster that asks for one only where it finds the cluster by itself.
            self._say({"address": "auto" if self._joined and self._joined == started_here() else self._joined})
            self._wait_for("imported")
            there = self._wait_for("connected", head=self._joined)
        except BaseException:
            self.close()
            raise
        self.cores: int = there["cores"]
        self.gpus: int = there["gpus"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._events.put(json.loads(line))
        self._events.put({"event": "ended"})

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # its end is an event
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _wait_for(self, wanted: str, head: str | None = None) -> dict[str, Any]:
        """The event that is wanted. Where a head's address is given, it has to answer all the time."""
        deadline = time.monotonic() + _START_S
        silent = 0
        while (left := deadline - time.monotonic()) > 0:
            event = self.next(left if head is None else min(left, _ASK_S))
            if event is not None and event["event"] == wanted:
                return event
            if event is not None:
                self._refuse(event.get("text", "it ended"))
            problem = head and no_answer(head)
            silent = silent + 1 if problem else 0
            if silent == _SILENT:
                self._refuse(f"its head was there and has gone: {problem}")
        self._refuse(f"no answer in {_START_S:.0f} s")
        raise AssertionError

    def _refuse(self, why: str) -> None:
        if self._joined is None:
            raise EngineError(f"no Ray cluster can be started on this machine ({why}); is its memory or disk full?")
        raise InputError(
            f"cannot join the Ray cluster at {self._joined} ({why}); this machine must be one of its nodes: "
            f"ray start --address={self._joined}"
        )

    def next(self, wait_s: float) -> dict[str, Any] | None:
        """The next event, or None where there is none in that time."""
        try:
            return self._events.get(timeout=wait_s)
        except queue.Empty:
            return None

    def start(self, worker: int, job: dict[str, Any], cores: int, gpus: int) -> None:
        """Ask for a worker. It begins when the cluster has room for it."""
        self._say({"do": "start", "worker": worker, "job": job, "cores": cores, "gpus": gpus})

    def tell(self, worker: int, message: dict[str, Any]) -> None:
        """Send a message to a worker."""
        self._say({"do": "tell", "worker": worker, "message": message})

    def kill(self, worker: int) -> None:
        """End a worker, or take back that one is wanted."""
        self._say({"do": "kill", "worker": worker})

    def close(self) -> None:
        """End that process, all workers, and the cluster if it was started for this run."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._process.kill()
        self._process.wait()
        self._log.close()
