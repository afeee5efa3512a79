"""Findings of a check, and what is checked of rows wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...descriptors.store import BLOCK_ROWS, Descriptors
from ...descriptors.view_rows import row_blocks

OK, NOTE, PROBLEM = "ok", "note", "problem"
"""Grades of a finding: as it should be; cannot be checked, or worth knowing; not as it should be."""

_OFF_UNIT = 1e-3
"""By how much a length of 1 may be off: int8 engines and saved halves stay far below."""

SHOWN = 5
"""Rows, ids or places that a message names."""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        what: was checked, such as ``"norms"``.
        grade: `OK`, `NOTE` or `PROBLEM`.
        words: what was found, and for a problem what to do.
    """

    what: str
    grade: str
    words: str


def listed(values: Sequence[str], count: int) -> str:
    """The first of so many names, in words."""
    return ", ".join(values) + (f" and {count - len(values)} more" if count > len(values) else "")


def of_vectors(found: Descriptors) -> Iterator[Finding]:
    """Whether all numbers are finite, and all rows as long as they should be."""
    endless: list[int] = []
    off: list[int] = []
    least, most, row, views = np.inf, -np.inf, 0, len(found.views)
    for block in row_blocks(found, BLOCK_ROWS):
        squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        finite = np.isfinite(squares)
        lengths = np.sqrt(squares[finite])
        endless += (np.flatnonzero(~finite) + row).tolist()
        off += (np.flatnonzero(finite & (np.abs(np.sqrt(np.where(finite, squares, 1)) - 1) > _OFF_UNIT)) + row).tolist()
        if len(lengths):
            least, most = min(least, float(lengths.min())), max(most, float(lengths.max()))
        row += len(block)
    endless, off = ([*dict.fromkeys(number // views for number in numbers)] for numbers in (endless, off))
    if endless:
        rows = listed([str(row) for row in endless[:SHOWN]], len(endless))
        yield Finding("numbers", PROBLEM, f"the rows {rows} hold NaN or infinity; extract these images again")
    else:
        yield Finding("numbers", OK, "all are finite")
    normalization = found.provenance.normalization
    if not off:
        yield Finding("norms", OK, "every descriptor has length 1")
    elif normalization is not None and normalization.by_score:
        yield Finding(
            "norms", OK, f"lengths are {least:.4f} to {most:.4f}: scores are normalised, so they need not be 1"
        )
    else:
        rows = listed([str(row) for row in off[:SHOWN]], len(off))
        ours = found.provenance.stamped
        advice = "compute the file again" if ours else "scores are no cosines until they are divided by their lengths"
        words = f"the rows {rows} have another length than 1 (all: {least:.4f} to {most:.4f}); {advice}"
        yield Finding("norms", PROBLEM if ours else NOTE, words)
