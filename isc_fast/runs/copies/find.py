"""Finding the references that queries were copied from, in one call from photos to a page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...decoders.views import MIRROR, TURN, WHOLE, view_names
from ...descriptors.verdict import Verdict
from ...errors import InputError
from ...extraction.runners.cluster import Cluster
from ...extraction.share import Share
from ...files.homes import is_bucket
from ...matching.groups.hubs import Hub, hubs_of_matches
from ...matching.lists.matches import Matches, write_matches
from ...matching.pairs.left_out import LeftOut, read_left_out
from ...matching.two_sides import check_counts
from ...review.page import DEFAULT_ROWS, check_rows, pairs_of
from ...review.page import choose as choose_rows
from ...review.pairs import Chances, ReviewPage, with_chances
from ...review.placement import Placement
from ...review.writing import write_page
from ...sources.base import Source
from ...sources.listing import Inputs, names_of
from ...sources.paths import real
from ..pixels.align import TOP, check_aligning, look_at, ranked_anew
from ..pixels.aligning import ALIGNING
from ..sides.against import Against
from ..sides.describing import Describing, Progress, Side, WantedSide, check_there, check_views, descriptors_among
from ..sides.foresight import foresee
from ..sides.thresholds import Threshold, check
from ..tasks.joining import Workers, remove
from .comparing import Comparer
from .find_search import search_sides
from .names import NAMES
from .sharing import Shared, Waits, asked_of, hold, shared_output, shared_sides
from .suggestions import write_suggestions

_OWN = NAMES["find"]

K = 10
"""So many references of each query are reported at most."""


@dataclass(frozen=True)
class FindResult(Shared):
    """What `find_copies` found.

    Attributes:
        matches: the file of the pairs, best first; None where this job of several waits for others.
        page: the page of the best pairs; None where no photos were given.
        pairs: how many pairs there are.
        matched: how many queries have one.
        queries, references: how many photos were compared.
        method: by which negatives normalised both sides; None where there are none.
        threshold: the lowest score of a pair.
        said: where the threshold comes from, in words.
        sides: the two sides, with what the extraction says of each.
        verdict: whether the sides may be compared, and what a user should know of it.
        by_view: how many pairs each view gave; None where whole photos were compared alone.
        aligned: how many pairs show the same scene; None where nobody looked.
        hubs: how many photos match many others, see `isc_fast.matching.groups.hubs`.
        suggestions: the file of them; None where there is none.
        waits: for what this job of several waits; then nothing is written, and what is counted from pairs is 0. None where
            everything is there.
    """

    queries: int
    references: int
    threshold: float
    said: str
    sides: tuple[Side, Side]
    verdict: Verdict
    matches: Path | str | None = None
    page: Path | str | None = None
    pairs: int = 0
    matched: int = 0
    by_view: Mapping[str, int] | None = None
    aligned: int | None = None
    hubs: int = 0
    suggestions: Path | str | None = None
    waits: Waits | None = None
    method: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        if self.waits is not None:
            return self.waits.to_dict()
        names = ("pairs", "matched", "queries", "references", "threshold")
        failures = {side.name: len(side.made.failures) for side in self.sides if side.made}
        page = None if self.page is None else str(self.page)
        made: dict[str, object] = {"matches": str(self.matches), "page": page, "failures": failures}
        made["stop_list_suggestions"] = None if self.suggestions is None else str(self.suggestions)
        made |= {name: getattr(self, name) for name in names}
        made |= {} if self.method is None else {"method": self.method}
        made |= {} if self.by_view is None else {"views": dict(self.by_view)}
        return made if self.aligned is None else {**made, "aligned": self.aligned}


def shared_inputs(queries: Inputs | Source, references: Inputs | Source) -> list[str]:
    """The inputs, as they are named among the queries, that are references too: each of their photos matches itself."""
    there = {real(name) for name in names_of(references)}
    return [name for name in names_of(queries) if real(name) in there]


def find_copies(
    queries: Inputs | Source,
    references: Inputs | Source,
    output: str | os.PathLike[str],
    *,
    describing: Describing | None = None,
    negatives: str | os.PathLike[str] | None = None,
    method: str | None = None,
    align: bool = False,
    threshold: Threshold = None,
    k: int = K,
    views: str = WHOLE,
    mirror: bool = False,
    turn: bool = False,
    reference_views: str = WHOLE,
    search_device: str = "cpu",
    search_workers: int | None = None,
    search_cluster: Cluster | None = None,
    search_share: Share | None = None,
    max_rows: int = DEFAULT_ROWS,
    verdicts: str | os.PathLike[str] | None = None,
    stop_list: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FindResult:
    """Find which references each query was copied from: describe both sides, search, write the pairs and a page.

    Args:
        queries, references: photos, as `isc_fast.extract` takes them, or a descriptor file.
        output: a folder that is new, empty or of an earlier run; it gets ``queries.h5`` and ``references.h5`` where
            photos were given, ``matches.csv`` (or ``matches.jsonl``, where an id cannot stand in a CSV), ``matches.html``
            and ``find.json``; and ``stop_list_suggestions.csv`` (or ``.jsonl``), where photos match many others. An interrupted
            call goes on. It may be the address of a prefix in a bucket that is new, empty or of the same call: there
            descriptors are results in parts, files are created once, ``find.json`` is the last, and nothing is replaced.
        describing: how photos are described.
        negatives: descriptors of photos that match nothing, by which both sides are normalised.
        method: how: ``"score"`` lowers the scores of each query by the mean of its scores with the nearest negatives, see
            `isc_fast.normalize_scores`, and takes plain negatives; ``"nes"`` subtracts them from both sides, see
            `isc_fast.subtract_negatives`. By default ``"nes"`` for smoothed negatives, and ``"score"`` for plain ones.
        align: look at the best references of each query in their pixels too, at least 10, whatever their score. Those that show
            the same scene are kept and stand first: their scores are higher by 1. See `isc_fast.align_matches`.
        threshold: lowest score; or the precision that is wanted, `isc_fast.AtPrecision`; by default what the engine carries for
            so many pairs. With ``"score"``, by default the score that one pair of unrelated photos is expected to reach (of more
            than 1,000 photos, one for each 1,000), by what the negatives score among themselves.
        k: references of each query at most.
        views: of each query, words of `isc_fast.decoders.views.WORDS`, such as ``"10"``. Describing the queries takes as many
            times as long. The score of a pair is that of the best view, and ``matches.jsonl``, written in the place of
            ``matches.csv``, says which one in ``view``.
        mirror, turn: the same as these words among the views.
        reference_views: of each reference, likewise; it takes as many times the disk, and a search as many times as long.
        search_device: see ``device`` of `isc_fast.search`.
        search_workers: number of processes on this machine that search, which share its cores; by default this one searches.
        search_cluster: the Ray cluster whose workers search, instead. They find the descriptors and the output under the same
            paths.
        search_share: compute only this share of the search in descriptors; other jobs, on this machine or on others, compute
            the others. The job that sees the last one writes the result. Descriptors are normalised before, by
            `isc_fast.normalize_to_folder`. The folder ``pairs.parts`` stays, and may be removed when the result is there.
        max_rows: pairs on the page at most; of more, it shows some, spread evenly over the scores.
        verdicts, stop_list: see `isc_fast.search`. With verdicts, ``matches.jsonl`` is written in the place of ``matches.csv``
            too, and has ``verdict`` where somebody judged a pair right.
        progress: see `isc_fast.runs.sides.describing.Progress`.

    Raises:
        InputError: a side is empty; a number is out of range; no threshold was given and the engine carries none, or the
            negatives give none; the negatives do not suit the method; or views are wanted of descriptors; or a share is wanted of
            photos or with negatives.
        MismatchError: the two sides were not made by the same engine.
        IscFastError: as `isc_fast.extract` and `isc_fast.search`.
    """
    given = locals()
    describing = describing or Describing()
    against = Against.of(negatives, method)
    asked = asked_of({**given, "method": None if against is None or against.is_default else method})
    if against is not None and threshold is None:
        against.check_threshold()
    check(threshold)
    check_counts(k, None)
    check_rows(max_rows)
    left_out = read_left_out(verdicts, stop_list)
    seen = view_names(",".join([views, *([MIRROR] if mirror else []), *([TURN] if turn else [])]))
    seen_references = view_names(reference_views)
    if align:
        check_aligning(queries, references)
    check_there(queries, references)
    check_views(seen, "queries", given=descriptors_among(queries) is not None)
    check_views(seen_references, "references", given=descriptors_among(references) is not None)
    comparer = Comparer(search_device, Workers(search_workers, search_cluster, search_share), progress)
    if negatives is not None and search_cluster is not None and is_bucket(output):
        raise InputError(
            "normalised descriptors of this run lie on this machine, where other nodes do not see them; normalise before: "
            "isc-fast normalize FILE --negatives FILE -o parts/, and leave out --negatives (in Python negatives)"
        )
    searched = partial(
        search_sides,
        comparer,
        threshold=threshold,
        against=against,
        k=k,
        align=align,
        verdicts=verdicts,
        stop_list=stop_list,
        progress=progress,
    )
    shared = None
    if search_share is not None:
        if against is not None:
            raise InputError(
                f"jobs share a search of descriptors that are normalised before, in an array too: {against.commands}; then leave "
                "out --negatives (in Python negatives)"
            )
        one, other = shared_sides("find", [("queries", queries), ("references", references)])
        found = searched((one, other), shared_output(output, *_OWN, asked), merge=False)
        score, said = found.wanted.score, found.wanted.said
        shared = FindResult(*found.counts, score, said, (one, other), found.verdict, waits=found.waits)
        if found.waits is not None and found.waits.for_tasks:
            return shared
    with ExitStack() as stack:
        own = hold(stack, output, *_OWN, asked, shared=shared is not None)
        if own is None:
            assert shared is not None
            return shared
        folder = own.folder
        foresee(describing, [queries], references, threshold, against, comparer.searcher)
        both = [WantedSide("queries", queries, seen), WantedSide("references", references, seen_references)]
        one, other = describing.sides(both, own.place, progress)
        sides = one, other
        found = searched(sides, own)
        matches, wanted, file = found.matches, found.wanted, found.file
        assert matches is not None
        placed = None
        if align:
            matches, placed = _aligned(matches, sides, wanted.score, k, progress, folder / ALIGNING)
        own.clear()
        write_matches(file, matches)
        hubs = hubs_of_matches(matches)
        stops = write_suggestions(folder, "csv" if file.suffix == ".csv" else "jsonl", hubs)
        page = _write_page(
            folder / "matches.html", matches, sides, max_rows, left_out, hubs, wanted.chances, placed, progress
        )
        matched = len(set(matches.query_ids))
        shares = None if matches.views is None else dict(Counter(matches.views).most_common())
        result = FindResult(
            *found.counts,
            wanted.score,
            wanted.said,
            sides,
            found.verdict,
            own.named(file),
            page and own.named(page),
            len(matches),
            matched,
            shares,
            None if placed is None else len(placed),
            len(hubs),
            stops and own.named(stops),
            method=None if against is None else against.method,
        )
        own.finish(result.to_dict(), [file, *(path for path in (page, stops) if path)])
        (folder / ALIGNING).unlink(missing_ok=True)
        if search_share is None:
            remove(comparer.pieces_in(own))
        return result


def _aligned(
    matches: Matches, sides: tuple[Side, Side], threshold: float, k: int, progress: Progress | None, file: Path
) -> tuple[Matches, dict[tuple[str, str], Placement]]:
    """The k best pairs of each query that align or reach the threshold, those first that align, and how these lie by ids."""
    queries, references = (side.source for side in sides)
    assert queries is not None  # was seen before the work
    assert references is not None
    told = progress("align") if progress else None
    looked = look_at(matches, queries, references, max(k, TOP), progress=told, kept=file)
    ranked, order = ranked_anew(matches, looked.alignments)
    of_query, kept, placed = Counter[str](), list[int](), dict[tuple[str, str], Placement]()
    for place, row in enumerate(order.tolist()):
        query = ranked.query_ids[place]
        if of_query[query] < k and (row in looked.alignments or ranked.scores[place] >= threshold):
            of_query[query] += 1
            kept.append(place)
            if row in looked.alignments:
                placed[query, ranked.reference_ids[place]] = Placement.of(looked.alignments[row])
    return ranked.take(kept), placed


def _write_page(
    path: Path,
    matches: Matches,
    sides: tuple[Side, Side],
    max_rows: int,
    left_out: LeftOut,
    hubs: Sequence[Hub],
    chances: Chances | None,
    placed: Mapping[tuple[str, str], Placement] | None,
    progress: Progress | None,
) -> Path | None:
    """Write the page of the pairs; None where there are no photos to show, or no pairs."""
    rows = choose_rows(matches, np.arange(len(matches)), max_rows)
    shown = matches.take(rows.tolist())
    queries, references = sides[0].photos(shown.query_ids), sides[1].photos(shown.reference_ids)
    if not (queries and references):
        return None
    page = ReviewPage(
        title="Copies found",
        lead="Each query beside a reference that it may be a copy of.",
        pairs=with_chances(pairs_of(matches, rows, verdicts=left_out.verdicts, placed=placed), chances),
        total=len(matches),
        figures=[
            ("Pairs", f"{len(matches):,}"),
            ("Queries with a match", f"{len(set(matches.query_ids)):,}"),
        ],
        stops=[(hub.id, hub.words) for hub in hubs],
    )
    write_page(path, page, queries, references, progress=progress("page") if progress else None)
    return path
