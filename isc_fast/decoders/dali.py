"""Decoding with NVIDIA DALI: JPEGs on the GPU (`dali`), or the same graph on the processor (`dali-cpu`, for tests).

The host decides which photos go to DALI. Pillow reads the header of every file, as in every decoder, so it alone says what is
an image, how large it is and which way up. DALI gets JPEGs that are grey or YCbCr of 8 bits and have all their segments up to
the end marker. They are reduced to what describes pixels (`plain_jpeg`), and the orientation that Pillow found is their only
EXIF. Pillow decodes everything else: other formats, CMYK, unusual coding, truncated and very large files, and the few files
that DALI then refuses. One such file costs DALI its whole batch and its pipeline. The pipeline is made anew and the photos of
the batch are decoded one by one, so that the pixels of an image never depend on its neighbours.

The pixels differ from Pillow's; bench/decode.py measures by how much. The resize differs by one grey level, since Pillow rounds
between its two passes. Where a photo shrinks, its outermost rows and columns differ by up to 20: there DALI repeats the photo's
last row, and Pillow leaves out what is not there. On the GPU the inverse transform and the upsampling of colours differ too.
Neither DALI nor Pillow notices a JPEG that is damaged inside its coded data: libjpeg makes something of it, and the GPU may make
something else.

Two pipelines take turns, each with a thread that waits for it, so that one decodes while the other's result is fetched. The
tests run the same code with DALI's processor pipeline.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import cast

import numpy as np

from ..errors import InputError, MissingExtraError, require
from ..items import Photo, Pixels, Problem
from .base import Batch, DeviceBatch
from .dali_pipeline import RUN_IMAGES, Pipeline, rows_of
from .limits import jpeg_bytes
from .opening import ImageProblem, is_jpeg, open_image, open_photo, orientation, problems
from .plain_jpeg import plain_jpeg
from .preprocessing import FIRST_NAME, Preprocessing
from .rules import prepare
from .threads import count_workers

PIPELINES = 2
"""The number of DALI pipelines, and so of the batches that DALI works on at once."""

LARGEST_PIXELS = 1 << 26
"""Pillow decodes photos above 67 megapixels, 201 MB decoded: DALI's pools would keep that memory for the rest of the run."""

RUN_PIXELS = 1 << 28
"""Pixels that one run of a pipeline decodes at most, 805 MB. DALI's pools never shrink by themselves, so this bounds them."""


@dataclass(frozen=True)
class _Jpeg:
    """A photo for DALI: as it was given, its plain content, and the number of its pixels at full size."""

    photo: Photo
    content: bytes
    pixels: int


_Screened = _Jpeg | Problem | None
"""A photo for DALI, or what became of one that is not: a problem, or None, since Pillow has filled the slot."""


