"""Matches looked at again, in their pixels: which pairs show the same scene, and where."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...decoders.opening import ImageProblem
from ...decoders.rules import load_rgb
from ...errors import InputError, require
from ...files.atomic import make_folder, replacing, try_to_write
from ...items import Photo
from ...machine.cores import available_cores
from ...matching.lists.matches import Matches, check_output, write_matches
from ...progress import ProgressCallback, saying_what_is_kept
from ...review.alignment import FEWEST_INLIERS, Alignment, align_either, check_inliers, find_features
from ...review.evidence import draw_evidence
from ...review.pairs import Pair
from ...review.placement import EvidenceRow, Placement, write_evidence
from ...sources.base import Source
from ...sources.choice import Choice
from ...sources.listing import Inputs, as_source
from ..sides.describing import descriptors_among
from .aligning import SUFFIX, Seen, journal
from .looked_at import LookedAt

TOP = 10
BONUS = 1.0
"""What an aligned pair's score gains: such pairs stand before all others, in the order of their own scores."""
PICTURES = 100
_AHEAD = 4  # queries for each thread that are begun before the results of the first are taken


@dataclass(frozen=True)
class Aligned:
    """What `align_matches` found.

    Attributes:
        matches: all pairs, best first; the scores of aligned ones are higher by `BONUS`.
        alignments: by (query id, reference id), of the pairs that align.
        looked_at: how many pairs were looked at.
        unread: ids of photos that could not be read.
    """

    matches: Matches
    alignments: Mapping[tuple[str, str], Alignment]
    looked_at: int
    unread: Sequence[str]


def align_photos(query: Photo, reference: Photo) -> Alignment | None:
    """Find how one photo lies in another.

    Args:
        query, reference: paths, or functions that open a stream of bytes.

    Returns:
        where; None if nothing is found that both show.

    Raises:
        InputError: a photo cannot be read.
        MissingExtraError: OpenCV is not installed.
    """
    try:
        left, right = load_rgb(query), load_rgb(reference)
    except ImageProblem as error:
        raise InputError(f"a photo cannot be read: {error}") from error
    return align_either((find_features(left), find_features(left, mirrored=True)), find_features(right))


def align_matches(
    matches: Matches,
    queries: Inputs | Source,
    references: Inputs | Source,
    output: str | os.PathLike[str],
    *,
    top: int = TOP,
    inliers: int = FEWEST_INLIERS,
    evidence: str | os.PathLike[str] | None = None,
    pictures: str | os.PathLike[str] | None = None,
    most_pictures: int = PICTURES,
    ids: str = "auto",
    choice: Choice | None = None,
    progress: ProgressCallback | None = None,
) -> Aligned:
    """Look at the best matches of each query in their pixels, and write all matches with those first that align.

    An interrupted call goes on with the queries that are left: until the output is written, ``OUTPUT.aligning.jsonl`` beside it
    holds what was seen. What was seen of other pairs or photos is not taken.

    Args:
        matches: of a search, at best one with a low threshold: an alignment finds pairs whose score alone says little.
        queries, references: the photos, as `isc_fast.extract` takes them.
        output: matches in the format of its suffix; see `isc_fast.write_matches`.
        top: so many of each query's matches are looked at.
        inliers: so many local features must agree, at least 6; fewer find more copies, and align more pairs by chance.
        evidence: a ``.jsonl`` file with an object for each aligned pair, see `isc_fast.review.placement.write_evidence`;
            `isc_fast.write_report` takes it.
        pictures: a folder, new or empty, for a PNG of each aligned pair, best first.
        most_pictures: at most so many.
        ids, choice: see `isc_fast.list_images`; as they were given to the extraction.
        progress: called with queries done, in all, and photos that cannot be read.

    Raises:
        InputError: a number is out of range, or a photo of the matches is not among those given.
        MissingExtraError: OpenCV is not installed.
        IscFastError: as `isc_fast.list_images` and `isc_fast.write_matches`.
    """
    check_inliers(inliers)
    if top < 1 or most_pictures < 1:
        raise InputError(f"top and most_pictures must be at least 1, not {min(top, most_pictures)}")
    require("cv2", "evidence")
    check_output(output, matches.query_ids, matches.reference_ids)
    if evidence is not None:
        try_to_write(evidence)
    folder = None if pictures is None else _empty_folder(pictures)
    file = Path(output)
    kept = file.with_name(file.name + SUFFIX)
    looked = look_at(
        matches, as_source(queries, ids, choice), as_source(references, ids, choice), top, inliers, progress, kept
    )
    found, sides = looked.alignments, looked.sides
    ranked, order = ranked_anew(matches, found)
    write_matches(output, ranked)
    rows = [int(row) for row in order if int(row) in found]
    if evidence is not None:
        write_evidence(evidence, (_evidence_of(matches, row, found[row]) for row in rows))
    if folder is not None:
        _draw(folder, matches, {row: found[row] for row in rows[:most_pictures]}, sides)
    kept.unlink(missing_ok=True)
    by_ids = {(matches.query_ids[row], matches.reference_ids[row]): one for row, one in found.items()}
    return Aligned(ranked, by_ids, looked.count, sorted({*sides[0].unread, *sides[1].unread}))


