"""The process that talks with Ray: ``python -m isc_fast.extraction.runners.ray_driver``.

It is a process of its own so that whatever happens to Ray's client happens to it alone: Ray ends its process where the head of
the cluster is lost, takes over signals, prints, and may wait for ever. It reads lines of JSON on standard input: first the
cluster, then which workers to start, to tell something or to kill. On what was standard output it tells what they say, and that
they are gone. It ends when its input ends, and all its workers with it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from ...errors import require
from ...machine.cores import available_cores
from .ray_actor import RayWorker

_ANSWER_S = 0.25
"""Seconds that a worker waits for something to say before it answers."""
_AGAIN_S = 1.0
"""Seconds until a worker that cannot be reached is asked again."""
_STARTS = 3
"""So many times a cluster is started here, if it does not come up."""
_END_S = 3.0
"""Seconds that Ray gets to end in order."""
_STORE_BYTES = 80_000_000
"""Of Ray's own store, in which nothing is put: nearly the least that Ray takes."""


@dataclass
class _Worker:
    """A worker as this process sees it.

    Attributes:
        actor: Ray's handle.
        unsent: messages that the worker has not confirmed.
        first: the number of the first of them.
        heard: how many of its messages were heard.
        node: the id of its node, once it is there.
        again: when to ask it next, where it could not be reached.
    """

    actor: Any
    unsent: list[dict[str, Any]] = field(default_factory=list)
    first: int = 0
    heard: int = 0
    node: str = ""
    again: float = 0.0


class _Driver:
    """Carries messages between the workers and whoever started this process."""

    def __init__(self, ray: Any, replies: TextIO) -> None:
        self._ray, self._replies = ray, replies
        self._workers: dict[int, _Worker] = {}
        self._calls: dict[Any, int] = {}  # the worker of each call that is not answered

    def say(self, event: str, **content: Any) -> None:
        """Tell whoever started this process."""
        try:
            self._replies.write(json.dumps({"event": event, **content}) + "\n")
            self._replies.flush()
        except OSError:
            os._exit(1)

    def obey(self, order: Mapping[str, Any]) -> None:
        """Do what it says."""
        number = order["worker"]
        if order["do"] == "start":
            needs = {"num_cpus": order["cores"], "num_gpus": order["gpus"]}
            kind = self._ray.remote(**needs, max_restarts=0, max_task_retries=0)(RayWorker)
            self._workers[number] = _Worker(kind.remote(order["job"]))
            self._call(number)
        elif number in self._workers and order["do"] == "tell":
            self._workers[number].unsent.append(order["message"])
        elif number in self._workers:
            self._ray.kill(self._workers.pop(number).actor)
            self._calls = {call: of for call, of in self._calls.items() if of != number}

    def _call(self, number: int) -> None:
        worker = self._workers[number]
        call = worker.actor.exchange.remote(worker.first, list(worker.unsent), worker.heard, _ANSWER_S)
        self._calls[call] = number

    def listen(self, wait_s: float) -> None:
        """Wait for answers, tell them, and ask again."""
        now = time.monotonic()
        waiting = set(self._calls.values())
        for number, worker in self._workers.items():
            if number not in waiting and worker.again <= now:
                self._call(number)
        if not self._calls:
            time.sleep(wait_s)
            return
        calls = list(self._calls)
        if self._ray.wait(calls, timeout=wait_s)[0]:  # it gives the first one; there may be more
            calls, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        else:
            calls = []
        for call in calls:
            self._answered(self._calls.pop(call), call)

    def _answered(self, number: int, call: Any) -> None:
        worker, trouble = self._workers[number], self._ray.exceptions
        try:
            taken, messages, node = self._ray.get(call)
        except trouble.ActorUnavailableError:
            worker.again = time.monotonic() + _AGAIN_S
            return
        except trouble.RayError as error:
            del self._workers[number]
            how, blame = self._how(worker, error)
            self.say("gone", worker=number, how=how, blame=blame)
            return
        if not worker.node:
            worker.node = node
            self.say("alive", worker=number)
        del worker.unsent[: taken - worker.first]
        worker.first, worker.heard = taken, worker.heard + len(messages)
        for message in messages:
            self.say("said", worker=number, message=message)
        self._call(number)

    def _how(self, worker: _Worker, error: Exception) -> tuple[str, bool]:
        """How a worker ended, in words, and whether what it did may be the cause."""
        text = " ".join(str(error).split())
        if worker.node and not any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == worker.node):
            return "was lost with its node", False
        if "node has died" in text or "node was" in text or getattr(error, "preempted", False):
            return "was lost with its node", False
        if "No module named" in text:
            missing = text.partition("No module named ")[2].split()[0].strip("'\".,)")
            return f"does not find the Python package {missing}, which has to be installed on every node", True
        if "memory" in text.partition("exit detail")[0].lower() or "OUT_OF_MEMORY" in text:
            return "was ended for want of memory", True
        if worker.node:
            return "was ended, perhaps for want of memory", True
        return f"could not begin ({text[-200:]})", True

    def end(self) -> None:
        """Kill the workers, and leave the cluster, or end it if it was started here."""
        for worker in self._workers.values():
            self._ray.kill(worker.actor)
        self._ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    # Without its dashboard this server has one part left: that which reports Ray's use. Turned off, it still asks the networks of
    # three clouds whether the machine is theirs.
    ray._private.services.start_api_server = lambda *_, **__: ("", None)
    few = {"num_cpus": available_cores(), "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    for left in reversed(range(_STARTS)):
        try:
            ray.init(address="local", **few, **quiet)
            return
        except Exception:  # Ray gives itself 30 seconds, which are not enough on a very busy machine
            ray.shutdown()
            if not left:
                raise


def _read(words: TextIO, orders: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    try:
        for line in words:
            orders.put(json.loads(line))
    finally:
        orders.put(None)
        threading.Timer(_END_S, os._exit, [1]).start()


def main() -> None:
    """Do what standard input says, until it ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what Ray prints must not come between the messages
    words = open(0, encoding="ascii", closefd=False)  # noqa: SIM115  closing it would wait for its reader
    cluster = json.loads(words.readline() or "null")
    if cluster is None:
        return
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(words, orders), daemon=True).start()
    ray = require("ray", "ray")
    driver = _Driver(ray, replies)
    driver.say("imported")
    try:
        _connect(ray, cluster["address"])
    except Exception as error:
        print(error, file=sys.stderr)
        driver.say("failed", text=" ".join(str(error).split())[-300:])
        os._exit(1)
    there = ray.cluster_resources()
    driver.say("connected", cores=int(there.get("CPU", 0)), gpus=int(there.get("GPU", 0)))
    while True:
        try:
            order = orders.get_nowait()
        except queue.Empty:
            driver.listen(0.1)
            continue
        if order is None:
            break
        driver.obey(order)
    driver.end()
    os._exit(0)


if __name__ == "__main__":
    main()
