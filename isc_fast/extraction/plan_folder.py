"""The parts of one plan in an output folder: ``OUT/PLAN-ID/``, which several hosts may write to at once, without any lock.

A part is written under a name that nobody else has, and then gets its own name unless a part is there already. What a second
writer finds there is content if it belongs to the plan, since what is in a part depends on the plan alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..descriptors.hdf5 import DAMAGE, check_hdf5
from ..descriptors.provenance import Provenance
from ..descriptors.store import open_descriptors, write_blocks
from ..errors import FormatError
from ..files.atomic import (
    forget,
    keep_temporaries,
    make_folder,
    output_error,
    publish,
    remove_old_temporaries,
    temporary_beside,
)
from .parts import PartsFolder
from .plan import Plan

DEVICES = "devices"
"""The fact of a part that says what computed its rows: a list of objects."""

LEFT_S = 24 * 3600.0
"""After so long, what nobody has written to was left by a job that was killed."""


class PlanFolder(PartsFolder):
    """The folder of one plan; see the module's text.

    Args:
        folder: is made when the plan is written.
        device: says what computes here, which the parts say too; None where nothing is computed.
    """

    in_folder = True

    def __init__(self, folder: Path, device: Callable[[], Mapping[str, Any]] | None = None) -> None:
        super().__init__(folder)
        self.folder, self.plan_file = folder, folder / "plan.sqlite"
        self._device = device
        keep_temporaries(folder)

    def on(self, device: Callable[[], Mapping[str, Any]]) -> Self:
        """The same folder, for a process that computes on that device."""
        return type(self)(self.folder, device)

    def begin(self, plan: Plan) -> None:
        """Write the plan, unless it is there. A damaged one is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        with contextlib.suppress(FileNotFoundError, FormatError):
            if len(Plan.read(self.plan_file).items) == len(plan.items):
                return
        make_folder(self.folder)
        keep_temporaries(self.folder)
        plan.write(self.plan_file)  # where another job has written it meanwhile, it is the same plan

    def put(self, made: Provenance, blocks: Iterable[npt.NDArray[np.float32]], **content: Any) -> None:
        """Store a part, unless a sound one is there; see `PartsFolder.put`.

        Raises:
            OutputError: it cannot be written.
        """
        self.put_of(made, blocks, [self._device()] if self._device else [], **content)

    def put_of(
        self,
        made: Provenance,
        blocks: Iterable[npt.NDArray[np.float32]],
        devices: Sequence[Mapping[str, Any]],
        **content: Any,
    ) -> None:
        """Store a part whose rows these devices computed; see `put`."""
        final = self.part(made.shard or 0)
        temporary = temporary_beside(final)
        said = replace(made, other={DEVICES: devices})
        write_blocks(temporary, blocks, meta=said.write(), **content)
        try:
            if not publish(temporary, final) and not self.belongs(made.plan_id, made.shard):
                os.replace(temporary, final)  # what is there is damaged, or somebody else's
        except OSError as error:
            raise output_error(final, error) from error
        finally:
            forget(temporary)

    def belongs(self, plan_id: str | None, index: int | None) -> bool:
        """Whether there is a sound part of that plan and number."""
        try:
            file = self.part(index or 0)
            if not check_hdf5(file):
                return False
            with open_descriptors(file) as part:
                return (part.provenance.plan_id, part.provenance.shard) == (plan_id, index)
        except DAMAGE:
            return False

    def is_done(self, plan: Plan, index: int, *, and_failed: bool = False) -> bool:
        """See `PartsFolder`. A part without checksums is none of this folder."""
        if not self.part(index).exists():
            return False
        return self.belongs(plan.id, index) and not (and_failed and self._has_failures(index))

    def _has_failures(self, index: int) -> bool:
        with open_descriptors(self.part(index)) as part:
            return len(part.failures) > 0

    def there(self) -> int:
        """How many parts there are, by their names."""
        with contextlib.suppress(OSError):
            return sum(name.startswith("part-") for name in os.listdir(self.folder))
        return 0

    def has_all(self, count: int) -> bool:
        """Whether so many parts are there, by their names."""
        try:
            names = set(os.listdir(self.folder))
        except OSError:
            return False
        return all(self.part(index).name in names for index in range(count))

    def tidy(self) -> None:
        """Remove what jobs left that were killed long ago."""
        remove_old_temporaries(self.folder, older_than_s=LEFT_S)


def parts_at(output: str, *, in_folder: bool) -> PartsFolder:
    """The same parts in another process, which was told their `PartsFolder.output` and `PartsFolder.in_folder`."""
    return (PlanFolder if in_folder else PartsFolder)(Path(output))
