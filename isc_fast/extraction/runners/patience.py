"""How long a worker may be without progress."""

from __future__ import annotations

import statistics
from collections import deque

from .cluster import SHARDS

_KEPT = 101


class Patience:
    """The limit grows with the time that a shard takes.

    Args:
        least_s: the limit in seconds before there is anything to measure.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._shards_s: deque[float] = deque(maxlen=_KEPT)

    def took(self, seconds: float) -> None:
        """Note how long a shard took."""
        self._shards_s.append(seconds)

    @property
    def limit_s(self) -> float:
        """Seconds."""
        return max(self._least_s, SHARDS * statistics.median(self._shards_s) if self._shards_s else 0.0)
