"""What a photo's bytes are: what tells a photo from another one where size and time do not."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16
"""Of each photo's SHA-256, so many bytes from its beginning are kept: ``sha256sum`` prints them as its first 32 digits."""

Digests: TypeAlias = npt.NDArray[np.uint8]
"""Digests ``uint8 (n, 16)``. A row of zeros is unknown: nobody has read the photo."""


def unknown_digests(count: int) -> Digests:
    """The digests of photos that nobody has read: ``uint8 (count, 16)``, not to be written to."""
    return np.broadcast_to(np.zeros(DIGEST_BYTES, np.uint8), (count, DIGEST_BYTES))


def known(digests: Digests) -> npt.NDArray[np.bool_]:
    """Which digests are known: ``bool (n,)``."""
    return np.asarray(digests.any(axis=1))


def same_content(digests: Digests, others: Digests) -> npt.NDArray[np.bool_]:
    """Which photos have the bytes they had: ``bool (n,)``. Of an unknown digest nobody knows, so such a photo has not."""
    return np.asarray((digests == others).all(axis=1) & known(digests))


def all_digests(table: Any, count: int) -> Digests:
    """The digests of a set as an array ``(count, 16)``; unknown ones where the set has none."""
    return unknown_digests(count) if table is None else np.asarray(table[:], np.uint8)
