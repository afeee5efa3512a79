"""The table of the families. A new family is one file in this folder and one row here."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint import checked_digest, read_safely
from ..torchscript import is_torchscript, read_tensors
from .base import Built, Family, Weights, Wishes
from .copynce import COPYNCE
from .isc import ISC
from .sscd import SSCD

FAMILIES: tuple[Family, ...] = (ISC, SSCD, COPYNCE)


def read_weights(path: Path) -> Weights:
    """Read a file of weights of any family. Nothing in it is executed.

    Raises:
        CheckpointError: it cannot be read, is damaged, or holds more than plain data.
    """
    if is_torchscript(path):
        return Weights(path, read_tensors(path), checked_digest(path))
    return Weights(path, *read_safely(path))


def build(weights: Weights, wishes: Wishes) -> Built:
    """Make the network of a file of weights.

    Raises:
        CheckpointError: no family has such a file, or the tensors do not fit.
        InputError: a wish cannot be fulfilled.
    """
    for family in FAMILIES:
        if family.holds(weights):
            return family.build(weights, wishes)
    return ISC.build(weights, wishes)  # says what it expects and what the file holds
