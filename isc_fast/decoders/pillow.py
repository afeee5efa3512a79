"""Decoding on the processor with Pillow, which releases the interpreter while it decodes and resizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .rules import load_input
from .threads import ThreadedDecoder


class CpuDecoder(ThreadedDecoder):
    """The decoder of the contract itself."""

    name = "pillow"

    def decode_into(self, path: str, slot: npt.NDArray[np.uint8]) -> None:
        """See `isc_fast.decoders.threads.ThreadedDecoder.decode_into`."""
        slot[:] = load_input(path, *slot.shape[:2])
