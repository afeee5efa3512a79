"""The length of descriptors. Ours have length 1, so that an inner product is a cosine; those of other tools may have any."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .store import Descriptors
from .view_rows import rows_of

TOLERANCE = 0.01
"""How far from 1 a length may be: descriptors that were kept in 16 bits are off by less than 0.001."""


def _lengths(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    return lengths


def check_lengths(descriptors: Descriptors, side: str) -> None:
    """See that foreign descriptors have length 1; ours do, unless they were normalised by scores on purpose.

    Args:
        descriptors: gone through once, block by block.
        side: what they are called, for the message.

    Raises:
        InputError: one has another length.
    """
    if descriptors.provenance.stamped:
        return
    start = 0
    for block in descriptors.blocks():
        lengths = _lengths(block)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= TOLERANCE))
        if len(wrong):
            row = int(wrong[0])
            what = f"the {side} descriptor {descriptors.ids[start + row]!r} has length {lengths[row]:.4g}, not 1"
            if not (np.isfinite(lengths[row]) and lengths[row] > 0):
                raise InputError(f"{what}, and no direction; leave it out: isc-fast remove FILE --ids LIST -o rest.h5")
            raise InputError(
                f"{what}, so inner products are no cosines; make them that long: isc-fast convert FILE --unit-length -o unit.h5 "
                "(in Python isc_fast.to_unit_length); isc-fast search --metric l2 takes any length"
            )
        start += len(block)


def to_unit_length(descriptors: Descriptors) -> Descriptors:
    """The same descriptors, each divided by its length, in memory.

    Raises:
        InputError: one is zero or not finite, and has no direction.
    """
    every = rows_of(descriptors)
    vectors = np.asarray(every.vectors[:], np.float32)
    lengths = _lengths(vectors)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise InputError(
            f"the descriptor {every.ids[int(wrong[0])]!r} has length {lengths[wrong[0]]:.4g}, so it has no direction; "
            "leave it out"
        )
    unit = (vectors / lengths[:, None]).astype(np.float32).reshape(len(descriptors), -1)
    return Descriptors(unit, descriptors.ids, descriptors.meta, descriptors.failures)
