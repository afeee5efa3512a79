"""A set of descriptors whose rows are made anew in tasks: consecutive photos each, which become a part of a result in parts.

The rows of a photo depend on nothing but its own and the negatives, so every part is the same whoever computes it, and all parts
together are the file that one process makes. The manifest is that of any result in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from ...descriptors.manifest import Manifest, Part, digests_of
from ...descriptors.picking import place_of_rows
from ...descriptors.store import Descriptors, open_descriptors
from ...descriptors.texts import repeated_id
from ...descriptors.view_rows import rows_between
from ...descriptors.writing import write_blocks
from ...files.homes import Home, home_of
from ...matching.searchers.arrays import Floats


@dataclass(frozen=True)
class Made:
    """What becomes of a set.

    Attributes:
        whole: the set.
        width: numbers of a new row.
        meta: how the new rows are made, as their file says it.
        rows: gives the new rows of some photos of the set, in blocks.
        against: how many rows each row is compared with: the measure of the work.
        ledger: whether the photos without a descriptor are named in the result.
    """

    whole: Descriptors
    width: int
    meta: Mapping[str, Any]
    rows: Callable[[Descriptors], Iterable[Floats]]
    against: int
    ledger: bool = True


class PartTasks:
    """The parts of a set that is made anew; see `isc_fast.runs.tasks.joining.Pieces`.

    Args:
        made: what becomes of the set.
        starts: the first photo of each part.
        place: the folder of the parts, or the address of it; its last part is the id of the plan.
    """

    def __init__(self, made: Made, starts: Sequence[int], place: str) -> None:
        self._made, self.place = made, place
        self._spans = [*pairwise([*starts, len(made.whole)])]
        self.blocks = len(self._spans)
        self._home: Home = home_of(place)

    @staticmethod
    def name_of(number: int) -> str:
        """The name of a part in its folder."""
        return f"part-{number:06d}.h5"

    def comparisons(self, number: int) -> int:
        """See `isc_fast.runs.tasks.joining.Pieces`."""
        start, stop = self._spans[number]
        return (stop - start) * len(self._made.whole.views) * self._made.against

    def missing(self, among: Sequence[int] | None = None) -> list[int]:
        """See `isc_fast.runs.tasks.joining.Pieces`."""
        there = self._home.sizes("")
        return [
            number for number in (range(self.blocks) if among is None else among) if self.name_of(number) not in there
        ]

    def write(self, number: int) -> None:
        """See `isc_fast.runs.tasks.joining.Pieces`. The ledger of the set stands in the first part."""
        made = self._made
        some = rows_between(made.whole, *self._spans[number])
        write = partial(
            write_blocks,
            blocks=made.rows(some),
            ids=some.ids,
            dim=made.width,
            meta=made.meta,
            failures=made.whole.failures if made.ledger and not number else (),
        )
        self._home.create(self.name_of(number), write)

    def manifest(self) -> Manifest:
        """The manifest of all parts, each of which is read once.

        Raises:
            FormatError: a part is damaged.
        """
        plan_id, parts = self.place.rpartition("/")[2], []
        for number in range(self.blocks):
            file = self._home.file(self.name_of(number))
            with open_descriptors(file) as found:
                counts = len(found), len(found.failures), len(found.notes)
                name = f"{plan_id}/{self.name_of(number)}"
                parts.append(Part(name, *counts, *digests_of(file), vectors=place_of_rows(found.vectors)))
        unique = repeated_id(self._made.whole.ids) is None
        return Manifest(plan_id, self._made.width, unique, None, self._made.meta, [], parts)
