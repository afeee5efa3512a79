"""Labels for an evaluation: a ground truth, or what people said of pairs on a page."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..matching.lists.matches import Matches, Truth, read_truth
from ..matching.lists.verdicts import WRONG, holds_verdicts, labels_of, read_verdicts


@dataclass(frozen=True)
class Labels:
    """What an evaluation compares.

    Attributes:
        matches: the pairs that count.
        truth: which of them are right.
        judged: how many pairs count because somebody judged them; None with a ground truth, with which all count.
        lacking: how many pairs were judged wrong, where none of them is among the matches: a run with ``--verdicts`` leaves them
            out, and its matches look perfect. Else 0.
    """

    matches: Matches
    truth: Truth
    judged: int | None
    lacking: int = 0


def read_labels(path: str | os.PathLike[str], matches: Matches) -> Labels:
    """Read a ground truth or a file of verdicts, whichever it is, for these matches.

    Raises:
        FormatError: it is neither.
        InputError: the verdicts say nothing of these matches, or none of them is right.
    """
    if not holds_verdicts(path):
        return Labels(matches, read_truth(path), None)
    verdicts = read_verdicts(path)
    judged, truth = labels_of(matches, verdicts)
    wrong = sum(1 for _ in verdicts.pairs(WRONG))
    has_wrong = any((query, reference) not in truth.pairs for query, reference, _ in judged)
    return Labels(judged, truth, len(judged), 0 if has_wrong else wrong)
