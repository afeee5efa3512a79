"""The folder beside an unfinished output: its plan, one part file for each finished shard, and a lock."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..descriptors.hdf5 import DAMAGE, check_hdf5
from ..descriptors.provenance import Provenance
from ..descriptors.store import Descriptors, open_descriptors
from ..descriptors.writing import write_blocks
from ..errors import DamageError, FormatError, MismatchError, OutputError
from ..files.atomic import keep_temporaries, make_folder, output_error, sync_folder
from ..files.digests import Digests
from ..files.locks import locked, same_file
from ..items import NOTED, Failure, Ints
from ..sources.stamps import unknown
from .json_plan import read_json_plan
from .plan import Plan, Shard, StoredItems, damage_in_words, drift

_OURS = re.compile(r"lock|plan\.json|(plan|wanted)\.sqlite|part-\d+\.h5|\..*\.tmp|tmp\w{8}|\.nfs\w+", re.DOTALL)
"""Names in a folder of parts, of this version and of those before: temporary files are among them, also those that a killed run
left, and names that network file systems give to files that were removed while they were open."""
PARTS = ".parts"
"""What the name of the folder beside an output ends with."""


def holds_shard(part: Descriptors, shard: Shard) -> bool:
    """Whether a part has a row or a failure for each image of its shard, in order, and all its numbers are finite."""
    failed = {failure.id for failure in part.failures}
    ids = [item.id for item in shard.items if item.id not in failed]
    return list(part.ids) == ids and bool(np.isfinite(part.vectors[:]).all())


class InOrder:
    """A ledger in the order of its plan, taken shard by shard, so that it is gone through once."""

    def __init__(self, ledger: Sequence[Failure]) -> None:
        self._rows = iter(ledger)
        self._next = next(self._rows, None)

    def next_of(self, ids: Collection[str]) -> list[Failure]:
        """The next rows, as far as they are of these images."""
        found: list[Failure] = []
        while self._next is not None and self._next.id in ids:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found


class PartsFolder:
    """``OUTPUT.parts/``, which holds everything that an interrupted extraction needs to resume.

    Attributes:
        address: names the parts for another process, with `in_folder`; see `isc_fast.extraction.plan_folder.parts_at`.
        in_folder: whether the parts are the result, in a folder of the plan; see `isc_fast.extraction.plan_folder`.
    """

    in_folder = False

    def __init__(self, output: Path) -> None:
        self.output = output
        self.address = os.path.abspath(output)
        self.folder = output.with_name(output.name + PARTS)
        self._json_file = self.folder / "plan.json"  # of isc-fast 0.1
        self._wanted_file = self.folder / "wanted.sqlite"

    @property
    def plan_file(self) -> Path:
        """The file of the plan that was begun here; it need not be there."""
        return self.folder / "plan.sqlite"

    def share(self) -> None:
        """Let this process leave alone what others have not finished writing here."""
        keep_temporaries(self.folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Make the folder, and keep every other run from working in it.

        The block gets the file descriptor of the lock. A process that inherits the descriptor holds the lock too, so another run
        begins only when all processes of this run have ended.

        Raises:
            OutputError: the folder cannot be made, or another run holds the lock.
        """
        self._refuse_others_files()
        while True:
            make_folder(self.folder)
            path = self.folder / "lock"
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                lock = os.fdopen(os.open(path, flags, 0o666), "r+")  # closed below, also when locking fails
            except FileNotFoundError:
                continue  # another run has just ended and removed the folder
            except OSError as error:
                raise output_error(self.folder, error) from error
            with contextlib.ExitStack() as stack:
                stack.callback(self._remove_if_empty)  # after the lock is closed: network file systems need that
                stack.enter_context(lock)
                try:
                    holder = stack.enter_context(locked(lock.fileno(), path))
                except BlockingIOError as error:
                    raise OutputError(
                        f"another process is extracting to {self.output}: wait for it, or end it"
                    ) from error
                except OSError as error:
                    raise output_error(self.folder, error) from error
                # Another run may have ended and removed the folder since this file was opened. Then this file locks nothing.
                if same_file(lock.fileno(), path):
                    yield holder
                    return

    def _refuse_others_files(self) -> None:
        """Refuse a folder of that name in which somebody keeps other files.

        Raises:
            OutputError: there is such a file.
        """
        try:
            others = sorted(name for name in os.listdir(self.folder) if not _OURS.fullmatch(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise output_error(self.folder, error) from error
        if others:
            raise OutputError(
                f"{self.folder} holds {others[0]!r}, which is not isc-fast's, and parts of {self.output.name} would lie in that "
                "folder: give another output, or rename the folder"
            )

    def _own_files(self) -> list[Path]:
        return [self.folder / name for name in os.listdir(self.folder) if _OURS.fullmatch(name)]

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def stored_plan(self) -> Plan | None:
        """The plan that was begun here, or None. A plan of isc-fast 0.1 is first written in the form of this version.

        Raises:
            FormatError: the plan is damaged.
            OutputError: the plan of isc-fast 0.1 cannot be written anew.
        """
        if self._json_file.exists() and not self.plan_file.exists():
            read_json_plan(self._json_file).write(self.plan_file)
            self._json_file.unlink()
        return self.found_plan()

    def readable_plan(self) -> Plan | None:
        """The plan that was begun here, or None, also where it is damaged: `begin_or_resume` says what follows."""
        with contextlib.suppress(FormatError):
            return self.stored_plan()
        return None

    def found_plan(self) -> Plan | None:
        """The plan that was begun here by this version or by 0.2, or None; changes nothing.

        Raises:
            FormatError: the plan is damaged.
        """
        try:
            return Plan.read(self.plan_file)
        except FileNotFoundError:
            return None

    def plan_size(self) -> int | None:
        """Bytes of the plan's file, by which another machine tells that it sees this folder; None where there is none."""
        try:
            return self.plan_file.stat().st_size
        except OSError:
            return None

    def _begin(self) -> Plan:
        """Remove all parts, and begin the wanted plan, whose file has been written."""
        for file in self._own_files():
            if file.name not in ("lock", self._wanted_file.name):
                file.unlink(missing_ok=True)
        return self._take_wanted()

    def _take_wanted(self) -> Plan:
        os.replace(self._wanted_file, self.plan_file)
        sync_folder(self.folder)
        return Plan.read(self.plan_file)

    def _drift(self, begun: Plan) -> str | None:
        """Say in words how the images of the wanted plan differ from those of the plan that was begun here."""
        with damage_in_words(self.plan_file):
            if replace(begun).id != begun.id:
                raise ValueError("its images are not those that it was written with")
        return drift(StoredItems(self.plan_file), StoredItems(self._wanted_file))

    def begin_or_resume(self, wanted: Plan, *, overwrite: bool, exactly: bool = False) -> tuple[Plan, str | None]:
        """Resume the plan that was begun here if it has the same inputs, else begin the wanted plan.

        A damaged plan is replaced by the wanted one where finished parts belong to that one, which they say themselves.

        Args:
            wanted: the plan of the call.
            overwrite: begin the wanted plan where another one was begun.
            exactly: resume only where the images are the same too.

        Returns:
            the plan to work on, whose items are in its file here; and a note for the user if the inputs list other images by now
            or the plan was damaged, else None.

        Raises:
            MismatchError: another plan was begun here, and ``overwrite`` is not given.
            FormatError: the plan that was begun here is damaged, and the finished parts belong to other images or settings.
            OutputError: the wanted plan cannot be written.
        """
        wanted.write(self._wanted_file)
        try:
            begun = self.stored_plan()
        except FormatError:
            if overwrite:
                return self._begin(), None
            if self.has_parts() and not self._has_part_of(Plan.read(self._wanted_file).id):
                raise
            return (
                self._take_wanted(),
                "the plan of this extraction was damaged; it was made again, and finished parts are kept",
            )
        if begun is None:
            return self._begin(), None
        if begun.id == Plan.read(self._wanted_file).id:
            return self._take_wanted(), None  # the new file is whole, even if a disk has damaged the old one
        difference = begun.difference(wanted)
        if difference is None and not exactly:
            changed = self._drift(begun)
            self._wanted_file.unlink()
            return begun, f"the images have changed since this extraction began ({changed}); it ends as it began"
        if not overwrite:
            raise MismatchError(
                f"{self.folder} holds an unfinished extraction with {difference}: repeat that command, give "
                "another output, or start again with --overwrite"
            )
        return self._begin(), None

    def _has_part_of(self, plan_id: str) -> bool:
        for file in self.folder.glob("part-*.h5"):
            with contextlib.suppress(*DAMAGE), open_descriptors(file) as part:
                if part.provenance.plan_id == plan_id:
                    return True
        return False

    def on(self, device: Callable[[], Mapping[str, Any]]) -> Self:
        """The same parts, for a process that computes on that device. These parts do not say who computed them."""
        return self

    def part(self, index: int) -> Path:
        """The file of a shard's part. It exists once the shard is done."""
        return self.folder / self.part_name(index)

    @staticmethod
    def part_name(index: int) -> str:
        """The name of a shard's part in its folder."""
        return f"part-{index:06d}.h5"

    def missing(self, plan: Plan, *, and_failed: bool = False, among: Iterable[int] | None = None) -> list[int]:
        """The shards of a plan whose part is missing, damaged or, with ``and_failed``, has failures.

        Args:
            plan: of the parts.
            and_failed: see above.
            among: the shards to look at, in order; by default all.
        """
        shards = range(plan.shard_count) if among is None else among
        return [index for index in shards if not self.is_done(plan, index, and_failed=and_failed)]

    def is_done(self, plan: Plan, index: int, *, and_failed: bool = False) -> bool:
        """Whether a shard of a plan has a sound part and, with ``and_failed``, none of its images failed."""
        try:
            has_sums = check_hdf5(self.part(index))
            with open_descriptors(self.part(index)) as part:
                made = part.provenance
                if (made.plan_id, made.shard) != (plan.id, index) or (and_failed and part.failures):
                    return False
                return has_sums or holds_shard(part, plan.shard(index))
        except DAMAGE:
            return False

    def write_part(
        self,
        plan_id: str,
        shard: Shard,
        vectors: npt.NDArray[np.float32],
        ledger: Sequence[Failure],
        stamps: Ints | None = None,
        digests: Digests | None = None,
    ) -> None:
        """Store the result of one shard of the plan with that id. The shard is not computed again.

        Args:
            plan_id, shard: what was computed.
            vectors: ``(n, d)``, of the images that did not fail.
            ledger: failures and notes.
            stamps, digests: of all images of the shard, in order; by default those that the shard has looked at.
        """
        seen = shard.stamps if stamps is None else stamps
        digests = shard.digests if digests is None else digests
        failures, notes = ([row for row in ledger if (row.stage == NOTED) == noted] for noted in (False, True))
        failed = {failure.id for failure in failures}
        ids = [item.id for item in shard.items if item.id not in failed]
        stays = np.array([item.id not in failed for item in shard.items], bool)
        self.put(
            Provenance(plan_id=plan_id, shard=shard.index),
            [vectors],
            ids=ids,
            dim=vectors.shape[1],
            failures=failures,
            notes=notes,
            stamps=[seen[stays]],
            failure_stamps=seen[~stays],
            digests=None if digests is None else [digests[stays]],
            failure_digests=None if digests is None else digests[~stays],
        )

    def put(self, made: Provenance, blocks: Iterable[npt.NDArray[np.float32]], **content: Any) -> None:
        """Store a part. `made` says of which shard; the rest is as `isc_fast.descriptors.writing.write_blocks` takes it."""
        write_blocks(self.part(made.shard or 0), blocks, meta=made.write(), **content)

    def kept_in_words(self, plan: Plan) -> str:
        """Say how many images of a plan have their part by now, for whoever interrupted the run."""
        count = len(plan.items)
        done = sum(len(plan.rows(index)) for index in range(plan.shard_count) if self.part(index).exists())
        if done:
            return f"{done} of {count} photos are kept"
        return f"none of {count} photos is kept yet, since a part of {min(plan.shard_size, count)} is written when it is complete"

    def begin_again(self, plan: Plan, whole: Descriptors) -> Plan:
        """Turn the finished result of a plan back into parts, without the shards in which images failed.

        If an earlier run has done so and was interrupted, the parts that it computed are kept.

        Returns:
            the plan to work on, whose items are in its file here.
        """
        plan.write(self._wanted_file)
        with contextlib.suppress(FormatError):
            begun = self.stored_plan()
            if begun is not None and begun.id == Plan.read(self._wanted_file).id:
                return self._take_wanted()
        plan = self._begin()
        row = 0
        failures, notes = InOrder(whole.failures), InOrder(whole.notes)
        for index in range(plan.shard_count):
            shard = plan.shard(index)
            ids = {item.id for item in shard.items}
            failed, noted = failures.next_of(ids), notes.next_of(ids)
            rows = len(ids) - len(failed)
            if not failed:
                vectors = np.asarray(whole.vectors[row : row + rows], np.float32)
                stamps = unknown(rows) if whole.stamps is None else whole.stamps[row : row + rows]
                digests = None if whole.digests is None else whole.digests[row : row + rows]
                self.write_part(plan.id, shard, vectors, noted, stamps, digests)
            row += rows
        return plan

    def opened(self, plan: Plan) -> Iterator[Descriptors]:
        """Give the part of each shard in order, open until the next one is asked for.

        Raises:
            DamageError: a part is damaged, or of another plan: a lost worker of an older run wrote it.
        """
        for index in range(plan.shard_count):
            file = self.part(index)
            with open_descriptors(file) as part:
                if (part.provenance.plan_id, part.provenance.shard) != (plan.id, index):
                    raise DamageError(
                        f"{file} is a part of another run; run the same command again, which computes that part anew",
                        f"{file.name} is of another run",
                    )
                yield part

    def remove(self) -> None:
        """Remove the folder, as far as its files are isc-fast's."""
        with contextlib.suppress(OSError):
            # The lock goes last: who finds none makes a new one, and begins.
            for file in sorted(self._own_files(), key=lambda file: file.name == "lock"):
                file.unlink(missing_ok=True)
            self.folder.rmdir()

    def has_parts(self) -> bool:
        """Whether there is anything to resume."""
        return any(self.folder.glob("part-*.h5"))
