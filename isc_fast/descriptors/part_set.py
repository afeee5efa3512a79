"""A result in parts as one set of descriptors. A part is opened when something of it is read, and few are open at a time.

Opening the set looks at the size of every part. Opening a part compares its checksums with those that the manifest says, and its
counts; every block that is read is compared with its checksum, as those of any descriptor file. So a part that is missing, cut,
damaged or of another set is an error that names it, and no part is read whole to find out.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DamageError, FormatError
from ..files.homes import Home, home_of
from ..files.lazy import Lazy
from ..files.sums import damage, digest_of
from ..files.verified import VerifiedFile, open_summed
from ..items import Failure, Ints
from ..sources.stamps import unknown
from .manifest import Manifest, parts_home, read_manifest
from .picking import some_rows
from .store import Descriptors, open_descriptors
from .texts import FileIds, ids_at

MOST_OPEN = 16
"""Part files that are open at a time. A block of rows needs them one after the other."""

Rows = npt.NDArray[Any]


@contextlib.contextmanager
def open_parts(path: str | os.PathLike[str]) -> Iterator[Descriptors]:
    """Open a result in parts, named by its folder, its prefix in a bucket, or its manifest, as `open_descriptors` opens a file.

    Raises:
        FormatError: it is no such result, or a part is missing or has another size.
        StoreError: its bucket cannot be reached.
    """
    home = parts_home(path)
    if home is None:
        raise FormatError(f"{os.fspath(path)} is no folder with a manifest of isc-fast extract; expected descriptors")
    with contextlib.closing(PartFiles(home, read_manifest(home))) as files:
        files.check_sizes()
        yield files.whole()


class PartFiles:
    """The parts of a manifest. Several threads may read them; one reads at a time.

    Args:
        place: of the manifest: its folder, or its home.
        manifest: says what the parts are.
    """

    def __init__(self, place: str | os.PathLike[str] | Home, manifest: Manifest) -> None:
        self.home, self.manifest = home_of(place), manifest
        self._open: OrderedDict[int, tuple[ExitStack, Descriptors]] = OrderedDict()
        self._lock = threading.RLock()

    def check_sizes(self) -> None:
        """Look at the size of every part.

        Raises:
            DamageError: a part is missing, or has another size.
        """
        for number, words in self.manifest.lost(self.home):
            raise self.damage(number, words)

    def whole(self) -> Descriptors:
        """All parts as one set, in order."""
        manifest, parts = self.manifest, self.manifest.parts
        rows, failures, notes = ([getattr(part, name) for part in parts] for name in ("rows", "failures", "notes"))
        return Descriptors(
            vectors=PartVectors(self, rows, manifest.dim, np.float32, lambda part: part.vectors),  # type: ignore[arg-type]
            ids=PartIds(self, rows, lambda part: part.ids, unique=manifest.unique),
            meta=manifest.meta,
            failures=PartLedger(self, failures, lambda part: part.failures),
            notes=PartLedger(self, notes, lambda part: part.notes),
            stamps=PartRows(self, rows, 2, np.int64, _stamps),  # type: ignore[arg-type]  # it is sliced like an array
            failure_stamps=PartRows(self, failures, 2, np.int64, _failure_stamps),  # type: ignore[arg-type]
        )

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[Descriptors]:
        """One part, open while the block runs.

        Raises:
            DamageError: it is missing, cut, damaged or of another set.
        """
        with self._lock, self._in_words(number):
            if number not in self._open:
                self._open[number] = self._opened(number)
                if len(self._open) > MOST_OPEN:
                    self._open.popitem(last=False)[1][0].close()
            self._open.move_to_end(number)
            try:
                yield self._open[number][1]
            except BaseException:
                with self._open.pop(number)[0]:  # the file may know better what is wrong
                    raise

    @contextlib.contextmanager
    def raw(self, number: int) -> Iterator[VerifiedFile]:
        """The bytes of a part, each block compared with its checksum.

        Raises:
            DamageError: it is missing, cut, damaged or of another set.
        """
        part = self.manifest.parts[number]
        file = self.home.file(part.name)
        with self._in_words(number), contextlib.closing(open_summed(file, part.checksums)) as stream:
            yield stream

    @contextlib.contextmanager
    def _in_words(self, number: int) -> Iterator[None]:
        """Turn what is wrong with a part into the error that names it."""
        try:
            yield
        except DamageError as error:
            raise self.damage(number, f"is damaged ({error.place})") from error
        except FormatError as error:
            raise self.damage(number, f"is not what the manifest says ({error})") from error

    def _opened(self, number: int) -> tuple[ExitStack, Descriptors]:
        part = self.manifest.parts[number]
        file = self.home.file(part.name)
        if digest_of(file) != part.checksums:
            raise damage(str(file), "it is another file than the one that was written")
        with ExitStack() as stack:
            found = stack.enter_context(open_descriptors(file))
            counts = len(found), len(found.failures), len(found.notes)
            if counts != (part.rows, part.failures, part.notes) or found.width != self.manifest.dim:
                raise FormatError(f"it holds {counts[0]} rows of {found.width} numbers, {counts[1]} failures")
            return stack.pop_all(), found

    def damage(self, number: int, words: str) -> DamageError:
        """The error of a part; ``words`` say what is wrong with it, such as ``"is not there"``."""
        name = self.manifest.parts[number].name
        before = "" if self.home.size(name) is None else "remove it and "
        advice = f"copy it from a sound copy, or {before}{self.manifest.again}"
        return DamageError(f"the part {name} of {self.home.address} {words}; {advice}", words)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][0].close()


def _stamps(part: Descriptors) -> Any:
    return unknown(len(part)) if part.stamps is None else part.stamps


def _failure_stamps(part: Descriptors) -> Any:
    return unknown(len(part.failures)) if part.failure_stamps is None else part.failure_stamps


class _Column:
    """What all parts have of one kind, one behind the other.

    Args:
        files: the parts.
        counts: how many of its elements each part has.
        column: gives those of an open part.
    """

    def __init__(self, files: PartFiles, counts: Sequence[int], column: Callable[[Descriptors], Any]) -> None:
        self.files, self.column = files, column
        self.ends: Ints = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def of_part(self, number: int, wanted: slice | Ints) -> Any:
        """What the part of that number has at some places: a slice, or rising numbers."""
        with self.files.part(number) as part:
            column = self.column(part)
            return column[wanted] if isinstance(wanted, slice) else some_rows(column, wanted)

    def pieces(self, start: int, stop: int) -> Iterator[Any]:
        """These elements, part by part."""
        for number, first, end in self.runs(start, stop):
            yield self.of_part(number, slice(first, end))

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Of each part that has some of these elements: its number, and the first and the end of them in it."""
        number = int(np.searchsorted(self.ends, start, side="right"))
        while start < stop:
            end, before = int(self.ends[number]), self.before(number)
            if start < end:
                yield number, start - before, min(stop, end) - before
            start, number = max(start, end), number + 1

    def scattered(self, numbers: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        """Of each part that has some of these elements: its number, the places of their numbers, and their numbers in it."""
        of_part = np.searchsorted(self.ends, numbers, side="right")
        for number in np.unique(of_part).tolist():
            places = np.flatnonzero(of_part == number)
            yield number, places, numbers[places] - self.before(number)

    def before(self, number: int) -> int:
        """How many elements the parts before that one have."""
        return int(self.ends[number - 1]) if number else 0


class PartRows:
    """Rows of all parts. They are sliced like an array, and what is asked for is read.

    Args:
        files, counts, column: see `_Column`.
        width: of a row.
        dtype: of what is read.
    """

    def __init__(
        self,
        files: PartFiles,
        counts: Sequence[int],
        width: int,
        dtype: npt.DTypeLike,
        column: Callable[[Descriptors], Any],
    ) -> None:
        self._column, self.dtype = _Column(files, counts, column), np.dtype(dtype)
        self.shape = len(self._column), width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | int | Ints | tuple[Any, ...]) -> Rows:
        if isinstance(wanted, tuple):
            return np.asarray(self[wanted[0]][(slice(None), *wanted[1:])])
        if isinstance(wanted, (int, np.integer)):
            row = range(len(self))[int(wanted)]
            return np.asarray(self._run(row, row + 1)[0])
        if not isinstance(wanted, slice):
            return self._at(np.asarray(wanted, np.int64))
        start, stop, step = wanted.indices(len(self))
        return self._run(start, max(start, stop)) if step == 1 else self._at(np.arange(start, stop, step))

    def _run(self, start: int, stop: int) -> Rows:
        made = np.empty((stop - start, self.shape[1]), self.dtype)
        done = 0
        for number, first, end in self._column.runs(start, stop):
            self._read(number, first, made[done : done + end - first])
            done += end - first
        return made

    def _read(self, number: int, first: int, made: Rows) -> None:
        """Read consecutive rows of a part."""
        made[:] = self._column.of_part(number, slice(first, first + len(made)))

    def _at(self, numbers: Ints) -> Rows:
        made = np.empty((len(numbers), self.shape[1]), self.dtype)
        for number, places, inside in self._column.scattered(numbers):
            made[places] = self._column.of_part(number, inside)
        return made

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Rows:
        return np.asarray(self[:], dtype)