def _draw(folder: Path, matches: Matches, found: Mapping[int, Alignment], sides: tuple[LookedAt, LookedAt]) -> None:
    """Draw aligned pairs into an empty folder, which is empty again if this is interrupted: the next run wants it so."""
    try:
        for number, (row, one) in enumerate(found.items(), 1):
            pair = sides[0].image(matches.query_ids[row]), sides[1].image(matches.reference_ids[row])
            if pair[0] is not None and pair[1] is not None:
                with replacing(folder / f"{number:04d}.png") as temporary:
                    draw_evidence(pair[0], pair[1], one).save(temporary, "PNG")
    except BaseException:
        for number in range(1, len(found) + 1):
            (folder / f"{number:04d}.png").unlink(missing_ok=True)
        raise


def _evidence_of(matches: Matches, row: int, found: Alignment) -> EvidenceRow:
    score = float(str(matches.scores[row]))  # as many digits as it has
    return EvidenceRow(matches.query_ids[row], matches.reference_ids[row], score, found)


def check_aligning(*inputs: Inputs | Source) -> None:
    """See before the work that pairs can be looked at in their pixels.

    Args:
        inputs: of all sides.

    Raises:
        InputError: one of them is descriptors.
        MissingExtraError: OpenCV is not installed.
    """
    require("cv2", "evidence")
    if any(descriptors_among(given) is not None for given in inputs):
        raise InputError(
            "pairs are looked at in their photos, and descriptors were given; give the photos themselves, or leave out --align "
            "(in Python align)"
        )


def with_placements(
    pairs: Sequence[Pair],
    left: Source,
    right: Source,
    progress: ProgressCallback | None = None,
    kept: Path | None = None,
) -> list[Pair]:
    """The pairs of a page, each with how its two photos lie in each other, where their pixels agree on that.

    Args:
        pairs: of which each is looked at.
        left, right: the photos of both sides; the same where both are one collection.
        progress: called with left photos done, in all, and photos that cannot be read.
        kept: a file that holds what was seen until all is; see `isc_fast.runs.pixels.aligning.journal`.

    Raises:
        InputError: a photo of the pairs is not among those given.
        OutputError: the file cannot be written.
        MissingExtraError: OpenCV is not installed.
    """
    scores = np.array([pair.score for pair in pairs], np.float64)
    matches = Matches([pair.left for pair in pairs], [pair.right for pair in pairs], scores)
    found = look_at(matches, left, right, len(pairs), progress=progress, kept=kept).alignments
    if kept is not None:
        kept.unlink(missing_ok=True)
    return [
        replace(pair, placement=Placement.of(found[row]) if row in found else None) for row, pair in enumerate(pairs)
    ]


@dataclass(frozen=True)
class Looked:
    """What `look_at` found.

    Attributes:
        alignments: by the row of the match.
        count: how many matches were looked at.
        sides: the photos.
    """

    alignments: Mapping[int, Alignment]
    count: int
    sides: tuple[LookedAt, LookedAt]


