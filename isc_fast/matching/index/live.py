"""The rows that count of several sets, as one set that is read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...descriptors.store import Descriptors
from ...files.lazy import Texts
from ..arrays import Floats, Ints

_IDS = 4096


@dataclass(frozen=True)
class Piece:
    """Some rows of a set, by their numbers, rising."""

    descriptors: Descriptors
    numbers: Ints

    @classmethod
    def whole(cls, descriptors: Descriptors) -> Piece:
        """All of its rows."""
        return cls(descriptors, np.arange(len(descriptors)))


class _Vectors:
    """Sliced like an array ``(n, d)``; the rows stay where they are."""

    dtype = np.dtype(np.float32)

    def __init__(self, pieces: Sequence[Piece], dim: int) -> None:
        self._pieces = pieces
        self._starts = np.cumsum([0, *(len(piece.numbers) for piece in pieces)])
        self.shape = (int(self._starts[-1]), dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Floats:
        start, stop, _ = rows.indices(len(self))
        found = [np.empty((0, self.shape[1]), np.float32)]
        for piece, first in zip(self._pieces, self._starts.tolist(), strict=False):
            wanted = piece.numbers[max(0, start - first) : max(0, stop - first)]
            if len(wanted):
                low, high = int(wanted[0]), int(wanted[-1]) + 1
                found.append(np.asarray(piece.descriptors.vectors[low:high], np.float32)[wanted - low])
        return np.concatenate(found)


def _ids(pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        ids: Any = piece.descriptors.ids
        for start in range(0, len(ids), _IDS):
            inside = piece.numbers[np.searchsorted(piece.numbers, start) : np.searchsorted(piece.numbers, start + _IDS)]
            some = ids[start : start + _IDS] if len(inside) else ()
            yield from (some[row] for row in (inside - start).tolist())


def together(pieces: Sequence[Piece]) -> Descriptors:
    """The rows of several pieces of one kind as one set; its ids are in memory, its rows are not.

    It says of itself what the first piece says.
    """
    first = pieces[0].descriptors
    vectors: Any = _Vectors(pieces, first.dim)
    return Descriptors(vectors, Texts(_ids(pieces)), first.meta)
