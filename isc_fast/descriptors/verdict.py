"""The answer to whether two sets may be compared: the remarks that a user should read, and how grave they are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import IntEnum

from ..errors import MismatchError


class PrecisionWarning(UserWarning):
    """Two sets that are compared were made in different precisions of one network, or by a network and its teacher."""


class Grade(IntEnum):
    """How an answer is meant; a higher one outweighs a lower one."""

    YES = 0
    NOTE = 1
    WARNING = 2
    NO = 3


@dataclass(frozen=True)
class Remark:
    """One thing that a user should know, or the reason of a refusal: one line, and how it is meant."""

    grade: Grade
    words: str


@dataclass(frozen=True)
class Verdict:
    """Whether two sets may be compared.

    Attributes:
        remarks: what there is to say about it; the last one is the reason where the answer is no.
    """

    remarks: tuple[Remark, ...] = ()

    @property
    def grade(self) -> Grade:
        """The gravest of the remarks."""
        return max((remark.grade for remark in self.remarks), default=Grade.YES)

    @property
    def allowed(self) -> bool:
        """Whether the sets may be compared."""
        return self.grade < Grade.NO

    def refuse(self) -> None:
        """Return if the sets may be compared, whatever else there is to say.

        Raises:
            MismatchError: they may not.
        """
        for remark in self.remarks:
            if remark.grade is Grade.NO:
                raise MismatchError(remark.words)

    def require(self) -> None:
        """Return if the sets may be compared, with a Python warning where their scores are not exact.

        Raises:
            MismatchError: they may not.
        """
        self.refuse()
        for remark in self.remarks:
            if remark.grade is Grade.WARNING:
                warnings.warn(remark.words, PrecisionWarning, stacklevel=3)
