"""Making one file of the parts of a finished extraction."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..descriptors.store import open_descriptors
from ..descriptors.writing import write_blocks
from ..errors import DamageError
from ..files.digests import Digests, all_digests
from ..files.lazy import Lazy
from ..files.ledger import TemporaryLedger, keep
from ..items import Failure, Ints
from .parts import PartsFolder
from .plan import Plan, StoredItems

Assembled: TypeAlias = tuple[int, Sequence[Failure], Sequence[Failure]]
"""The number of descriptors, and all failures and all notes in the order of the plan."""


class _PartIds(Lazy[str]):
    """The ids of all parts, in order. Memory holds the ids that are asked for."""

    def __init__(self, files: Sequence[Path], counts: Sequence[int], *, unique: bool) -> None:
        self._files, self._ends, self.unique = files, list(accumulate(counts)), unique

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        ids: list[str] = []
        number = bisect_right(self._ends, start)
        while start + len(ids) < stop:
            with open_descriptors(self._files[number]) as part:
                first = self._ends[number] - len(part)
                ids += part.ids[max(0, start - first) : stop - first]
            number += 1
        return ids


def _blocks(file: Path) -> Iterator[npt.NDArray[np.float32]]:
    with open_descriptors(file) as part:
        yield from part.blocks()


def _stamps(file: Path) -> Ints:
    with open_descriptors(file) as part:
        return np.empty((0, 2), np.int64) if part.stamps is None else part.stamps[:]


def _digests(file: Path) -> Digests:
    with open_descriptors(file) as part:
        return all_digests(part.digests, len(part))


@contextlib.contextmanager
def _parts_read() -> Iterator[None]:
    """Say what to do about a part that is damaged when the output is made of it."""
    try:
        yield
    except DamageError as error:
        raise DamageError(
            f"a part of this extraction is damaged ({error.place}); run the same command again, which computes that part anew",
            error.place,
        ) from error


def assemble_parts(parts: PartsFolder, plan: Plan, width: int, meta: dict[str, Any]) -> Assembled:
    """Make the output, whose rows have so many numbers, from the parts of a plan.

    Returns:
        see `Assembled`; it stays after the parts are removed.

    Raises:
        OutputError: the output cannot be written, or there is no room for temporary files. The parts stay.
        DamageError: a part is damaged, and there is no output.
    """
    with _parts_read():
        return _assembled(parts, plan, width, meta)


def _assembled(parts: PartsFolder, plan: Plan, width: int, meta: dict[str, Any]) -> Assembled:
    files = [parts.part(index) for index in range(plan.shard_count)]
    counts: list[int] = []
    failures, notes = TemporaryLedger(), TemporaryLedger()
    failure_stamps: list[Ints] = []
    failure_digests: list[Digests] = []
    has_digests = False
    for part in parts.opened(plan):
        counts.append(len(part))
        has_digests |= part.digests is not None
        failure_digests.append(all_digests(part.failure_digests, len(part.failures)))
        if part.failure_stamps is not None:
            failure_stamps.append(part.failure_stamps[:])
        failures.extend(part.failures)
        notes.extend(part.notes)
    ids = _PartIds(files, counts, unique=StoredItems(parts.plan_file).first_repeat() is None)
    if len(ids):
        blocks = (block for file in files for block in _blocks(file))
        looked = len(failure_stamps) == len(files)  # parts of earlier versions have no stamps
        write_blocks(
            parts.output,
            blocks,
            ids=ids,
            dim=width,
            meta=meta,
            failures=failures,
            notes=notes,
            stamps=map(_stamps, files) if looked else None,
            failure_stamps=np.concatenate(failure_stamps) if looked else None,
            digests=map(_digests, files) if has_digests else None,
            failure_digests=np.concatenate(failure_digests) if has_digests else None,
            scratch=parts.folder,
        )
    return len(ids), keep(failures), keep(notes)
