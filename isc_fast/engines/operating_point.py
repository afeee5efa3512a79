"""The score at which an engine tells copies from other photos, and how that score grows with a collection.

It is measured when the engine is exported, on edited copies of photos that nobody trained on, and travels in the engine's
specification. It is a default for people without labels, and no more: their photos and their edits are others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

PRECISION = 0.99
"""The share of pairs that are true, at the score that is measured."""

HIGHEST = 0.9
"""No default asks for more than this: an edited copy seldom reaches it."""

_PHOTOS_A_FALSE_PAIR = 1000


def false_pairs_allowed(photos: int) -> float:
    """How many false pairs a default threshold lets through: one for each 1,000 photos, and one at least."""
    return max(1.0, photos / _PHOTOS_A_FALSE_PAIR)


@dataclass(frozen=True)
class OperatingPoint:
    """Where an engine was measured to work.

    Attributes:
        score: the lowest score from which on the share `precision` of the measured pairs are copies and their originals.
        precision: at that score.
        recall: the share of the copies that reach the score with their original.
        copies, references: how many there were.
        edits: how many kinds of edit made the copies.
        tail_from: the score that the share `tail_share` of all pairs of unrelated photos reach.
        tail_share: see there.
        tail_scale: how far such pairs lie above `tail_from` in the mean. Beyond it their share is taken to fall by e for each
            `tail_scale`; what was measured falls faster.
    """

    score: float
    precision: float
    recall: float
    copies: int
    references: int
    edits: int
    tail_from: float
    tail_share: float
    tail_scale: float

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> Self | None:
        """Read what `to_dict` wrote; None where an engine does not say it, or says what cannot be."""
        try:
            found = cls(**{entry.name: float((values or {})[entry.name]) for entry in fields(cls)})  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            return None
        shares = (found.precision, found.recall, found.tail_share)
        sane = -1 <= found.score <= 1 and -1 <= found.tail_from <= 1 and all(0 <= share <= 1 for share in shares)
        return found if sane and found.tail_share > 0 and 0 < found.tail_scale < 2 else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def false_pairs(self, threshold: float, pairs: float) -> float:
        """How many of so many pairs of unrelated photos reach a threshold, estimated."""
        share = self.tail_share * math.exp(min(0.0, (self.tail_from - threshold) / self.tail_scale))
        return pairs * share

    def threshold(self, photos: int, pairs: float) -> float:
        """The default threshold of a search that compares so many pairs, rounded up to a hundredth.

        It is the measured score, or a higher one from which on one false pair in 1,000 photos is expected.

        Args:
            photos: in all, of both sides.
            pairs: that are compared.
        """
        share = min(self.tail_share, false_pairs_allowed(photos) / max(pairs, 1.0))
        wanted = self.tail_from + self.tail_scale * math.log(self.tail_share / share)
        return min(HIGHEST, math.ceil(100 * max(self.score, wanted) - 1e-9) / 100)

    @property
    def wrong_pairs(self) -> int:
        """How many of the measured pairs reach the score and are no copy and its original."""
        right = self.recall * self.copies
        return round(right / self.precision - right) if self.precision else 0

    def __str__(self) -> str:
        return f"from {self.score:.2f} on, {self._found()}"

    def in_words(self, compared: str) -> str:
        """Where a default threshold comes from, in one sentence.

        Args:
            compared: how much was compared, such as ``"300 photos"``.
        """
        return f"the engine's default for {compared}; it rises with their number from {self.score:.2f}, where {self._found()}"

    def _found(self) -> str:
        """What the test gave. It tells wrong pairs by their number: 99.5 % must not read as all."""
        wrong = (
            "no wrong pair"
            if self.wrong_pairs == 0
            else f"{self.wrong_pairs} wrong pair{'s' * (self.wrong_pairs != 1)}"
        )
        return (
            f"a test of {self.copies:.0f} edited copies against {self.references:.0f} photos found {self.recall:.0%} of them, "
            f"and {wrong}"
        )
