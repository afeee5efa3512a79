"""Functions that the tests of several decoders share."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from isc_fast.decoders.base import Decoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.items import Problem


def mutations(data: bytes, count: int) -> Iterator[bytes]:
    """Yield ``2 · count`` damaged forms of a file: half of them are cut short, half have one to four changed bytes."""
    source = random.Random(len(data))
    for _ in range(count):
        yield data[: source.randrange(len(data))]
        damaged = bytearray(data)
        for _ in range(source.randint(1, 4)):
            damaged[source.randrange(len(data))] = source.randrange(256)
        yield bytes(damaged)


THREADED = ("pillow", "turbo", "turbo-scaled")


def outcome(decoder: Decoder, path: str | os.PathLike[str], height: int, width: int) -> npt.NDArray[np.uint8] | Problem:
    """Decode one file; return its pixels, or the problem that the decoder found."""
    (batch,) = decoder.batches([[os.fspath(path)]], Preprocessing(height, width))
    return batch.problems[0] or batch.pixels[0]


def batched(paths: Sequence[str], size: int) -> list[Sequence[str]]:
    return [paths[start : start + size] for start in range(0, len(paths), size)]


def decoding_threads() -> list[str]:
    """Return the names of the decoders' threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]
