"""What a page of pairs shows: pairs of photos with what is known of each, groups, figures and a curve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.metrics import Curve
from ..items import Ints
from .placement import Placement

_STRATA = 20
MOST = 1e30
"""The highest score that a page knows: those of other tools may be infinite, which JSON does not hold."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos beside each other.

    Attributes:
        left, right: their ids.
        score: the higher, the more alike.
        probability: that the pair is a copy, from 0 to 1, where somebody calibrated the scores.
        view: which view of the left photo matched, such as ``"mirrored"``; None for the photo as it is.
        group: the number of the pair's group in `ReviewPage.groups`, from 0.
        edit: how the left photo was made, where that is known.
        truth: whether the pair is a copy, where a ground truth says so.
        set: the name of the left photo's collection, where there are several.
        note: anything else, a few words.
        verdict: what somebody said of the pair already, one of `isc_fast.matching.lists.verdicts.WORDS`.
        placement: how the two photos lie in each other, where somebody looked at their pixels.
    """

    left: str
    right: str
    score: float
    probability: float | None = None
    view: str | None = None
    group: int | None = None
    edit: str | None = None
    truth: bool | None = None
    set: str | None = None
    note: str | None = None
    verdict: str | None = None
    placement: Placement | None = None

    @property
    def left_key(self) -> Hashable:
        """What tells the left photo from others: its id, with the name of its collection where there are several."""
        return self.left if self.set is None else (self.set, self.left)


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that hang together by their pairs.

    Attributes:
        size: how many there are, also those that the page does not show.
        words: what is to say of the group.
    """

    size: int
    words: str


@dataclass(frozen=True)
class Table:
    """The one table of a page.

    Attributes:
        columns: their headings.
        rows: texts; the first of each is what the row is about.
        words: what is to say of each row, an empty text where nothing is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str]


@dataclass(frozen=True)
class ReviewPage:
    """A page of pairs.

    Attributes:
        title: its heading.
        lead: a sentence or two under the heading.
        pairs: in the order in which they are shown at first.
        sides: what the left and the right photo of a pair are.
        groups: where the pairs have groups.
        total: how many pairs there are, where the page has only some of them.
        threshold: a score that the page marks.
        figures: names and values of a few figures, for the top of the page.
        table: of more figures.
        curve: precision and recall, where a ground truth is known.
        stops: photos that might be left out with a stop list: id and why.
    """

    title: str
    lead: str
    pairs: Sequence[Pair]
    sides: tuple[str, str] = ("query", "reference")
    groups: Sequence[Group] = ()
    total: int | None = None
    threshold: float | None = None
    figures: Sequence[tuple[str, str]] = ()
    table: Table | None = None
    curve: Curve | None = None
    stops: Sequence[tuple[str, str]] = field(default=())


def digest_of(pairs: Sequence[Pair]) -> str:
    """A name for these pairs, under which a browser keeps what was said of them."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(json.dumps([pair.set, pair.left, pair.right, round(pair.score, 6)]).encode("ascii"))
    return found.hexdigest()[:32]


def spread(scores: npt.NDArray[np.floating[Any]] | Sequence[float]) -> Ints:
    """An order of pairs of which every beginning is spread evenly over the scores.

    The range of the scores is cut into 20 equal strata. One pair of each stratum follows the other; which pair of a stratum is
    taken is drawn, always in the same way.

    Args:
        scores: ``(n,)``.

    Returns:
        row numbers ``(n,)``.
    """
    values = np.clip(np.asarray(scores, np.float64), -MOST, MOST)
    if not len(values):
        return np.empty(0, np.int64)
    low, high = values.min(), values.max()
    width = (high - low) / _STRATA or 1.0
    stratum = np.minimum(((values - low) / width).astype(np.int64), _STRATA - 1)
    drawn = np.random.default_rng(0).permutation(len(values))
    by_stratum = drawn[np.argsort(stratum[drawn], kind="stable")]
    turn = np.concatenate([np.arange(count) for count in np.bincount(stratum)])
    order: Ints = by_stratum[np.lexsort((-stratum[by_stratum], turn))]
    return order


Chances = Callable[[npt.NDArray[np.floating[Any]]], npt.NDArray[np.floating[Any]]]
"""Gives for scores ``(n,)`` how likely pairs of such scores are copies, from 0 to 1."""


def with_chances(pairs: Sequence[Pair], chances: Chances | None) -> list[Pair]:
    """The pairs with how likely they are copies, where somebody calibrated the scores.

    A score above 1 is that of a pair whose pixels were looked at, of which a calibration says nothing.
    """
    if chances is None or not pairs:
        return [*pairs]
    found = chances(np.array([pair.score for pair in pairs])).tolist()
    return [
        replace(pair, probability=round(chance, 4)) if pair.score <= 1 else pair
        for pair, chance in zip(pairs, found, strict=True)
    ]


def columns_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What the page's script reads of pairs, beside their photos: a column for each thing that is known of any of them."""
    columns: dict[str, Any] = {"score": [min(max(pair.score, -MOST), MOST) for pair in pairs]}
    for name in ("probability", "view", "group", "edit", "truth", "set", "note", "verdict"):
        values = [getattr(pair, name) for pair in pairs]
        columns[name] = values if any(value is not None for value in values) else None
    placed = [pair.placement for pair in pairs]
    seen = any(placed)
    columns["homography"] = [None if one is None else one.numbers for one in placed] if seen else None
    columns["inliers"] = [None if one is None else one.inliers for one in placed] if seen else None
    return columns
