"""Recall as it was measured on a sample, with what is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Recall:
    """The share of each query's k best rows that were found, on a sample of the rows.

    Attributes:
        mean: over the queries.
        low, high: the 95 % interval of it.
        queries: how many were asked.
        k: of which it is measured.
    """

    mean: float
    low: float
    high: float
    queries: int
    k: int

    @classmethod
    def of(cls, mean: float, queries: int, k: int, *, of_all: bool = False) -> Recall:
        """A recall with Wilson's interval; it has no width if ``of_all`` rows were asked, and nothing is left to chance.

        Each query counts as one trial, although k rows were looked for: a query that loses one row of ten often loses others. A
        share between 0 and 1 varies at most as a trial that succeeds or fails, so the interval is rather too wide.
        """
        if of_all:
            return cls(mean, mean, mean, queries, k)
        middle = mean + _Z**2 / (2 * queries)
        half = _Z * math.sqrt(mean * (1 - mean) / queries + _Z**2 / (4 * queries**2))
        whole = 1 + _Z**2 / queries
        return cls(mean, max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole), queries, k)

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f}, 95 %) of the {self.k} best, {self.queries} queries"


def queries_for(promised: float) -> int:
    """How many queries can show a recall: with fewer, the interval is wider than what may be lost."""
    return max(1000, math.ceil(10 / (1 - promised)))
