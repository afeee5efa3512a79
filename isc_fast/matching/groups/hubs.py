"""Photos that keep matching everything, such as templates, logos and screenshots of one program: what a stop list is for.

Two rules find them. Nothing is left out by them: they are proposals, for somebody to look at.

* In one collection: a photo that matches at least 10 others, of which fewer than a tenth of the pairs match each other. Copies
  of one photo match each other; what matches a hub has nothing else in common.
* Between two sides: a photo that matches at least 10 of the other side, of which at least half match another photo better.
  The copies of an original match the original best.

Photos whose descriptors are equal in every bit count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...descriptors.texts import ids_at
from ..lists.matches import Matches
from ..searchers.arrays import Floats, Ints, Pairs

LEAST = 10
"""So many others a hub matches at least."""
MOST_TOGETHER = 0.1
LEAST_BEATEN = 0.5
_MOST = 100  # hubs that are looked at, those of most matches
_AT_ONCE = 8


@dataclass(frozen=True)
class Hub:
    """A photo that may belong on a stop list.

    Attributes:
        id: its id.
        matches: how many others it matches.
        share: in one collection, of the pairs of these others, those that match each other; between two sides, of these
            others, those that match another photo better.
        words: this in words.
    """

    id: str
    matches: int
    share: float
    words: str


def hubs_within(pairs: Iterable[Pairs], same: Ints, ids: Sequence[str]) -> list[Hub]:
    """The hubs of one collection, those of most matches first.

    Args:
        pairs: gone through several times: each match once.
        same: the first row that equals each row in every bit ``(n,)``.
        ids: of the rows.
    """
    count = len(same)
    degrees = np.zeros(count, np.int64)
    for first, second, _ in pairs:
        apart = same[first] != same[second]
        degrees += np.bincount(first[apart], minlength=count) + np.bincount(second[apart], minlength=count)
    candidates = _most(degrees)
    hubs = []
    for start in range(0, len(candidates), _AT_ONCE):
        some = candidates[start : start + _AT_ONCE]
        near = np.zeros((len(some), count), bool)
        for first, second, _ in pairs:
            for place, row in enumerate(some.tolist()):
                near[place, second[first == row]] = near[place, first[second == row]] = True
        together = np.zeros(len(some), np.int64)
        for first, second, _ in pairs:
            together += [int((its[first] & its[second]).sum()) for its in near]
        for row, its, links in zip(some.tolist(), near, together.tolist(), strict=True):
            others = int(its.sum())
            share = links / (others * (others - 1) / 2)
            if share < MOST_TOGETHER:
                words = f"matches {others} photos, of which {share:.0%} of the pairs match each other"
                hubs.append(Hub(ids_at(ids, np.array([row]))[0], others, share, words))
    return hubs


def hubs_between(pairs: Iterable[Pairs], ids: tuple[Sequence[str], Sequence[str]]) -> list[Hub]:
    """The hubs of two sides, those of the second side first.

    Args:
        pairs: gone through several times: row of the first side, row of the second one, and score.
        ids: of both sides.
    """
    hubs = []
    for side in (1, 0):
        counts = len(ids[side]), len(ids[1 - side])
        best: Floats = np.full(counts[1], -np.inf, np.float32)
        for first, second, scores in pairs:
            np.maximum.at(best, (first, second)[1 - side], scores)
        degrees, beaten = np.zeros(counts[0], np.int64), np.zeros(counts[0], np.int64)
        for first, second, scores in pairs:
            mine, others = ((first, second), (second, first))[side]
            degrees += np.bincount(mine, minlength=counts[0])
            beaten += np.bincount(mine[scores < best[others]], minlength=counts[0])
        for row in _most(degrees).tolist():
            share = int(beaten[row]) / int(degrees[row])
            if share >= LEAST_BEATEN:
                words = f"matches {degrees[row]} photos, of which {share:.0%} match another photo better"
                hubs.append(Hub(ids_at(ids[side], np.array([row]))[0], int(degrees[row]), share, words))
    return hubs


def hubs_of_matches(matches: Matches) -> list[Hub]:
    """The hubs of matches, as `hubs_between` finds them."""
    sides = [list(dict.fromkeys(ids)) for ids in (matches.query_ids, matches.reference_ids)]
    places = [{id_: row for row, id_ in enumerate(ids)} for ids in sides]
    columns = zip((matches.query_ids, matches.reference_ids), places, strict=True)
    first, second = (np.fromiter((place[id_] for id_ in ids), np.int64, len(matches)) for ids, place in columns)
    return hubs_between([(first, second, matches.scores.astype(np.float32))], (sides[0], sides[1]))


def _most(degrees: Ints) -> Ints:
    """The rows of at least `LEAST` matches, the most first."""
    rows = np.flatnonzero(degrees >= LEAST)
    most: Ints = rows[np.argsort(-degrees[rows], kind="stable")][:_MOST]
    return most
