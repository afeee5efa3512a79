"""What the finished parts of a plan hold, as one set. Opening a small part takes longer than reading it, so each is opened once.

Ids, and what is known of the photos' files, go to temporary files beside the parts, and failures and notes to ledgers. Rows stay
where they are. They are read past HDF5 from the place in the part's file where HDF5 says that they lie, each block compared with
its checksum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..descriptors.picking import place_of_rows
from ..descriptors.store import Descriptors, open_descriptors
from ..errors import DamageError
from ..files.atomic import output_error
from ..files.digests import DIGEST_BYTES, Digests, all_digests, unknown_digests
from ..files.ledger import TemporaryLedger
from ..files.spilled import SpilledRows, SpilledTexts
from ..files.sums import digest_of
from ..files.verified import open_summed
from ..items import Ints, Vectors
from ..sources.stamps import unknown
from .parts import PartsFolder
from .plan import Plan
from .plan_folder import DEVICES

_BLOCK_BYTES = 1 << 22


class _Rows(NamedTuple):
    """The rows of a part: in which file they are, how many, from which byte on, and the digest of the file's checksums.

    Where the file has no checksums, as those of early versions have none, HDF5 has to look, and there is no place.
    """

    file: Path
    rows: int
    place: tuple[int, str] | None


class Gathered:
    """What the parts of a plan hold, in the order of the plan. It is closed before the parts are removed.

    Attributes:
        failures, notes: these stay when this is closed.
        devices: of each part, what it says computed its rows.
        ids: of the rows.
        has_stamps: whether all parts say when their photos were changed; those of early versions do not.
        has_digests: whether any part has digests of its photos.

    Args:
        parts: the folder.
        plan: whose parts are all there.
        width: numbers of a row.

    Raises:
        OutputError: there is no room for temporary files.
        DamageError: a part is damaged, or of another plan.
    """

    def __init__(self, parts: PartsFolder, plan: Plan, width: int) -> None:
        self.failures, self.notes = TemporaryLedger(), TemporaryLedger()
        self.has_stamps, self.has_digests = True, False
        self.devices = list[Sequence[Any]]()
        self._output, self._width, self._rows = parts.output, width, list[_Rows]()
        self._failure_stamps, self._failure_digests = list[Ints](), list[Digests]()
        with contextlib.ExitStack() as files:
            with self._on_disk():
                self.ids = files.enter_context(contextlib.closing(SpilledTexts(parts.folder)))
                self._stamps, self._digests = (
                    files.enter_context(contextlib.closing(SpilledRows(parts.folder, width, dtype)))
                    for width, dtype in ((2, np.int64), (DIGEST_BYTES, np.uint8))
                )
            for index, part in enumerate(parts.opened(plan)):
                self._add(parts.part(index), part)
            with self._on_disk():
                for spilled in (self.ids, self._stamps, self._digests):
                    spilled.flush()
            self._files = files.pop_all()

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise output_error(self._output, error) from error

    def _add(self, file: Path, part: Descriptors) -> None:
        ids, failed = part.ids[:], len(part.failures)
        stamps = unknown(len(part)) if part.stamps is None else part.stamps[:]
        with self._on_disk():
            self.ids.add(ids)
            self._stamps.add(stamps)
            if part.digests is not None and not self.has_digests:  # the first part that has any
                for before in self._rows:
                    self._digests.add(unknown_digests(before.rows))
            if part.digests is not None or self.has_digests:
                self._digests.add(all_digests(part.digests, len(part)))
        self.has_stamps &= part.stamps is not None
        self.has_digests |= part.digests is not None
        self.devices.append(part.provenance.other.get(DEVICES) or ())
        self._rows.append(_Rows(file, len(part), _place(file, part)))
        if failed:
            self._failure_stamps.append(unknown(failed) if part.failure_stamps is None else part.failure_stamps[:])
            self._failure_digests.append(all_digests(part.failure_digests, failed))
            self.failures.extend(part.failures)
        self.notes.extend(part.notes)

    @property
    def failure_stamps(self) -> Ints:
        """``int64 (m, 2)``, unknown where nobody looked."""
        return np.concatenate([np.empty((0, 2), np.int64), *self._failure_stamps])

    @property
    def failure_digests(self) -> Digests:
        """``uint8 (m, 16)``, unknown where nobody asked."""
        return np.concatenate([np.empty((0, DIGEST_BYTES), np.uint8), *self._failure_digests])

    def vectors(self) -> Iterator[Vectors]:
        """All rows, some megabytes at a time."""
        most = max(1, _BLOCK_BYTES // (4 * self._width))
        left = sum(part.rows for part in self._rows)
        made, done = np.empty((min(most, left), self._width), np.float32), 0
        for part in self._rows:
            first = 0
            while first < part.rows:
                count = min(part.rows - first, len(made) - done)
                _read(part, first, made[done : done + count])
                first, done = first + count, done + count
                if done == len(made):
                    yield made
                    left -= done
                    made, done = np.empty((min(most, left), self._width), np.float32), 0

    def stamps(self) -> Iterator[Ints]:
        """Those of all rows."""
        return self._stamps.blocks()

    def digests(self) -> Iterator[Digests]:
        """Those of all rows; unknown ones where no part has any."""
        if self.has_digests:
            return self._digests.blocks()
        return (unknown_digests(part.rows) for part in self._rows)

    def close(self) -> None:
        """Remove the temporary files."""
        self._files.close()


def _place(file: Path, part: Descriptors) -> tuple[int, str] | None:
    start = place_of_rows(part.vectors)
    with contextlib.suppress(DamageError):  # without checksums
        return None if start is None else (start, digest_of(file))
    return None


def _read(part: _Rows, first: int, made: Vectors) -> None:
    """Read consecutive rows of a part."""
    if part.place is None:
        with open_descriptors(part.file) as found:
            made[:] = found.vectors[first : first + len(made)]
        return
    start, digest = part.place
    with contextlib.closing(open_summed(part.file, digest)) as stream:
        stream.read_at(start + first * made.itemsize * made.shape[1], made)
