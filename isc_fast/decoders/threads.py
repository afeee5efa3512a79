"""One loop for every decoder that takes one file after the other: threads decode ahead of the consumer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import ImageFile

from ..errors import InputError
from ..machine.cores import available_cores
from .base import Batch, Problem
from .rules import ImageProblem


def count_workers(workers: int | None) -> int:
    """How many threads decode: the given number, or one for each core of this process.

    Raises:
        InputError: it is below 1, or the program accepts truncated photos.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "this program has set PIL.ImageFile.LOAD_TRUNCATED_IMAGES, with which half a photo is described as if it "
            "were whole; set it to False before calling isc-fast"
        )
    return workers or available_cores()


class ThreadedDecoder(ABC):
    """Decodes in threads; what it calls for one file has to release the interpreter.

    Args:
        workers: threads that decode; by default one for each core of this process.

    Raises:
        InputError: no worker, or the program accepts truncated photos.
    """

    name: str

    def __init__(self, workers: int | None = None) -> None:
        self.workers = count_workers(workers)

    @classmethod  # noqa: B027 - a decoder that needs nothing refuses nothing
    def check(cls) -> None:
        """Refuse to work where something is missing, without making a decoder.

        Raises:
            MissingExtraError: what the decoder needs is not installed.
        """

    @abstractmethod
    def decode_into(self, path: str, slot: npt.NDArray[np.uint8]) -> None:
        """Fill a slot ``uint8 (height, width, 3)`` with the photo, resized to it, in RGB.

        Raises:
            ImageProblem: it cannot be read or decoded; the slot is as it was.
        """

    def batches(self, jobs: Iterable[Sequence[str]], height: int, width: int) -> Generator[Batch, None, None]:
        """See `isc_fast.decoders.base.Decoder`. Holds a few batches in memory, never more, however long ``jobs`` is."""
        waiting: deque[tuple[npt.NDArray[np.uint8], list[Future[Problem | None]]]] = deque()
        todo = iter(jobs)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        in_flight = 0
        try:
            while True:
                # One batch ahead at least, and enough images ahead that every worker has something to do.
                while len(waiting) < 2 or max(in_flight, len(waiting)) < 2 * self.workers:
                    job = next(todo, None)
                    if job is None:
                        break
                    pixels = np.zeros((len(job), height, width, 3), np.uint8)
                    futures = [pool.submit(self._attempt, path, pixels[i]) for i, path in enumerate(job)]
                    waiting.append((pixels, futures))
                    in_flight += len(job)
                if not waiting:
                    return
                pixels, futures = waiting.popleft()
                problems = [future.result() for future in futures]
                in_flight -= len(futures)
                yield Batch(pixels, problems)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _attempt(self, path: str, slot: npt.NDArray[np.uint8]) -> Problem | None:
        try:
            self.decode_into(path, slot)
        except ImageProblem as error:
            return error.problem
        return None
