"""What is left out of a comparison: pairs that somebody judged wrong, and photos of a stop list, which match too much."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...descriptors.id_lists import read_ids
from ..lists.matches import Matches
from ..lists.verdicts import RIGHT, WRONG, Verdicts, read_verdicts
from ..searchers.arrays import Ints, Pairs
from .views import Views

_IDS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class LeftOut:
    """What is left out of a comparison.

    Attributes:
        verdicts: on pairs; None where nobody gave any.
        stop: ids of photos that match nothing, on either side.
        one_side: whether a collection is compared with itself, so that a pair has no direction.
        file, stop_list: the names of the files of both, for messages.
    """

    verdicts: Verdicts | None = None
    stop: frozenset[str] = field(default=frozenset())
    one_side: bool = False
    file: str = "the verdicts"
    stop_list: str = "the stop list"

    def __bool__(self) -> bool:
        return bool(self.stop) or self.verdicts is not None

    def said(self, query: str, reference: str, collection: str = "") -> str | None:
        """What was said of a pair; None if nothing was."""
        if self.verdicts is None:
            return None
        return self.verdicts.of(query, reference, collection, either_way=self.one_side)

    def mark(self, query: str, reference: str, collection: str = "") -> str | None:
        """What a table of pairs says of a pair: ``"right"``, or None. An undecided pair is as if nobody had looked."""
        return RIGHT if self.said(query, reference, collection) == RIGHT else None

    def search(self, found: Callable[[int | None, int | None], Matches], k: int | None, most: int | None) -> Matches:
        """Search for more pairs than are wanted, so that as many are left as are wanted.

        Args:
            found: the matches for limits ``k`` and ``max_pairs``, either of which may be None.
            k, most: the limits that are wanted.
        """
        more = self._most_of_a_query + len(self.stop)
        if most is None:
            return self.of(found(self.k_for(k), None), k)
        ask = most + more
        while True:
            matches = found(self.k_for(k), ask)
            left = self.of(matches, k)
            if len(left) >= most or len(matches) < ask:
                return left if len(left) <= most else left.take(range(most))
            ask *= 2

    def k_for(self, k: int | None) -> int | None:
        """How many references of each query have to be found so that k are left."""
        return None if k is None else k + self._most_of_a_query + len(self.stop)

    def of(self, matches: Matches, k: int | None = None) -> Matches:
        """The matches that are left, of each query at most ``k``, with the verdicts on them where there are any."""
        taken = Counter[str]()
        rows, words = list[int](), list[str | None]()
        for row, (query, reference, _) in enumerate(matches):
            word = self.said(query, reference)
            if word == WRONG or query in self.stop or reference in self.stop or taken[query] == k:
                continue
            taken[query] += 1
            rows.append(row)
            words.append(word if word == RIGHT else None)
        left = matches.take(rows)
        return left if self.verdicts is None else replace(left, verdicts=words)

    @cached_property
    def _most_of_a_query(self) -> int:
        """The largest number of pairs of one query that are wrong."""
        wrong = () if self.verdicts is None else self.verdicts.pairs(WRONG)
        return max(Counter(query for _, query, _ in wrong).values(), default=0)

    def pairs(
        self,
        pairs: Iterable[Pairs],
        ids: tuple[Sequence[str], Sequence[str]],
        same: tuple[Ints, Ints],
        collection: str = "",
        views: Views | None = None,
    ) -> KeptPairs:
        """The pairs of a join that are left.

        Args:
            pairs: gone through several times.
            ids: of both sides.
            same: of both sides, the first row that equals each row in every bit. A photo whose descriptor equals that of a photo
                of the stop list is left out with it.
            collection: of the first side, where there are several.
            views: of both sides, where the rows of pairs are those of views.
        """
        wanted = set(self.stop)
        judged = [] if self.verdicts is None else [*self._wrong(collection)]
        wanted.update(id_ for pair in judged for id_ in pair)
        one = rows_of(ids[0], wanted)
        other = one if ids[0] is ids[1] else rows_of(ids[1], wanted)
        known = [(one[first], other[second]) for first, second in judged if first in one and second in other]
        stopped = tuple(_equal_to(place, its, self.stop) for place, its in zip((one, other), same, strict=True))
        return KeptPairs(pairs, known, (stopped[0], stopped[1]), views)

    def _wrong(self, collection: str) -> Iterator[tuple[str, str]]:
        assert self.verdicts is not None
        for name, first, second in self.verdicts.pairs(WRONG):
            if name in ("", collection):
                yield first, second
                if self.one_side:
                    yield second, first


class KeptPairs:
    """Pairs without some of them.

    Args:
        pairs: gone through several times.
        wrong: rows of pairs that are left out.
        stopped: of both sides, whether each row is left out with all its pairs.
        views: of both sides, where the rows of pairs are those of views; what is left out is told by the rows of photos.

    Attributes:
        all: the pairs with those that are left out.
    """

    def __init__(
        self,
        pairs: Iterable[Pairs],
        wrong: Sequence[tuple[int, int]],
        stopped: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
        views: Views | None = None,
    ) -> None:
        self._views = views
        self.all, self._stopped = pairs, stopped
        self.wrong = wrong
        self._keys = np.unique(np.array([self._key(one, other) for one, other in wrong], np.int64))

    def _key(self, first: int | Ints, second: int | Ints) -> Ints:
        key: Ints = np.asarray(first, np.int64) * len(self._stopped[1]) + second
        return key

    def __iter__(self) -> Iterator[Pairs]:
        for pairs in self.all:
            first, second = pairs[:2] if self._views is None else self._views.photos(pairs)
            stays = ~(self._stopped[0][first] | self._stopped[1][second])
            if len(self._keys):
                stays &= ~np.isin(self._key(first, second), self._keys)
            yield pairs[0][stays], pairs[1][stays], pairs[2][stays]

    def __len__(self) -> int:
        """How many there are; they are gone through for it."""
        return sum(len(first) for first, _, _ in self)

    def apart(self, same: Ints) -> Ints:
        """Of one collection, the first row that each row equals, where rows that are left out equal only themselves ``(n,)``."""
        alone = self._stopped[0].copy()
        for one, other in self.wrong:
            if same[one] == same[other]:
                alone[max(one, other)] = True
        return np.where(alone, np.arange(len(same)), same)


def read_left_out(
    verdicts: str | os.PathLike[str] | None, stop_list: str | os.PathLike[str] | None, *, one_side: bool = False
) -> LeftOut:
    """Read what is left out.

    Args:
        verdicts: a file of verdicts, see `isc_fast.matching.lists.verdicts`.
        stop_list: a list of ids, see `isc_fast.descriptors.id_lists`.
        one_side: see `LeftOut`.

    Raises:
        FormatError: a file cannot be read, or is not what it should be.
        InputError: the stop list is no CSV, or no JSON lines.
        MissingExtraError: the stop list is Parquet, and pyarrow is not installed.
    """
    said = None if verdicts is None else read_verdicts(verdicts)
    stop = frozenset(() if stop_list is None else read_ids(stop_list))
    return LeftOut(said, stop, one_side, os.fspath(verdicts or ""), os.fspath(stop_list or ""))


def rows_of(ids: Sequence[str], wanted: set[str]) -> dict[str, int]:
    """The rows of some ids; those that are not there are left out."""
    found = dict[str, int]()
    for start in range(0, len(ids) if wanted else 0, _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        found.update((id_, start + place) for place, id_ in enumerate(some) if id_ in wanted)
    return found


def _equal_to(rows: Mapping[str, int], same: Ints, stop: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Whether each row is one of the stop list, or equals one ``(n,)``."""
    listed = [row for id_, row in rows.items() if id_ in stop]
    gone: npt.NDArray[np.bool_] = np.isin(same, same[listed]) if listed else np.zeros(len(same), bool)
    return gone
