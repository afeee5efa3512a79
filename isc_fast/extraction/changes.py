"""What has changed in a collection since it was described: which photos are as they were, which are new, changed or gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ..descriptors.picking import some_rows
from ..descriptors.store import Descriptors
from ..descriptors.texts import ids_at
from ..errors import FormatError
from ..files.digests import Digests, known, same_content, unknown_digests
from ..files.lazy import BLOCK
from ..items import Ints, Item
from ..sources.stamps import same, stamps_of, unknown
from .plan import Digesting

ANEW = -1
"""The origin of an image that has to be described."""


@dataclass(frozen=True)
class Seen:
    """The files of images as they were found: stamps ``(n, 2)`` and digests ``(n, 16)``; unknown for images that are new."""

    stamps: Ints
    digests: Digests


@dataclass(frozen=True)
class Changes:
    """How the images of a listing relate to a finished set of descriptors.

    Attributes:
        origin: for each image ``(n,)``: the row of the set that is still right; `ANEW` where there is none; −2 − k where
            failure k of the set is still right.
        new, changed, gone: how many images there are of each kind; ``gone`` counts those that only the set has.
        gone_rows: the rows of the set whose image is gone, rising.
        again: how many unchanged images are described again because they failed.
        seen: the files of the images as they are now, where contents were compared; else None.
        touched: how many images are as they were, by their bytes, though size or time of their file is another one.
        refreshed: how many images that are as they were have another stamp now, or a digest that was not known.
    """

    origin: Ints
    new: int
    changed: int
    gone: int
    gone_rows: Ints
    again: int = 0
    seen: Seen | None = None
    touched: int = 0
    refreshed: int = 0

    @property
    def kept(self) -> int:
        """How many images are as they were."""
        return int((self.origin != ANEW).sum())

    @property
    def anew(self) -> Ints:
        """The numbers of the images that have to be described, rising."""
        return np.flatnonzero(self.origin == ANEW)

    def __str__(self) -> str:
        again = f", {self.again} that failed tried again" if self.again else ""
        touched = f" ({self.touched} of them only touched)" if self.touched else ""
        return f"{self.new} new, {self.changed} changed, {self.gone} gone, {self.kept} as they were{touched}{again}"

    def without_failures(self) -> Changes:
        """The same, with every image to be described that failed."""
        failed = self.origin < ANEW
        return replace(self, origin=np.where(failed, ANEW, self.origin), again=int(failed.sum()))


def failure_of(origin: int) -> int:
    """The number of the failure that an origin below `ANEW` stands for."""
    return -2 - origin


def find_changes(items: Sequence[Item], whole: Descriptors, digesting: Digesting | None = None) -> Changes:
    """Compare a listing with a set that was extracted. Beside them, memory holds 17 bytes an image; 49 with digests.

    An image is as it was if the set has its id, and size and time of its file are the same; or if it failed, and there is
    still no file to look at. Its folder may have moved.

    Where digests are compared, they decide in the place of size and time, but of an image of which the set has none.

    Args:
        items: of the listing.
        whole: has stamps.
        digesting: gives digests of images; then every image that the set has is read.

    Raises:
        ValueError: it has none.
    """
    if whole.stamps is None or whole.failure_stamps is None:
        raise ValueError("the set does not say what its photos were")
    rows, ids = len(whole), _Ids(whole)
    met = np.zeros(len(ids), np.bool_)
    origin = np.full(len(items), ANEW, np.int64)
    new = touched = refreshed = 0
    seen = None if digesting is None else Seen(unknown(len(items)).copy(), unknown_digests(len(items)).copy())
    for start, block in _blocks(items):
        here, old = ids.find([item.id for item in block])
        met[old] = True
        new += len(block) - len(here)
        found_items = [block[number] for number in here.tolist()]
        before = _facts(whole.stamps, whole.failure_stamps, old, unknown)
        stamps = stamps_of([item.path for item in found_items])
        right = same(before, stamps)
        if digesting is not None and seen is not None:
            known_digests = _facts(whole.digests, whole.failure_digests, old, unknown_digests)
            digests = digesting(found_items)
            # A photo that was changed while it was read has another stamp by now: then its digest may not be that of its row.
            unread = right & same(stamps, stamps_of([item.path for item in found_items]))
            right = np.where(known(known_digests), same_content(known_digests, digests), unread)
            moved = right & ~(before == stamps).all(axis=1)
            touched += int(moved.sum())
            refreshed += int((moved | (right & ~known(known_digests) & known(digests))).sum())
            seen.stamps[start + here], seen.digests[start + here] = stamps, digests
        # A photo that was not there, and still is not, is no news. One that has a descriptor may be another by now.
        right |= (old >= rows) & (before == stamps).all(axis=1) & (stamps[:, 0] < 0)
        found = old[right]
        origin[start + here[right]] = np.where(found < rows, found, rows + ANEW - 1 - found)
    changed = int(np.count_nonzero(origin == ANEW)) - new
    gone = len(met) - int(np.count_nonzero(met))
    return Changes(
        origin, new, changed, gone, np.flatnonzero(~met[:rows]), seen=seen, touched=touched, refreshed=refreshed
    )


def taken_over(items: Sequence[Item], todo: Sequence[Item], whole: Descriptors) -> Changes:
    """The changes by which some images of a listing are described, and what is known of all others stays. No photo is looked at.

    Args:
        items: of the listing.
        todo: those to describe, in the order of the listing.
        whole: has every other image of the listing.

    Raises:
        FormatError: it lacks one.
    """
    rows, ids = len(whole), _Ids(whole)
    met = np.zeros(len(ids), np.bool_)
    origin = np.full(len(items), ANEW, np.int64)
    described = iter(todo)
    following = next(described, None)
    hidden: dict[str, int] = {}
    for start, block in _blocks(items):
        anew = np.zeros(len(block), np.bool_)
        for place, item in enumerate(block):
            if following is not None and item.id == following.id:
                anew[place], following = True, next(described, None)
        here, old = ids.find([item.id for item in block])
        met[old] = True
        stays = ~anew[here]
        origin[start + here[stays]] = np.where(old < rows, old, rows + ANEW - 1 - old)[stays]
        lacking = ~anew
        lacking[here] = False
        hidden |= {block[place].id: start + place for place in np.flatnonzero(lacking).tolist()}
    if hidden:  # two ids whose first bits are equal
        for number, id_ in enumerate(chain(whole.ids, (failure.id for failure in whole.failures))):
            if id_ in hidden:
                origin[hidden.pop(id_)] = number if number < rows else rows + ANEW - 1 - number
                met[number] = True
    if hidden or following is not None:
        raise FormatError(
            f"the result before lacks {next(iter(hidden), following)!r:.80}, which was to be taken over from it"
        )
    changed = int(np.count_nonzero(origin == ANEW))
    return Changes(origin, 0, changed, len(met) - int(np.count_nonzero(met)), np.flatnonzero(~met[:rows]))


class _Ids:
    """The ids of a set, to be looked up: its rows, and behind them its failures.

    An id is known by the first bits of its hash, which stand before its number in 64 bits. Of two ids whose first bits are equal,
    one may hide the other; then an image counts as new, and is described again.
    """

    def __init__(self, whole: Descriptors) -> None:
        self._whole = whole
        self._count = len(whole) + len(whole.failures)
        self._bits = np.uint64(max(1, self._count.bit_length()))
        ids = chain(whole.ids, (failure.id for failure in whole.failures))
        self._keys = self._first_bits(np.fromiter(map(hash, ids), np.int64, self._count))
        for start in range(0, self._count, BLOCK):
            block = self._keys[start : start + BLOCK]
            block |= np.arange(start, start + len(block), dtype=np.uint64)
        self._keys.sort()

    def __len__(self) -> int:
        return self._count

    def _first_bits(self, hashes: Ints) -> npt.NDArray[np.uint64]:
        found = hashes.view(np.uint64)
        found >>= self._bits
        found <<= self._bits
        return found

    def find(self, wanted: Sequence[str]) -> tuple[Ints, Ints]:
        """Which of some ids the set has, by their places, and their numbers in the set."""
        first = self._first_bits(np.fromiter(map(hash, wanted), np.int64, len(wanted)))
        place = np.searchsorted(self._keys, first)
        place[place == self._count] = 0
        keys = self._keys[place] if self._count else np.zeros(len(wanted), np.uint64)
        here = np.flatnonzero((keys >> self._bits) == (first >> self._bits)) if self._count else np.empty(0, np.int64)
        old = (keys[here] & ((np.uint64(1) << self._bits) - np.uint64(1))).astype(np.int64)
        known = zip(here.tolist(), _ids(self._whole, old), strict=True)
        equal = np.array([wanted[number] == id_ for number, id_ in known], np.bool_)
        return here[equal], old[equal]


def _facts(
    of_rows: npt.NDArray[Any] | None,
    of_failures: npt.NDArray[Any] | None,
    numbers: Ints,
    unknown_facts: Callable[[int], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """Stamps or digests of rows and, behind the rows, of failures."""
    found = unknown_facts(len(numbers)).copy()
    if of_rows is not None and of_failures is not None:
        rows = len(of_rows)
        for table, which, first in ((of_rows, numbers < rows, 0), (of_failures, numbers >= rows, rows)):
            if which.any():
                found[which] = some_rows(table, numbers[which] - first)
    return found


def _blocks(items: Sequence[Item]) -> Iterator[tuple[int, Sequence[Item]]]:
    for start in range(0, len(items), BLOCK):
        yield start, items[start : start + BLOCK]


def _ids(whole: Descriptors, numbers: Ints) -> list[str]:
    """The ids of rows and, behind the rows, of failures."""
    rows = len(whole)
    texts = np.empty(len(numbers), object)
    texts[numbers < rows] = ids_at(whole.ids, numbers[numbers < rows])
    texts[numbers >= rows] = [whole.failures[number - rows].id for number in numbers[numbers >= rows].tolist()]
    made: list[str] = texts.tolist()
    return made
