"""The negatives of a comparison of two sides: by which method they normalise both, and which threshold they give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...descriptors.formats.table import open_any
from ...descriptors.store import Descriptors
from ...errors import InputError
from ...evaluation.unrelated import Unrelated, check_count
from ...matching.normalizing.methods import NES, SCORE, method_of, normalize_to_file
from ...matching.normalizing.score_normalization import SCORE_K
from ...matching.normalizing.stamps import check_negatives, refuse_as_negatives, refuse_smoothed
from ...matching.normalizing.subtraction import NES_ITERATIONS
from ...matching.searchers.searcher import Searcher
from .thresholds import carried_point


@dataclass(frozen=True)
class Against:
    """Negatives that were given, and the method that uses them.

    Attributes:
        path: the file of the negatives.
        method: ``"score"`` or ``"nes"``.
    """

    path: str | os.PathLike[str]
    method: str

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
            chosen = method or (NES if found.provenance.smoothing else SCORE)
            method_of(chosen, None, None, NES_ITERATIONS)
            if chosen == SCORE:
                refuse_smoothed(found)
                rows = len(found) * len(found.views)
                if rows < SCORE_K:
                    raise InputError(
                        f"score normalisation takes the {SCORE_K} nearest negatives of each query, and there are {rows}; give "
                        "more"
                    )
        return cls(negatives, chosen)

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
