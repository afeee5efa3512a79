"""A search that is cut into tasks, which processes, a Ray cluster or the jobs of an array share; see `isc_fast.search` for one of
two sets in one process."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...descriptors.comparing import compare
from ...descriptors.formats.table import open_any
from ...descriptors.lengths import check_lengths
from ...descriptors.verdict import Verdict
from ...errors import InputError
from ...extraction.runners.cluster import Cluster
from ...extraction.share import Share
from ...matching.lists.matches import FORMATS, Matches, check_ids, write_matches_as
from ...matching.pairs.left_out import read_left_out
from ...matching.pairs.unknown_ids import warn_of_unknown
from ...matching.searchers.cpu_searcher import CPU
from ...matching.searchers.exact import Metric
from ...matching.two_sides import DEFAULT_K, check_search
from ...progress import ProgressCallback
from ..sides.thresholds import Threshold, choose_for_search
from .joining import Workers
from .search_work import SearchWork, Wanted
from .task_folder import TaskFolder

_INSTEAD = "--format jsonl (in Python form='jsonl')"


@dataclass(frozen=True)
class SearchResult:
    """What `search_to_folder` did.

    Attributes:
        folder: the output: a path, or an address in a bucket.
        matches: the file of matches in it; None while tasks are missing.
        pairs: how many matches there are; 0 while tasks are missing.
        queries, references: how many were compared.
        tasks: into how many the search is cut.
        done: how many of them are there.
        computed: how many this call computed.
        with_views, with_verdicts: whether the matches say which view matched, and what somebody judged.
        threshold: where it comes from, in words; None where it was given, or there is none.
        verdict: what is to be known of the two sets.
    """

    folder: Path | str
    matches: str | None
    pairs: int
    queries: int
    references: int
    tasks: int
    done: int
    computed: int
    with_views: bool
    with_verdicts: bool
    threshold: str | None
    verdict: Verdict

    @property
    def complete(self) -> bool:
        """Whether the result is there. It is not where other jobs still compute tasks of it."""
        return self.matches is not None


def search_to_folder(
    queries: str | os.PathLike[str],
    references: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    k: int | None = None,
    max_pairs: int | None = None,
    threshold: Threshold = None,
    metric: Metric = "ip",
    device: str = CPU,
    verdicts: str | os.PathLike[str] | None = None,
    stop_list: str | os.PathLike[str] | None = None,
    form: str = "csv",
    shard_size: int | None = None,
    workers: int | None = None,
    cluster: Cluster | None = None,
    share: Share | None = None,
    progress: ProgressCallback | None = None,
) -> SearchResult:
    """Find, for every query, the references that look like copies, in tasks that several processes or machines share.

    The matches are those of `isc_fast.search`, byte for byte, whoever computes them. A task compares a block of queries with a
    run of references and writes one file, which is created once and never replaced; whoever sees all of them writes the matches.
    So an interrupted call goes on where it was, and a lost worker costs its task.

    Args:
        queries, references: descriptor files, or folders or addresses of results in parts.
        output: a folder of its own, or the address of a prefix in a bucket. It gets ``matches.csv`` and ``search.json``, and a
            folder for the tasks, which may be removed when the matches are there.
        k, max_pairs, threshold, metric, verdicts, stop_list: see `isc_fast.search`; ``max_pairs`` needs ``k`` beside it.
            The threshold may be the precision that is wanted, `isc_fast.AtPrecision`.
        device: what searches; see `isc_fast.search`. With workers it is ``"cpu"``; on a cluster ``"cuda"`` gives each a GPU.
        form: of the matches: ``"csv"``, ``"jsonl"`` or ``"parquet"``.
        shard_size: references of one task, at least; those of a part file stay together. By default some 64 tasks or more, of at
            most half a million references each.
        workers: number of processes on this machine, which share its cores; by default this one searches.
        cluster: the Ray cluster whose workers search, instead.
        share: compute only this share of the tasks; other jobs, on this machine or on others, compute the others.
        progress: called with how many million pairs of rows were compared, and how many will be.

    Raises:
        InputError: as `isc_fast.search`; or arguments do not go together.
        MismatchError: the two sides may not be compared, or the folder was begun for another search.
        FormatError: an id cannot stand in the format, or a file is damaged; a part is missing or of another set.
        OutputError: something cannot be written, or the folder holds files of somebody else.
        EngineError: there is no such device, or too many workers died.
        StoreError: a bucket cannot be reached, or refuses.
    """
    comparing = Workers(workers, cluster, share)
    _check(k, max_pairs, device, form, shard_size, comparing)
    left_out = read_left_out(verdicts, stop_list)
    folder = TaskFolder(output, "search", r"matches\.\w+")
    with folder.litter_removed(), open_any(queries) as one, open_any(references) as other:
        if metric != "l2":
            check_lengths(one, "query")
            check_lengths(other, "reference")
        chosen = None if threshold is None else choose_for_search(threshold, one, other)
        if k is None and chosen is None:
            k = DEFAULT_K
        score = None if chosen is None else float(chosen.score)
        check_search(one, other, k=k, max_pairs=max_pairs, threshold=score, metric=metric)
        check_ids(form, _INSTEAD, one.ids, other.ids)
        warn_of_unknown(left_out, one.ids, other.ids)
        wanted = Wanted(k, max_pairs, score, metric, left_out)
        work = SearchWork((queries, references), (one, other), wanted, device, shard_size)
        begun = folder.begin(work.plan)
        asked = _asked(begun.plan_id, k, max_pairs, form, verdicts, stop_list)
        record = before = folder.result()
        computed, missing = 0, list[int]()
        if record is None or record.get("asked") != asked or folder.home.size(record["matches"]) is None:
            with begun.litter_removed(alone=share is None):
                files, computed = work.compute(begun.place, begun.message, comparing, progress)
            record, missing = None, files.missing()
            if not missing:
                found = work.found(files)
                record = _record(found, asked, form, work.tasks)
                write = partial(_write, form=form, matches=found)
                folder.finish(record["matches"], write, record)
                if before is not None and before["matches"] != record["matches"]:
                    folder.home.remove(before["matches"])  # in another format
        record = record or {}
        return SearchResult(
            folder=folder.home.path,
            matches=f"{folder.address}/{record['matches']}" if record else None,
            pairs=record.get("pairs", 0),
            queries=len(one),
            references=len(other),
            tasks=work.tasks,
            done=work.tasks - len(missing),
            computed=computed,
            with_views=record.get("views", False),
            with_verdicts=record.get("verdicts", False),
            threshold=None if chosen is None or chosen.said == "as given" else f"{chosen.score:g}: {chosen.said}",
            verdict=compare(one, other),
        )


def _check(
    k: int | None,
    max_pairs: int | None,
    device: str,
    form: str,
    shard_size: int | None,
    workers: Workers,
) -> None:
    if form not in FORMATS:
        raise InputError(f"there is no format {form!r} of matches; choose one of {', '.join(FORMATS)}")
    if shard_size is not None and shard_size < 1:
        raise InputError(f"a task needs at least 1 reference, not {shard_size}")
    if max_pairs is not None and k is None:
        raise InputError(
            "how many references of a query are among the best pairs of all is not known before all are searched, so tasks need "
            "-k beside --max-pairs (in Python k and max_pairs); or give -o FILE, and search in one process"
        )
    workers.check(device)


def _asked(plan_id: str, k: int | None, max_pairs: int | None, form: str, *files: str | os.PathLike[str] | None) -> str:
    """What decides the bytes of the result."""
    digest = hashlib.sha256(f"{plan_id} {k} {max_pairs} {form}".encode())
    for file in files:
        content = b"" if file is None else Path(file).read_bytes()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _record(found: Matches, asked: str, form: str, tasks: int) -> dict[str, Any]:
    told = {"views": found.views is not None, "verdicts": found.verdicts is not None}
    return {"asked": asked, "matches": f"matches.{form}", "pairs": len(found), "tasks": tasks, **told}


def _write(path: Path, *, form: str, matches: Matches) -> None:
    write_matches_as(form, path, matches, _INSTEAD)
