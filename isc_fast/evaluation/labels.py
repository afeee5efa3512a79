"""Labels for an evaluation: a ground truth, or what people said of pairs on a page."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..matching.lists.matches import Matches, Truth, read_truth
from ..matching.lists.verdicts import holds_verdicts, labels_of, read_verdicts


@dataclass(frozen=True)
class Labels:
    """What an evaluation compares.

    Attributes:
        matches: the pairs that count.
        truth: which of them are right.
        judged: how many pairs count because somebody judged them; None with a ground truth, with which all count.
    """

    matches: Matches
    truth: Truth
    judged: int | None


def read_labels(path: str | os.PathLike[str], matches: Matches) -> Labels:
    """Read a ground truth or a file of verdicts, whichever it is, for these matches.

    Raises:
        FormatError: it is neither.
        InputError: the verdicts say nothing of these matches, or none of them is right.
    """
    if not holds_verdicts(path):
        return Labels(matches, read_truth(path), None)
    judged, truth = labels_of(matches, read_verdicts(path))
    return Labels(judged, truth, len(judged))
