"""The comparison of a training set with evaluation sets, and with itself, for `isc_fast.runs.copies.leaks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...descriptors.formats.table import open_any
from ...descriptors.lengths import check_lengths
from ...descriptors.store import Descriptors
from ...evaluation.calibration import Task
from ...files.rows import check_names
from ...matching.pairs.cross_join import CrossJoin
from ...matching.pairs.left_out import LeftOut
from ...matching.pairs.pair_files import PairFiles
from ...matching.pairs.self_join import SelfJoin
from ...matching.searchers.arrays import Pairs
from ..sides.describing import Side
from ..sides.thresholds import Chosen, Threshold, choose
from .comparing import Comparer
from .leak_lists import Matched


@dataclass(frozen=True)
class Compared:
    """The training set, opened first, with each evaluation set, and with itself where groups count."""

    opened: Sequence[Descriptors]
    wanted: Chosen
    across: Sequence[tuple[CrossJoin, PairFiles]]
    within: tuple[SelfJoin, PairFiles] | None

    @property
    def files(self) -> list[PairFiles]:
        """Of all comparisons."""
        return [files for _, files in self.across] + ([self.within[1]] if self.within else [])


@contextmanager
def compare_sets(
    comparer: Comparer,
    names: Sequence[str],
    sides: Sequence[Side],
    output: Path | str,
    *,
    threshold: Threshold,
    form: str,
    groups: bool,
) -> Iterator[Compared]:
    """Compare the sets; of a share, only what is its own. The pieces lie in ``output``, see `Comparer.pieces_in`."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_any(side.path)) for side in sides]
        for side, found in zip(sides, opened, strict=True):
            check_lengths(found, side.name)
            check_names(form, found.ids)
        train, *others = opened
        count = len(train) * sum(len(found) * len(found.views) for found in others)
        wanted = choose(threshold, opened, Task(count, sum(map(len, others))), f"{count} pairs")
        across = [
            comparer.across((side, sides[0]), (found, train), wanted.score, output, f"compare {name}")
            for name, side, found in zip(names, sides[1:], others, strict=True)
        ]
        within = comparer.itself(sides[0], train, wanted.score, output, "compare train") if groups else None
        yield Compared(opened, wanted, across, within)


def matched_in(
    found: Compared, names: Sequence[str], sides: Sequence[Side], left_out: LeftOut
) -> tuple[list[Matched], Iterable[Pairs] | None]:
    """The pairs that are left: of each evaluation set, and of the training set in itself.

    Verdicts are on pairs of two sets, so in the training set the stop list counts alone.
    """
    train, *others = found.opened
    matched = []
    for name, side, other, (join, files) in zip(names, sides[1:], others, found.across, strict=True):
        left = left_out.pairs(files, (other.ids, train.ids), join.same, name, join.views)
        matched.append(Matched(name, side, other.ids, left if left_out else files, join.views))
    stop = LeftOut(stop=left_out.stop, one_side=True)
    if found.within is None or not stop:
        return matched, None if found.within is None else found.within[1]
    itself, files = found.within
    return matched, stop.pairs(files, (train.ids, train.ids), (itself.same, itself.same))
