"""Which of many values are equal, or in one set and not in another, in memory that does not grow with their number.

Values are compared by their hashes of 64 bits, which lie in a temporary file where they are many, eight bytes each, and are
sorted a part at a time. Two values of one hash are taken for one: of ten million that differ, that happens in one run of 400,000.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from .scratch import needs_scratch

_BLOCK = 1 << 16  # hashes that are written and read at a time
_PART = 1 << 19  # at most about so many are sorted at a time: 4 MB, and some times as much for what is made of them
_NEED = "comparing very many ids"

Hashes = npt.NDArray[np.uint64]


class _Spilled:
    """The hashes of values, in a file without a name that is in memory while it is small."""

    def __init__(self, values: Iterable[Hashable], file: Any) -> None:
        self._file, self.count = file, 0
        source = map(hash, values)
        while len(block := np.fromiter(islice(source, _BLOCK), np.int64)):
            with needs_scratch(_NEED):
                self._file.write(block.data)
            self.count += len(block)

    def blocks(self) -> Iterator[Hashes]:
        """All hashes, in order."""
        with needs_scratch(_NEED):
            self._file.seek(0)  # what was held back is written now
        while content := self._file.read(8 * _BLOCK):
            yield np.frombuffer(content, np.uint64)

    def part(self, number: int, bits: int) -> Hashes:
        """Sorted, those whose first bits are a number ``0 ≤ number < 2 ** bits``."""
        shift = np.uint64(64 - bits)
        found = (block[block >> shift == number] if bits else block for block in self.blocks())
        return np.sort(np.concatenate([np.empty(0, np.uint64), *found]))


@contextlib.contextmanager
def _spilled(
    *sets: Iterable[Hashable], folder: str | os.PathLike[str] | None = None
) -> Iterator[tuple[list[_Spilled], int]]:
    """The hashes of each set, and the bits that part the largest into parts that are small enough."""
    where = None if folder is None else os.fspath(folder)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.SpooledTemporaryFile(8 * _PART, dir=where)) for _ in sets]
        made = [_Spilled(values, file) for values, file in zip(sets, files, strict=True)]
        yield made, (max(hashes.count for hashes in made) // _PART).bit_length()


def repeated_rows(values: Iterable[Hashable], folder: str | os.PathLike[str] | None = None) -> npt.NDArray[np.int64]:
    """Rows, rising, whose value may occur more than once: certainly all of which it is true.

    A value that occurs once is named too where its hash equals another's. So whoever acts on the answer looks at the values
    themselves.

    Args:
        values: gone through once.
        folder: for the temporary file; by default the system's.

    Raises:
        OutputError: the temporary file cannot be written.
    """
    with _spilled(values, folder=folder) as ([hashes], bits):
        parts = (hashes.part(number, bits) for number in range(1 << bits))
        twice = np.concatenate([part[1:][part[1:] == part[:-1]] for part in parts])
        if not len(twice):
            return np.empty(0, np.int64)
        starts = range(0, hashes.count, _BLOCK)
        found = [np.flatnonzero(np.isin(b, twice)) + start for start, b in zip(starts, hashes.blocks(), strict=True)]
        return np.concatenate(found)
