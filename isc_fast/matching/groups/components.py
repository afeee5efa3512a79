"""Groups of photos that hang together by their pairs, for people to look at; what goes is decided by `leaders`.

Groups grow by chains: a matches b, b matches c, and so on to photos that have nothing in common. The larger a collection, the
longer the chains. So each group says how strong its weakest link is, and `find_chain` says where the largest group falls apart.

Only the strongest links that hold a group together are kept, at most one fewer than there are photos. They are found block by
block of pairs: the strongest links of some pairs and of the links so far are those of all pairs so far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..searchers.arrays import Floats, Ints, Pairs, join
from ..searchers.best import rising

_AT_ONCE = 1 << 22  # pairs that are gone through at a time
_LEVELS = (1 / 16, 1 / 8, 1 / 4)  # of the way from the threshold to 1
_LARGE = 50  # photos of a group that may be a chain, or a crowd
_EQUAL = 0.99  # of photos that people call equal


@dataclass(frozen=True)
class Components:
    """The groups of a collection.

    Attributes:
        label: for each row, the lowest row number of its group, itself if it is alone ``(n,)``.
        links: the strongest pairs that hold the groups together.
    """

    label: Ints
    links: Pairs

    def sizes(self) -> Ints:
        """Rows of the group of each label, 0 where there is none ``(n,)``."""
        return np.bincount(self.label, minlength=len(self.label))

    def weakest(self) -> Floats:
        """The score of the weakest link of the group of each label: at a threshold above it, the group falls apart ``(n,)``.

        It is infinite for a row that is alone.
        """
        weakest = np.full(len(self.label), np.inf, np.float32)
        np.minimum.at(weakest, self.label[self.links[0]], self.links[2])
        return weakest


@dataclass(frozen=True)
class Chain:
    """A group that hangs together by weak links only.

    Attributes:
        size: photos of the largest group.
        threshold: a higher threshold, at which the largest group has less than half as many.
        left: photos of the largest group there.
    """

    size: int
    threshold: float
    left: int


def find_components(pairs: Iterable[Pairs], count: int) -> Components:
    """The groups of ``count`` rows that pairs connect, directly or through others."""
    empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    held, waiting, waits = empty, [empty], 0
    label = np.arange(count)
    for block in pairs:
        waiting.append(block)
        waits += len(block[0])
        if waits >= _AT_ONCE:
            held, label = _strongest(join([held, *waiting]), count)
            waiting, waits = [empty], 0
    if waits:
        held, label = _strongest(join([held, *waiting]), count)
    lowest = np.full(count, count)
    np.minimum.at(lowest, label, np.arange(count))
    return Components(lowest[label], held)


def _strongest(pairs: Pairs, count: int) -> tuple[Pairs, Ints]:
    """The strongest pairs that hold rows together (Borůvka's maximum spanning forest), and a label for each row's group.

    In each round every group takes its strongest pair with another one. Pairs are numbered by strength, so no two are equally
    strong and the pairs that are taken close no ring.
    """
    # Score and number in one key sort several times as fast as an order of the scores alone.
    keys = (~rising(pairs[2])).astype(np.uint64) << np.uint64(32) | np.arange(len(pairs[2]), dtype=np.uint64)
    by_strength = (np.sort(keys) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    number, taken = np.arange(len(keys)), np.zeros(len(keys), bool)
    del keys
    label = np.arange(count)
    one, other = pairs[0][by_strength], pairs[1][by_strength]  # the two groups of each pair
    while True:
        apart = one != other
        number, one, other = number[apart], one[apart], other[apart]
        if not len(number):
            break
        best, place = np.full(count, len(number)), np.arange(len(number))
        np.minimum.at(best, one, place)
        np.minimum.at(best, other, place)
        these = np.flatnonzero(best < len(number))
        place = best[these]
        taken[number[place]] = True
        to = one[place] + other[place] - these
        parent = np.arange(count)
        parent[these] = to
        mutual = these[(parent[to] == these) & (these < to)]
        parent[mutual] = mutual
        while (parent[parent] != parent).any():
            parent = parent[parent]
        label, one, other = parent[label], parent[one], parent[other]
    links = by_strength[taken]
    return (pairs[0][links], pairs[1][links], pairs[2][links]), label


def find_chain(components: Components, threshold: float) -> Chain | None:
    """Say where the largest group falls apart, if it is large and does so a little above the threshold."""
    size = int(components.sizes().max(initial=0))
    if size < _LARGE:
        return None
    for share in _LEVELS:
        level = threshold + (1 - threshold) * share
        strong = components.links[2] >= level
        first, second, scores = components.links
        links = first[strong], second[strong], scores[strong]
        left = int(find_components([links], len(components.label)).sizes().max())
        if left < size / 2:
            return Chain(size, level, left)
    return None


def find_crowd(components: Components) -> int | None:
    """The size of the largest group, if it is large and its photos are not simply equal.

    Where `find_chain` finds no weak link in such a group, it is one photo with very many copies, or, more often, photos of one
    kind: tiles of a texture, pictures of the night sky, screens of one program.
    """
    sizes = components.sizes()
    size = int(sizes.max(initial=0))
    if size < _LARGE or components.weakest()[int(sizes.argmax())] >= _EQUAL:
        return None
    return size
