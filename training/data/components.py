"""Connected components: groups of things that chains of pairs connect."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Components:
    """The numbers from 0 to ``count - 1``, each in a component of its own until `join` connects it with another one.

    The smallest number of a component, its root, names the component.
    """

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, number: int) -> int:
        """Return the smallest number in the component of this number."""
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Connect the components of two numbers."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def roots(self) -> npt.NDArray[np.int64]:
        """Return the root of each number, ``int64 (n,)``."""
        return np.array([self.root(number) for number in range(len(self._parent))], np.int64)
