"""An engine and a decoder that cost nothing, for benchmarks of everything around them, whose memory does not depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isc_fast.decoders.base import Batch
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.engines.spec import EngineSpec
from isc_fast.items import Problem


class Network:
    """An engine whose descriptors all have the same numbers."""

    id, path, device, default_batch_size = "e" * 64, Path("none"), "none", 64

    def __init__(self, dim: int) -> None:
        self.spec = EngineSpec(name="none", arch="none", height=8, width=8, dim=dim, gem_p=1.0)

    def run(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.full((len(pixels), self.spec.dim), self.spec.dim**-0.5, np.float32)


class Dark:
    """A decoder that opens no file.

    Args:
        failing, blank: every so many photos, one cannot be decoded, or is of one single colour, and is noted; 0 for none.
    """

    name = "none"

    def __init__(self, failing: int = 0, blank: int = 0) -> None:
        self._failing, self._blank, self._done = failing, blank, 0

    def batches(self, jobs: Any, preprocessing: Preprocessing) -> Iterator[Batch]:
        for job in jobs:
            numbers = np.arange(self._done, self._done + len(job)) + 1
            self._done += len(job)
            pixels = np.zeros((len(job), preprocessing.height, preprocessing.width, 3), np.uint8)
            pixels[:, 0, 0] = 1
            if self._blank:
                pixels[numbers % self._blank == 0] = 0
            bad = numbers % self._failing == 0 if self._failing else numbers < 0
            yield Batch(pixels, [Problem("decode", "the stand-in fails here") if one else None for one in bad])


def decode_with(decoder: Dark) -> None:
    """Let every extraction of this process decode with the stand-in."""
    import isc_fast.extraction.runners.here

    isc_fast.extraction.runners.here.make_decoder = lambda *_, **__: decoder  # type: ignore[assignment,return-value]


def name_of(row: int) -> str:
    """Return a path for the image of a row. Each row has another path."""
    return f"photos/{row % 1000:04d}/{row:012d}.jpg"


def write_list(path: Path, count: int) -> None:
    """Write a list file of so many images."""
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(name_of(row) + "\n" for row in range(count))
