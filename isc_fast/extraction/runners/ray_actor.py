"""A worker on a Ray cluster: an actor that loads its tool, computes shards and writes their parts itself.

A thread computes. The actor's own thread answers `RayWorker.exchange`, which takes messages in and gives messages out, and is
called all the time; so whoever asks learns of progress, and a worker that nobody asks any more ends by itself. Descriptors and
pixels never pass through Ray, and neither do matches.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...errors import IscFastError, require
from .account import Report
from .assignment import load_tool

_URGENT = ("ready", "error", "stored")


class RayWorker:
    """See the module's text.

    Args:
        job: see `isc_fast.extraction.runners.assignment.load_tool`; ``orphan_s``: seconds without a call after which the worker
            ends.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._job = job
        self._node = str(require("ray", "ray").get_runtime_context().get_node_id())
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._taken = 0  # messages that came in
        self._said: list[dict[str, Any]] = []  # those that nobody has confirmed
        self._confirmed = 0
        self._change = threading.Condition()
        self._called = time.monotonic()
        for work in (self._work, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def exchange(
        self, first: int, messages: Sequence[dict[str, Any]], heard: int, wait_s: float
    ) -> tuple[int, list[dict[str, Any]], str]:
        """Take messages in and give messages out. A call that is repeated because its answer was lost does no harm.

        Args:
            first: the number of the first message, from 0.
            messages: for this worker.
            heard: how many of this worker's messages were heard.
            wait_s: how long to wait for a message that matters.

        Returns:
            how many messages came in, this worker's messages that were not heard, and the id of its node.
        """
        self._called = time.monotonic()
        for number, message in enumerate(messages, first):
            if number == self._taken:
                self._taken += 1
                self._inbox.put(message)
        with self._change:
            del self._said[: heard - self._confirmed]
            self._confirmed = heard
            self._change.wait_for(lambda: any(message["urgent"] for message in self._said), wait_s)
            return self._taken, list(self._said), self._node

    def _say(self, kind: str, *, urgent: bool = False, **content: Any) -> None:
        with self._change:
            self._said.append({"kind": kind, "urgent": urgent, **content})
            if urgent:
                self._change.notify_all()

    def _watch(self) -> None:
        while time.monotonic() - self._called < self._job["orphan_s"]:
            time.sleep(1)
        os._exit(1)

    def _work(self) -> None:
        try:
            self._compute()
        except IscFastError as error:
            self._say("error", urgent=True, type=type(error).__name__, text=str(error), host=socket.gethostname())
        except BaseException:
            traceback.print_exc()  # Ray keeps it in its logs
            os._exit(1)

    def _compute(self) -> None:
        tool = load_tool(self._job, None)
        self._say("ready", urgent=True, facts=tool.facts, hardware=tool.hardware, host=socket.gethostname())
        tool.compute(_Channel(self._inbox, self._say), self._inbox.get())


class _Channel:
    """See `isc_fast.extraction.runners.assignment.Channel`."""

    def __init__(self, inbox: queue.SimpleQueue[dict[str, Any]], say: Any) -> None:
        self._inbox, self._say = inbox, say

    def ask(self, *, wait: bool) -> dict[str, Any] | None:
        """Take what came in. There is no last one: a worker that is not needed any more is killed."""
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(block=wait)
        return None

    def report(self, report: Report) -> None:
        """See there."""
        self._say("report", urgent=report.stored, report=asdict(report))
