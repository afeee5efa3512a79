"""Rows that are equal in every bit, as blank images make them: equal pairs are scored once."""

from __future__ import annotations

import numpy as np

from .arrays import Floats, Ints

_ROWS = 1024  # compared at a time


def same_rows(rows: Floats) -> Ints:
    """For each row, the number of the first row that equals it in every bit ``(n,)``.

    Where two different rows share a hash, which hardly ever happens, each row stands for itself.
    """
    bits = np.ascontiguousarray(rows).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64)
    _, first, inverse = np.unique(np.einsum("ij,j->i", bits, factors), return_index=True, return_inverse=True)
    same: Ints = first[inverse]
    for start in range(0, len(rows) if len(first) < len(rows) else 0, _ROWS):
        part = slice(start, start + _ROWS)
        if (bits[part] != bits[same[part]]).any():
            return np.arange(len(rows))
    return same


def distinct_pairs(rows: Ints, columns: Ints, same_row: Ints, same_column: Ints) -> tuple[Ints, Ints, Ints]:
    """Find the pairs that stand for all pairs, where equal rows make equal pairs.

    Args:
        rows, columns: the two sides of each pair ``(n,)``.
        same_row, same_column: what `same_rows` gives for both sides. Memory holds a table of all their pairs.

    Returns:
        rows and columns of the pairs that stand for others, and which of these stands for each pair ``(n,)``.
    """
    keys = same_row[rows] * len(same_column) + same_column[columns]
    number = np.zeros(len(same_row) * len(same_column), np.int32)
    number[keys] = 1
    distinct = np.flatnonzero(number)
    number[distinct] = np.arange(len(distinct))
    return distinct // len(same_column), distinct % len(same_column), number[keys]
