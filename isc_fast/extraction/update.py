"""Bringing a finished output up to date: what is new or changed is described, the rest is taken over as it is.

The images to describe become a plan of their own in the folder of parts, so that an update resumes as any extraction does. Then
the output is written anew, row by row from the old output or from the parts, in the order of the listing, and takes the old
one's place in one step. Where a network's descriptors do not depend on their neighbours in a batch, its bytes are those
of an extraction of everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ..descriptors.manifest import Manifest
from ..descriptors.picking import some_rows
from ..descriptors.provenance import Provenance
from ..descriptors.store import Descriptors
from ..descriptors.texts import ids_at
from ..descriptors.writing import write_blocks
from ..files.digests import Digests, all_digests, unknown_digests
from ..files.lazy import BLOCK, Chosen, Joined, Mapped
from ..files.ledger import TemporaryLedger, keep
from ..items import Failure, Ints
from .changes import ANEW, failure_of
from .gathered import Gathered
from .job import Job, Outcome, Update, made_by, opened_output
from .parts import InOrder, PartsFolder
from .plan import Plan
from .plan_folder import PlanFolder
from .runners.base import Facts

Rows = npt.NDArray[Any]


def bring_up_to_date(job: Job, update: Update, facts: Facts, parts: PartsFolder) -> Outcome:
    """Write the output anew, from its own rows and from the parts.

    Args:
        job: whose parts are complete.
        update: of the job.
        facts: what the engine is.
        parts: the folder of parts.

    Raises:
        OutputError: it cannot be written. The old one and the parts stay.
        DamageError: a part or the old output is damaged, and the old output stays.
    """
    with opened_output(parts.output) as (whole, _), _gathered(parts, job.plan, whole) as described:
        return _Merge(job, update, whole, described, parts).write(facts)


def write_updated_parts(
    todo: Plan, update: Update, described: PlanFolder, whole: Descriptors, before: Manifest, folder: PlanFolder
) -> int:
    """Write the parts of an update, from rows of the set before and from those that were described.

    Args:
        todo: the plan of the images to describe.
        update: says where each image's row is.
        described: the parts of that plan, which are complete.
        whole, before: the set before, and its manifest.
        folder: takes the parts.

    Returns:
        how many parts there are.

    Raises:
        OutputError: they cannot be written.
        DamageError: a part is damaged.
    """
    with _gathered(described, todo, whole) as found:
        return _Merge(Job(todo), update, whole, found, described).write_parts(folder, before)


def _gathered(parts: PartsFolder, plan: Plan, whole: Descriptors) -> closing[Gathered]:
    return closing(Gathered(parts, plan, whole.width))


class _Taken:
    """Rows that come in blocks, taken as many at a time as are asked for."""

    def __init__(self, blocks: Iterator[Rows]) -> None:
        self._blocks = blocks
        self._left: list[Rows] = []

    def take(self, count: int) -> Rows | None:
        """The next rows; None for no row."""
        if not count:
            return None
        while sum(map(len, self._left)) < count:
            self._left.append(next(self._blocks))
        rows = np.concatenate(self._left)
        self._left = [rows[count:]]
        return rows[:count]


class _Merge:
    """The rows of a new output: for each image of the plan from the old output or from a part; behind them what is gone."""

    def __init__(self, job: Job, update: Update, whole: Descriptors, described: Gathered, parts: PartsFolder) -> None:
        self.update, self.whole, self.dtype, self.inputs_id = update, whole, job.dtype, job.inputs_id
        self.described = described
        self.output, self.scratch, self.size = parts.output, parts.folder, job.plan.shard_size
        self.has = np.zeros(len(update.plan.items), bool)  # which images have a descriptor
        self.failures, self.notes = TemporaryLedger(), TemporaryLedger()
        self.failure_stamps: list[Ints] = []
        self.failure_digests: list[Digests] = []
        self.gone = update.changes.gone_rows if update.keep_gone else np.empty(0, np.int64)
        self._read_ledgers()

    def _read_ledgers(self) -> None:
        """Find out which images have a descriptor, and bring failures and notes into the order of the plan."""
        whole, origin, items = self.whole, self.update.changes.origin, self.update.plan.items
        old_failures, old_stamps = _Near(whole.failures), _table(whole.failure_stamps)
        old_digests, seen = all_digests(whole.failure_digests, len(whole.failures)), self.update.changes.seen
        new, noted = self.described, TemporaryLedger(whole.notes)
        new_stamps, new_digests = new.failure_stamps, new.failure_digests
        places = {note.id: place for place, note in enumerate(noted)}  # of the notes that hold
        for id_ in new.ids if places else ():
            places.pop(id_, None)  # it is of the photo that had the name before
        places |= {note.id: len(noted) + place for place, note in enumerate(new.notes)}
        noted.extend(new.notes)
        rows, notes = _Near(new.failures), _Near(noted)
        failure_of_id = {row.id: place for place, row in enumerate(new.failures)}
        for start in range(0, len(items), BLOCK):
            found, kept_notes = list[Failure](), list[Failure]()
            for number, item in enumerate(items[start : start + BLOCK], start):
                source = int(origin[number])
                if source < ANEW:
                    place = failure_of(source)
                    row, stamp, digest = old_failures[place], old_stamps[place], old_digests[place]
                    if seen is not None:
                        stamp, digest = seen.stamps[number], seen.digests[number]
                elif source == ANEW and item.id in failure_of_id:
                    place = failure_of_id[item.id]
                    row, stamp, digest = rows[place], new_stamps[place], new_digests[place]
                else:
                    self.has[number] = True
                    if item.id in places:
                        kept_notes.append(replace(notes[places.pop(item.id)], path=item.path))
                    continue
                found.append(replace(row, path=item.path))
                self.failure_stamps.append(stamp)
                self.failure_digests.append(digest)
            self.failures.extend(found)
            self.notes.extend(kept_notes)
        gone = set(ids_at(whole.ids, self.gone)) & places.keys() if len(self.gone) else set()
        self.notes.extend(note for note in whole.notes if note.id in gone)

    def write(self, facts: Facts) -> Outcome:
        """Write the output, and say what it holds.

        Raises:
            OutputError: it cannot be written.
        """
        plan, seen = self.update.plan, self.update.changes.seen
        with_digests = seen is not None or self.whole.digests is not None
        described = Mapped(Chosen(plan.items, np.flatnonzero(self.has)), lambda item: item.id)
        # They differ: an image that is gone is not in the listing.
        ids = Joined([described, Chosen(self.whole.ids, self.gone)], unique=True)
        if len(ids):
            write_blocks(
                self.output,
                self._rows(self.described.vectors(), self.whole.vectors),
                ids=ids,
                dim=self.whole.width,
                meta=made_by(plan, facts, self.dtype, self.inputs_id),
                failures=self.failures,
                notes=self.notes,
                stamps=self._rows(self.described.stamps(), self.whole.stamps, None if seen is None else seen.stamps),
                failure_stamps=np.array(self.failure_stamps, np.int64).reshape(-1, 2),
                digests=self._digest_rows() if with_digests else None,
                failure_digests=np.array(self.failure_digests, np.uint8) if with_digests else None,
                scratch=self.scratch,
            )
        return Outcome(len(ids), keep(self.failures), keep(self.notes))

    def write_parts(self, folder: PlanFolder, before: Manifest) -> int:
        """Write the same as parts of the plan, and behind them parts of the rows whose images are gone.

        Args:
            folder: of the plan.
            before: the manifest of the set of which rows are taken over.

        Returns:
            how many parts there are.

        Raises:
            OutputError: they cannot be written.
        """
        plan, size = self.update.plan, self.update.plan.shard_size
        vectors, stamps = (
            _Taken(self._rows(self.described.vectors(), self.whole.vectors)),
            _Taken(self._rows(self.described.stamps(), self.whole.stamps)),
        )
        empty = np.empty((0, self.whole.width), np.float32), np.empty((0, 2), np.int64)
        failure_stamps = np.array(self.failure_stamps, np.int64).reshape(-1, 2)
        notes, devices, failed = InOrder(self.notes), _Devices(before, self), 0
        gone = -(-len(self.gone) // size)
        for index in range(plan.shard_count + gone):
            if index < plan.shard_count:
                shard, has = plan.shard(index), self.has[index * size : (index + 1) * size]
                ids = [item.id for item, described in zip(shard.items, has, strict=True) if described]
                by = devices.of_images(index * size, (index + 1) * size)
            else:
                first = (index - plan.shard_count) * size
                rows, has = self.gone[first : first + size], np.empty(0, np.bool_)
                ids, by = ids_at(self.whole.ids, rows), devices.of_rows(rows)
            lost = int(np.count_nonzero(~has))
            content = {
                "ids": ids,
                "dim": self.whole.width,
                "failures": self.failures[failed : failed + lost],
                "notes": notes.next_of(set(ids)),
                "failure_stamps": failure_stamps[failed : failed + lost],
            }
            failed += lost
            block, seen = vectors.take(len(ids)), stamps.take(len(ids))
            if not folder.belongs(plan.id, index):
                blocks = [empty[0] if block is None else block]
                made = Provenance(plan_id=plan.id, shard=index)
                folder.put_of(made, blocks, by, stamps=[empty[1] if seen is None else seen], **content)
        return plan.shard_count + gone

    def _digest_rows(self) -> Iterator[Rows]:
        old, seen = self.whole.digests, self.update.changes.seen
        table = unknown_digests(len(self.whole)) if old is None else old
        return self._rows(self.described.digests(), table, None if seen is None else seen.digests)

    def _rows(self, described: Iterator[Rows], old: Any, seen: Rows | None = None) -> Iterator[Rows]:
        """A column of the new output, in blocks: of what was described, and of the old one or, where it was looked at, as it was
        seen now.
        """
        origin, number = self.update.changes.origin[self.has], np.flatnonzero(self.has)
        fresh = _Taken(described)
        step = self.whole.block_rows
        for start in range(0, len(origin), step):
            block = origin[start : start + step]
            stays = block != ANEW
            kept = some_rows(old, block[stays]) if seen is None else seen[number[start : start + len(block)][stays]]
            new = fresh.take(int((block == ANEW).sum()))
            if new is None:
                yield kept
                continue
            made = np.empty((len(block), kept.shape[1]), kept.dtype)
            made[stays], made[~stays] = kept, new
            yield made
        for start in range(0, len(self.gone), step):
            yield some_rows(old, self.gone[start : start + step])


class _Devices:
    """Which devices computed the rows of an update."""

    def __init__(self, before: Manifest, merge: _Merge) -> None:
        self._before, self._origin = before, merge.update.changes.origin
        self._ends = np.cumsum([part.rows for part in before.parts])
        self._anew = np.cumsum(self._origin == ANEW)
        self._of_part = merge.described.devices
        self._size = merge.size

    def of_rows(self, rows: Ints) -> list[Any]:
        """Those that computed rows of the set before."""
        numbers = np.unique(np.searchsorted(self._ends, rows, side="right")).tolist()
        return _sorted([self._before.devices[n] for number in numbers for n in self._before.parts[number].devices])

    def of_images(self, start: int, stop: int) -> list[Any]:
        """Those that computed some images of the plan."""
        origin = self._origin[start:stop]
        places = np.unique((self._anew[start:stop][origin == ANEW] - 1) // self._size).tolist()
        return _sorted([*self.of_rows(origin[origin >= 0]), *chain(*(self._of_part[place] for place in places))])


def _sorted(devices: Sequence[Any]) -> list[Any]:
    """Each of them once."""
    found = {json.dumps(device, sort_keys=True): device for device in devices}
    return [found[key] for key in sorted(found)]


class _Near:
    """Rows of a ledger one by one; those near the last one are in memory."""

    def __init__(self, rows: Sequence[Failure]) -> None:
        self._rows, self._start, self._block = rows, 0, list[Failure]()

    def __getitem__(self, place: int) -> Failure:
        if not self._start <= place < self._start + len(self._block):
            self._start = place - place % BLOCK
            self._block = list(self._rows[self._start : self._start + BLOCK])
        return self._block[place - self._start]


def _table(stamps: Any) -> Ints:
    """Stamps of a file as an array ``(m, 2)``."""
    return np.empty((0, 2), np.int64) if stamps is None else np.asarray(stamps[:], np.int64)
