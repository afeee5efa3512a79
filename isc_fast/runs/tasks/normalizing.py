"""Normalising a set, and smoothing negatives, into a result in parts, in tasks that processes, a Ray cluster or jobs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...descriptors.comparing import compare_with_negatives
from ...descriptors.formats.table import open_any
from ...descriptors.manifest import MANIFEST, ends_of, read_manifest, starts_of
from ...descriptors.store import Descriptors
from ...descriptors.verdict import Verdict
from ...errors import FormatError, InputError
from ...extraction.plan_folder import LEFT_S
from ...extraction.runners.cluster import Cluster
from ...extraction.share import Share
from ...matching.normalizing.methods import method_of
from ...matching.normalizing.smoothing import SMOOTHING_K, SMOOTHING_POWER, NegativeSmoothing
from ...matching.normalizing.stamps import smooth_meta
from ...matching.normalizing.subtraction import NES_ITERATIONS
from ...matching.searchers.cpu_searcher import CPU
from ...progress import ProgressCallback
from .join_tool import side_message
from .joining import Recipe, Workers, compute_pieces
from .made_rows import KINDS
from .part_tasks import PartTasks
from .task_folder import TaskFolder


@dataclass(frozen=True)
class PartsMade:
    """What a call did.

    Attributes:
        folder: the result in parts: a path, or an address in a bucket.
        count: how many descriptors it has when it is whole.
        parts, done, computed: how many parts it has then, how many are there, and how many this call computed.
        complete: whether it is whole.
        verdict: what is to be known of descriptors and negatives; None where there are none.
    """

    folder: Path | str
    count: int
    parts: int
    done: int
    computed: int
    complete: bool
    verdict: Verdict | None = None


def normalize_to_folder(
    descriptors: str | os.PathLike[str],
    negatives: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    method: str = "nes",
    k: int | None = None,
    beta: float | None = None,
    iterations: int = NES_ITERATIONS,
    device: str = CPU,
    workers: int | None = None,
    cluster: Cluster | None = None,
    share: Share | None = None,
    progress: ProgressCallback | None = None,
) -> PartsMade:
    """Normalise descriptors into a result in parts, which several processes or machines share.

    The rows are those of `isc_fast.normalize_to_file`, bit for bit, whoever computes them. A part is written once and never
    replaced, and whoever sees all of them writes the manifest. So an interrupted call goes on where it was.

    Args:
        descriptors, negatives: files, or folders or addresses of results in parts; see `isc_fast.normalize_to_file`.
        output: a folder of its own, or the address of a prefix in a bucket.
        method, k, beta, iterations: see `isc_fast.normalize_to_file`.
        device, workers, cluster, share, progress: see `isc_fast.search_to_folder`.

    Raises:
        IscFastError: see `isc_fast.normalize_to_file` and `isc_fast.search_to_folder`.
    """
    numbers = {"method": method, "k": k, "beta": beta, "iterations": iterations}
    chosen = method_of(method, k, beta, iterations)

    def meta(sides: Sequence[Descriptors]) -> Mapping[str, Any]:
        against = sides[1] if len(sides) > 1 else None
        chosen.check(sides[0], against)
        return chosen.meta(sides[0], against)

    sides = [descriptors] if negatives is None else [descriptors, negatives]
    comparing = Workers(workers, cluster, share)
    return _made("normalize", sides, output, numbers, meta, device, comparing, progress)


def smooth_to_folder(
    negatives: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    k: int = SMOOTHING_K,
    power: int = SMOOTHING_POWER,
    device: str = CPU,
    workers: int | None = None,
    cluster: Cluster | None = None,
    share: Share | None = None,
    progress: ProgressCallback | None = None,
) -> PartsMade:
    """Smooth negatives into a result in parts, as `normalize_to_folder` normalises descriptors; see `isc_fast.smooth_to_file`.

    Raises:
        IscFastError: see there.
    """
    numbers = {"k": k, "power": power}
    NegativeSmoothing(**numbers)

    def meta(sides: Sequence[Descriptors]) -> Mapping[str, Any]:
        return smooth_meta(sides[0], k, power)

    comparing = Workers(workers, cluster, share)
    return _made("negatives", [negatives], output, numbers, meta, device, comparing, progress)


def _made(
    verb: str,
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    numbers: Mapping[str, Any],
    meta_of: Callable[[Sequence[Descriptors]], Mapping[str, Any]],
    device: str,
    workers: Workers,
    progress: ProgressCallback | None,
) -> PartsMade:
    """Make a set anew into a result in parts; ``meta_of`` also refuses sets of which nothing can be made."""
    workers.check(device)
    folder = TaskFolder(output, verb, r"manifest\.json")
    with folder.litter_removed(), ExitStack() as stack:
        sides = [stack.enter_context(open_any(path)) for path in paths]
        if not len(sides[0]):
            raise InputError(f"{os.fspath(paths[0])} holds no descriptor")
        meta = meta_of(sides)
        starts = starts_of(len(sides[0]), sides[0].block_rows, ends_of(paths[0]))
        told = [side_message(path, side) for path, side in zip(paths, sides, strict=True)]
        plan = {
            "format": f"isc-fast {verb} in tasks",
            "version": 1,
            "sets": [identity for _, identity in told],
            **numbers,
            "first_photos": starts,
        }
        begun = folder.begin(plan)
        tasks = PartTasks(KINDS[verb](sides, numbers, meta, device), starts, begun.place)
        computed, missing = 0, list[int]()
        if not _is_whole(folder):
            begin = {"kind": verb, "sides": told, "numbers": numbers, "meta": meta, "starts": starts}
            with begun.litter_removed(alone=workers.share is None):
                recipe = Recipe(device, {**begin, "plan": begun.message})
                computed = compute_pieces(tasks, workers.mine(tasks.blocks), progress, workers, recipe)
            missing = tasks.missing()
            if not missing:
                tasks.manifest().write(folder.home)
                folder.home.tidy(begun.plan_id, LEFT_S)
        verdict = compare_with_negatives(*sides) if len(sides) > 1 else None
        done = tasks.blocks - len(missing)
        return PartsMade(folder.home.path, len(sides[0]), tasks.blocks, done, computed, not missing, verdict)


def _is_whole(folder: TaskFolder) -> bool:
    """Whether the manifest is there, and all parts that it names.

    Raises:
        FormatError: it is damaged.
    """
    if folder.home.size(MANIFEST) is None:
        return False
    lost = read_manifest(folder.home).lost(folder.home)
    for number, words in lost:
        if words != "is not there":
            raise FormatError(
                f"the part {number} of {folder.address} {words}; remove it, and run the same command again, which computes it"
            )
    return not lost
