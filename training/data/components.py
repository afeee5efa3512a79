"""Things that belong together because a chain of pairs connects them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Components:
    """Numbers from 0 on, each alone until it is joined; a component goes by its smallest number."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, number: int) -> int:
        """The smallest number of a component."""
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make one component of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def roots(self) -> npt.NDArray[np.int64]:
        """Of each number its component, ``int64 (n,)``."""
        return np.array([self.root(number) for number in range(len(self._parent))], np.int64)
