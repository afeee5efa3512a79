"""Decoders turn image files into batches of network input; every decoder keeps the same contract."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Problem:
    """Why an image could not become network input: the stage (``"read"``, ``"decode"``) and one line of reason."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """One batch of network input.

    Attributes:
        pixels: ``uint8 (n, height, width, 3)`` RGB; the slot of an image that failed is zero.
        problems: for each slot what went wrong, or None.
    """

    pixels: npt.NDArray[np.uint8]
    problems: Sequence[Problem | None]


class Decoder(Protocol):
    """Turns lists of paths into batches, in order, decoding ahead of the consumer.

    The pixels of an image may not depend on its neighbours, on the batch it is in or on how many workers there are. A
    file that cannot be decoded is a `Problem` in its slot, never an exception.
    """

    name: str
    """Stands in the plan: two decoders of one name give the same pixels."""

    def batches(self, jobs: Iterable[Sequence[str]], height: int, width: int) -> Generator[Batch, None, None]:
        """Yield one `Batch` for each list of paths."""
        ...
