"""What a smoothed or normalised set says about itself, and which negatives fit which descriptors."""

from __future__ import annotations

from typing import Any

from ...descriptors.comparing import compare_with_negatives
from ...descriptors.provenance import Normalization, Smoothing
from ...descriptors.store import Descriptors
from ...errors import InputError


def smooth_meta(negatives: Descriptors, k: int, power: int) -> dict[str, Any]:
    """The meta of smoothed negatives.

    Raises:
        InputError: these negatives are smoothed or normalised already, or there are none.
    """
    if negatives.provenance.smoothing:
        raise InputError("these negatives are smoothed already; smoothing is done once")
    if negatives.provenance.normalization:
        raise InputError("negatives must be plain descriptors, and these are normalised already")
    if not len(negatives):
        raise InputError("there are no negatives")
    smoothing = Smoothing(k=k, power=power, source=negatives.content_id())
    return negatives.provenance.smoothed(smoothing).write()


def refuse_normalized(descriptors: Descriptors) -> None:
    """Refuse descriptors that are normalised already.

    Raises:
        InputError: they are.
    """
    done = descriptors.provenance.normalization
    if done:
        raise InputError(f"these descriptors are normalised already ({done.method}); start from the extracted ones")


def check_negatives(descriptors: Descriptors, negatives: Descriptors) -> None:
    """Refuse to normalise with negatives that do not belong to these descriptors.

    Raises:
        MismatchError: another network made them, or their dimensions differ.
        InputError: either is normalised already, or there are no negatives.
    """
    refuse_normalized(descriptors)
    refuse_as_negatives(negatives)
    compare_with_negatives(descriptors, negatives).require()


def refuse_as_negatives(negatives: Descriptors) -> None:
    """Refuse what cannot be negatives of any descriptors.

    Raises:
        InputError: they are normalised already, or there are none.
    """
    if not len(negatives):
        raise InputError("there are no negatives")
    if negatives.provenance.normalization:
        raise InputError("negatives must be plain or smoothed descriptors, and these are normalised already")


def refuse_smoothed(negatives: Descriptors) -> None:
    """Refuse smoothed negatives, which score normalisation cannot use.

    Raises:
        InputError: they are smoothed.
    """
    if negatives.provenance.smoothing:
        raise InputError(
            "these negatives are smoothed; score normalisation takes plain descriptors, of which isc-fast negatives made them"
        )


def nes_meta(
    descriptors: Descriptors, negatives: Descriptors, *, k: int, beta: float, iterations: int
) -> dict[str, Any]:
    """The meta of descriptors that were normalised by NES; two sets may be searched together if their stamps are equal."""
    smoothing = negatives.provenance.smoothing
    stamp = Normalization(
        method="nes",
        k=k,
        beta=beta,
        iterations=iterations,
        smoothing=smoothing,
        negatives=negatives.content_id(),
        # Null stands in the stamp of plain negatives, so that a reader sees that they were not smoothed.
        other={} if smoothing else {"smoothing": None},
    )
    return descriptors.provenance.normalized(stamp).write()


def score_meta(descriptors: Descriptors, negatives: Descriptors | None, *, k: int, beta: float) -> dict[str, Any]:
    """The meta of descriptors that were normalised by scores; references (no negatives) depend on none of the numbers."""
    stamp = Normalization(method="score", role="reference")
    if negatives is not None:
        stamp = Normalization(method="score", role="query", k=k, beta=beta, negatives=negatives.content_id())
    return descriptors.provenance.normalized(stamp).write()
