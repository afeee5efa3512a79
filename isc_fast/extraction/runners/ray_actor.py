"""A worker on a Ray cluster: an actor that loads the engine, computes shards and writes their parts itself.

A thread computes. The actor's own thread answers `RayWorker.exchange`, which takes messages in and gives messages out, and is
called all the time; so whoever asks learns of progress, and a worker that nobody asks any more ends by itself. Descriptors and
pixels never pass through Ray.
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
from functools import partial
from typing import Any

from ...decoders.opening import ImageProblem, open_photo, quiet_pillow
from ...engines.base import Engine, load_engine
from ...errors import EngineError, InputError, IscFastError, OutputError, require
from ...items import Item
from ...sources.listing import open_item
from ..parts import PartsFolder
from ..plan_folder import parts_at
from .account import Report
from .base import Facts, device_of
from .handed import Handed, Task, compute_handed

_URGENT = ("ready", "error", "stored")
_SEEN_S = 10.0
"""Seconds until a file that another machine has just made shows here: network file systems remember what was not there."""


class RayWorker:
    """See the module's text.

    Args:
        job: ``engine``, ``options`` and ``device`` of `isc_fast.load_engine`; ``orphan_s``: seconds without a call after which
            the worker ends.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        quiet_pillow()
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
        device = self._job["device"]
        engine = _loaded(self._job["engine"], device, self._job["options"])
        facts = Facts.of(engine).message()
        self._say("ready", urgent=True, facts=facts, hardware=device_of(engine), host=socket.gethostname())
        begin = self._inbox.get()
        parts = parts_at(begin["output"], in_folder=begin["in_folder"])
        _check_shared(parts, begin["plan_bytes"], begin["probe"])
        parts.share()
        channel = _Channel(self._inbox, self._say)
        compute_handed(channel, engine, parts.on(partial(device_of, engine)), Task(**begin["task"]))


class _Channel:
    """See `isc_fast.extraction.runners.handed.Channel`."""

    def __init__(self, inbox: queue.SimpleQueue[dict[str, Any]], say: Any) -> None:
        self._inbox, self._say = inbox, say

    def ask(self, *, wait: bool) -> Handed | None:
        """Take what came in. There is no last one: a worker that is not needed any more is killed."""
        with contextlib.suppress(queue.Empty):
            return Handed.of(self._inbox.get(block=wait))
        return None

    def report(self, report: Report) -> None:
        """See there."""
        self._say("report", urgent=report.stored, report=asdict(report))


def _loaded(path: str, device: str, options: Mapping[str, Any]) -> Engine:
    if path != "demo" and not os.path.exists(path):
        raise EngineError(
            f"the node {socket.gethostname()} has no file {path}; put the engine where all nodes see it under that path"
        )
    return load_engine(path, device=device, **options)


def _check_shared(parts: PartsFolder, plan_bytes: int, probe: tuple[str, str] | None) -> None:
    """Refuse to work where the output's folder or the photos are not those of the machine that began the run.

    Raises:
        OutputError: the folder is another one.
        InputError: a photo that can be opened there cannot be opened here.
    """
    node, deadline = socket.gethostname(), time.monotonic() + _SEEN_S
    while parts.plan_size() != plan_bytes:
        if time.monotonic() > deadline:
            raise OutputError(
                f"the node {node} does not see this run's {parts.address}; the output must lie in a folder that all nodes share"
            )
        time.sleep(0.5)
    if probe is not None:
        try:
            open_photo(open_item(Item(*probe))).close()
        except ImageProblem as error:
            raise InputError(
                f"the node {node} cannot open {probe[1]} ({error}); photos must be there for all nodes under the same paths"
            ) from error
