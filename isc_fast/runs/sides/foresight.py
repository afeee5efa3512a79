"""Seeing before minutes of describing that what will be described can be compared as it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...descriptors.comparing import compare
from ...descriptors.formats.table import open_any
from ...descriptors.lengths import check_lengths
from ...descriptors.provenance import PlanFacts, Provenance
from ...descriptors.store import Descriptors
from ...errors import InputError
from ...extraction.runners.base import Facts
from ...matching.searchers.searcher import Searcher
from ...sources.base import Source
from ...sources.listing import Inputs
from .against import Against
from .describing import Describing, descriptors_among
from .thresholds import AtPrecision, Threshold, carried, carried_point


def foresee(
    describing: Describing,
    queries: Sequence[Inputs | Source],
    references: Inputs | Source,
    threshold: Threshold,
    against: Against | None = None,
    searcher: Searcher | None = None,
) -> None:
    """Refuse what could only be refused after photos were described: another engine, a threshold that nobody can tell.

    Where all sides are descriptors, nothing is looked at, since nothing is described.

    Args:
        describing: how photos will be described.
        queries: sets of photos or descriptors that are compared with the references; none where these are compared with
            themselves.
        references: photos or descriptors.
        threshold: the lowest score, or what tells it.
        against: the negatives, and how they are used; None where there are none.
        searcher: compares these with references that are descriptors; needed with negatives.

    Raises:
        MismatchError: the sides, the negatives or the calibration do not belong to each other.
        InputError: the engine carries no threshold, and none was given; or the negatives do not suit the method.
        IscFastError: the engine cannot be loaded, or a file cannot be read.
    """
    given = [descriptors_among(inputs) for inputs in (references, *queries)]
    if None not in given:
        return
    with ExitStack() as stack:
        made = [
            none_yet(describing.runner.facts, describing.decoder) if path is None else _found(stack, path)
            for path in given
        ]
        for side in made[1:]:
            compare(side, made[0]).refuse()
        if against is not None:
            negatives = stack.enter_context(against.opened())
            against.check_fit(negatives, made)
            if given[0] is not None and searcher is not None:
                against.overlap(negatives, made[0], searcher)
            if isinstance(threshold, AtPrecision):
                made = against.foreseen(negatives, [made[1], made[0]])
        if isinstance(threshold, AtPrecision):
            for side in made:
                threshold.read.check(side, threshold.name)
        elif threshold is None and against is None and not any(map(carried_point, made)):
            carried(made[0])


def _found(stack: ExitStack, path: str | Path) -> Descriptors:
    found = stack.enter_context(open_any(path))
    if not len(found):
        raise InputError(f"{path} holds no descriptors, so there is nothing to compare")
    check_lengths(found, f"{path}'s")
    return found


def none_yet(facts: Facts, decoder: str) -> Descriptors:
    """Descriptors of no photo, ``(0, dim)``, with the record of those that an engine will make of whole photos.

    Args:
        facts: what the engine is.
        decoder: its name.
    """
    made = Provenance.of_extraction(facts.id, facts.spec.to_dict(), decoder, PlanFacts())
    return Descriptors(np.empty((0, facts.spec.dim), np.float32), [], made.without("plan").write())
