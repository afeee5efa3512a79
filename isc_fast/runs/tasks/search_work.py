"""A search in tasks: what its workers are told, and what the pairs of all tasks come to.

`isc_fast.runs.tasks.searching` has an output of its own for it; `isc_fast.runs.copies.find` does it between photos and a page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...descriptors.manifest import ends_of
from ...descriptors.store import Descriptors
from ...files.homes import Home
from ...matching.lists.matches import Matches
from ...matching.pairs.left_out import LeftOut
from ...matching.pairs.pair_files import PairFiles
from ...matching.pairs.pair_search import limited
from ...matching.pairs.search_tasks import Cut, Limits, SearchTasks, cut_of
from ...matching.pairs.views import Views
from ...matching.searchers.exact import Metric
from ...matching.two_sides import matches_of
from ...progress import ProgressCallback
from .join_tool import search_message, side_message
from .joining import PairPieces, Recipe, Workers, compute_pieces


@dataclass(frozen=True)
class Wanted:
    """Which matches are wanted; see `isc_fast.search`.

    Attributes:
        k, max_pairs, threshold, metric: see there.
        left_out: what is left out.
    """

    k: int | None = None
    max_pairs: int | None = None
    threshold: float | None = None
    metric: Metric = "ip"
    left_out: LeftOut = field(default_factory=LeftOut)


class SearchWork:
    """See the module's text.

    Args:
        paths: of queries and references, for workers.
        sides: the same, open.
        wanted: which matches.
        device: what searches; see `isc_fast.search`.
        size: photos of a run of references at least; see `isc_fast.matching.pairs.search_tasks.cut_of`.

    Attributes:
        tasks: how many there are.
        plan: what decides what the tasks give, as plain data. Where the sides lie is not part of it, so they may be moved.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        sides: tuple[Descriptors, Descriptors],
        wanted: Wanted,
        device: str,
        size: int | None = None,
    ) -> None:
        self._sides, self._wanted, self._device = sides, wanted, device
        limits = Limits(wanted.left_out.k_for(wanted.k), wanted.threshold, wanted.metric)
        cut = cut_of(*sides, ends_of(paths[1]), size)
        told = [side_message(path, side) for path, side in zip(paths, sides, strict=True)]
        self.begin = {**search_message(limits, cut), "sides": told}
        self._tasks = SearchTasks(*sides, limits, cut, device)  # which opens the device where this process searches
        self.tasks = self._tasks.blocks
        self.plan = _plan(told, sides, limits, cut)

    def compute(
        self,
        place: str | os.PathLike[str] | Home,
        seen: Sequence[object],
        workers: Workers,
        progress: ProgressCallback | None,
    ) -> tuple[PairFiles, int]:
        """Compute the tasks that are missing, of a share those that are its own.

        Args:
            place: where their files lie.
            seen: names the plan for workers, who look whether they see it.
            workers: who computes.
            progress: is told millions of pairs of rows.

        Returns:
            the files, and how many tasks were computed.

        Raises:
            IscFastError: see `isc_fast.runs.tasks.joining.compute_pieces`.
        """
        files = PairFiles(place, self.tasks)
        recipe = Recipe(self._device, {**self.begin, "plan": [*seen]})
        return files, compute_pieces(
            PairPieces(self._tasks, files), workers.mine(self.tasks), progress, workers, recipe
        )

    def found(self, files: PairFiles) -> Matches:
        """The matches, from the files of all tasks.

        Raises:
            InputError: a threshold alone gives more pairs than fit.
            DamageError: a file is damaged.
        """
        merged, views = self._tasks.merged(files), Views.of(*self._sides)
        wanted = self._wanted

        def found(k: int | None, max_pairs: int | None) -> Matches:
            return matches_of(limited(merged, views, k, max_pairs), *self._sides)

        k, max_pairs = wanted.k, wanted.max_pairs
        return wanted.left_out.search(found, k, max_pairs) if wanted.left_out else found(k, max_pairs)


def _plan(
    told: Sequence[tuple[str, str]], sides: tuple[Descriptors, Descriptors], limits: Limits, cut: Cut
) -> Mapping[str, Any]:
    names = ("queries", "references")
    counts = {
        name: {"id": identity, "rows": len(side)} for name, (_, identity), side in zip(names, told, sides, strict=True)
    }
    cut_at = {"queries_of_a_task": cut.queries, "first_references": [*cut.starts]}
    return {"format": "isc-fast search in tasks", "version": 1, **counts, **vars(limits), **cut_at}
