"""One process of `isc_fast.decoders.isolated`: ``python -m isc_fast.decoders.isolated_child DECODER``.

It reads jobs from standard input, each a line of JSON and the photo's bytes where it is no path. It answers on what was
standard output: a line that asks for room in memory, where it waits for an empty line; then a line with the problem or null, and
the pixels.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from . import limits
from .base import make_decoder
from .opening import ImageProblem, quiet_pillow
from .preprocessing import Preprocessing
from .threads import ThreadedDecoder

MEMORY_BYTES = 4 << 30
"""Address space of the process: what one photo may take at the worst is less than half of it."""


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if most < 0 else min(MEMORY_BYTES, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def work(decoder: ThreadedDecoder, jobs: BinaryIO, answers: BinaryIO) -> None:
    """Decode until the input ends."""

    def say(**content: object) -> None:
        answers.write(json.dumps(content).encode("ascii") + b"\n")
        answers.flush()

    @contextlib.contextmanager
    def asked(size: int) -> Iterator[None]:
        say(room=size)
        jobs.readline()
        yield

    limits.ROOM.outer = asked
    for line in jobs:
        job = json.loads(line)
        content = jobs.read(job["bytes"])
        plain = Preprocessing.named(job["preprocessing"], job["height"], job["width"])
        preprocessing = replace(plain, views=tuple(job["views"]))
        slot = np.zeros(preprocessing.slot, np.uint8)
        photo = content if job["path"] is None else job["path"]
        try:
            decoder.decode_into(photo, preprocessing, slot)
        except ImageProblem as error:
            say(problem=[error.problem.stage, error.problem.reason])
            continue
        say(problem=None)
        answers.write(slot.reshape(-1).data)
        answers.flush()


def main(name: str) -> None:
    """Do the work with the decoder of that name."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    quiet_pillow()
    decoder = make_decoder(name, 1)
    _limit_memory()
    with contextlib.suppress(BrokenPipeError):
        work(decoder, sys.stdin.buffer, answers)  # type: ignore[arg-type]
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
