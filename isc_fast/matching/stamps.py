"""What a smoothed or normalised set says about itself, and which negatives fit which descriptors."""

from __future__ import annotations

from typing import Any

from ..descriptors.store import Descriptors, derived_meta
from ..errors import InputError, MismatchError


def smooth_meta(negatives: Descriptors, k: int, power: int) -> dict[str, Any]:
    """The meta of smoothed negatives.

    Raises:
        InputError: these negatives are smoothed or normalised already, or there are none.
    """
    if negatives.meta.get("smoothing"):
        raise InputError("these negatives are smoothed already; smoothing is done once")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain descriptors, and these are normalised already")
    if not len(negatives):
        raise InputError("there are no negatives")
    return derived_meta(negatives, smoothing={"k": k, "power": power, "source": negatives.content_id()})


def refuse_normalized(descriptors: Descriptors) -> None:
    """Refuse descriptors that are normalised already.

    Raises:
        InputError: they are.
    """
    done = descriptors.meta.get("normalization")
    if done:
        raise InputError(f"these descriptors are normalised already ({done['method']}); start from the extracted ones")


def check_negatives(descriptors: Descriptors, negatives: Descriptors) -> None:
    """Refuse to normalise with negatives that do not belong to these descriptors.

    Raises:
        MismatchError: another engine made them, or their dimensions differ.
        InputError: either is normalised already, or there are no negatives.
    """
    refuse_normalized(descriptors)
    if not len(negatives):
        raise InputError("there are no negatives")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain or smoothed descriptors, and these are normalised already")
    engines = descriptors.meta.get("engine_id"), negatives.meta.get("engine_id")
    if all(engines) and engines[0] != engines[1]:
        raise MismatchError(
            f"the negatives were made by another engine ({str(engines[1])[:12]}) than the descriptors "
            f"({str(engines[0])[:12]}); extract both with one engine"
        )
    if descriptors.dim != negatives.dim:
        raise MismatchError(f"descriptors have {descriptors.dim} dimensions and the negatives have {negatives.dim}")


def refuse_smoothed(negatives: Descriptors) -> None:
    """Refuse smoothed negatives, which score normalisation cannot use.

    Raises:
        InputError: they are smoothed.
    """
    if negatives.meta.get("smoothing"):
        raise InputError("these negatives are smoothed; score normalisation takes plain descriptors")


def nes_meta(
    descriptors: Descriptors, negatives: Descriptors, *, k: int, beta: float, iterations: int
) -> dict[str, Any]:
    """The meta of descriptors that were normalised by NES; two sets may be searched together if their stamps are equal."""
    stamp = {
        "method": "nes",
        "k": k,
        "beta": beta,
        "iterations": iterations,
        "smoothing": negatives.meta.get("smoothing"),
        "negatives": negatives.content_id(),
    }
    return derived_meta(descriptors, normalization=stamp)


def score_meta(descriptors: Descriptors, negatives: Descriptors | None, *, k: int, beta: float) -> dict[str, Any]:
    """The meta of descriptors that were normalised by scores; references (no negatives) depend on none of the numbers."""
    stamp: dict[str, Any] = {"method": "score", "role": "reference"}
    if negatives is not None:
        stamp = {"method": "score", "role": "query", "k": k, "beta": beta, "negatives": negatives.content_id()}
    return derived_meta(descriptors, normalization=stamp)