def _screen(photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> _Screened:
    """Read a photo. Where DALI cannot take it, decode it into its slot."""
    if not DaliCpuDecoder.can(preprocessing):
        return _by_pillow(photo, preprocessing, slot)
    try:
        with problems(), open_photo(photo) as stream:
            header = open_image(stream)
            width, height = header.size
            if is_jpeg(header) and header.mode in ("L", "RGB") and width * height <= LARGEST_PIXELS:
                turn = orientation(header)
                stream.seek(0)
                content = plain_jpeg(stream.read(jpeg_bytes(header.size)), header.size, turn)
                if content is not None:
                    return _Jpeg(photo, content, width * height)
    except ImageProblem as error:
        return error.problem
    return _by_pillow(photo, preprocessing, slot)


def _by_pillow(photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> Problem | None:
    try:
        slot[:] = prepare(photo, preprocessing)
    except ImageProblem as error:
        return error.problem
    return None


class DaliCpuDecoder:
    """Runs DALI's graph on the processor, slower than the other decoders, to test and to compare. See the module's text.

    Args:
        workers: threads that read files, and threads of DALI; by default one for each core of this process.
        pipelines: batches that DALI works on at once.
        run_pixels: pixels decoded in one run at most; batches with more are split.

    Raises:
        InputError: there is no thread or pipeline, or the program accepts truncated photos.
        MissingExtraError: DALI is not installed.
    """

    name = "dali-cpu"
    _extra = "dali"
    _device: int | None = None
    _load = 0.0

    def __init__(self, workers: int | None = None, *, pipelines: int = PIPELINES, run_pixels: int = RUN_PIXELS) -> None:
        for what, number in (("pipelines", pipelines), ("pixels in one run", run_pixels)):
            if number < 1:
                raise InputError(f"{what} must be at least 1, not {number}")
        self.workers = count_workers(workers)
        self.run_pixels = run_pixels
        self._pipelines = pipelines
        self._dali = self._library()
        self._alone: tuple[tuple[int, int], Pipeline] | None = None

    @classmethod
    def check(cls) -> None:
        """See `isc_fast.decoders.threads.ThreadedDecoder.check`."""
        cls._library()

    @classmethod
    def _library(cls) -> ModuleType:
        try:
            dali = require("nvidia.dali", cls._extra)
            for part in ("fn", "types", "backend"):
                require(f"nvidia.dali.{part}", cls._extra)
        except MissingExtraError as error:
            if isinstance(error.__cause__, ModuleNotFoundError):
                raise MissingExtraError(
                    f"the decoder {cls.name} needs NVIDIA DALI, which is not installed; "
                    f"run: pip install 'isc-fast[{cls._extra}]'"
                ) from error
            raise
        return dali

    def _pipeline(self, height: int, width: int) -> Pipeline:
        threads = max(1, self.workers // self._pipelines)
        return Pipeline(self._dali, self._device, threads, (height, width), self._load)

    @classmethod
    def can(cls, preprocessing: Preprocessing) -> bool:
        """See `isc_fast.decoders.base.Decoder`. Views are cut out of photos by Pillow."""
        return preprocessing.name == FIRST_NAME and preprocessing.only_whole

    def batches(self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing) -> Generator[Batch, None, None]:
        """See `isc_fast.decoders.base.Decoder`. Holds a few batches in memory, however long ``jobs`` is."""
        return cast("Generator[Batch, None, None]", self._batches(jobs, preprocessing, stay=False))

    def decode_into(self, photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> None:
        """Fill a slot ``uint8 (height, width, 3)`` with one photo. This is for measuring; `batches` is the faster way.

        Raises:
            ImageProblem: it cannot be read or decoded.
        """
        size = preprocessing.height, preprocessing.width
        if self._alone is None or self._alone[0] != size:
            self._alone = size, self._pipeline(*size)
        screened = _screen(photo, preprocessing, slot)
        if isinstance(screened, _Jpeg):
            screened = self._decode([screened], preprocessing, slot[None], self._alone[1])[0]
        if isinstance(screened, Problem):
            raise ImageProblem(screened.stage, screened.reason)

    def _batches(
        self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing, *, stay: bool
    ) -> Generator[Batch | DeviceBatch, None, None]:
        height, width = preprocessing.height, preprocessing.width
        waiting: deque[tuple[int, Future[Batch | DeviceBatch]]] = deque()
        todo = iter(jobs)
        idle: queue.SimpleQueue[Pipeline] = queue.SimpleQueue()
        for _ in range(self._pipelines):
            idle.put(self._pipeline(height, width))
        readers = ThreadPoolExecutor(self.workers, thread_name_prefix="decode-read")
        runners = ThreadPoolExecutor(self._pipelines, thread_name_prefix="decode-dali")
        in_flight = 0
        try:
            while True:
                # A batch ahead for each pipeline, and enough images ahead that every reader has something to do.
                while len(waiting) <= self._pipelines or max(in_flight, len(waiting)) < 2 * self.workers:
                    job = next(todo, None)
                    if job is None:
                        break
                    # It takes no memory until it is written.
                    pixels = np.zeros((len(job), *preprocessing.slot), np.uint8)
                    screened = [readers.submit(_screen, photo, preprocessing, pixels[i]) for i, photo in enumerate(job)]
                    finish = partial(self._finish, screened, preprocessing, pixels, idle, stay=stay)
                    waiting.append((len(job), runners.submit(finish)))
                    in_flight += len(job)
                if not waiting:
                    return
                count, made = waiting.popleft()
                result = made.result()
                in_flight -= count
                yield result
                del made, result  # a batch on the GPU is its memory
        finally:
            # A runner waits for readers, and it ends when they are cancelled.
            runners.shutdown(wait=False, cancel_futures=True)
            readers.shutdown(wait=True, cancel_futures=True)
            runners.shutdown(wait=True)
            waiting.clear()
            while not idle.empty():
                idle.get()
            self._dali.backend.ReleaseUnusedMemory()  # a second extraction, or the engine, may want it

    def _finish(
        self,
        screened: Sequence[Future[_Screened]],
        preprocessing: Preprocessing,
        pixels: Pixels,
        idle: queue.SimpleQueue[Pipeline],
        *,
        stay: bool,
    ) -> Batch | DeviceBatch:
        """Let DALI decode what was screened for it."""
        found = [future.result() for future in screened]
        pipeline = idle.get()
        try:
            if stay and found and all(isinstance(one, _Jpeg) for one in found):
                jpegs = [one for one in found if isinstance(one, _Jpeg)]
                if len(list(self._runs(jpegs))) == 1:
                    made = pipeline.run([jpeg.content for jpeg in jpegs])
                    if made is not None:
                        tensor = made.as_tensor()
                        return DeviceBatch(int(tensor.data_ptr()), [None] * len(jpegs), (made, tensor), pipeline.flat)
            outcome = self._decode(found, preprocessing, pixels, pipeline)
            return Batch(pixels.reshape(-1, preprocessing.height, preprocessing.width, 3), outcome)
        finally:
            idle.put(pipeline)

    def _runs(self, jpegs: Sequence[_Jpeg]) -> Iterator[range]:
        """Cut photos into runs that are not too large; each run has at least one."""
        start = pixels = 0
        for i, jpeg in enumerate(jpegs):
            if i > start and (i - start == RUN_IMAGES or pixels + jpeg.pixels > self.run_pixels):
                yield range(start, i)
                start, pixels = i, 0
            pixels += jpeg.pixels
        if start < len(jpegs):
            yield range(start, len(jpegs))

    def _decode(
        self, found: Sequence[_Screened], preprocessing: Preprocessing, pixels: Pixels, pipeline: Pipeline
    ) -> list[Problem | None]:
        """Fill the slots of DALI's photos and return the problems of all slots."""
        slots = [i for i, one in enumerate(found) if isinstance(one, _Jpeg)]
        jpegs = [one for one in found if isinstance(one, _Jpeg)]
        outcome = [one if isinstance(one, Problem) else None for one in found]
        for run in self._runs(jpegs):
            made = pipeline.run([jpegs[k].content for k in run])
            if made is not None:
                pixels[[slots[k] for k in run]] = rows_of(made)
                continue
            refused = 0
            for k in run:
                made = pipeline.run([jpegs[k].content])
                if made is not None:
                    pixels[slots[k]] = rows_of(made)[0]
                else:
                    refused += 1
                    pipeline.check()
                    outcome[slots[k]] = _by_pillow(jpegs[k].photo, preprocessing, pixels[slots[k]])
            if not refused and len(run) > 1:  # so they needed too much together, most likely memory
                self.run_pixels = min(self.run_pixels, sum(jpegs[k].pixels for k in run) // 2)
        return outcome


class DaliDecoder(DaliCpuDecoder):
    """Decodes and resizes on an NVIDIA GPU. See the module's text.

    Args:
        workers, pipelines, run_pixels: see `DaliCpuDecoder`.
        index: number of the GPU among those that this process sees.
        hw_decoder_load: share of a batch, 0 to 1, that goes to the JPEG engines that some GPUs have beside their cores. Values
            other than 0 are for measuring: which photos go there then depends on their neighbours, and so may their pixels.

    Raises:
        InputError: as above, or there is no such GPU.
        MissingExtraError: DALI is not installed.
    """

    name = "dali"
    _extra = "gpu"

    def __init__(
        self,
        workers: int | None = None,
        *,
        index: int = 0,
        hw_decoder_load: float = 0.0,
        pipelines: int = PIPELINES,
        run_pixels: int = RUN_PIXELS,
    ) -> None:
        super().__init__(workers, pipelines=pipelines, run_pixels=run_pixels)
        if not 0 <= hw_decoder_load <= 1:
            raise InputError(f"hw_decoder_load is a share, 0 to 1, not {hw_decoder_load}")
        self.check(index)
        self._device, self._load = index, hw_decoder_load

    @classmethod
    def check(cls, index: int = 0) -> None:
        """See `isc_fast.decoders.threads.ThreadedDecoder.check`.

        Raises:
            InputError: this process does not see that GPU.
        """
        found = int(cls._library().backend.GetCUDADeviceCount())
        if not 0 <= index < found:
            raise InputError(
                "the decoder dali needs an NVIDIA GPU, and this process sees none; use the decoder turbo or pillow"
                if not found
                else f"there is no GPU {index}: this process sees {found}, counted from 0"
            )

    def device_batches(
        self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing
    ) -> Generator[Batch | DeviceBatch, None, None]:
        """As `batches`, but a batch that DALI decoded in one run stays on the GPU. The pixels are the same."""
        return self._batches(jobs, preprocessing, stay=True)
