"""Sequences that make their elements when somebody asks for them, since ten million elements would fill the memory."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

from ..items import Ints

BLOCK = 4096
"""Elements that an iteration over a lazy sequence makes at a time."""

S = TypeVar("S")
T = TypeVar("T", covariant=True)


class Lazy(Sequence[T]):
    """A sequence that makes its elements when they are asked for. It equals any sequence of the same elements.

    Attributes:
        unique: whether it is known that no two elements are equal.
    """

    unique = False

    @abstractmethod
    def read(self, start: int, stop: int) -> list[T]:
        """The elements of ``start ≤ row < stop``, both within the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        rows = range(len(self))[index]
        if isinstance(rows, int):
            return self.read(rows, rows + 1)[0]
        return self.read(rows.start, max(rows.start, rows.stop)) if rows.step == 1 else [self[row] for row in rows]

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), BLOCK):
            yield from self.read(start, min(start + BLOCK, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"{type(self).__name__}([{shown}{', …' if len(self) > 3 else ''}], {len(self)} in all)"


class Texts(Lazy[str]):
    """Strings in two buffers: each takes its UTF-8 bytes and 8 more bytes. In a list, each takes 57 more bytes.

    A lone surrogate, as file names that are not UTF-8 have, is kept as it is.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._bytes, self._ends = bytearray(), array("Q")
        for text in texts:
            self._bytes += text.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        first = self._ends[start - 1] if start else 0
        whole, ends = self._bytes[first : self._ends[stop - 1]] if stop else b"", self._ends[start:stop]
        texts, begin = [], 0
        for end in ends:
            texts.append(whole[begin : end - first].decode("utf-8", "surrogatepass"))
            begin = end - first
        return texts


class Chosen(Lazy[T]):
    """Some elements of a sequence, by their rising numbers ``int64 (m,)``. Those that lie near each other are read at once."""

    def __init__(self, elements: Sequence[T], numbers: Ints) -> None:
        self._elements, self._numbers = elements, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, start: int, stop: int) -> list[T]:
        """See `Lazy`."""
        numbers: list[int] = self._numbers[start:stop].tolist()
        found: list[T] = []
        while len(found) < len(numbers):
            first = numbers[len(found)]
            near = numbers[len(found) : bisect_left(numbers, first + BLOCK, len(found))]
            read = self._elements[first : near[-1] + 1]
            found += [read[number - first] for number in near]
        return found


class Joined(Lazy[T]):
    """Several sequences as one, each behind the other.

    Args:
        sequences: in order.
        unique: whether it is known that no two elements are equal.
    """

    def __init__(self, sequences: Sequence[Sequence[T]], *, unique: bool = False) -> None:
        self._sequences, self.unique = sequences, unique

    def __len__(self) -> int:
        return sum(map(len, self._sequences))

    def read(self, start: int, stop: int) -> list[T]:
        """See `Lazy`."""
        found: list[T] = []
        for sequence in self._sequences:
            count = len(sequence)
            if start < count and stop > 0:
                found += sequence[max(start, 0) : min(stop, count)]
            start, stop = start - count, stop - count
        return found


class Mapped(Lazy[T]):
    """What a function makes of each element of a sequence, when it is asked for."""

    def __init__(self, elements: Sequence[S], function: Callable[[S], T]) -> None:
        self._elements: Sequence[Any] = elements
        self._function: Callable[[Any], T] = function

    def __len__(self) -> int:
        return len(self._elements)

    def read(self, start: int, stop: int) -> list[T]:
        """See `Lazy`."""
        return [self._function(element) for element in self._elements[start:stop]]
