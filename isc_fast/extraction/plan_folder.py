"""The parts of one plan in an output's home: ``OUT/PLAN-ID/``, which several hosts may write to at once, without any lock.

A part is written under a name that nobody else has, and then gets its own name unless a part is there already. What a second
writer finds there is content if it belongs to the plan, since what is in a part depends on the plan alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..descriptors.hdf5 import DAMAGE, check_hdf5
from ..descriptors.provenance import Provenance
from ..descriptors.store import open_descriptors
from ..descriptors.writing import write_blocks
from ..errors import FormatError
from ..files.atomic import keep_temporaries
from ..files.homes import Home, home_of
from .parts import PartsFolder
from .plan import Plan

DEVICES = "devices"
"""The fact of a part that says what computed its rows: a list of objects."""

LEFT_S = 24 * 3600.0
"""After so long, what nobody has written to was left by a job that was killed."""
_PLAN = "plan.sqlite"


class PlanFolder(PartsFolder):
    """The folder of one plan; see the module's text.

    Args:
        home: of the output.
        plan_id: the name of the folder, which is made when the plan is written.
        device: says what computes here, which the parts say too; None where nothing is computed.
    """

    in_folder = True

    def __init__(self, home: Home, plan_id: str, device: Callable[[], Mapping[str, Any]] | None = None) -> None:
        self.home, self.name = home, plan_id
        super().__init__(Path(f"{home.address}/{plan_id}"))
        self.address, self.folder = f"{home.absolute}/{plan_id}", self.output
        self._device = device
        self.share()

    def share(self) -> None:
        """See `PartsFolder`."""
        if not self.home.once:
            keep_temporaries(self.folder)

    @property
    def plan_file(self) -> Path:
        """The plan, on this machine; see `isc_fast.files.homes.Home.file`."""
        return self.home.file(f"{self.name}/{_PLAN}", stays=True)

    def plan_size(self) -> int | None:
        """See `PartsFolder`."""
        return self.home.size(f"{self.name}/{_PLAN}")

    def part(self, index: int) -> Path:
        """The file of a shard's part, on this machine; see `isc_fast.files.homes.Home.file`."""
        return self.home.file(self.name_of(index))

    def name_of(self, index: int) -> str:
        """The name of a shard's part in the home."""
        return f"{self.name}/{self.part_name(index)}"

    def on(self, device: Callable[[], Mapping[str, Any]]) -> Self:
        """The same folder, for a process that computes on that device."""
        return type(self)(self.home, self.name, device)

    def begin(self, plan: Plan) -> None:
        """Write the plan, unless it is there. A damaged one is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        if self._holds(plan):
            return
        self.home.begin_folder(self.name)
        # Where another job has written it meanwhile, it is the same plan.
        self.home.create(f"{self.name}/{_PLAN}", plan.write, partial(self._holds, plan))

    def _holds(self, plan: Plan) -> bool:
        with contextlib.suppress(FileNotFoundError, FormatError):
            return len(Plan.read(self.plan_file).items) == len(plan.items)
        return False

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
        said = replace(made, other={DEVICES: devices})
        write = partial(write_blocks, blocks=blocks, meta=said.write(), **content)
        self.home.create(self.name_of(made.shard or 0), write, partial(self.belongs, made.plan_id, made.shard))

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

    def missing(self, plan: Plan, *, and_failed: bool = False, among: Iterable[int] | None = None) -> list[int]:
        """See `PartsFolder`. A part without checksums is none of this folder. What is in a bucket is not read for that."""
        there, shards = self._names(), range(plan.shard_count) if among is None else among
        trusted = self.home.once and not and_failed
        return [
            index
            for index in shards
            if self.part_name(index) not in there or not (trusted or self.is_done(plan, index, and_failed=and_failed))
        ]

    def is_done(self, plan: Plan, index: int, *, and_failed: bool = False) -> bool:
        """See `PartsFolder`."""
        return self.belongs(plan.id, index) and not (and_failed and self._has_failures(index))

    def _has_failures(self, index: int) -> bool:
        with open_descriptors(self.part(index)) as part:
            return len(part.failures) > 0

    def _names(self) -> Mapping[str, int]:
        return self.home.sizes(self.name)

    def there(self) -> int:
        """How many parts there are, by their names."""
        return sum(name.startswith("part-") for name in self._names())

    def has_parts(self) -> bool:
        """See `PartsFolder`."""
        return self.there() > 0

    def has_all(self, count: int) -> bool:
        """Whether so many parts are there, by their names."""
        names = self._names()
        return all(self.part_name(index) in names for index in range(count))

    def remove_part(self, index: int) -> None:
        """Remove a part, which will be computed again."""
        self.home.remove(self.name_of(index))

    def tidy(self) -> None:
        """Remove what jobs left that were killed long ago."""
        self.home.tidy(self.name, LEFT_S)


def parts_at(address: str, *, in_folder: bool) -> PartsFolder:
    """The same parts in another process, which was told their `PartsFolder.address` and `PartsFolder.in_folder`."""
    if not in_folder:
        return PartsFolder(Path(address))
    home, _, plan_id = address.rpartition("/")
    return PlanFolder(home_of(home), plan_id)
