"""Pairs in files, since tens of millions of them would fill the memory: one file for each piece of work.

A file exists if its piece is done. It appears whole, is created once and never replaced, and nothing is locked: so work that was
interrupted goes on with the pieces that are missing, and several processes, on this machine or on others, may do pieces of it.
They lie in a folder, or under a prefix in a bucket.

A pair takes twelve bytes: two row numbers ``uint32`` and a score ``float32``. Behind the pairs of a file stand checksums
(`isc_fast.files.sums`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DamageError, FormatError, InputError
from ...files.atomic import replacing
from ...files.homes import Home, home_of
from ...files.sums import append_sums, content_bytes, digest_of
from ...files.verified import open_summed
from ..searchers.arrays import Pairs

MOST_ROWS = 2**32
_PAIR = np.dtype([("first", "<u4"), ("second", "<u4"), ("score", "<f4")])
_AT_ONCE = 1 << 20  # pairs that are read at a time: 32 MB as arrays


class PairFiles:
    """The pairs of several pieces of work, in a folder of their own.

    Args:
        place: the folder, which is made if it is missing; or the address of a prefix in a bucket.
        pieces: how many pieces there are.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, place: str | os.PathLike[str] | Home, pieces: int) -> None:
        self.home, self.pieces = home_of(place), pieces
        self.home.begin_folder("")

    @staticmethod
    def name_of(piece: int) -> str:
        """The name of the file of a piece."""
        return f"{piece:06d}.pairs"

    def missing(self, among: Iterable[int] | None = None) -> list[int]:
        """The numbers of the pieces that are not done, of all or among some, in order."""
        there = self.home.sizes("")
        return [piece for piece in (range(self.pieces) if among is None else among) if self.name_of(piece) not in there]

    def write(self, piece: int, blocks: Iterable[Pairs]) -> None:
        """Write the pairs of a piece, as they come, unless somebody else has done the piece meanwhile.

        Raises:
            OutputError: the file cannot be written.
            InputError: a row number does not fit into 32 bits.
        """
        self.home.create(self.name_of(piece), partial(_write, blocks=blocks))

    def __len__(self) -> int:
        """How many pairs there are."""
        sizes = self.home.sizes("")
        return sum(content_bytes(sizes[self.name_of(piece)]) for piece in range(self.pieces)) // _PAIR.itemsize

    def __iter__(self) -> Iterator[Pairs]:
        """All pairs, block by block, in the order in which they were written.

        Raises:
            DamageError: a file is not whole.
        """
        for piece in range(self.pieces):
            yield from self.of(piece)

    def of(self, piece: int) -> Iterator[Pairs]:
        """The pairs of a piece, block by block.

        Raises:
            DamageError: its file is not whole, or gone.
        """
        path = self.home.file(self.name_of(piece))
        try:
            with open_summed(path, digest_of(path)) as file:
                left, rest = divmod(file.content_bytes, _PAIR.itemsize)
                if rest:
                    raise FormatError("it ends within a pair")
                while left:
                    pairs = np.empty(min(_AT_ONCE, left), _PAIR)
                    file.readinto(pairs.view(np.uint8))
                    left -= len(pairs)
                    yield pairs["first"].astype(np.int64), pairs["second"].astype(np.int64), pairs["score"].copy()
        except FormatError as error:
            reason = error.place if isinstance(error, DamageError) else str(error)
            raise DamageError(
                f"{self.home.address}/{self.name_of(piece)} is damaged ({reason}); remove it, and run the same command again, "
                "which computes it",
                reason,
            ) from error


def _write(path: Path, blocks: Iterable[Pairs]) -> None:
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            for first, second, score in blocks:
                if max(first.max(initial=0), second.max(initial=0)) >= MOST_ROWS:
                    raise InputError(f"pairs are kept for at most {MOST_ROWS} rows; compare fewer photos at a time")
                made = np.empty(len(first), _PAIR)
                made["first"], made["second"], made["score"] = first, second, score
                file.write(made.data)
        append_sums(temporary)
