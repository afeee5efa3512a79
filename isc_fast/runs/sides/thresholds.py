"""Which score two photos must reach to count as copies: as given, as a calibration or negatives say, or as the engine does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ...descriptors.store import Descriptors
from ...engines.operating_point import OperatingPoint
from ...errors import InputError
from ...evaluation.calibration import SHARE, Calibration, Task, check_precision, check_share
from ...evaluation.calibration_file import read_calibration
from ...evaluation.unrelated import Unrelated
from ...matching.pairs.self_join import check_threshold
from ...review.pairs import Chances

PRECISION = 0.99


@dataclass(frozen=True)
class AtPrecision:
    """The threshold from which on so many of the pairs are right, as `isc_fast.calibrate` found it out.

    Args:
        calibration: the file, or what was read from it.
        precision: between 0 and 1.
        share: of the photos (or queries) that are expected to be copies.

    Raises:
        InputError: a number is out of range, or the file cannot be read.
        FormatError: the file is no calibration.
    """

    calibration: Calibration | str | os.PathLike[str]
    precision: float = PRECISION
    share: float = SHARE

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_share(self.share)
        _ = self.read  # a file that is none is refused before the work

    @cached_property
    def read(self) -> Calibration:
        """What the file holds."""
        return self.calibration if isinstance(self.calibration, Calibration) else read_calibration(self.calibration)

    @property
    def name(self) -> str:
        """What messages call it."""
        return "the calibration" if isinstance(self.calibration, Calibration) else os.fspath(self.calibration)


class Chosen(NamedTuple):
    """A threshold.

    Attributes:
        score: two photos must reach it.
        said: where it comes from, in words.
        chances: how likely pairs of some scores are copies; None where nobody calibrated them.
    """

    score: float
    said: str
    chances: Chances | None = None


Threshold = float | AtPrecision | None
"""A score; or the precision that is wanted; None for what the engine carries, or with negatives what they say."""


def check(wanted: Threshold) -> None:
    """See before the work that a threshold can be one.

    Raises:
        InputError: it lies outside the scale of scores.
    """
    if isinstance(wanted, (int, float)):
        check_threshold(wanted)


def choose(
    wanted: Threshold,
    sides: Sequence[Descriptors],
    task: Task,
    compared: str,
    unrelated: Callable[[], Unrelated] | None = None,
) -> Chosen:
    """The score that is meant, and where it comes from.

    Args:
        wanted: see `Threshold`.
        sides: what is compared; one set that is compared with itself stands here once.
        task: how many pairs that are; its copies are photos that may be one: a calibration takes its share of them.
        compared: the same in words, such as ``"300 photos"``.
        unrelated: how high negatives score among themselves, which takes the place of what the engine carries; None where there
            are no negatives.

    Raises:
        InputError: none was given, and the engine carries none or the descriptors are normalised, for which it does not hold; or
            no score has the precision.
        MismatchError: the calibration was made with another engine or normalisation.
    """
    if isinstance(wanted, AtPrecision):
        for side in sides:
            wanted.read.check(side, wanted.name)
        expected = Task(task.pairs, wanted.share * task.copies)
        threshold = wanted.read.threshold(wanted.precision, expected)
        at = wanted.read.expected(threshold, expected)
        words = (
            f"{wanted.name} for {compared}, of which {100 * wanted.share:.3g}% are copies: {at.precision:.1%} of the pairs are "
            f"right ({at.lowest:.1%} to {at.highest:.1%}), and {at.recall:.0%} of the edited copies are found"
        )
        return Chosen(threshold, words, lambda scores: wanted.read.probabilities(scores, expected))
    if wanted is not None:
        return Chosen(wanted, "as given")
    photos = sum(map(len, sides))
    if unrelated is not None:
        seen = unrelated()
        return Chosen(seen.threshold(photos, task.pairs), seen.in_words(photos, compared))
    point = carried(sides[0])
    return Chosen(point.threshold(photos, task.pairs), point.in_words(compared))


def choose_for_search(wanted: Threshold, queries: Descriptors, references: Descriptors) -> Chosen:
    """The score that is meant in a search of two sets; see `choose`.

    Raises:
        InputError, MismatchError: see `choose`.
    """
    pairs = len(queries) * len(queries.views) * len(references) * len(references.views)
    return choose(wanted, [queries, references], Task(pairs, len(queries)), f"{pairs} pairs")


def carried_point(descriptors: Descriptors) -> OperatingPoint | None:
    """What the engine of some descriptors was measured at; None where it does not say."""
    engine = descriptors.provenance.engine
    return OperatingPoint.read(engine.operating_point) if engine else None


def carried(descriptors: Descriptors) -> OperatingPoint:
    """What the engine of some descriptors was measured at.

    Raises:
        InputError: it carries nothing, or the descriptors are normalised, for which it does not hold.
    """
    if descriptors.provenance.normalization is not None:
        raise InputError(
            "the engine's default threshold holds for descriptors that are not normalised; choose one: --threshold (in Python "
            "threshold)"
        )
    point = carried_point(descriptors)
    if point is None:
        raise InputError(
            "these descriptors name no engine that carries a default threshold; choose one: --threshold (in Python threshold), "
            "or export the engine again, which measures it"
        )
    return point
