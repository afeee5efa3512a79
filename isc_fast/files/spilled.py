"""Columns that come piece by piece and are read several times. They lie in files without a name, and not in memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .lazy import BLOCK, Lazy
from .sums import read_exactly

_AT_ONCE = 1 << 20  # bytes of rows that are read at a time


class _Spill:
    """Bytes in a file that has no name, and is gone when it is closed. Whatever fails is an OSError.

    Attributes:
        size: the number of bytes.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # whoever made this closes it
        self.size = 0

    def append(self, content: bytes) -> None:
        self._file.write(content)
        self.size += len(content)

    def flush(self) -> None:
        self._file.flush()

    def read(self, start: int, stop: int) -> bytearray:
        self.flush()
        content = bytearray(stop - start)
        if read_exactly(self._file.fileno(), start, memoryview(content)) < len(content):
            raise OSError(f"a temporary file ends before byte {stop}")
        return content

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of what is thrown away nothing need be written
            self._file.close()


class _Spilled:
    """What lies in such a file."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._spill = _Spill(folder)

    def flush(self) -> None:
        """Write what is still in memory; reading does so too."""
        self._spill.flush()

    def close(self) -> None:
        """Give the room back."""
        self._spill.close()


class SpilledRows(_Spilled):
    """Rows ``(n, width)`` of numbers.

    Args:
        folder: where there is room for the file.
        width: numbers of a row.
        dtype: of a number.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], width: int, dtype: npt.DTypeLike) -> None:
        super().__init__(folder)
        self._width, self._dtype = width, np.dtype(dtype)

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Add rows to the end."""
        self._spill.append(np.asarray(rows, self._dtype).tobytes())

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """All rows in order, about a megabyte at a time."""
        bytes_of_row = self._width * self._dtype.itemsize
        step = max(1, _AT_ONCE // bytes_of_row) * bytes_of_row
        for start in range(0, self._spill.size, step):
            content = self._spill.read(start, min(start + step, self._spill.size))
            yield np.frombuffer(content, self._dtype).reshape(-1, self._width)


class SpilledTexts(_Spilled, Lazy[str]):
    """Texts without zero bytes. They are read some thousand at a time, or as few as came together, and memory holds two numbers
    of each such piece.

    Args:
        folder: where there is room for the file.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self._counts, self._ends = [0], [0]  # texts and bytes up to the end of each piece

    def add(self, texts: Sequence[str]) -> None:
        """Add some to the end."""
        for start in range(0, len(texts), BLOCK):
            piece = texts[start : start + BLOCK]
            self._spill.append("\0".join(piece).encode("utf-8", "surrogatepass"))
            self._counts.append(self._counts[-1] + len(piece))
            self._ends.append(self._spill.size)

    def __len__(self) -> int:
        return self._counts[-1]

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        found: list[str] = []
        number = bisect_right(self._counts, start) - 1
        first = start - self._counts[number] if start < stop else 0
        while start + len(found) < stop:
            piece = self._piece(number)
            found += piece[first : first + stop - start - len(found)]
            first, number = 0, number + 1
        return found

    def _piece(self, number: int) -> list[str]:
        content = self._spill.read(*self._ends[number : number + 2])
        count = self._counts[number + 1] - self._counts[number]
        return content.decode("utf-8", "surrogatepass").split("\0")[:count]
