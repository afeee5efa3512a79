"""Finding the references that queries were copied from, in one call from photos to a page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..descriptors.comparing import Verdict, compare
from ..descriptors.formats.table import open_any
from ..descriptors.lengths import check_lengths
from ..descriptors.store import ids_at
from ..errors import FormatError, InputError
from ..files.atomic import make_folder, try_to_write, write_text
from ..matching.matches import Matches, check_output, write_matches
from ..matching.methods import normalize_to_file
from ..matching.searcher import open_searcher
from ..matching.self_join import check_threshold
from ..matching.two_sides import search
from ..review.page import DEFAULT_ROWS, write_report
from ..sources.base import Source
from ..sources.listing import Inputs
from .describing import Describing, Progress, Side, default_threshold

K = 10
"""So many references of each query are reported at most."""


@dataclass(frozen=True)
class FindResult:
    """What `find_copies` found.

    Attributes:
        matches: the file of the pairs, best first.
        page: the page of the best pairs; None where no photos were given.
        pairs: how many pairs there are.
        matched: how many queries have one.
        queries, references: how many photos were compared.
        threshold: the lowest score of a pair.
        said: where the threshold comes from, in words.
        sides: the two sides, with what the extraction says of each.
        verdict: whether the sides may be compared, and what a user should know of it.
    """

    matches: Path
    page: Path | None
    pairs: int
    matched: int
    queries: int
    references: int
    threshold: float
    said: str
    sides: tuple[Side, Side]
    verdict: Verdict

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        names = ("pairs", "matched", "queries", "references", "threshold")
        failures = {side.name: len(side.made.failures) for side in self.sides if side.made}
        page = None if self.page is None else str(self.page)
        return {"matches": str(self.matches), "page": page, "failures": failures} | {
            name: getattr(self, name) for name in names
        }


def find_copies(
    queries: Inputs | Source,
    references: Inputs | Source,
    output: str | os.PathLike[str],
    *,
    describing: Describing | None = None,
    negatives: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    k: int = K,
    search_device: str = "cpu",
    max_rows: int = DEFAULT_ROWS,
    progress: Progress | None = None,
) -> FindResult:
    """Find which references each query was copied from: describe both sides, search, write the pairs and a page.

    Args:
        queries, references: photos, as `isc_fast.extract` takes them, or a descriptor file.
        output: a folder; it gets ``queries.h5`` and ``references.h5`` where photos were given, ``matches.csv`` (or
            ``matches.jsonl``, where an id cannot stand in a CSV), ``matches.html`` and ``find.json``. An interrupted call goes
            on.
        describing: how photos are described.
        negatives: descriptors of photos that match nothing, smoothed or not, which are subtracted from both sides.
        threshold: lowest score; by default what the engine carries for so many pairs.
        k: references of each query at most.
        search_device: see ``device`` of `isc_fast.search`.
        max_rows: pairs on the page at most.
        progress: see `isc_fast.runs.describing.Progress`.

    Raises:
        InputError: a side is empty; a number is out of range; or no threshold was given and the engine carries none.
        MismatchError: the two sides were not made by the same engine.
        IscFastError: as `isc_fast.extract` and `isc_fast.search`.
    """
    describing = describing or Describing()
    if negatives is not None and threshold is None:
        raise InputError(
            "the engine's default threshold does not hold with negatives; choose one: --threshold (in Python threshold)"
        )
    if threshold is not None:
        check_threshold(threshold)
    searcher = open_searcher(search_device)
    folder = make_folder(output)
    try_to_write(folder / "find.json")
    sides = (
        describing.side("queries", queries, folder, progress),
        describing.side("references", references, folder, progress),
    )
    with ExitStack() as stack:
        query_set, reference_set = (stack.enter_context(open_any(side.path)) for side in sides)
        for side, found in zip(sides, (query_set, reference_set), strict=True):
            check_lengths(found, side.name)
        verdict = compare(query_set, reference_set)
        said = "as given"
        if threshold is None:
            pairs = len(query_set) * len(reference_set)
            threshold, point = default_threshold([query_set, reference_set], pairs)
            said = f"the default for {pairs} pairs; {point}"
        counts = len(query_set), len(reference_set)
        file = matches_file(folder, query_set.ids, reference_set.ids)
        if negatives is not None:
            against = stack.enter_context(open_any(negatives))
            for side, found in zip(sides, (query_set, reference_set), strict=True):
                normalize_to_file(found, against, _normalized(folder, side), device=searcher)
            query_set, reference_set = (stack.enter_context(open_any(_normalized(folder, side))) for side in sides)
        matches = search(query_set, reference_set, k=k, threshold=threshold, device=searcher)
    write_matches(file, matches)
    page = _write_page(folder / "matches.html", matches, sides, max_rows)
    result = FindResult(file, page, len(matches), len(set(matches.query_ids)), *counts, threshold, said, sides, verdict)
    write_text(folder / "find.json", json.dumps(result.to_dict(), indent=2) + "\n")
    return result


def matches_file(folder: Path, *ids: Sequence[str]) -> Path:
    """Where pairs of these ids are written: a CSV; or JSON lines, where an id cannot stand in the CSV.

    Raises:
        OutputError: the file cannot be written.
    """
    file = folder / "matches.csv"
    try:
        check_output(file, *ids)
    except FormatError:
        file = folder / "matches.jsonl"
        check_output(file, *ids)
    return file


def _normalized(folder: Path, side: Side) -> Path:
    return folder / f"{side.name}-normalized.h5"


def _write_page(path: Path, matches: Matches, sides: tuple[Side, Side], max_rows: int) -> Path | None:
    """Write the page of the best pairs; None where there are no photos to show, or no pairs."""
    best = np.argsort(-matches.scores, kind="stable")[:max_rows]
    shown = Matches(ids_at(matches.query_ids, best), ids_at(matches.reference_ids, best), matches.scores[best])
    queries, references = sides[0].photos(shown.query_ids), sides[1].photos(shown.reference_ids)
    if not (queries and references):
        return None
    write_report(path, shown, queries=queries, references=references, max_rows=max_rows)
    return path
