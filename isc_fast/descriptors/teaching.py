"""What an engine says of its teacher: another engine, whose descriptors its network learned to give, and how near it came.

Rows of the two may be compared, though not without a warning: they are alike, and not equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .provenance import EngineFacts, Record


@dataclass(frozen=True)
class Teaching(Record):
    """The record ``teacher`` of an engine's specification.

    Attributes:
        id: the teacher's, SHA-256 of its file.
        name: the teacher's.
        network: what the teacher computes, as `EngineFacts.network` has it. Any engine of this network is the teacher too.
        photos: how many photos both described that training had not seen; each whole, and in ``views`` - 1 edited views.
        views: descriptors of one photo.
        cosine_mean: mean cosine between the two networks' descriptors of these views.
        cosine_p01: its 1st percentile.
        cosine_whole: its mean over the whole photos alone.
        neighbours: the share of the edited views for which both have the same nearest photo among these.
        finds, teacher_finds: the share of the edited views whose nearest photo is their own, of either network.
    """

    id: str | None = None
    name: str | None = None
    network: Mapping[str, Any] | None = None
    photos: int | None = None
    views: int | None = None
    cosine_mean: float | None = None
    cosine_p01: float | None = None
    cosine_whole: float | None = None
    neighbours: float | None = None
    finds: float | None = None
    teacher_finds: float | None = None

    def is_by(self, engine_id: str | None, engine: EngineFacts) -> bool:
        """Whether an engine is the teacher: the very file, or another one of its network."""
        return self.id is not None and (engine_id == self.id or (bool(self.network) and engine.network == self.network))

    def in_words(self) -> str:
        """The measured likeness, in words."""
        if self.cosine_mean is None or self.cosine_p01 is None:
            return "nobody has measured by how much"
        return (
            f"the measured cosine between the two is {self.cosine_mean:.3f} on average and {self.cosine_p01:.3f} at the 1st "
            f"percentile, over views of {self.photos} photos"
        )


def student_of(student: EngineFacts, engine_id: str | None, engine: EngineFacts) -> Teaching | None:
    """The record of a student's teacher where another engine is that teacher, else None."""
    record = Teaching.read(student.teacher or {})
    return record if record.is_by(engine_id, engine) else None
