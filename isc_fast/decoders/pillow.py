"""Decoding on the processor with Pillow, which releases the interpreter while it decodes and resizes."""

from __future__ import annotations

from .threads import ThreadedDecoder


class CpuDecoder(ThreadedDecoder):
    """The decoder of the contract itself: what `ThreadedDecoder` does where no subclass does it faster."""

    name = "pillow"
