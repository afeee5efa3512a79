"""The loop of every decoder that takes one photo after the other: threads decode ahead of the consumer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import ImageFile

from ..errors import InputError
from ..items import Photo, Pixels, Problem
from ..machine.cores import available_cores, wrong_count
from .base import Batch
from .opening import ImageProblem
from .preprocessing import Preprocessing
from .rules import prepare

PATIENCE_S = 2.0
"""Seconds that photos which are being decoded get to end, when nobody wants them any more."""

THREADS = "decode"
"""What the names of the threads begin with."""


def count_workers(workers: int | None) -> int:
    """How many threads decode: the given number, or one for each core of this process.

    Raises:
        InputError: it is below 1 or beyond what the machine can use, or the program accepts truncated photos.
    """
    wrong = wrong_count(workers)
    if wrong:
        raise InputError(f"workers {wrong}")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "this program has set PIL.ImageFile.LOAD_TRUNCATED_IMAGES, with which half a photo is described as if it "
            "were whole; set it to False before calling isc-fast"
        )
    return workers or available_cores()


class ThreadedDecoder:
    """Decodes photo after photo in threads, by the contract. Subclasses do it faster for what they can.

    What a subclass calls for a photo has to release the interpreter.

    Args:
        workers: threads that decode; by default one for each core of this process.

    Raises:
        InputError: there is no thread, or the program accepts truncated photos.
    """

    name: str

    def __init__(self, workers: int | None = None) -> None:
        self.workers = count_workers(workers)

    @classmethod
    def check(cls) -> None:
        """Refuse to work where something is missing, without making a decoder.

        Raises:
            MissingExtraError: what the decoder needs is not installed.
        """

    @classmethod
    def can(cls, preprocessing: Preprocessing) -> bool:
        """See `isc_fast.decoders.base.Decoder`."""
        return True

    def decode_into(self, photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> None:
        """Fill a slot, ``uint8`` of the shape `Preprocessing.slot`, with a photo, prepared as the preprocessing says.

        Raises:
            ImageProblem: it cannot be read or decoded; the slot is as it was.
        """
        slot[:] = prepare(photo, preprocessing)

    def batches(self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing) -> Generator[Batch, None, None]:
        """See `isc_fast.decoders.base.Decoder`. Holds a few batches in memory, however long ``jobs`` is."""
        waiting: deque[tuple[Pixels, list[Future[Problem | None]]]] = deque()
        todo = iter(jobs)
        # The threads and not the futures: an interrupt may come while a batch is being handed over.
        threads: list[threading.Thread] = []
        pool = ThreadPoolExecutor(
            self.workers,
            thread_name_prefix=THREADS,
            initializer=lambda: threads.append(threading.current_thread()),
        )
        in_flight = 0
        try:
            while True:
                # One batch ahead at least, and enough images ahead that every thread has something to do.
                while len(waiting) < 2 or max(in_flight, len(waiting)) < 2 * self.workers:
                    job = next(todo, None)
                    if job is None:
                        break
                    pixels = np.zeros((len(job), *preprocessing.slot), np.uint8)
                    futures = [
                        pool.submit(self._attempt, photo, preprocessing, pixels[i]) for i, photo in enumerate(job)
                    ]
                    waiting.append((pixels, futures))
                    in_flight += len(job)
                if not waiting:
                    return
                pixels, futures = waiting[0]
                problems = [future.result() for future in futures]
                waiting.popleft()
                in_flight -= len(futures)
                yield Batch(pixels.reshape(-1, preprocessing.height, preprocessing.width, 3), problems)
        finally:
            # A library that hangs must not keep an interrupted run: after this, only the end of the process waits for it.
            pool.shutdown(wait=False, cancel_futures=True)
            until = time.monotonic() + PATIENCE_S
            for thread in list(threads):
                thread.join(max(0.0, until - time.monotonic()))
            if not any(thread.is_alive() for thread in threads):
                pool.shutdown(wait=True)

    def _attempt(self, photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> Problem | None:
        try:
            self.decode_into(photo, preprocessing, slot)
        except ImageProblem as error:
            slot[:] = 0  # some views may be there
            return error.problem
        return None
