"""The search between the two sides of `isc_fast.runs.copies.find`: what is compared, by whom, and where its matches go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...descriptors.comparing import compare
from ...descriptors.formats.table import open_any
from ...descriptors.lengths import check_lengths
from ...descriptors.verdict import Verdict
from ...errors import FormatError
from ...evaluation.calibration import Task
from ...files.own_folder import OwnFolder
from ...matching.lists.matches import Matches, check_output
from ...matching.pairs.left_out import read_left_out
from ...matching.pairs.unknown_ids import warn_of_unknown
from ...matching.pairs.views import Views
from ...matching.two_sides import check_search, search
from ..pixels.align import TOP
from ..sides.against import Against
from ..sides.describing import Progress, Side
from ..sides.thresholds import Chosen, Threshold, choose
from ..tasks.search_work import Wanted
from .comparing import Comparer
from .sharing import Waits


@dataclass(frozen=True)
class Searched:
    """Two sides that were searched.

    Attributes:
        counts: photos of each.
        file: where the matches go.
        verdict: whether the sides may be compared.
        wanted: the threshold.
        matches: None where tasks are missing, or nobody wants them yet.
        waits: how far the tasks are; None for a search that was not cut into tasks.
    """

    counts: tuple[int, int]
    file: Path
    verdict: Verdict
    wanted: Chosen
    matches: Matches | None
    waits: Waits | None


def search_sides(
    comparer: Comparer,
    sides: tuple[Side, Side],
    own: OwnFolder,
    *,
    threshold: Threshold,
    against: Against | None,
    k: int,
    align: bool,
    verdicts: str | os.PathLike[str] | None,
    stop_list: str | os.PathLike[str] | None,
    progress: Progress | None,
    merge: bool = True,
) -> Searched:
    """Search two sides, in tasks where others than this process search; of a share, only what is its own.

    Args:
        comparer: who searches.
        sides: queries and references.
        own: the output.
        threshold, k, align, verdicts, stop_list, progress: see `isc_fast.find_copies`.
        against: the negatives, and how they are used; None where there are none.
        merge: put the matches together where all tasks are there.

    Raises:
        IscFastError: see there.
    """
    with ExitStack() as stack:
        paths = [side.path for side in sides]
        queries, references = (stack.enter_context(open_any(path)) for path in paths)
        both = Views.of(queries, references)
        for side, found in zip(sides, (queries, references), strict=True):
            check_lengths(found, side.name)
        verdict = compare(queries, references)
        counts = len(queries), len(references)
        file = matches_file(own.folder, queries.ids, references.ids, as_lines=both.several or verdicts is not None)
        unrelated = None
        if against is not None:
            negatives = stack.enter_context(against.opened())
            overlap = against.overlap(negatives, references, comparer.searcher)
            verdict = Verdict((*verdict.remarks, *overlap.remarks))
            made = [own.folder / f"{side.name}-normalized.h5" for side in sides]
            against.normalize(negatives, (queries, references), made, comparer.searcher)
            paths = [*made]
            queries, references = (stack.enter_context(open_any(path)) for path in paths)
            unrelated = partial(against.unrelated, negatives, comparer.searcher)
        pairs = both.count * counts[0] * counts[1]
        wanted = choose(threshold, [queries, references], Task(pairs, counts[0]), f"{pairs} pairs", unrelated)
        k, lowest = (max(k, TOP), None) if align else (k, wanted.score)
        if not comparer.in_tasks:
            matches = search(
                queries,
                references,
                k=k,
                threshold=lowest,
                device=comparer.searcher,
                verdicts=verdicts,
                stop_list=stop_list,
                progress=progress("search") if progress else None,
            )
            return Searched(counts, file, verdict, wanted, matches, None)
        check_search(queries, references, k=k, max_pairs=None, threshold=lowest, metric="ip")
        left_out = read_left_out(verdicts, stop_list)
        warn_of_unknown(left_out, queries.ids, references.ids)
        which = Wanted(k, threshold=lowest, left_out=left_out)
        work, files = comparer.search(paths, (queries, references), which, comparer.pieces_in(own))
        waits = Waits.of(own.place, [files])
        ready = merge and not waits.for_tasks
        return Searched(counts, file, verdict, wanted, work.found(files) if ready else None, waits)


def matches_file(folder: Path, *ids: Sequence[str], as_lines: bool) -> Path:
    """Where pairs of these ids are written: a CSV; or JSON lines, where an id cannot stand in the CSV, or there is more to say.

    Raises:
        OutputError: the file cannot be written.
    """
    csv, lines = folder / "matches.csv", folder / "matches.jsonl"
    try:
        if not as_lines:
            check_output(csv, *ids)
            return csv
    except FormatError:
        pass
    check_output(lines, *ids)
    return lines
