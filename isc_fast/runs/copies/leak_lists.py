"""What a search for leaks decides and writes: which photos have a copy on the other side, and what goes by which recipe."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...decoders.views import WHOLE
from ...descriptors.texts import ids_at
from ...files.atomic import make_folder
from ...files.rows import write_rows
from ...items import Floats, Ints, Photo
from ...matching.groups.components import find_components
from ...matching.groups.hubs import Hub
from ...matching.pairs.left_out import KeptPairs, LeftOut
from ...matching.pairs.pair_files import PairFiles
from ...matching.pairs.views import PhotoPairs, Views
from ...matching.searchers.arrays import Pairs
from ...review.pairs import Chances, Pair, ReviewPage, spread, with_chances
from ...review.writing import write_page
from ..pixels.align import with_placements
from ..sides.describing import Progress, Side
from .dedup_files import NEMO
from .suggestions import write_suggestions


@dataclass(frozen=True)
class Recipe:
    """What goes from a training set.

    Attributes:
        groups: whether groups count, so that the training set is compared with itself too.
    """

    groups: bool


_MOST_FIGURES = 6  # evaluation sets that the top of the page names

RECIPES = {"direct": Recipe(groups=False), "dinov2": Recipe(groups=True)}


@dataclass(frozen=True)
class Matched:
    """One evaluation set and its pairs with the training set.

    Attributes:
        name: of the set.
        side: where it comes from.
        ids: of its photos.
        rows: rows of the set, rows of the training set, scores; see `isc_fast.matching.pairs.cross_join.CrossJoin.pairs`.
        views: of the set and of the training set.
    """

    name: str
    side: Side
    ids: Sequence[str]
    rows: PairFiles | KeptPairs
    views: Views

    @property
    def pairs(self) -> PhotoPairs:
        """Photos of the set, photos of the training set, scores."""
        return PhotoPairs(self.rows, self.views)

    @cached_property
    def best(self) -> tuple[Floats, Ints]:
        """For each photo of the set, the best score with a photo of the training set, and its row; −∞ where there is none."""
        return best_of(len(self.ids), self.pairs)

    def leaked(self) -> int:
        """How many photos have a copy in the training set."""
        return int(np.isfinite(self.best[0]).sum())


@dataclass(frozen=True)
class Leaks:
    """A training set and what it shares with evaluation sets.

    Attributes:
        side, ids: of the training set.
        sets: the evaluation sets.
        left_out: what people said of pairs, which are without those that are wrong.
        hubs: photos that match many others.
    """

    side: Side
    ids: Sequence[str]
    sets: tuple[Matched, ...]
    left_out: LeftOut
    hubs: Sequence[Hub]


@dataclass(frozen=True)
class Going:
    """A photo that goes from the training set.

    Attributes:
        row: its number.
        reason: ``"evaluation"``: it matches a photo of an evaluation set; ``"group"``: it hangs together with one that does;
            ``"train"``: another photo of its group stays in the training set.
        other: name of the evaluation set, or ``"train"``.
        other_id: the photo that it matches best there, or the one that stays; None for ``"group"``.
        score: with that photo; None for a photo that is not compared with it directly.
    """

    row: int
    reason: str
    other: str | None
    other_id: str | None
    score: Any


def best_of(count: int, pairs: Iterable[Pairs]) -> tuple[Floats, Ints]:
    """For each first row: its best score, −∞ where there is none, and the second row that has it, each ``(count,)``."""
    best, to = np.full(count, -np.inf, np.float32), np.full(count, -1)
    for first, second, scores in pairs:
        rising = np.argsort(scores, kind="stable")
        better = rising[scores[rising] > best[first[rising]]]
        best[first[better]], to[first[better]] = scores[better], second[better]  # of several, numpy keeps the last one
    return best, to


def _turned(pairs: Iterable[Pairs]) -> Iterator[Pairs]:
    return ((second, first, scores) for first, second, scores in pairs)


def follow(leaks: Leaks, within: Iterable[Pairs] | None) -> list[Going]:
    """What goes from the training set, in the order of its photos.

    Args:
        leaks: what was found.
        within: the pairs of the training set in itself, where groups count.
    """
    count = len(leaks.ids)
    best, to, of = np.full(count, -np.inf, np.float32), np.full(count, -1), np.full(count, -1)
    for number, one in enumerate(leaks.sets):
        scores, rows = best_of(count, _turned(one.pairs))
        better = scores > best
        best[better], to[better], of[better] = scores[better], rows[better], number
    goes = {
        int(row): Going(int(row), "evaluation", one.name, id_, best[row])
        for number, one in enumerate(leaks.sets)
        for row, id_ in zip(np.flatnonzero(of == number), ids_at(one.ids, to[of == number]), strict=True)
    }
    if within is not None:
        label = find_components(_together(leaks, within), count + sum(len(one.ids) for one in leaks.sets)).label
        touched = np.isin(label[:count], label[count:])
        for row in np.flatnonzero(touched).tolist():
            goes.setdefault(row, Going(row, "group", None, None, None))
        others = np.flatnonzero(~touched & (label[:count] != np.arange(count)))
        for row, id_ in zip(others.tolist(), ids_at(leaks.ids, label[others]), strict=True):
            goes[row] = Going(row, "train", "train", id_, None)
    return [goes[row] for row in sorted(goes)]


def _together(leaks: Leaks, within: Iterable[Pairs]) -> Iterator[Pairs]:
    """All pairs, with the rows of the training set first and those of the evaluation sets behind them."""
    yield from within
    start = len(leaks.ids)
    for one in leaks.sets:
        for first, second, scores in one.pairs:
            yield first + start, second, scores
        start += len(one.ids)


def write_everything(
    leaks: Leaks,
    goes: Sequence[Going],
    folder: Path,
    *,
    form: str,
    nemo: bool,
    max_rows: int,
    chances: Chances | None = None,
    align: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, Path], int | None]:
    """Write all files of a search for leaks; returns them by name, and how many pairs of the page align, if they were looked at.

    Args:
        leaks: what was found.
        goes: from the training set.
        folder: exists, without tables of an earlier run.
        form, nemo, max_rows: see `isc_fast.runs.copies.leaks.find_leaks`.
        chances: how likely pairs are copies, for the page.
        align: whether the pairs of the page are looked at in their pixels.
        progress: is told of the page's pairs.

    Raises:
        OutputError: a file cannot be written.
        FormatError: an id cannot stand in a table of this format.
    """
    several = any(one.views.several for one in leaks.sets)
    said = {"view": str} if several else {}
    said |= {} if leaks.left_out.verdicts is None else {"verdict": str}
    files = {
        "leaks": write_rows(
            folder,
            "leaks",
            form,
            {"evaluation": str, "photos": int, "leaked": int, "share": float},
            ((one.name, len(one.ids), one.leaked(), one.leaked() / len(one.ids)) for one in leaks.sets),
        ),
        "pairs": write_rows(
            folder,
            "pairs",
            form,
            {"evaluation": str, "id": str, "train_id": str, "score": float, **said},
            _pair_rows(leaks, with_views=several),
        ),
        "remove-train": write_rows(
            folder,
            "remove-train",
            form,
            {"id": str, "reason": str, "other": str, "other_id": str, "score": float},
            (
                (id_, one.reason, one.other, one.other_id, one.score)
                for id_, one in zip(_ids_of(leaks, goes), goes, strict=True)
            ),
        ),
    }
    for one in leaks.sets:
        name = f"remove-{one.name}"
        files[name] = write_rows(
            folder, name, form, {"id": str, "train_id": str, "score": float}, _best_rows(leaks, one)
        )
    if nemo:
        part = ((id_,) for id_ in _ids_of(leaks, goes))
        files["nemo"] = write_rows(make_folder(folder / NEMO), "part.0", "parquet", {"id": str}, part).parent
    if suggestions := write_suggestions(folder, form, leaks.hubs):
        files["suggestions"] = suggestions
    pairs = _page_pairs(leaks, folder, max_rows, align=align, progress=progress)
    if pairs:
        files["page"] = _write_page(leaks, folder / "leaks.html", with_chances(pairs, chances), progress)
    return files, sum(pair.placement is not None for pair in pairs) if align else None


def _ids_of(leaks: Leaks, goes: Sequence[Going]) -> list[str]:
    return ids_at(leaks.ids, np.array([one.row for one in goes], np.int64))


def _pair_rows(leaks: Leaks, *, with_views: bool) -> Iterator[Sequence[Any]]:
    for one in leaks.sets:
        for pairs in one.rows:
            first, second = one.views.photos(pairs)
            mine, trained = ids_at(one.ids, first), ids_at(leaks.ids, second)
            columns: list[Any] = [[one.name] * len(first), mine, trained, pairs[2]]
            columns += [one.views.names(pairs) or [WHOLE] * len(first)] if with_views else []
            if leaks.left_out.verdicts is not None:
                columns.append([leaks.left_out.mark(*pair, one.name) for pair in zip(mine, trained, strict=True)])
            yield from zip(*columns, strict=True)


def _best_rows(leaks: Leaks, one: Matched) -> Iterator[tuple[str, str, Any]]:
    scores, to = one.best
    rows = np.flatnonzero(to >= 0)
    yield from zip(ids_at(one.ids, rows), ids_at(leaks.ids, to[rows]), scores[rows], strict=True)


def _page_pairs(leaks: Leaks, folder: Path, max_rows: int, *, align: bool, progress: Progress | None) -> list[Pair]:
    """The best pair of each photo that leaked; none where there are no photos to show."""
    if leaks.side.source is None and all(one.side.source is None for one in leaks.sets):
        return []
    pairs = list[Pair]()
    for number, one in enumerate(leaks.sets):
        scores, to = one.best
        leaked = np.flatnonzero(to >= 0)
        rows = leaked[spread(scores[leaked])[:max_rows]]
        found = [*zip(ids_at(one.ids, rows), ids_at(leaks.ids, to[rows]), scores[rows].tolist(), strict=True)]
        of_set = [
            Pair(id_, train, score, set=one.name, verdict=leaks.left_out.said(id_, train, one.name))
            for id_, train, score in sorted(found, key=lambda row: -row[2])
        ]
        if align and of_set and one.side.source is not None and leaks.side.source is not None:
            told = progress(f"align {one.name}") if progress else None
            file = folder / f"aligning-{number}.jsonl"
            of_set = with_placements(of_set, one.side.source, leaks.side.source, told, file)
        pairs += of_set
    return pairs


def _write_page(leaks: Leaks, path: Path, pairs: list[Pair], progress: Progress | None) -> Path:
    """Write the page of these pairs."""
    page = ReviewPage(
        title="Photos of evaluation sets in the training set",
        lead="Each photo of an evaluation set that has a copy in the training set, beside the photo there that it matches best.",
        pairs=pairs,
        sides=("evaluation", "training"),
        total=sum(one.leaked() for one in leaks.sets),
        figures=[(one.name, f"{one.leaked():,} of {len(one.ids):,}") for one in leaks.sets[:_MOST_FIGURES]],
        stops=[(hub.id, hub.words) for hub in leaks.hubs],
    )
    evaluation: dict[Hashable, Photo] = {
        (one.name, id_): photo
        for one in leaks.sets
        for id_, photo in one.side.photos({pair.left for pair in pairs if pair.set == one.name}).items()
    }
    training = leaks.side.photos({pair.right for pair in pairs})
    write_page(path, page, evaluation, training, progress=progress("page") if progress else None)
    return path