class PartVectors(PartRows):
    """The vectors of all parts, read past HDF5 where the manifest says where they lie: opening a small part takes longer than
    reading it."""

    def _read(self, number: int, first: int, made: Rows) -> None:
        files = self._column.files
        start = files.manifest.parts[number].vectors
        if start is None:
            return super()._read(number, first, made)
        with files.raw(number) as stream:
            stream.read_at(start + first * made.itemsize * made.shape[1], made)


class PartIds(FileIds):
    """The ids of all parts; see `_Column`."""

    def __init__(
        self, files: PartFiles, counts: Sequence[int], column: Callable[[Descriptors], Any], *, unique: bool
    ) -> None:
        self._column, self.unique = _Column(files, counts, column), unique

    def __len__(self) -> int:
        return len(self._column)

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        return [*chain.from_iterable(self._column.pieces(start, stop))]

    def at(self, rows: Ints) -> list[str]:
        """See `FileIds`."""
        found: list[str] = []
        for number, _, inside in self._column.scattered(rows):
            with self._column.files.part(number) as part:
                found += ids_at(part.ids, inside)
        return found


class PartLedger(Lazy[Failure]):
    """The failures or the notes of all parts; see `_Column`. Parts without any are not opened."""

    def __init__(self, files: PartFiles, counts: Sequence[int], column: Callable[[Descriptors], Any]) -> None:
        self._column = _Column(files, counts, column)

    def __len__(self) -> int:
        return len(self._column)

    def read(self, start: int, stop: int) -> list[Failure]:
        """See `Lazy`."""
        return [*chain.from_iterable(self._column.pieces(start, stop))]
