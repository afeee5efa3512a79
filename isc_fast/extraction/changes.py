"""What has changed in a collection since it was described: which photos are as they were, which are new, changed or gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ..descriptors.store import Descriptors, ids_at
from ..files.lazy import BLOCK
from ..items import Ints, Item
from ..sources.stamps import same, stamps_of

TODO = -1


@dataclass(frozen=True)
class Changes:
    """How the images of a listing relate to a finished set of descriptors.

    Attributes:
        origin: for each image ``(n,)``: the row of the set that is still right; `TODO` where there is none; −2 − k where
            failure k of the set is still right.
        new, changed, gone: how many images there are of each kind; ``gone`` counts those that only the set has.
        gone_rows: the rows of the set whose image is gone, rising.
        again: how many unchanged images are described again because they failed.
    """

    origin: Ints
    new: int
    changed: int
    gone: int
    gone_rows: Ints
    again: int = 0

    @property
    def kept(self) -> int:
        """How many images are as they were."""
        return int((self.origin != TODO).sum())

    @property
    def todo(self) -> Ints:
        """The numbers of the images that have to be described, rising."""
        return np.flatnonzero(self.origin == TODO)

    def __str__(self) -> str:
        again = f", {self.again} that failed tried again" if self.again else ""
        return f"{self.new} new, {self.changed} changed, {self.gone} gone, {self.kept} as they were{again}"

    def without_failures(self) -> Changes:
        """The same, with every image to be described that failed."""
        failed = self.origin < TODO
        return replace(self, origin=np.where(failed, TODO, self.origin), again=int(failed.sum()))


def failure_of(origin: int) -> int:
    """The number of the failure that an origin below `TODO` stands for."""
    return -2 - origin


def find_changes(items: Sequence[Item], whole: Descriptors) -> Changes:
    """Compare a listing with a set that was extracted. Beside them, memory holds about 40 bytes an image.

    An image is as it was if the set has its id, and size and time of its file are the same; or if it failed, and there is
    still no file to look at. Its folder may have moved.

    Args:
        items: of the listing.
        whole: has stamps.

    Raises:
        ValueError: it has none.
    """
    if whole.stamps is None or whole.failure_stamps is None:
        raise ValueError("the set does not say what its photos were")
    rows = len(whole)
    hashes = np.fromiter(map(hash, chain(whole.ids, (failure.id for failure in whole.failures))), np.int64)
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    del hashes
    old_stamps = np.concatenate([whole.stamps[:], whole.failure_stamps[:]])
    met = np.zeros(len(order), bool)
    origin = np.full(len(items), TODO, np.int64)
    new = 0
    for start, block in _blocks(items):
        wanted = np.fromiter((hash(item.id) for item in block), np.int64, len(block))
        place = np.minimum(np.searchsorted(sorted_hashes, wanted), max(0, len(order) - 1))
        known = np.flatnonzero(sorted_hashes[place] == wanted) if len(order) else np.empty(0, np.int64)
        old = order[place[known]]
        # Two ids of one hash are as good as never met; then the image counts as new.
        known_ids = zip(known.tolist(), _ids(whole, old), strict=True)
        equal = np.array([block[number].id == id_ for number, id_ in known_ids], np.bool_)
        known, old = known[equal], old[equal]
        met[old] = True
        new += len(block) - len(known)
        stamps = stamps_of([block[number].path for number in known.tolist()])
        # A photo that was not there, and still is not, is no news. One that has a descriptor may be another by now.
        right = same(old_stamps[old], stamps) | ((old >= rows) & (old_stamps[old] == stamps).all(axis=1))
        found = old[right]
        origin[start + known[right]] = np.where(found < rows, found, rows + TODO - 1 - found)
    changed = int((origin == TODO).sum()) - new
    return Changes(origin, new, changed, int((~met).sum()), np.flatnonzero(~met[:rows]))


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
