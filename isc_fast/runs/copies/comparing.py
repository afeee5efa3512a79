"""How `dedup`, `find` and `leaks` compare: here, by workers, or by the jobs of an array, whose files lie in the output."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...descriptors.store import Descriptors
from ...files.atomic import write_text
from ...files.homes import Home, home_of
from ...files.own_folder import OwnFolder
from ...matching.pairs.cross_join import CrossJoin
from ...matching.pairs.pair_files import PairFiles
from ...matching.pairs.self_join import SelfJoin
from ...matching.searchers.cpu_searcher import CPU
from ...matching.searchers.searcher import Searcher, open_searcher
from ..sides.describing import Progress, Side
from ..tasks.join_tool import cross_recipe, self_recipe, side_message
from ..tasks.joining import PARTS, Recipe, Workers, compute, place_of
from ..tasks.search_work import SearchWork, Wanted
from ..tasks.task_folder import PLAN, text_and_id


class Comparer:
    """Who compares, and with what.

    Args:
        device: what searches; see `isc_fast.search`. It is opened, unless workers search.
        workers: who compares.
        progress: is told millions of pairs of rows.

    Attributes:
        searcher: the device, or where workers compare this machine's processor.
        in_tasks: whether others than this process compare, so that the work has to be cut into tasks.

    Raises:
        EngineError: there is no such device, or faiss does not work on it.
        InputError: the workers cannot compare on it.
    """

    def __init__(self, device: str | Searcher, workers: Workers, progress: Progress | None) -> None:
        workers.check(device)
        self.searcher = open_searcher(CPU if workers.elsewhere else device)
        self.in_tasks = workers.elsewhere or workers.share is not None
        self._seen_by_others = workers.cluster is not None or workers.share is not None
        self._device, self._workers, self._progress = str(device), workers, progress

    def pieces_in(self, own: OwnFolder) -> Path | str:
        """Where the files of the pieces lie: with the result, where other machines compute some; else on this machine."""
        return own.place if self._seen_by_others else own.folder

    def itself(
        self, side: Side, found: Descriptors, threshold: float, output: Path | str, step: str = "compare"
    ) -> tuple[SelfJoin, PairFiles]:
        """Compare a collection with itself; of a share, only what is its own.

        Args:
            side, found: the collection, and the same open.
            threshold: the lowest score of a pair.
            output: what `pieces_in` gives.
            step: the name of the progress.

        Raises:
            IscFastError: see `SelfJoin` and `isc_fast.runs.tasks.joining.compute`.
        """
        join = SelfJoin(found, threshold, device=self.searcher)

        def recipe(inside: Home) -> Recipe:
            return self_recipe(inside, side_message(side.path, found), threshold, join.rows, self._device)

        place = place_of(output, threshold, found)
        return join, compute(join, place, self._progress, step, self._workers, recipe)

    def across(
        self, sides: Sequence[Side], found: Sequence[Descriptors], threshold: float, output: Path | str, step: str
    ) -> tuple[CrossJoin, PairFiles]:
        """Compare two sets by a threshold; of a share, only what is its own. The arguments are those of `itself`, for both.

        Raises:
            IscFastError: see `CrossJoin` and `isc_fast.runs.tasks.joining.compute`.
        """
        join = CrossJoin(found[0], found[1], threshold, device=self.searcher)

        def recipe(inside: Home) -> Recipe:
            told = [side_message(side.path, its) for side, its in zip(sides, found, strict=True)]
            return cross_recipe(inside, told, threshold, (join.rows, join.reference_rows), self._device)

        return join, compute(join, place_of(output, threshold, *found), self._progress, step, self._workers, recipe)

    def search(
        self,
        paths: Sequence[str | os.PathLike[str]],
        found: tuple[Descriptors, Descriptors],
        wanted: Wanted,
        output: Path | str,
    ) -> tuple[SearchWork, PairFiles]:
        """Search two sets in tasks; of a share, only what is its own.

        Args:
            paths, found: both sides, and the same open.
            wanted: which matches.
            output: what `pieces_in` gives.

        Raises:
            IscFastError: see `isc_fast.search_to_folder`.
        """
        work = SearchWork(paths, found, wanted, self._device)
        text, plan_id = text_and_id(work.plan)
        place = home_of(output).within(f"{PARTS}/{plan_id[:24]}")
        place.begin_folder("")
        place.create(PLAN, partial(write_text, text=text), lambda: place.size(PLAN) == len(text))
        tell = self._progress("search") if self._progress else None
        files, _ = work.compute(place, [place.absolute, PLAN, len(text)], self._workers, tell)
        return work, files
