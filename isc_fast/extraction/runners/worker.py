"""A worker: one of several processes that compute shards beside each other, each on a device of its own.

`isc_fast.extraction.runners.launch` starts it as ``python -m isc_fast.extraction.runners.worker``. It reads lines of
JSON on standard input and answers on what was standard output. The first line is its job. Then it asks for one shard
after the other and reports what it did. It ends when its input ends, which also happens when the process that started
it is killed.

A job names the engine and how to load it. A job without an output asks only for the facts about the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ...decoders.base import make_decoder
from ...decoders.contents import digests_of
from ...decoders.opening import quiet_pillow
from ...engines.base import Engine, gpu_of, load_engine
from ...errors import EngineError, IscFastError
from ...items import Failure, Item
from ...machine.cores import Part, available_cores
from ...sources.listing import open_item
from ..compute import Equipment, Vectors, compute_shards
from ..parts import PartsFolder
from ..plan import Shard
from .account import Report
from .base import Facts


class _Channel:
    """The line to the process that started this worker."""

    def __init__(self, replies: TextIO, words: TextIO) -> None:
        self._replies = replies
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(words,), daemon=True).start()

    def _listen(self, words: TextIO) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in words:
                self._heard.put(json.loads(line))
        # Nobody listens any more. Ending at once frees this worker's GPU memory and its hold on the output's lock.
        os._exit(1)

    def hear(self) -> dict[str, Any]:
        """Wait for the next message."""
        return self._heard.get()

    def say(self, kind: str, **content: Any) -> None:
        """Send a message."""
        try:
            self._replies.write(json.dumps({"kind": kind, **content}) + "\n")
            self._replies.flush()
        except OSError:
            os._exit(1)  # as above

    def ask(self, *, wait: bool) -> Shard | None:
        """Ask for the next shard to compute.

        Args:
            wait: wait until there is a shard, or until there will be none; then None is final. Otherwise None means that
                there is no shard for this worker now.
        """
        self.say("ask", wait=wait)
        answer = self.hear()
        if answer["shard"] is None:
            return None
        return Shard(answer["shard"], [Item(id_, path) for id_, path in answer["items"]])

    def shards(self) -> Iterator[Shard]:
        """Yield shards as long as there is one at once."""
        while (shard := self.ask(wait=False)) is not None:
            yield shard


class _Sink:
    """Stores parts and reports what was done; see `isc_fast.extraction.compute.Sink`."""

    def __init__(self, channel: _Channel, parts: PartsFolder, plan_id: str) -> None:
        self._channel, self._parts, self._plan_id = channel, parts, plan_id
        self._stored: set[int] = set()

    def store(self, shard: Shard, vectors: Vectors, ledger: Sequence[Failure]) -> None:
        self._parts.write_part(self._plan_id, shard, vectors, ledger)
        self._stored.add(shard.index)

    def count(self, shard: Shard, images: int, failed: int) -> None:
        report = Report(shard.index, images, failed, stored=shard.index in self._stored)
        self._channel.say("report", report=asdict(report))


def _extract(channel: _Channel, job: dict[str, Any], engine: Engine, part: Part) -> None:
    """Compute shards until there are none left, and none can come back from a worker that died."""
    if engine.id != job["engine_id"]:
        raise EngineError(f"{engine.path} was changed while it was loaded; run the same command again")
    threads = part.share(job["decode_threads"] or available_cores())
    decoder = make_decoder(job["decoder"], threads, gpu=gpu_of(engine), isolated=job["isolated"])
    digesting = partial(digests_of, photo_of=open_item) if job["checksum"] else None
    equipment = Equipment(engine, decoder, job["batch_size"], digesting=digesting)
    sink = _Sink(channel, PartsFolder(Path(job["output"])), job["plan_id"])
    while (shard := channel.ask(wait=True)) is not None:
        compute_shards(chain([shard], channel.shards()), equipment, sink)


def _work(channel: _Channel) -> None:
    job = channel.hear()
    part = Part(*job["part"])
    try:
        engine = load_engine(job["engine"], device=job["device"], part=part, **job["options"])
        if "output" in job:
            _extract(channel, job, engine, part)
        else:
            channel.say("facts", **{**vars(Facts.of(engine)), "spec": engine.spec.to_json()})
    except IscFastError as error:
        channel.say("error", type=type(error).__name__, text=str(error))


def main() -> None:
    """Do one job."""
    # What libraries print must not come between the messages.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    quiet_pillow()
    words = open(0, encoding="ascii", closefd=False)  # noqa: SIM115  closing it would wait for its reader
    status = 0
    try:
        _work(_Channel(replies, words))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    # All results are on the disk. What libraries do at the end of an interpreter could only fail, or take time; and after an
    # error it would wait for ever for the thread that reads standard input.
    os._exit(status)


if __name__ == "__main__":
    main()
