"""Pairs whose pixels agree. Photos of one lawn score alike, and only copies of one photo show the same blades of grass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...descriptors.texts import ids_at
from ...files.homes import Home
from ...items import Ints
from ...matching.groups.components import find_components
from ...matching.lists.matches import Matches
from ...matching.pairs.pair_files import PairFiles
from ...matching.searchers.arrays import Pairs
from ...progress import ProgressCallback
from ...sources.base import Source
from ..pixels.align import look_at

PIECE = 10_000
"""Pairs of a piece, which is what a run that goes on finds done; within it, `look_at` keeps what it has seen of each photo."""


def aligned_pairs(
    pairs: Iterable[Pairs],
    same: Ints,
    ids: Sequence[str],
    source: Source,
    place: Home,
    folder: Path,
    progress: ProgressCallback | None = None,
) -> PairFiles:
    """The pairs of a collection that show the same scene, see `isc_fast.align_matches`. Those of equal rows are not looked at.

    An interrupted call goes on where it was.

    Args:
        pairs: gone through three times: each once, in the same order.
        same: the first row that equals each row in every bit ``(n,)``.
        ids: of the rows.
        source: opens the photos.
        place: the files of the pairs get a folder in there, by which pairs they are.
        folder: for what was seen of the piece that is looked at.
        progress: called with photos whose pairs were looked at, in all, and photos that cannot be read.

    Raises:
        OutputError: a file cannot be written.
        InputError: a photo is not in the source.
        MissingExtraError: OpenCV is not installed.
    """
    digest, photos = hashlib.sha256(), list[int]()
    for piece in _pieces(pairs):
        for column in piece:
            digest.update(np.ascontiguousarray(column).tobytes())
        photos.append(len(np.unique(piece[0])))
    files = PairFiles(place.within(f"aligned-{digest.hexdigest()[:24]}"), len(photos))
    missing = set(files.missing())
    for number, piece in enumerate(_pieces(pairs)):
        if number in missing:
            journal = folder / f"aligning-{number}.jsonl"
            files.write(number, [_aligned(piece, same, ids, source, journal, _told(progress, photos, number))])
            journal.unlink(missing_ok=True)
    return files


def _pieces(pairs: Iterable[Pairs]) -> Iterator[Pairs]:
    """The same pairs, so many at a time."""
    for first, second, scores in pairs:
        for start in range(0, len(first), PIECE):
            stop = start + PIECE
            yield first[start:stop], second[start:stop], scores[start:stop]


def _aligned(
    piece: Pairs, same: Ints, ids: Sequence[str], source: Source, journal: Path, progress: ProgressCallback | None
) -> Pairs:
    first, second, scores = piece
    stays = same[first] == same[second]
    asked = _together(piece, np.flatnonzero(~stays))
    left, right = (ids_at(ids, rows[asked]) for rows in (first, second))
    matches = Matches(left, right, scores[asked])
    found = look_at(matches, source, source, len(asked), progress=progress, kept=journal, as_given=True)
    stays[asked[sorted(found.alignments)]] = True
    return first[stays], second[stays], scores[stays]


def _together(piece: Pairs, which: Ints) -> Ints:
    """Some pairs in an order in which those of one group of photos follow each other: what was seen of these is still known."""
    if not len(which):
        return which
    first, second, scores = piece[0][which], piece[1][which], piece[2][which]
    rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    here, there = np.split(places.astype(np.int64), 2)
    group = find_components([(here, there, scores)], len(rows)).label[here]
    ordered: Ints = which[np.lexsort((second, first, group))]
    return ordered


def _told(progress: ProgressCallback | None, photos: Sequence[int], number: int) -> ProgressCallback | None:
    """Tell what is done of a piece as what is done of all."""
    before, total = sum(photos[:number]), sum(photos)
    return progress and (lambda done, _, unread: progress(min(before + done, total), total, unread))
