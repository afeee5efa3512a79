"""Finding the copies in one collection, in one call from photos to the lists of what stays and what could go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...descriptors.formats.table import open_any
from ...descriptors.lengths import check_lengths
from ...descriptors.store import Descriptors
from ...errors import InputError
from ...evaluation.calibration import Task
from ...extraction.runners.cluster import Cluster
from ...extraction.share import Share
from ...files.homes import Home
from ...files.rows import check_format, check_names
from ...items import Ints
from ...matching.groups.components import Chain, find_chain, find_crowd
from ...matching.pairs.left_out import read_left_out
from ...matching.pairs.mutual import mutual_pairs
from ...matching.pairs.pair_files import PairFiles
from ...matching.pairs.self_join import SelfJoin
from ...matching.pairs.unknown_ids import warn_of_unknown
from ...matching.searchers.arrays import Pairs
from ...matching.searchers.searcher import Searcher
from ...sources.base import Source
from ...sources.listing import Inputs, names_of
from ...sources.paths import real
from ..pixels.align import check_aligning
from ..sides.describing import Describing, Progress, Side, WantedSide
from ..sides.foresight import foresee
from ..sides.photo_facts import check_order
from ..sides.thresholds import Chosen, Threshold, check, choose
from ..tasks.joining import Workers, fresh, place_of, remove
from .aligned import aligned_pairs
from .comparing import Comparer
from .deciding import decide
from .dedup_files import write_everything
from .dedup_links import check_files, check_links
from .names import NAMES
from .sharing import Shared, Waits, asked_of, hold, shared_output, shared_sides

_OWN = NAMES["dedup"]
MAX_GROUP = 12
MAX_GROUPS = 100


@dataclass(frozen=True)
class DedupResult(Shared):
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
        crowd: the size of the largest group, where it is large and does not fall apart; see
            `isc_fast.matching.groups.components.find_crowd`.
        page: the page of the groups; None where there are no photos, or no groups.
        files: what was written, by name.
        side: the photos, with what the extraction says of them.
        hubs: how many photos match many others that do not match each other; see `isc_fast.matching.groups.hubs`. The file
            ``stop_list_suggestions`` has them.
        aligned: of the pairs on the page, how many show the same scene; None where nobody looked.
        pairs_looked_at: how many pairs scored high enough, of which those in ``pairs`` show the same scene; None where nobody
            looked at all of them.
        waits: for what this job of several waits; then no list is written, and all that is counted from pairs is 0. None
            where everything is there.
    """

    folder: Path | str
    photos: int
    keep: str
    threshold: float
    said: str
    side: Side
    pairs: int = 0
    groups: int = 0
    largest: int = 0
    removed: int = 0
    removed_bytes: int | None = None
    equal: dict[str, int] | None = None
    spared: int = 0
    chain: Chain | None = None
    crowd: int | None = None
    page: Path | str | None = None
    files: dict[str, Path | str] = field(default_factory=dict)
    hubs: int = 0
    aligned: int | None = None
    pairs_looked_at: int | None = None
    waits: Waits | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        if self.waits is not None:
            return self.waits.to_dict()
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
            "crowd": self.crowd,
            "failures": len(self.side.made.failures) if self.side.made else 0,
            "page": None if self.page is None else str(self.page),
            **({} if self.aligned is None else {"aligned": self.aligned}),
            **({} if self.pairs_looked_at is None else {"pairs_looked_at": self.pairs_looked_at}),
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
    only_aligned: bool = False,
    verdicts: str | os.PathLike[str] | None = None,
    stop_list: str | os.PathLike[str] | None = None,
    search_device: str | Searcher = "cpu",
    search_workers: int | None = None,
    search_cluster: Cluster | None = None,
    search_share: Share | None = None,
    progress: Progress | None = None,
) -> DedupResult:
    """Find the copies in a collection: describe it, compare it with itself, and say what stays and what could go.

    Nothing is removed. In the order of the rule ``keep``, a photo stays unless one that stays already matches it directly. An
    interrupted call goes on where it was.

    Args:
        photos: as `isc_fast.extract` takes them, or a descriptor file.
        output: a folder that is new, empty or of an earlier run; it gets ``photos.h5`` where photos were given, the
            tables ``pairs``, ``groups``, ``keep`` and ``remove``, ``dedup.html`` and ``dedup.json``; and
            ``stop_list_suggestions``, where photos match many others. It may be the address of a prefix in a bucket, see
            `isc_fast.find_copies`.
        describing: how photos are described.
        threshold: the lowest score of a pair, a cosine; or the precision that is wanted, `isc_fast.AtPrecision`; by default what
            the engine carries for so many pairs.
        keep: what stays of photos that match: ``"largest"`` (most pixels, the default where photos are given), ``"oldest"``,
            ``"newest"`` (by the time of the file), ``"best-quality"`` (most bytes for each pixel), or ``"first"`` (in the
            order of the inputs as given, and in each by name; the only rule for descriptors without photos, in their order).
        mutual: only pairs of photos of which each is among so many nearest of the other.
        exact: tell photos with equal files and with equal pixels from near copies, in the column ``kind``.
        form: of the tables, ``"csv"``, ``"json"``, ``"jsonl"`` or ``"parquet"``.
        nemo: also write ``remove-nemo/``, a folder of Parquet with a column ``id``, as NeMo Curator takes it.
        link_to: a new folder, which gets a folder of symbolic links for each group.
        max_group, max_groups: photos of a group, and groups, that the page and the links show at most; the tables have all.
        align: look at the pairs that the page shows in their pixels too, so that it lays the two photos over each other where one
            was cut out of the other; see `isc_fast.align_matches`. The lists stay as they are.
        only_aligned: look at all pairs in their pixels, and leave out those that do not show the same scene, such as photos of
            one kind, which score alike and are no copies. It takes 30 to 85 ms of the processor for a pair.
        verdicts: a file of verdicts, as the page saves it: pairs that somebody judged wrong are left out, and the table
            ``pairs`` has a column ``verdict``, ``right`` where somebody judged a pair so.
        stop_list: a list of ids of photos that match nothing, and so stay; likewise photos with the very same descriptor.
        search_device: see ``device`` of `isc_fast.search`.
        search_workers: number of processes on this machine that compare, which share its cores; by default this one compares.
        search_cluster: the Ray cluster whose workers compare, instead. They find the descriptors and the output under the same
            paths.
        search_share: compute only this share of the comparison of descriptors; other jobs, on this machine or on others, compute
            the others. The job that sees the last one writes the lists. The folder ``pairs.parts`` stays, and may be removed
            when they are there.
        progress: see `isc_fast.runs.sides.describing.Progress`.

    Raises:
        InputError: there is no photo, an input is given twice, a number or a rule is out of range, or no threshold was given
            and the engine carries none; or a share is wanted of photos.
        MissingExtraError: pairs are to be looked at, and OpenCV is not installed.
        MismatchError: the descriptors may not be compared with each other.
        OutputError: something cannot be written, or another run is writing there.
        IscFastError: as `isc_fast.extract` and `isc_fast.search`.
    """
    asked = asked_of(locals())
    _check(threshold, mutual, keep, max_group, max_groups)
    check_format("parquet" if nemo else form)
    check_format(form)
    _refuse_repeated(photos)
    if align or only_aligned:
        check_aligning(photos)
    if link_to is not None:
        check_links(link_to, photos)
    left_out = read_left_out(verdicts, stop_list, one_side=True)
    workers = Workers(search_workers, search_cluster, search_share)
    comparer = Comparer(search_device, workers, progress)
    compared = partial(_compared, comparer, threshold=threshold, form="parquet" if nemo else form)
    shared = None
    if search_share is not None:
        (side,) = shared_sides("dedup", [("photos", photos)])
        rule = _rule(side, keep, exact=exact, links=link_to is not None)
        place = shared_output(output, *_OWN, asked).place
        with compared(side, place) as (descriptors, wanted, _, found):
            waits = Waits.of(place, [found])
            shared = DedupResult(
                place, len(descriptors), keep=rule, threshold=wanted.score, said=wanted.said, side=side, waits=waits
            )
        if waits.for_tasks:
            return shared
    with ExitStack() as stack:
        own = hold(stack, output, *_OWN, asked, shared=shared is not None)
        if own is None:
            assert shared is not None
            return shared
        folder = own.folder
        describing = describing or Describing()
        foresee(describing, [], photos, threshold)
        (side,) = describing.sides([WantedSide("photos", photos)], own.place, progress)
        rule = _rule(side, keep, exact=exact, links=link_to is not None)
        if link_to is not None and side.source is not None:
            check_files(side.source.list().found)
        with compared(side, comparer.pieces_in(own)) as (descriptors, wanted, join, found):
            threshold, said = wanted.score, wanted.said
            warn_of_unknown(left_out, descriptors.ids)
            left = left_out.pairs(found, (descriptors.ids, descriptors.ids), (join.same, join.same))
            pairs: Iterable[Pairs] = left if left_out else left.all
            apart = left.apart(join.same)
            pairs, pairs_looked_at = _narrowed(
                pairs,
                apart,
                descriptors,
                side,
                partial(place_of, folder, threshold, descriptors),
                mutual=mutual,
                only_aligned=only_aligned,
                folder=folder,
                progress=progress,
            )
            made = decide(descriptors, side, pairs, apart, rule, exact=exact, left_out=left_out)
            chain = find_chain(made.components, threshold)
            crowd = None if chain else find_crowd(made.components)
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
            folder=own.place,
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
            crowd=crowd,
            page=page and own.named(page),
            files={name: own.named(file) for name, file in files.items()},
            side=side,
            hubs=len(made.hubs),
            aligned=aligned,
            pairs_looked_at=pairs_looked_at,
        )
        own.finish(result.to_dict(), [*files.values(), *([page] if page else [])])
        if search_share is None:
            remove(comparer.pieces_in(own))
    return result


