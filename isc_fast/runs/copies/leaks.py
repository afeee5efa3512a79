"""Finding photos of evaluation sets that have a copy in a training set, in one call from photos to lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path

from ...decoders.views import WHOLE, view_names
from ...errors import InputError
from ...extraction.runners.cluster import Cluster
from ...extraction.share import Share
from ...files.rows import check_format
from ...matching.groups.hubs import hubs_between
from ...matching.pairs.left_out import read_left_out
from ...matching.pairs.unknown_ids import warn_of_unknown
from ...matching.searchers.searcher import Searcher
from ...review.page import DEFAULT_ROWS, check_rows
from ...sources.base import Source
from ...sources.listing import Inputs, names_of
from ...sources.paths import real
from ...stores.urls import is_url, read_name
from ..pixels.align import check_aligning
from ..sides.describing import Describing, Progress, Side, WantedSide, check_there, check_views, descriptors_among
from ..sides.foresight import foresee
from ..sides.thresholds import Threshold, check
from ..tasks.joining import Workers, remove
from .comparing import Comparer
from .leak_lists import RECIPES, Leaks, follow, write_everything
from .leak_search import compare_sets, matched_in
from .names import NAMES
from .sharing import Shared, Waits, asked_of, hold, shared_output, shared_sides

_OWN = NAMES["leaks"]


@dataclass(frozen=True)
class SetLeak:
    """What leaked of one evaluation set.

    Attributes:
        name: of the set.
        photos: how many it has.
        leaked: how many of them have a copy in the training set.
    """

    name: str
    photos: int
    leaked: int

    @property
    def share(self) -> float:
        """The share that leaked."""
        return self.leaked / self.photos


@dataclass(frozen=True)
class LeaksResult(Shared):
    """What `find_leaks` found.

    Attributes:
        folder: with everything that was written.
        train: how many photos the training set has.
        sets: the evaluation sets, in the order in which they were given.
        pairs: how many pairs of a photo of an evaluation set and one of the training set match.
        removed: photos that the recipe would take from the training set.
        recipe: see `isc_fast.runs.copies.leak_lists.RECIPES`.
        threshold: the lowest score of a pair.
        said: where the threshold comes from, in words.
        page: the page of the best pairs; None where there are no photos, or no pairs.
        files: what was written, by name.
        sides: the training set and the evaluation sets, with what the extraction says of them.
        hubs: how many photos match many others; see `isc_fast.matching.groups.hubs`. The file ``stop_list_suggestions`` has them.
        aligned: of the pairs on the page, how many show the same scene; None where nobody looked.
        waits: for what this job of several waits; then nothing is written, and what is counted from pairs is 0. None where
            everything is there.
    """

    folder: Path | str
    train: int
    recipe: str
    threshold: float
    said: str
    sides: tuple[Side, ...]
    sets: tuple[SetLeak, ...] = ()
    pairs: int = 0
    removed: int = 0
    page: Path | str | None = None
    files: dict[str, Path | str] = field(default_factory=dict)
    hubs: int = 0
    aligned: int | None = None
    waits: Waits | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        if self.waits is not None:
            return self.waits.to_dict()
        names = ("train", "pairs", "removed", "recipe", "threshold")
        return {
            **{name: getattr(self, name) for name in names},
            "threshold_comes_from": self.said,
            "sets": [{**vars(one), "share": one.share} for one in self.sets],
            "failures": {side.name: len(side.made.failures) for side in self.sides if side.made},
            "page": None if self.page is None else str(self.page),
            **({} if self.aligned is None else {"aligned": self.aligned}),
            "files": {name: str(path) for name, path in self.files.items()},
        }


def find_leaks(
    train: Inputs | Source,
    evaluations: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    describing: Describing | None = None,
    threshold: Threshold = None,
    recipe: str = "direct",
    views: str = WHOLE,
    form: str = "csv",
    nemo: bool = False,
    max_rows: int = DEFAULT_ROWS,
    align: bool = False,
    verdicts: str | os.PathLike[str] | None = None,
    stop_list: str | os.PathLike[str] | None = None,
    search_device: str | Searcher = "cpu",
    search_workers: int | None = None,
    search_cluster: Cluster | None = None,
    search_share: Share | None = None,
    progress: Progress | None = None,
) -> LeaksResult:
    """Find which photos of evaluation sets have a copy in a training set, and list what to remove on either side.

    Nothing is removed. An interrupted call goes on where it was.

    Args:
        train: photos, as `isc_fast.extract` takes them, or a descriptor file.
        evaluations: one folder, list file or descriptor file for each set.
        output: a folder; it gets descriptors where photos were given, the tables ``leaks`` (a row for each set), ``pairs``,
            ``remove-train`` and ``remove-SET``, ``leaks.html`` and ``leaks.json``; and ``stop_list_suggestions``, where photos
            match many others. It may be the address of a prefix in a bucket, see `isc_fast.find_copies`.
        describing: how photos are described.
        threshold: the lowest score of a pair, a cosine; or the precision that is wanted, `isc_fast.AtPrecision`; by default what
            the engine carries for so many pairs.
        recipe: what goes from the training set, one of `isc_fast.runs.copies.leak_lists.RECIPES`: ``"direct"``: what matches a
            photo of an evaluation set; ``"dinov2"``: every group of the training set that hangs together with such a photo, and
            of every other group all but one, as the data of DINOv2 were made. The threshold is on the scale of this engine, not
            on that of the network which its authors used.
        views: of each photo of an evaluation set, words of `isc_fast.decoders.views.WORDS`, such as ``"10"``. Describing these
            sets takes as many times as long; a pair scores as its best view does, and ``pairs`` says which one in ``view``.
        form: of the tables, ``"csv"``, ``"json"``, ``"jsonl"`` or ``"parquet"``.
        nemo: also write ``remove-nemo/``, what goes from the training set as NeMo Curator takes it.
        max_rows: pairs of each set that the page shows at most; of more, it shows some, spread evenly over the scores.
        align: look at the pairs that the page shows in their pixels too, so that it lays the two photos over each other where one
            was cut out of the other; see `isc_fast.align_matches`. The lists stay as they are.
        verdicts: a file of verdicts, as the page saves it: pairs that somebody judged wrong are left out, and the table
            ``pairs`` has a column ``verdict``, ``right`` where somebody judged a pair so.
        stop_list: a list of ids, of all sets, of photos that match nothing; likewise photos with the very same descriptor.
        search_device: see ``device`` of `isc_fast.search`.
        search_workers: number of processes on this machine that compare, which share its cores; by default this one compares.
        search_cluster: the Ray cluster whose workers compare, instead. They find the descriptors and the output under the same
            paths.
        search_share: compute only this share of the comparison of descriptors; other jobs, on this machine or on others, compute
            the others. The job that sees the last one writes the result. The folder ``pairs.parts`` stays, and may be removed
            when that is there.
        progress: see `isc_fast.runs.sides.describing.Progress`.

    Raises:
        InputError: a set is empty, inputs overlap, a number or a name is not known, or no threshold was given and the engine
            carries none; or a share is wanted of photos.
        MissingExtraError: pairs are to be looked at, and OpenCV is not installed.
        MismatchError: the sets were not made by the same engine.
        OutputError: something cannot be written, or another run is writing there.
        IscFastError: as `isc_fast.extract` and `isc_fast.search`.
    """
    asked = asked_of(locals())
    check(threshold)
    if recipe not in RECIPES:
        raise InputError(f"there is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
    check_rows(max_rows)
    check_format("parquet" if nemo else form)
    check_format(form)
    left_out = read_left_out(verdicts, stop_list)
    if align:
        check_aligning(train, *evaluations)
    names = _names(evaluations)
    _refuse_overlap(train, evaluations)
    seen = view_names(views)
    check_there(train, evaluations)
    check_views(seen, "evaluation sets", given=any(descriptors_among(one) is not None for one in evaluations))
    comparer = Comparer(search_device, Workers(search_workers, search_cluster, search_share), progress)
    compared = partial(
        compare_sets,
        comparer,
        names,
        threshold=threshold,
        form="parquet" if nemo else form,
        groups=RECIPES[recipe].groups,
    )
    shared = None
    if search_share is not None:
        given = zip([f"eval-{name}" for name in names], evaluations, strict=True)
        sides = shared_sides("leaks", [("train", train), *given])
        place = shared_output(output, *_OWN, asked).place
        with compared(sides, place) as found:
            waits = Waits.of(place, found.files)
            score, said = found.wanted.score, found.wanted.said
            shared = LeaksResult(place, len(found.opened[0]), recipe, score, said, tuple(sides), waits=waits)
        if waits.for_tasks:
            return shared
    with ExitStack() as stack:
        own = hold(stack, output, *_OWN, asked, shared=shared is not None)
        if own is None:
            assert shared is not None
            return shared
        folder = own.folder
        chosen = describing or Describing()
        foresee(chosen, evaluations, train, threshold)
        tested = (WantedSide(f"eval-{name}", one, seen) for name, one in zip(names, evaluations, strict=True))
        sides = chosen.sides([WantedSide("train", train), *tested], own.place, progress)
        found = stack.enter_context(compared(sides, comparer.pieces_in(own)))
        opened, wanted = found.opened, found.wanted
        warn_of_unknown(left_out, {name: one.ids for name, one in zip(names, opened[1:], strict=True)}, opened[0].ids)
        matched, within = matched_in(found, names, sides, left_out)
        hubs = [hub for one in matched for hub in hubs_between(one.pairs, (one.ids, opened[0].ids))]
        leaks = Leaks(sides[0], opened[0].ids, tuple(matched), left_out, hubs)
        goes = follow(leaks, within)
        own.clear()
        written, aligned = write_everything(
            leaks,
            goes,
            folder,
            form=form,
            nemo=nemo,
            max_rows=max_rows,
            chances=wanted.chances,
            align=align,
            progress=progress,
        )
        page = written.pop("page", None)
        sets = tuple(SetLeak(one.name, len(one.ids), one.leaked()) for one in matched)
        pairs = sum(len(one.rows) for one in matched)
        result = LeaksResult(
            own.place,
            len(opened[0]),
            recipe,
            wanted.score,
            wanted.said,
            tuple(sides),
            sets,
            pairs,
            len(goes),
            page and own.named(page),
            {name: own.named(file) for name, file in written.items()},
            len({hub.id for hub in hubs}),
            aligned,
        )
        own.finish(result.to_dict(), [*written.values(), *([page] if page else [])])
        if search_share is None:
            remove(comparer.pieces_in(own))
    return result


def _names(evaluations: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for each evaluation set: the last part of its path; with a number where that is taken.

    Raises:
        InputError: there is no set.
    """
    if not evaluations:
        raise InputError("there is no evaluation set; name at least one: --eval PHOTOS")
    found = ["train"]  # which is taken by the training set
    for given in evaluations:
        name = read_name(os.fspath(given))
        base = Path(real(name)) if is_url(name) else Path(os.path.abspath(name))
        is_folder = name.endswith("/") if is_url(name) else base.is_dir()
        plain = re.sub(r"[^\w.-]+", "_", base.name if is_folder else base.stem) or "set"
        found.append(next(name for name in _numbered(plain) if name not in found))
    return found[1:]


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _refuse_overlap(train: Inputs | Source, evaluations: Sequence[str | os.PathLike[str]]) -> None:
    """A folder in another one would find each of its photos to have leaked."""
    for one, other in combinations([*names_of(train), *names_of(evaluations)], 2):
        places = Path(real(one)), Path(real(other))
        if places[0] == places[1] or places[0] in places[1].parents or places[1] in places[0].parents:
            raise InputError(
                f"{os.fspath(one)} and {os.fspath(other)} hold the same photos, which would all count as copies; give folders "
                "that do not overlap"
            )
