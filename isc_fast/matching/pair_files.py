"""Pairs in files, since tens of millions of them would fill the memory: one file for each piece of work.

A file exists if its piece is done, and appears whole or not at all. So work that was interrupted goes on with the pieces that
are missing. A pair takes twelve bytes: two row numbers ``uint32`` and a score ``float32``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import DamageError, InputError
from ..files.atomic import make_folder, replacing
from .arrays import Pairs

MOST_ROWS = 2**32
_PAIR = np.dtype([("first", "<u4"), ("second", "<u4"), ("score", "<f4")])
_AT_ONCE = 1 << 20  # pairs that are read at a time: 32 MB as arrays


class PairFiles:
    """The pairs of several pieces of work, in a folder of their own.

    Args:
        folder: made if it is missing.
        pieces: how many pieces there are.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], pieces: int) -> None:
        self.folder, self.pieces = make_folder(folder), pieces

    def _path(self, piece: int) -> Path:
        return self.folder / f"{piece:06d}.pairs"

    def missing(self) -> list[int]:
        """The numbers of the pieces that are not done, rising."""
        return [piece for piece in range(self.pieces) if not self._path(piece).exists()]

    def write(self, piece: int, blocks: Iterable[Pairs]) -> None:
        """Write the pairs of a piece, as they come.

        Raises:
            OutputError: the file cannot be written.
            InputError: a row number does not fit into 32 bits.
        """
        with replacing(self._path(piece)) as temporary, open(temporary, "wb") as file:
            for first, second, score in blocks:
                if max(first.max(initial=0), second.max(initial=0)) >= MOST_ROWS:
                    raise InputError(f"pairs are kept for at most {MOST_ROWS} rows; compare fewer photos at a time")
                made = np.empty(len(first), _PAIR)
                made["first"], made["second"], made["score"] = first, second, score
                file.write(made.data)

    def __len__(self) -> int:
        """How many pairs there are."""
        return sum(self._path(piece).stat().st_size for piece in range(self.pieces)) // _PAIR.itemsize

    def __iter__(self) -> Iterator[Pairs]:
        """All pairs, block by block, in the order in which they were written.

        Raises:
            DamageError: a file is not whole.
        """
        for piece in range(self.pieces):
            path = self._path(piece)
            if path.stat().st_size % _PAIR.itemsize:
                raise DamageError(f"{path} is cut short; remove it, and run the same command again")
            with open(path, "rb") as file:
                while content := file.read(_AT_ONCE * _PAIR.itemsize):
                    pairs = np.frombuffer(content, _PAIR)
                    yield pairs["first"].astype(np.int64), pairs["second"].astype(np.int64), pairs["score"].copy()
