"""The folder beside an unfinished output: its plan, one part file for each finished shard, and a lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import make_folder, output_error, replacing
from .errors import FormatError, MismatchError, OutputError
from .plan import Failure, Plan, Shard, Texts
from .store import Descriptors, load_descriptors, open_descriptors, write_blocks


class PartsFolder:
    """``OUTPUT.parts/``: everything an interrupted extraction needs to go on."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".parts")
        self._plan_file = self.folder / "plan.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Make the folder and keep every other process from working in it.

        Gives the lock's file descriptor. A process that inherits it has the lock too: another run begins only when all that
        have it are gone.

        Raises:
            OutputError: it cannot be made, or another process has it.
        """
        while True:
            make_folder(self.folder)
            path = self.folder / "lock"
            try:
                lock = open(path, "w")  # noqa: SIM115 - closed below, also when locking fails
            except OSError as error:
                raise output_error(self.folder, error) from error
            with lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise OutputError(
                        f"another process is extracting to {self.output}: wait for it, or end it"
                    ) from error
                # Whoever had the lock may have ended and removed the folder since it was opened: then it locks nothing.
                if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    yield lock.fileno()
                    return

    def stored_plan(self, *, with_items: bool = True) -> Plan | None:
        """The plan that was begun here, perhaps without its items, or None.

        Raises:
            FormatError: it is damaged.
        """
        try:
            with open(self._plan_file, encoding="ascii") as stream:
                return Plan.from_lines(stream, with_items=with_items)
        except FileNotFoundError:
            return None
        except (FormatError, UnicodeDecodeError) as error:
            raise FormatError(f"{error}; remove the folder {self.folder} to start again") from error

    def _holds(self, plan: Plan) -> bool:
        """Whether this very plan was begun here, told line by line, so that no second one has to fit into memory."""
        try:
            with open(self._plan_file, encoding="ascii", errors="replace") as stream:
                return all(mine == theirs for mine, theirs in zip_longest(stream, plan.lines()))
        except FileNotFoundError:
            return False

    def begin(self, plan: Plan) -> None:
        """Forget all parts and begin a plan."""
        self._clear()
        with replacing(self._plan_file) as temporary, open(temporary, "w", encoding="ascii") as stream:
            stream.writelines(plan.lines())

    def begin_or_resume(self, wanted: Plan, *, overwrite: bool) -> tuple[Plan, str | None]:
        """Go on with the plan that was begun here if it was for the same inputs, else begin the wanted one.

        Returns:
            the plan to work on, and a note where the inputs list other images by now.

        Raises:
            MismatchError: what was begun here is something else, and ``overwrite`` is not given.
        """
        if self._holds(wanted):
            return wanted, None
        stored = self.stored_plan()
        if stored is not None:
            difference = stored.difference(wanted)
            if difference is None:
                drift = stored.drift(wanted)
                note = drift and f"the images have changed since this extraction began ({drift}); it ends as it began"
                return stored, note
            if not overwrite:
                raise MismatchError(
                    f"{self.folder} holds an unfinished extraction with {difference}: repeat that command, give "
                    "another output, or start again with --overwrite"
                )
        self.begin(wanted)
        return wanted, None

    def part(self, index: int) -> Path:
        """Where the part of a shard stands once it is done."""
        return self.folder / f"part-{index:06d}.h5"

    def missing(self, plan: Plan, *, and_failed: bool = False) -> list[int]:
        """The shards of a plan whose part is not there, is damaged or, if asked, has failures."""
        missing = []
        for index in range(plan.shard_count):
            try:
                with open_descriptors(self.part(index)) as part:
                    if part.meta.get("plan_id") == plan.id and not (and_failed and part.failures):
                        continue
            except FormatError:
                pass
            missing.append(index)
        return missing

    def write_part(
        self, plan_id: str, shard: Shard, vectors: npt.NDArray[np.float32], failures: Sequence[Failure]
    ) -> None:
        """Store the result of one shard of the plan with that id; from then on it is never computed again."""
        failed = {failure.id for failure in failures}
        ids = [item.id for item in shard.items if item.id not in failed]
        write_blocks(
            self.part(shard.index),
            [vectors],
            ids=ids,
            dim=vectors.shape[1],
            meta={"plan_id": plan_id, "shard": shard.index},
            failures=failures,
        )

    def begin_again(self, plan: Plan, whole: Descriptors) -> None:
        """Turn a finished result of the same plan back into parts, without the shards in which images failed.

        Where that was begun already, what has been computed since is kept.
        """
        if self._holds(plan):
            return
        self.begin(plan)
        row = 0
        failures = {failure.id for failure in whole.failures}
        for index in range(plan.shard_count):
            shard = plan.shard(index)
            rows = sum(item.id not in failures for item in shard.items)
            if rows == len(shard.items):
                self.write_part(plan.id, shard, np.asarray(whole.vectors[row : row + rows], np.float32), [])
            row += rows

    def assemble(self, plan: Plan, dim: int, meta: dict[str, Any]) -> tuple[int, list[Failure]]:
        """Make the output from the parts.

        Returns:
            the number of descriptors, and all failures, both in the order of the plan.

        Raises:
            OutputError: it cannot be written; the parts stay.
        """
        ids = Texts()
        failures: list[Failure] = []
        for index in range(plan.shard_count):
            with open_descriptors(self.part(index)) as part:
                for id_ in part.ids:
                    ids.append(id_)
                failures.extend(part.failures)
        if len(ids):
            blocks = (load_descriptors(self.part(index)).vectors for index in range(plan.shard_count))
            write_blocks(self.output, blocks, ids=ids, dim=dim, meta=meta, failures=failures, scratch=self.folder)
        return len(ids), failures

    def _clear(self) -> None:
        for file in self.folder.iterdir():
            if file.name != "lock":
                file.unlink()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def has_parts(self) -> bool:
        """Whether there is anything to resume."""
        return any(self.folder.glob("part-*.h5"))