@contextmanager
def _compared(
    comparer: Comparer, side: Side, output: Path | str, threshold: Threshold, form: str
) -> Iterator[tuple[Descriptors, Chosen, SelfJoin, PairFiles]]:
    """Compare a collection with itself; of a share, only what is its own."""
    with open_any(side.path) as found:
        check_lengths(found, "photo's")
        check_names(form, found.ids)
        wanted = choose(threshold, [found], Task.within(len(found), share=1), f"{len(found)} photos")
        yield found, wanted, *comparer.itself(side, found, wanted.score, output)


def _narrowed(
    pairs: Iterable[Pairs],
    apart: Ints,
    descriptors: Descriptors,
    side: Side,
    place: Callable[[], Home],
    *,
    mutual: int | None,
    only_aligned: bool,
    folder: Path,
    progress: Progress | None,
) -> tuple[Iterable[Pairs], int | None]:
    """What is left of the pairs that score high enough, and how many were looked at in their pixels; None where nobody looked."""
    if mutual is None and not only_aligned:
        return pairs, None
    inside = place()
    if mutual is not None:
        kept = fresh(inside.within(f"mutual-{mutual}"), 1)
        kept.write(0, mutual_pairs(pairs, mutual, apart))
        pairs = kept
    if not only_aligned:
        return pairs, None
    assert side.source is not None  # was seen before the work
    count = sum(len(scores) for _, _, scores in pairs)
    told = progress("pixels") if progress else None
    return aligned_pairs(pairs, apart, descriptors.ids, side.source, inside, folder, told), count


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
