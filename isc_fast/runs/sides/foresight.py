"""Seeing before minutes of describing that what will be described can be compared as it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from ...descriptors.comparing import compare
from ...descriptors.formats.table import open_any
from ...descriptors.provenance import PlanFacts, Provenance
from ...descriptors.store import Descriptors
from ...sources.base import Source
from ...sources.listing import Inputs
from .against import Against
from .describing import Describing, descriptors_among
from .thresholds import AtPrecision, Threshold, carried


def foresee(
    describing: Describing, sides: Sequence[Inputs | Source], threshold: Threshold, against: Against | None = None
) -> None:
    """Refuse what could only be refused after photos were described: another engine, a threshold that nobody can tell.

    Where all sides are descriptors, nothing is looked at, since nothing is described.

    Args:
        describing: how photos will be described.
        sides: photos or descriptors, the queries before the references.
        threshold: the lowest score, or what tells it.
        against: the negatives, and how they are used; None where there are none.

    Raises:
        MismatchError: the sides, the negatives or the calibration do not belong to each other.
        InputError: the engine carries no threshold, and none was given; or the negatives do not suit the method.
        IscFastError: the engine cannot be loaded, or a file cannot be read.
    """
    given = [descriptors_among(inputs) for inputs in sides]
    if None not in given:
        return
    with ExitStack() as stack:
        made = [_none_yet(describing) if path is None else stack.enter_context(open_any(path)) for path in given]
        for other in made[1:]:
            compare(made[0], other).refuse()
        if against is not None:
            made = against.foreseen(stack.enter_context(open_any(against.path)), made)
        if isinstance(threshold, AtPrecision):
            for side in made:
                threshold.read.check(side, threshold.name)
        elif threshold is None and against is None:
            carried(made[0])


def _none_yet(describing: Describing) -> Descriptors:
    """Descriptors of no photo, with the record of those that will be made of whole photos."""
    facts = describing.runner.facts
    made = Provenance.of_extraction(facts.id, facts.spec.to_dict(), describing.decoder, PlanFacts())
    return Descriptors(np.empty((0, facts.spec.dim), np.float32), [], made.without("plan").write())
