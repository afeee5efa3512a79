"""One of several processes that extract beside each other, each on a device of its own.

It is run as ``python -m isc_fast.extraction.runners.worker``. `isc_fast.extraction.runners.processes` starts it and talks with
it in lines of JSON: a job first, on standard input; then it asks for one shard after the other, and says what it did, on what
was standard output. It ends by itself when its input does, so also when whoever started it was killed.

A job names the engine and how to load it. One without an output is only about the engine: whether it loads, and what it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ...decoders.base import make_decoder
from ...decoders.preprocessing import quiet_pillow
from ...engines.base import DeviceEngine, Engine, gpu_of, load_engine
from ...errors import EngineError, IscFastError
from ...items import Failure, Item
from ...machine.cores import Part, available_cores
from ..compute import Vectors, compute_shards
from ..parts import PartsFolder
from ..plan import Shard


class _Channel:
    """The line to whoever started this process."""

    def __init__(self, replies: TextIO, words: TextIO) -> None:
        self._replies = replies
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(words,), daemon=True).start()

    def _listen(self, words: TextIO) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in words:
                self._heard.put(json.loads(line))
        # Nobody is there any more. What this process holds of the GPU and of the output's lock is free at once.
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
        """The next shard to compute, or None: for now, or, where this waits until there is one, for good."""
        self.say("ask", wait=wait)
        answer = self.hear()
        if answer["shard"] is None:
            return None
        return Shard(answer["shard"], [Item(id_, path) for id_, path in answer["items"]])

    def shards(self) -> Iterator[Shard]:
        """Shards, as long as there are some at once."""
        while (shard := self.ask(wait=False)) is not None:
            yield shard


def _extract(channel: _Channel, job: dict[str, Any], engine: Engine, part: Part) -> None:
    """Compute shards until there are none, and none comes back from another process either."""
    if engine.id != job["engine_id"]:
        raise EngineError(f"{engine.path} was changed while it was loaded; run the same command again")
    workers = part.share(job["workers"] or available_cores())
    decoder = make_decoder(job["decoder"], workers, gpu=gpu_of(engine))
    parts = PartsFolder(Path(job["output"]))
    stored: set[int] = set()

    def store(shard: Shard, vectors: Vectors, failures: Sequence[Failure]) -> None:
        parts.write_part(job["plan_id"], shard, vectors, failures)
        stored.add(shard.index)

    def told(shard: Shard, images: int, failed: int) -> None:
        channel.say("told", shard=shard.index, images=images, failed=failed, stored=shard.index in stored)

    while (shard := channel.ask(wait=True)) is not None:
        compute_shards(chain([shard], channel.shards()), job["batch_size"], engine, decoder, store, told)


def _work(channel: _Channel) -> None:
    job = channel.hear()
    part = Part(*job["part"])
    try:
        engine = load_engine(job["engine"], device=job["device"], part=part, **job["options"])
        if "output" in job:
            _extract(channel, job, engine, part)
        else:
            channel.say(
                "engine",
                id=engine.id,
                spec=engine.spec.to_json(),
                batch_size=engine.default_batch_size,
                takes_pixels_there=isinstance(engine, DeviceEngine),
            )
    except IscFastError as error:
        channel.say("error", type=type(error).__name__, text=str(error))


def main() -> None:
    """Do one job."""
    # What libraries print must not get between the messages.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    quiet_pillow()
    with open(0, encoding="ascii", closefd=False) as words:
        _work(_Channel(replies, words))
        sys.stderr.flush()
        # All results are on the disk. What libraries do when an interpreter ends could only fail, or take its time.
        os._exit(0)


if __name__ == "__main__":
    main()
