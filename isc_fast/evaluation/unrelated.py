"""How high normalised scores of unrelated photos reach: negatives, which match nothing, are compared with each other.

Each negative takes the place of a query, and each other one that of a reference. What the query scores among all negatives but
these two is subtracted from the score of the pair, as score normalisation does with a query that is none of them. So no labels
are needed, and nothing is described.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..descriptors.picking import rows_at
from ..descriptors.store import Descriptors
from ..descriptors.view_rows import whole_of
from ..engines.operating_point import false_pairs_allowed
from ..errors import InputError
from ..items import Ints
from ..matching.normalizing.normalization import nearest_negatives
from ..matching.normalizing.score_normalization import SCORE_BETA, SCORE_K
from ..matching.searchers.searcher import Searcher
from .tails import TAIL, Floats, shares_above

FEWEST = 100
"""Negatives that are needed at least."""
HIGHEST = 0.9
"""A threshold above this finds hardly any copy; then the negatives themselves hold copies of each other."""
_MOST, _SAMPLE = 16_384, 1024
_NAMED = 3  # negatives that are alike; two may be one pair by chance, as the default threshold expects


def check_count(count: int) -> None:
    """See that there are enough negatives to tell a threshold by.

    Raises:
        InputError: there are fewer than 100.
    """
    if count < FEWEST:
        raise InputError(
            f"{count} negatives are too few to tell a threshold by, expected at least {FEWEST}; give more, or choose a "
            "threshold: --threshold (in Python threshold)"
        )


def among_negatives(
    references: Descriptors, negatives: Descriptors, level: float, searcher: Searcher
) -> tuple[Ints, int]:
    """Which references are negatives too, or copies of one. A copy of such a reference is near to that negative, by which its
    scores are lowered.

    Args:
        references, negatives: plain ones. Of several views of a photo, the whole photo counts.
        level: the cosine from which on two photos count as copies.
        searcher: compares.

    Returns:
        their rows, of those that were looked at, and how many these were: 1,024 at most, spread evenly.
    """
    whole = whole_of(references)
    rows = _spread(len(whole), _SAMPLE)
    near, _ = nearest_negatives(rows_at(whole.vectors, rows), whole_of(negatives), 1, searcher)
    return rows[near[:, 0] >= level], len(rows)


def _spread(count: int, most: int) -> Ints:
    """At most so many of the first numbers, spread evenly."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, most)).astype(np.int64))


@dataclass(frozen=True)
class Unrelated:
    """Normalised scores of negatives among themselves.

    Attributes:
        negatives: how many there are.
        pairs: how many pairs of them were compared.
        tail: the highest scores above 0, falling ``(t,)``.
        level: the cosine from which on two photos count as copies; None where nobody knows it.
        alike: how many negatives are so like another one.
    """

    negatives: int
    pairs: float
    tail: Floats
    level: float | None = None
    alike: int = 0

    @classmethod
    def of(cls, negatives: Descriptors, searcher: Searcher, level: float | None = None) -> Self:
        """Compare negatives with each other; of more than 16,384, so many with all.

        Args:
            negatives: plain ones, ``(n, d)``. Of several views of a photo, the whole photo counts.
            searcher: compares.
            level: see `Unrelated`.

        Raises:
            InputError: there are too few of them, or half of them are as like another one as copies are.
        """
        whole = whole_of(negatives)
        count = len(whole)
        check_count(count)
        rows = _spread(count, _MOST)
        near, places = nearest_negatives(rows_at(whole.vectors, rows), whole, SCORE_K + 2, searcher)
        others = places != rows[:, None]
        others[others.all(axis=1), -1] = False  # of many equal rows, a row itself need not be among the nearest
        scores = near[others].reshape(len(rows), SCORE_K + 1).astype(np.float64)
        alike = 0 if level is None else int((scores.max(axis=1) >= level).sum() * (count / len(rows)))
        if 2 * alike > count:
            raise InputError(
                f"{alike} of the {count} negatives are as like another one as copies are, at a cosine of {level:.2f} and above; "
                "negatives match nothing, and not each other: isc-fast dedup and isc-fast remove leave one of each; or choose a "
                "threshold: --threshold (in Python threshold)"
            )
        # A score that is not among these lies below the mean of the three highest: it becomes negative.
        made = scores - SCORE_BETA * (scores.sum(axis=1, keepdims=True) - scores) / SCORE_K
        falling = np.sort(made[made > 0])[::-1][:TAIL]
        return cls(count, float(len(rows)) * (count - 1), falling, level, alike)

    def false_share(self, threshold: float) -> float:
        """The share of unrelated pairs that reach a threshold above 0."""
        if not len(self.tail):
            return 0.0
        return float(shares_above(self.tail, np.ones(len(self.tail)), self.pairs, np.array([threshold]))[0])

    def threshold(self, photos: int, pairs: float) -> float:
        """The lowest score, in hundredths, that one wrong pair for each 1,000 photos is expected to reach, or one in all.

        It is not below 0, where a query is as like a reference as it is to its nearest negatives.

        Args:
            photos: in all, of both sides.
            pairs: that are compared.

        Raises:
            InputError: it would be too high to find anything.
        """
        allowed = false_pairs_allowed(photos)
        for hundredths in range(math.floor(100 * HIGHEST) + 1):
            if pairs * self.false_share(hundredths / 100) <= allowed:
                return hundredths / 100
        raise InputError(
            f"among {pairs:.3g} pairs, wrong ones are expected to score above {HIGHEST:g}, as these {self.negatives} negatives "
            "do among themselves: they hold copies of each other, which isc-fast dedup finds; or choose a threshold: "
            "--threshold (in Python threshold)"
        )

    def in_words(self, photos: int, compared: str) -> str:
        """What `threshold` stands for, in one sentence; ``compared`` says how much is compared, such as ``"300 pairs"``."""
        allowed = false_pairs_allowed(photos)
        expected = f"{allowed:.3g} wrong pair{'s' * (allowed != 1)}"
        words = (
            f"at most {expected} expected among {compared}, if their photos are as unlike each other as the {self.negatives} "
            "negatives are"
        )
        if self.alike < _NAMED:
            return words
        return (
            f"{words}; {self.alike} of these are as like another one as copies are (a cosine of {self.level:.2f} and above), "
            "which raises the threshold: if they are copies, leave one of each (isc-fast dedup, isc-fast remove)"
        )
