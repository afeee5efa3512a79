"""What goes through every room: a photo of the input, and what became of it where it got no descriptor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One input image: the id its descriptor is stored under, and where it lies."""

    id: str
    path: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the failure ledger.

    Attributes:
        id, path: of the image.
        stage: ``"read"``, ``"decode"`` or ``"engine"``.
        reason: one line.
    """

    id: str
    path: str
    stage: str
    reason: str