def look_at(
    matches: Matches,
    queries: Source,
    references: Source,
    top: int = TOP,
    inliers: int = FEWEST_INLIERS,
    progress: ProgressCallback | None = None,
    kept: Path | None = None,
    *,
    as_given: bool = False,
) -> Looked:
    """Look at the best matches of each query in their pixels; see `align_matches`.

    Args:
        matches, queries, references, top, inliers, progress: see there.
        kept: a file that holds what was seen, for the next run if this one is interrupted. Whoever has written the result removes
            it.
        as_given: look at the queries in the order of the matches, and not at those first that score highest.
    """
    require("cv2", "evidence").setNumThreads(1)  # each thread here looks at a query of its own
    wanted = _best_of_each(matches, top)
    if as_given:
        wanted.sort(key=min)
    of_queries, of_references = (
        {ids[row] for rows in wanted for row in rows} for ids in (matches.query_ids, matches.reference_ids)
    )
    if queries is references:
        sides = (LookedAt("photos", queries, of_queries | of_references),) * 2
    else:
        sides = LookedAt("queries", queries, of_queries), LookedAt("references", references, of_references)
    unread = {id(side): side.unread for side in sides}.values()
    found: dict[int, Alignment] = {}
    with (
        journal(kept, _digest(matches, wanted, sides, inliers)) as book,
        saying_what_is_kept(lambda: book.in_words(len(wanted))),
    ):
        for seen in book.done.values():
            found |= seen.found
            for side, ids in zip(sides, seen.unread, strict=True):
                side.unread.update(ids)
        left = [number for number in range(len(wanted)) if number not in book.done]

        def tell(done: int) -> None:
            if progress:
                progress(len(book.done) + done, len(wanted), sum(map(len, unread)))

        tell(0)
        parts = _in_order([wanted[number] for number in left], lambda rows: _aligned(matches, rows, sides, inliers))
        for done, (number, part) in enumerate(zip(left, parts, strict=True), 1):
            found |= part
            book.add(number, Seen(part, _unread(matches, wanted[number], sides)))
            tell(done)
    return Looked(found, sum(map(len, wanted)), sides)


def _digest(matches: Matches, wanted: Sequence[Sequence[int]], sides: tuple[LookedAt, LookedAt], inliers: int) -> str:
    """SHA-256 of all that decides what is seen: which pairs are looked at, in which photos, and how much must agree."""
    digest = hashlib.sha256(f"{inliers} {__version__}".encode())
    for rows in wanted:
        pairs = [[row, matches.query_ids[row], matches.reference_ids[row]] for row in rows]
        digest.update(json.dumps(pairs).encode("ascii"))
    for side in sides:
        digest.update(side.state())
    return digest.hexdigest()


def _unread(matches: Matches, rows: Sequence[int], sides: tuple[LookedAt, LookedAt]) -> tuple[list[str], list[str]]:
    """Which photos of one query's matches cannot be read."""
    asked = {matches.query_ids[row] for row in rows}, {matches.reference_ids[row] for row in rows}
    of_queries, of_references = (sorted(ids & side.unread) for ids, side in zip(asked, sides, strict=True))
    return of_queries, of_references


def _aligned(
    matches: Matches, rows: Sequence[int], sides: tuple[LookedAt, LookedAt], inliers: int
) -> dict[int, Alignment]:
    """The alignments of one query's matches, by their rows."""
    query, found = sides[0].both(matches.query_ids[rows[0]], keep=sides[0] is sides[1]), dict[int, Alignment]()
    if query is None:
        return found
    for row in rows:
        reference = sides[1].features(matches.reference_ids[row])
        alignment = None if reference is None else align_either(query, reference, inliers)
        if alignment is not None:
            found[row] = alignment
    return found


def _best_of_each(matches: Matches, top: int) -> list[list[int]]:
    """For each query, in the order in which they come, the rows of its best matches."""
    rows: dict[str, list[int]] = {}
    for row in np.argsort(-np.asarray(matches.scores), kind="stable").tolist():
        mine = rows.setdefault(matches.query_ids[row], [])
        if len(mine) < top:
            mine.append(row)
    return list(rows.values())


def _in_order(
    jobs: Sequence[list[int]], work: Callable[[list[int]], dict[int, Alignment]]
) -> Iterator[dict[int, Alignment]]:
    """What the work gives for each job, in their order; some jobs ahead are worked on by other threads."""
    cores = available_cores()
    with ThreadPoolExecutor(cores) as pool:
        begun: list[Any] = []
        for job in jobs:
            begun.append(pool.submit(work, job))
            if len(begun) > _AHEAD * cores:
                yield begun.pop(0).result()
        for one in begun:
            yield one.result()


def ranked_anew(
    matches: Matches, found: Mapping[int, Alignment]
) -> tuple[Matches, np.ndarray[Any, np.dtype[np.int64]]]:
    """All matches, those that align first, and the order in which they stood before."""
    scores = np.array(matches.scores)
    scores[[*found]] += np.asarray(BONUS, scores.dtype)
    order = np.argsort(-scores, kind="stable")
    return replace(matches, scores=scores).take(order.tolist()), order


def _empty_folder(path: str | os.PathLike[str]) -> Path:
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a new or empty folder for the pictures")
    if folder.is_dir() and next(folder.iterdir(), None) is not None:
        raise InputError(f"{folder} is not empty; give a new or empty folder for the pictures")
    return make_folder(folder)
