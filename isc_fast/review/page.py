"""The report: a page of matches, each query beside its reference."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np

from ..decoders.views import WHOLE
from ..errors import InputError, OutputError
from ..evaluation.metrics import Scores, curve_of, evaluate
from ..files.atomic import try_to_write
from ..items import Ints, Photo
from ..matching.lists.matches import Matches, Truth
from ..matching.lists.verdicts import Verdicts, read_verdicts
from .pairs import Pair, ReviewPage, spread
from .placement import Placement, read_evidence
from .writing import write_page

DEFAULT_ROWS = 1000
_PROTOCOL = "kit"


def write_report(
    path: str | os.PathLike[str],
    matches: Matches,
    *,
    queries: Mapping[str, Photo],
    references: Mapping[str, Photo],
    truth: Truth | None = None,
    threshold: float | None = None,
    max_rows: int = DEFAULT_ROWS,
    verdicts: str | os.PathLike[str] | None = None,
    evidence: str | os.PathLike[str] | None = None,
) -> int:
    """Write a page that shows matches, the best ones first.

    Args:
        path: the HTML file to write. It needs no other file and no network.
        matches: the result of `isc_fast.search`.
        queries, references: the photo of each id, for example the path of its file.
        truth: if given, the page says which pairs are in it, and draws the curve of precision and recall.
        threshold: the lowest score that the page shows.
        max_rows: the largest number of pairs that the page shows. Of more pairs it shows some, spread evenly over the scores, and
            says so; likewise if the file would be larger than 50 MB.
        verdicts: a file of verdicts that a page saved; the page begins with them.
        evidence: the evidence file of `isc_fast.align_matches`; the page lays the photos of its pairs over each other where the
            copy lies.

    Returns:
        the number of pairs on the page.

    Raises:
        InputError: a number makes no sense, none of the ids in the pairs is among the queries, or none is among the references;
            or the ground truth has nothing to do with the matches.
        FormatError: there is a ground truth, and a pair occurs twice; or a file of verdicts or evidence is not what it should be.
        OutputError: the file cannot be written.
    """
    check_rows(max_rows)
    if threshold is not None and math.isnan(threshold):
        raise InputError("the threshold is not a number")
    if os.path.splitext(path)[1].lower() not in (".html", ".htm"):
        raise OutputError(f"cannot write {os.fspath(path)}: a page is HTML; give a name that ends in .html")
    try_to_write(path)
    said = None if verdicts is None else read_verdicts(verdicts)
    placed = None if evidence is None else read_evidence(evidence)
    fits = np.flatnonzero(matches.scores >= threshold) if threshold is not None else np.arange(len(matches))
    chosen = choose(matches, fits, max_rows)
    for side, ids, paths in (("query", matches.query_ids, queries), ("reference", matches.reference_ids, references)):
        if len(chosen) and not any(ids[row] in paths for row in chosen.tolist()):
            some = next(iter(paths), "none at all")
            raise InputError(
                f"no {side} of the matches is among the photos given: ids such as {ids[chosen[0]]!r} against {some!r}; give "
                "what extract was given, and the same --ids"
            )
    known = None if truth is None else evaluate(matches, truth, protocols=(_PROTOCOL,))[_PROTOCOL]
    page = ReviewPage(
        title="Matches",
        lead="Each query beside a reference that it may be a copy of.",
        pairs=pairs_of(matches, chosen, truth, said, placed),
        total=len(fits),
        threshold=None if known is None else known.threshold_at_p90,
        figures=() if known is None else figures_of(known),
        curve=None if truth is None else curve_of(matches, truth, _PROTOCOL),
    )
    return write_page(path, page, queries, references)


def check_rows(most: int) -> None:
    """See that a page may show so many pairs at most.

    Raises:
        InputError: they are fewer than one.
    """
    if most < 1:
        raise InputError(f"the page must show at least 1 pair, not {most}")


def choose(matches: Matches, fits: Ints, most: int) -> Ints:
    """Of the rows that fit, so many at most, spread over their scores; best first."""
    scores = matches.scores[fits]
    some = fits if len(fits) <= most else fits[spread(scores)[:most]]
    best: Ints = some[np.argsort(-matches.scores[some], kind="stable")]
    return best


def pairs_of(
    matches: Matches,
    rows: Ints,
    truth: Truth | None = None,
    verdicts: Verdicts | None = None,
    placed: Mapping[tuple[str, str], Placement] | None = None,
) -> list[Pair]:
    """The pairs of some rows of matches, as a page shows them; `placed` by query id and reference id."""
    made = []
    for row in rows.tolist():
        query, reference = matches.query_ids[row], matches.reference_ids[row]
        view = None if matches.views is None else matches.views[row]
        made.append(
            Pair(
                query,
                reference,
                float(matches.scores[row]),
                view=None if view == WHOLE else view,
                truth=None if truth is None else (query, reference) in truth.pairs,
                verdict=None if verdicts is None else verdicts.of(query, reference),
                placement=None if placed is None else placed.get((query, reference)),
            )
        )
    return made


def figures_of(scores: Scores) -> list[tuple[str, str]]:
    """The figures that stand at the top of a page."""
    values = (scores.micro_ap, scores.recall_at_p90, scores.threshold_at_p90)
    names = ("µAP", "Recall at 90 % precision", "Threshold for that")
    return [
        (name, "not reached" if value is None else f"{value:.3f}") for name, value in zip(names, values, strict=True)
    ]
