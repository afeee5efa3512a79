"""Extraction into a folder that keeps its parts: this call's share is computed, and whoever sees all parts writes the manifest.

Nothing is locked and nobody waits for anybody. Two jobs may compute the same part or write the same manifest: the bytes are the
same, and they appear whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from ..descriptors.manifest import Manifest
from ..descriptors.part_set import PartFiles
from ..descriptors.store import open_descriptors
from ..errors import FormatError, InputError, OutputError
from ..items import Failure
from ..progress import ProgressCallback, Tally, saying_what_is_kept
from ..sources.base import Source
from ..stores.urls import without_stamp
from .changes import taken_over
from .finishing import manifest_of
from .folder_job import FolderJob, find_folder_job
from .job import Listed, Outcome, Request, Update, made_by
from .output_folder import OutputFolder
from .plan_folder import PlanFolder
from .runners.base import Facts, Runner, Work
from .update import write_updated_parts

_TRIES = 4
"""How often a call looks again at what there is to do, after other jobs have finished what it was working on."""


class _Fruitless(InputError):
    """No image could be described, so there is nothing to go on with. The name is for this module's own use."""


@dataclass(frozen=True)
class FolderOutcome:
    """What a call did.

    Attributes:
        outcome: what the folder holds; where it is not whole, what this call's share holds.
        images: how many images this call worked on.
        note: what the user should know, or None.
        complete: whether the folder is whole.
        resumed: whether parts were there that an earlier call, or another job, had computed.
    """

    outcome: Outcome
    images: int
    note: str | None
    complete: bool = True
    resumed: bool = False


def extract_to_folder(
    runner: Runner,
    source: Source,
    listed: Listed,
    request: Request,
    out: OutputFolder,
    progress: ProgressCallback | None,
) -> FolderOutcome:
    """Describe images into a folder of parts.

    Args:
        runner, source, request, progress: as `isc_fast.extraction.pipeline.extract_with` has them.
        listed: the images.
        out: the folder.

    Raises:
        IscFastError: see `isc_fast.extract`.
    """
    facts = runner.facts
    for left in reversed(range(_TRIES)):
        job = find_folder_job(request, listed, facts, out)
        if job.finished is not None:
            out.remove_stale(job.finished)
            return FolderOutcome(_outcome(out, job.finished), 0, job.note)
        folder = out.plan_folder(job.todo.id)
        with _litter_removed(out, job, folder, alone=request.share is None):
            try:
                with saying_what_is_kept(partial(_kept_in_words, out, job, folder)):
                    images = _compute(runner, source, job, folder, progress)
                if not folder.has_all(job.todo.shard_count):
                    return _of_share(job, folder, images)
                manifest = _written(out, job, folder, facts, listed)
                if manifest is not None:
                    resumed = len(job.missing) < job.todo.shard_count
                    return FolderOutcome(_outcome(out, manifest), images, job.note, resumed=resumed)
            except (FormatError, OutputError):
                if not left or out.now() == job.after:
                    raise
    raise OutputError(f"other jobs go on changing {out.address}; wait until they end, and run the same command again")


def _kept_in_words(out: OutputFolder, job: FolderJob, folder: PlanFolder) -> str:
    count = job.todo.shard_count
    if out.home.once:  # in a bucket, which is not asked now
        return f"those of {count} parts are kept that were complete"
    return f"{folder.there() or 'none'} of {count} parts are kept"


def _compute(
    runner: Runner, source: Source, job: FolderJob, folder: PlanFolder, progress: ProgressCallback | None
) -> int:
    """Compute what is missing; returns how many images that were."""
    tally = Tally(job.images(job.share), job.images(job.missing), progress)
    if job.missing:
        runner.run(Work(job.todo, job.missing, folder, None, source), tally)
    else:
        tally.begin()
    return tally.images


def _written(out: OutputFolder, job: FolderJob, described: PlanFolder, facts: Facts, listed: Listed) -> Manifest | None:
    """Write the manifest of parts that are complete, and remove what it replaces; None where another one was written meanwhile.

    Raises:
        InputError: no image could be described.
        OutputError: it cannot be written.
        DamageError: a part is damaged.
    """
    folder, count = out.plan_folder(job.plan.id), job.plan.shard_count
    if job.begun.todo and job.before is not None:
        with contextlib.closing(PartFiles(out.home, job.before)) as files:
            whole = files.whole()
            changes = taken_over(job.plan.items, job.todo.items, whole)
            update = Update(job.plan, changes, job.keep_gone)
            count = write_updated_parts(job.todo, update, described, whole, job.before, folder)
    width = facts.spec.dim * len(job.plan.views)
    manifest = manifest_of(folder, job.plan, count, width, made_by(job.plain, facts, None, listed.inputs_id))
    if not manifest.rows:
        if not manifest.failures:
            raise _Fruitless(f"there is no photo in the {len(job.plan.items)} containers")
        worst = PartFiles(out.home, manifest).whole().failures[0]
        raise _Fruitless(
            f"none of the {manifest.failures} images could be described; the first is {without_stamp(worst.path)}: {worst.reason}"
        )
    if out.now() != job.after:
        return None
    manifest.write(out.home)
    out.end(job.after, job.begun, job.before, manifest)
    folder.tidy()
    return manifest


def _outcome(out: OutputFolder, manifest: Manifest) -> Outcome:
    """What a set holds. Its ledgers are read when somebody goes through them."""
    whole = PartFiles(out.home, manifest).whole()
    return Outcome(len(whole), whole.failures, whole.notes)


def _of_share(job: FolderJob, folder: PlanFolder, images: int) -> FolderOutcome:
    count, failures, notes = 0, list[Failure](), list[Failure]()
    for index in job.share:
        with open_descriptors(folder.part(index)) as part:
            count += len(part)
            failures += part.failures
            notes += part.notes
    words = f"{folder.there()} of {job.todo.shard_count} parts are there; the job that sees the last one writes the manifest"
    note = f"{job.note}; {words}" if job.note else words
    return FolderOutcome(Outcome(count, failures, notes), images, note, complete=False)


@contextlib.contextmanager
def _litter_removed(out: OutputFolder, job: FolderJob, folder: PlanFolder, *, alone: bool) -> Iterator[None]:
    """Remove what was begun after an error, if there is nothing in it to resume and no other job may work on it."""
    try:
        yield
    except BaseException as error:
        if alone and (isinstance(error, _Fruitless) or not folder.has_parts()):
            current = {job.before.plan_id} if job.before else set()
            for plan_id in {job.begun.plan, job.begun.todo} - current - {""}:
                out.remove_plan(plan_id)
            out.give_up(job.after)
        raise
