"""Rows that are equal in every bit, as blank images make them: equal pairs are scored once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .arrays import Floats, Ints

_ROWS = 1024  # compared at a time
_KEPT_BYTES = 1 << 27  # of rows that later ones are compared with in one reading of a collection


def same_rows(rows: Floats) -> Ints:
    """For each row, the number of the first row that equals it in every bit ``(n,)``.

    Where two different rows share a hash, which hardly ever happens, each row stands for itself.
    """
    bits = np.ascontiguousarray(rows).view(np.uint32)
    _, first, inverse = np.unique(_hashes(rows), return_index=True, return_inverse=True)
    same: Ints = first[inverse]
    for start in range(0, len(rows) if len(first) < len(rows) else 0, _ROWS):
        part = slice(start, start + _ROWS)
        if (bits[part] != bits[same[part]]).any():
            return np.arange(len(rows))
    return same


def _hashes(rows: Floats) -> Any:
    """A number of 64 bits for each row, ``uint64 (n,)``, equal for equal rows."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64)
    return np.einsum("ij,j->i", bits, factors)


def same_rows_of(blocks: Callable[[], Iterable[Floats]]) -> Ints:
    """The same as `same_rows` for a collection that need not fit into memory ``(n,)``.

    Args:
        blocks: gives the collection from its first row on, block by block. It is read once, and as often again as 128 MB
            hold the first ones of the rows that seem equal.
    """
    hashes = [_hashes(block) for block in blocks()]
    _, first, inverse = np.unique(
        np.concatenate(hashes or [np.empty(0, np.uint64)]), return_index=True, return_inverse=True
    )
    same: Ints = first[inverse]
    del hashes, first, inverse
    others = np.flatnonzero(same != np.arange(len(same)))
    stand = np.unique(same[others])  # rows that later ones seem to equal
    at = 0
    while at < len(stand):
        at += _compare_with_first(blocks(), same, stand[at:])
    return same


def _compare_with_first(blocks: Iterable[Floats], same: Ints, stand: Ints) -> int:
    """Let rows stand for themselves that differ from the first row of their hash; returns how many first rows were compared.

    A first row comes before all that seem to equal it, so one reading in order is enough.
    """
    start = 0
    for block in blocks:
        if not start:
            stand = stand[: max(1, _KEPT_BYTES // max(1, block[:1].nbytes))]
            kept = np.empty((len(stand), block.shape[1]), np.uint32)
        bits = np.ascontiguousarray(block).view(np.uint32)
        inside = slice(*np.searchsorted(stand, (start, start + len(block))))
        kept[inside] = bits[stand[inside] - start]
        mine = same[start : start + len(block)]
        rows = np.flatnonzero(mine != np.arange(start, start + len(block)))
        place = np.minimum(np.searchsorted(stand, mine[rows]), len(stand) - 1)
        here = stand[place] == mine[rows]
        rows, place = rows[here], place[here]
        for first in range(0, len(rows), _ROWS):
            these = rows[first : first + _ROWS]
            unlike = these[(bits[these] != kept[place[first : first + _ROWS]]).any(axis=1)]
            same[start + unlike] = start + unlike
        start += len(block)
    return len(stand)


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
