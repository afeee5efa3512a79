"""The negatives of a comparison of two sides: by which method they normalise both, and which threshold they give."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...descriptors.comparing import compare_with_negatives
from ...descriptors.formats.table import open_any
from ...descriptors.lengths import check_lengths
from ...descriptors.store import Descriptors
from ...descriptors.texts import ids_at
from ...descriptors.verdict import Grade, Remark, Verdict
from ...errors import InputError
from ...evaluation.unrelated import Unrelated, among_negatives, check_count
from ...matching.normalizing.methods import NES, SCORE, method_of, normalize_to_file
from ...matching.normalizing.score_normalization import SCORE_K, normalize_scores
from ...matching.normalizing.stamps import check_negatives, refuse_as_negatives, refuse_normalized, refuse_smoothed
from ...matching.normalizing.subtraction import NES_ITERATIONS, subtract_negatives
from ...matching.searchers.searcher import Searcher
from .thresholds import carried_point

_EQUAL = 0.9999
"""The cosine from which on two descriptors are taken for one where the engine does not say what copies have."""
_NAMED = 3  # two may be as alike by chance, as the default threshold expects


@dataclass(frozen=True)
class Against:
    """Negatives that were given, and the method that uses them.

    Attributes:
        path: the file of the negatives.
        method: ``"score"`` or ``"nes"``.
        is_default: whether these negatives are used so where nobody names a method.
    """

    path: str | os.PathLike[str]
    method: str
    is_default: bool = True

    @classmethod
    def of(cls, negatives: str | os.PathLike[str] | None, method: str | None) -> Against | None:
        """What was given; None where there are no negatives.

        Args:
            negatives: their file.
            method: by default ``"nes"`` for smoothed negatives, which serve nothing else, and ``"score"`` for plain ones.

        Raises:
            InputError: a method was given without negatives, there is no such method, or these negatives do not suit it.
        """
        if negatives is None:
            if method is not None:
                raise InputError(
                    "the method says what becomes of negatives; give them: --negatives FILE (in Python negatives)"
                )
            return None
        with open_any(negatives) as found:
            refuse_as_negatives(found)
            usual = NES if found.provenance.smoothing else SCORE
            chosen = method or usual
            method_of(chosen, None, None, NES_ITERATIONS)
            if chosen == SCORE:
                refuse_smoothed(found)
                rows = len(found) * len(found.views)
                if rows < SCORE_K:
                    raise InputError(
                        f"score normalisation takes the {SCORE_K} nearest negatives of each query, and there are {rows}; give "
                        "more"
                    )
        return cls(negatives, chosen, chosen == usual)

    @contextmanager
    def opened(self) -> Iterator[Descriptors]:
        """The negatives, open while the block runs.

        Raises:
            InputError: those of another tool have another length than 1.
            FormatError: they cannot be read.
        """
        with open_any(self.path) as found:
            check_lengths(found, "negatives'")
            yield found

    def check_fit(self, negatives: Descriptors, sides: Sequence[Descriptors]) -> None:
        """See that the negatives belong to plain sides.

        Args:
            negatives: opened.
            sides: with rows or without.

        Raises:
            MismatchError, InputError: they do not, or a side is normalised already.
        """
        for side in sides:
            refuse_normalized(side)
            compare_with_negatives(side, negatives).refuse()

    def foreseen(self, negatives: Descriptors, sides: Sequence[Descriptors]) -> list[Descriptors]:
        """Queries and references as `normalize` will make them, without rows. All negatives are read for what they are.

        Args:
            negatives: opened.
            sides: plain ones that `check_fit` takes, with rows or without.
        """
        none = [Descriptors(np.empty((0, side.width), np.float32), [], side.meta) for side in sides]
        if self.method == SCORE:
            return [*normalize_scores(none[0], none[1], negatives)]
        return [subtract_negatives(side, negatives) for side in none]

    def normalize(
        self, negatives: Descriptors, sides: tuple[Descriptors, Descriptors], files: Sequence[Path], searcher: Searcher
    ) -> None:
        """Normalise queries and references into two files.

        Args:
            negatives: opened.
            sides: queries and references.
            files: to write.
            searcher: finds the nearest negatives.

        Raises:
            IscFastError: see `isc_fast.normalize_to_file`.
        """
        for side in sides:
            check_negatives(side, negatives)
        for number, (side, file) in enumerate(zip(sides, files, strict=True)):
            of_reference = self.method == SCORE and number == 1
            given = None if of_reference else negatives
            normalize_to_file(side, given, file, method=self.method, device=searcher)

    def overlap(self, negatives: Descriptors, references: Descriptors, searcher: Searcher) -> Verdict:
        """What to know of references that are among the negatives: copies of them will hardly be found.

        Args:
            negatives, references: opened, before they are normalised.
            searcher: compares.

        Raises:
            InputError: most of the references are.
        """
        if negatives.provenance.smoothing:  # means of several photos are like no single one, and near to many
            return Verdict()
        point, count = carried_point(negatives), len(references)
        level = _EQUAL if point is None else point.threshold(count + len(negatives), count * len(negatives))
        rows, looked_at = among_negatives(references, negatives, min(level, _EQUAL), searcher)
        if len(rows) < _NAMED:
            return Verdict()
        of = f"the {count} references" if looked_at == count else f"{looked_at} of the {count} references"
        names = ", ".join(ids_at(references.ids, rows[:_NAMED]))
        words = f"of {of}, {len(rows)} are negatives too, or copies of one, such as {names}"
        if 2 * len(rows) > looked_at:
            raise InputError(f"{words}; negatives are photos that match nothing, so give others")
        advice = "copies of these references score lower, and fewer are found: take them out of the negatives"
        return Verdict((Remark(Grade.WARNING, f"{words}; {advice}"),))

    def check_threshold(self) -> None:
        """See before the work that a threshold can be told where none was given.

        Raises:
            InputError: it cannot, because the method is not score normalisation, or there are too few negatives.
        """
        if self.method != SCORE:
            raise InputError(
                "the engine's default threshold does not hold with negatives that are subtracted; choose one: --threshold (in "
                "Python threshold), or give plain negatives and --method score"
            )
        with open_any(self.path) as found:
            check_count(len(found))

    def unrelated(self, negatives: Descriptors, searcher: Searcher) -> Unrelated:
        """How high unrelated pairs score, by which a threshold is chosen where none was given; see `check_threshold`."""
        point, count = carried_point(negatives), len(negatives)
        level = None if point is None else point.threshold(count, count * (count - 1) / 2)
        return Unrelated.of(negatives, searcher, level)

    @property
    def commands(self) -> str:
        """How descriptors are normalised alike before they are compared, in words."""
        if self.method == SCORE:
            return (
                "isc-fast normalize QUERIES --method score --role query --negatives FILE -o parts/, and the references with "
                "--role reference"
            )
        return "isc-fast normalize FILE --negatives FILE -o parts/"
