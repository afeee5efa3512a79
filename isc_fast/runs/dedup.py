"""Finding the copies in one collection, in one call from photos to the lists of what stays and what could go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..descriptors.formats.table import open_any
from ..descriptors.lengths import check_lengths
from ..errors import InputError
from ..evaluation.calibration import Task
from ..extraction.runners.cluster import Cluster
from ..files.own_folder import own_folder
from ..files.rows import check_format, check_names
from ..matching.arrays import Pairs
from ..matching.components import Chain, find_chain
from ..matching.cpu_searcher import CPU
from ..matching.left_out import read_left_out
from ..matching.mutual import mutual_pairs
from ..matching.searcher import Searcher, open_searcher
from ..matching.self_join import SelfJoin
from ..sources.base import Source
from ..sources.listing import Inputs, names_of
from ..sources.paths import real
from .align import check_aligning
from .deciding import decide
from .dedup_files import write_everything
from .dedup_links import check_files, check_links
from .describing import Describing, Progress, Side
from .join_tool import self_recipe, side_message
from .joining import Workers, compute, fresh, place_of, remove
from .photo_facts import check_order
from .thresholds import Threshold, check, choose

MAX_GROUP = 12
MAX_GROUPS = 100


@dataclass(frozen=True)
class DedupResult:
    """What `find_duplicates` found.

    Attributes:
        folder: with everything that was written.
        photos: how many were compared.
        pairs: how many pairs match. Of photos that are equal, each has one pair with the first of them alone.
        groups: how many groups of two photos or more hang together by pairs.
        largest: photos of the largest one.
        removed: photos that could go, each of which matches one that stays.
        removed_bytes: of their files; None where only descriptors were given.
        equal: of the photos that could go, how many have the same file as the one that stays, and how many the same pixels;
            None where nobody asked.
        spared: photos that match one that stays, and are the same file under another name: they are not to be removed.
        keep: the rule for what stays.
        threshold: the lowest score of a pair.
        said: where the threshold comes from, in words.
        chain: says that the largest group hangs together by weak links; None where it does not.
        page: the page of the groups; None where there are no photos, or no groups.
        files: what was written, by name.
        side: the photos, with what the extraction says of them.
        hubs: how many photos match many others that do not match each other; see `isc_fast.matching.hubs`. The file
            ``stop_list_suggestions`` has them.
        aligned: of the pairs on the page, how many show the same scene; None where nobody looked.
    """

    folder: Path
    photos: int
    pairs: int
    groups: int
    largest: int
    removed: int
    removed_bytes: int | None
    equal: dict[str, int] | None
    spared: int
    keep: str
    threshold: float
    said: str
    chain: Chain | None
    page: Path | None
    files: dict[str, Path]
    side: Side
    hubs: int = 0
    aligned: int | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        names = (
            "photos",
            "pairs",
            "groups",
            "largest",
            "removed",
            "removed_bytes",
            "equal",
            "spared",
            "keep",
            "threshold",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "threshold_comes_from": self.said,
            "chain": None if self.chain is None else vars(self.chain),
            "failures": len(self.side.made.failures) if self.side.made else 0,
            "page": None if self.page is None else str(self.page),
            **({} if self.aligned is None else {"aligned": self.aligned}),
            "files": {name: str(path) for name, path in self.files.items()},
        }


def find_duplicates(
    photos: Inputs | Source,
    output: str | os.PathLike[str],
    *,
    describing: Describing | None = None,
    threshold: Threshold = None,
    keep: str | None = None,
    mutual: int | None = None,
    exact: bool = False,
    form: str = "csv",
    nemo: bool = False,
    link_to: str | os.PathLike[str] | None = None,
    max_group: int = MAX_GROUP,
    max_groups: int = MAX_GROUPS,
    align: bool = False,
    verdicts: str | os.PathLike[str] | None = None,
    stop_list: str | os.PathLike[str] | None = None,
    search_device: str | Searcher = "cpu",
    search_workers: int | None = None,
    search_cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> DedupResult:
    """Find the copies in a collection: describe it, compare it with itself, and say what stays and what could go.

    Nothing is removed. In the order of the rule ``keep``, a photo stays unless one that stays already matches it directly. An
    interrupted call goes on where it was.

    Args:
        photos: as `isc_fast.extract` takes them, or a descriptor file.
        output: a folder that is new, empty or of an earlier run; it gets ``photos.h5`` where photos were given, the
            tables ``pairs``, ``groups``, ``keep`` and ``remove``, ``dedup.html`` and ``dedup.json``; and
            ``stop_list_suggestions``, where photos match many others.
        describing: how photos are described.
        threshold: the lowest score of a pair, a cosine; or the precision that is wanted, `isc_fast.AtPrecision`; by default what
            the engine carries for so many pairs.
        keep: what stays of photos that match: ``"largest"`` (most pixels, the default where photos are given), ``"oldest"``,
            ``"newest"`` (by the time of the file), ``"best-quality"`` (most bytes for each pixel), or ``"first"`` (in the
            order of the ids; the only rule for descriptors without photos).
        mutual: only pairs of photos of which each is among so many nearest of the other.
        exact: tell photos with equal files and with equal pixels from near copies, in the column ``kind``.
        form: of the tables, ``"csv"``, ``"json"``, ``"jsonl"`` or ``"parquet"``.
        nemo: also write ``remove-nemo/``, a folder of Parquet with a column ``id``, as NeMo Curator takes it.
        link_to: a new folder, which gets a folder of symbolic links for each group.
        max_group, max_groups: photos of a group, and groups, that the page and the links show at most; the tables have all.
        align: look at the pairs that the page shows in their pixels too, so that it lays the two photos over each other where one
            was cut out of the other; see `isc_fast.align_matches`. The lists stay as they are.
        verdicts: a file of verdicts, as the page saves it: pairs that somebody judged wrong are left out, and the table
            ``pairs`` has a column ``verdict``, ``right`` where somebody judged a pair so.
        stop_list: a list of ids of photos that match nothing, and so stay; likewise photos with the very same descriptor.
        search_device: see ``device`` of `isc_fast.search`.
        search_workers: number of processes on this machine that compare, which share its cores; by default this one compares.
        search_cluster: the Ray cluster whose workers compare, instead. They find the descriptors and the output under the same
            paths.
        progress: see `isc_fast.runs.describing.Progress`.

    Raises:
        InputError: there is no photo, an input is given twice, a number or a rule is out of range, or no threshold was given
            and the engine carries none.
        MissingExtraError: pairs are to be looked at, and OpenCV is not installed.
        MismatchError: the descriptors may not be compared with each other.
        OutputError: something cannot be written, or another run is writing there.
        IscFastError: as `isc_fast.extract` and `isc_fast.search`.
    """
    _check(threshold, mutual, keep, max_group, max_groups)
    check_format("parquet" if nemo else form)
    check_format(form)
    _refuse_repeated(photos)
    if align:
        check_aligning(photos)
    if link_to is not None:
        check_links(link_to, photos)
    left_out = read_left_out(verdicts, stop_list, one_side=True)
    workers = Workers(search_workers, search_cluster)
    workers.check(search_device)
    searcher = open_searcher(CPU if workers.elsewhere else search_device)
    with own_folder(output, "dedup.json", r"photos\.h5|pairs") as own:
        folder = own.folder
        side = (describing or Describing()).side("photos", photos, folder, progress)
        rule = _rule(side, keep, exact=exact, links=link_to is not None)
        if link_to is not None and side.source is not None:
            check_files(side.source.list().found)
        with open_any(side.path) as descriptors:
            check_lengths(descriptors, "photo's")
            check_names("parquet" if nemo else form, descriptors.ids)
            task = Task.within(len(descriptors), share=1)
            wanted = choose(threshold, [descriptors], task, f"{len(descriptors)} photos")
            threshold, said = wanted.score, wanted.said
            join = SelfJoin(descriptors, threshold, device=searcher)
            place = place_of(folder, threshold, descriptors)
            ids, same = (descriptors.ids, descriptors.ids), (join.same, join.same)
            side_of = partial(side_message, side.path, descriptors)
            found = compute(
                join,
                place,
                progress,
                workers=workers,
                recipe=lambda inside: self_recipe(inside, side_of(), threshold, join.rows, str(search_device)),
            )
            left = left_out.pairs(found, ids, same)
            pairs: Iterable[Pairs] = left if left_out else left.all
            apart = left.apart(join.same)
            if mutual is not None:
                kept = fresh(place / f"mutual-{mutual}", 1)
                kept.write(0, mutual_pairs(pairs, mutual, apart))
                pairs = kept
            made = decide(descriptors, side, pairs, apart, rule, exact=exact, left_out=left_out)
            chain = find_chain(made.components, threshold)
            own.clear()
            files, aligned = write_everything(
                made,
                folder,
                form=form,
                nemo=nemo,
                link_to=link_to,
                most=(max_groups, max_group),
                threshold=threshold,
                chances=wanted.chances,
                align=align,
                progress=progress,
            )
        page = files.pop("page", None)
        groups, largest = made.group_counts()
        removed, removed_bytes, equal = made.removed_counts()
        result = DedupResult(
            folder=folder,
            photos=len(made.ids),
            pairs=made.pair_count,
            groups=groups,
            largest=largest,
            removed=removed,
            removed_bytes=removed_bytes,
            equal=equal,
            spared=made.spared,
            keep=rule,
            threshold=threshold,
            said=said,
            chain=chain,
            page=page,
            files=files,
            side=side,
            hubs=len(made.hubs),
            aligned=aligned,
        )
        own.finish(result.to_dict(), [*files.values(), *([page] if page else [])])
        remove(folder)
    return result


def _check(threshold: Threshold, mutual: int | None, keep: str | None, max_group: int, max_groups: int) -> None:
    check(threshold)
    if keep is not None:
        check_order(keep)
    for name, value in (("mutual", mutual), ("max_group", max_group), ("max_groups", max_groups)):
        if value is not None and value < 1:
            raise InputError(f"{name.replace('_', '-')} must be at least 1, not {value}")


def _refuse_repeated(photos: Inputs | Source) -> None:
    """A folder that is given twice would find every photo to be a copy of itself."""
    seen: dict[str, str] = {}
    for name in names_of(photos):
        place = real(name)
        if place in seen:
            raise InputError(
                f"{name} is given twice"
                + (f", also as {seen[place]}" if seen[place] != name else "")
                + "; give it once"
            )
        seen[place] = name


def _rule(side: Side, keep: str | None, *, exact: bool, links: bool) -> str:
    """The rule for what stays, and whether it can be followed."""
    if side.source is not None:
        return keep or "largest"
    for wanted, flag in ((keep not in (None, "first"), f"keep {keep}"), (exact, "exact"), (links, "link-to")):
        if wanted:
            raise InputError(
                f"{side.path} holds descriptors without their photos, and --{flag} looks at photos; give the photos, or leave "
                "it out"
            )
    return "first"
