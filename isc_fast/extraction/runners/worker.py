"""A worker: one of several processes that compute shards beside each other, each on a device of its own.

`isc_fast.extraction.runners.launch` starts it as ``python -m isc_fast.extraction.runners.worker``. It reads lines of
JSON on standard input and answers on what was standard output. The first line is its job. Then it asks for one shard
after the other and reports what it did. It ends when its input ends, which also happens when the process that started
it is killed.

A job names a tool and how to load it; see `isc_fast.extraction.runners.assignment`. A job without a beginning asks only for the
facts about the tool.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict
from typing import Any, TextIO

from ...errors import IscFastError
from ...machine.cores import Part
from .account import Report
from .assignment import load_tool


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

    def ask(self, *, wait: bool) -> dict[str, Any] | None:
        """See `isc_fast.extraction.runners.assignment.Channel`."""
        self.say("ask", wait=wait)
        answer = self.hear()
        return None if answer["shard"] is None else answer

    def report(self, report: Report) -> None:
        """See `isc_fast.extraction.runners.assignment.Channel`."""
        self.say("report", report=asdict(report))


def _work(channel: _Channel) -> None:
    job = channel.hear()
    try:
        tool = load_tool(job, Part(*job["part"]))
        if "begin" in job:
            tool.compute(channel, job["begin"])
        else:
            channel.say("facts", **tool.facts)
    except IscFastError as error:
        channel.say("error", type=type(error).__name__, text=str(error))


def main() -> None:
    """Do one job."""
    # What libraries print must not come between the messages.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
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
