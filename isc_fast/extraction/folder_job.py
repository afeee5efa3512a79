"""Which extraction a call is about whose output is a folder of parts; see `isc_fast.extraction.job` for one file.

All jobs that begin on the same folder work on one plan. The first one's counts: who lists other images of the same inputs
meanwhile works on the first one's, and says so; who has other inputs, another engine or other settings is refused in words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..descriptors.manifest import Manifest
from ..descriptors.part_set import PartFiles
from ..descriptors.provenance import Provenance
from ..errors import FormatError, InputError, MismatchError
from ..files.lazy import Chosen
from .by_container import check_request, check_same_containers, part_size
from .finishing import digest_of_stamps
from .job import UPDATE, Listed, Request, Settings, difference, plan_of, update_of
from .output_folder import NEW, Begun, OutputFolder, after_of
from .plan import Plan, change_in_words
from .plan_folder import PlanFolder
from .runners.base import Facts
from .share import Share

_AFTER, _ANEW, _KEEP = "isc-fast:after=", "isc-fast:anew-after=", "isc-fast:keep-gone"
"""The first inputs of a plan that follows a manifest, so that it is no other plan."""


@dataclass(frozen=True)
class FolderJob:
    """What there is to do.

    Attributes:
        plan: the plan whose parts will be the result.
        todo: the plan to work on; another one where rows of the set before are taken over.
        missing: the shards of it that this call computes.
        share: all shards that this call answers for.
        begun, after, before: what was begun, after which manifest.
        note: what the user should know about the images, or None.
        finished: the manifest, if there is nothing to do.
    """

    plan: Plan
    todo: Plan
    missing: Sequence[int]
    share: Sequence[int]
    begun: Begun
    after: str
    before: Manifest | None = None
    note: str | None = None
    finished: Manifest | None = None

    @property
    def plain(self) -> Plan:
        """The plan as it is for one file, whose id the result names as its own."""
        return replace(self.plan, inputs=_plain(self.plan.inputs)) if _is_marked(self.plan.inputs) else self.plan

    @property
    def keep_gone(self) -> bool:
        """Whether rows stay whose image is gone."""
        return _KEEP in self.plan.inputs

    def images(self, shards: Sequence[int]) -> int:
        """How many images some shards have; -1 where nobody knows."""
        return -1 if self.plan.by_container else sum(len(self.todo.rows(index)) for index in shards)


def _is_marked(inputs: Sequence[str]) -> bool:
    return bool(inputs) and inputs[0].startswith((_AFTER, _ANEW))


def _plain(inputs: Sequence[str]) -> list[str]:
    return [text for text in inputs if not text.startswith((_AFTER, _ANEW)) and text != _KEEP]


def find_folder_job(request: Request, listed: Listed, facts: Facts, out: OutputFolder) -> FolderJob:
    """Find out what there is to do, and begin the plan in the folder.

    Raises:
        InputError: a job of several cannot do what the request says.
        MismatchError: the folder belongs to another job, and the request does not overwrite it.
        FormatError: the manifest or the plan is damaged.
        OutputError: the plan cannot be written.
    """
    _check(request, out)
    check_request(request)
    try:
        before = out.manifest()
    except FormatError:
        if not request.overwrite:
            raise
        before = None
    after = NEW if before is None else after_of(before)
    if before is None or request.overwrite:
        begun = _readable(out, out.begun(after))
        earlier = Settings(begun.batch_size, begun.shard_size, begun.decoder) if begun else None
        wanted = plan_of(request, listed, facts, earlier, part_size(request, listed))
        if before is not None:
            wanted = replace(wanted, inputs=[f"{_ANEW}{after}", *wanted.inputs])
        return _begin(request, out, after, before, wanted, None)
    return _job_of_finished(request, listed, facts, out, after, before)


def _check(request: Request, out: OutputFolder) -> None:
    """Refuse what a folder of parts cannot do, and what one of several jobs may not: throw away what another one has computed."""
    if request.checksum or request.dtype not in (None, "float32"):
        flag = "--checksum (in Python checksum)" if request.checksum else "--dtype float16 (in Python dtype)"
        raise InputError(
            f"{flag} is for one file, and a folder keeps parts of float32 whose photos are told by size and time; leave it out, "
            "or give the name of a file, such as out.h5"
        )
    for name in ("overwrite", "retry_failed"):
        if getattr(request, name):
            flag = name.replace("_", "-")
            if out.home.once:
                raise InputError(
                    f"--{flag} (in Python {name}) does not go with an output in a bucket, where nothing is replaced; give "
                    "another output"
                )
            if request.share is not None and request.share.count > 1:
                raise InputError(
                    f"--{flag} (in Python {name}) does not go with jobs that share a folder, since each of them would do it; run "
                    f"one job with it, without --shard-index and --slurm, or give a new folder"
                )


def _readable(out: OutputFolder, begun: Begun | None) -> Plan | None:
    if begun is not None:
        with contextlib.suppress(FormatError):
            return out.plan_folder(begun.plan).found_plan()
    return None


def _job_of_finished(
    request: Request, listed: Listed, facts: Facts, out: OutputFolder, after: str, before: Manifest
) -> FolderJob:
    made = Provenance.read(before.meta).extraction
    if made is None:
        raise MismatchError(
            f"{out.address} is not a result of isc-fast extract: give another output, or --overwrite it"
        )
    plan = plan_of(request, listed, facts, Settings(made.batch_size, made.shard_size, made.decoder))
    nothing = FolderJob(plan, plan, (), (), Begun(before.plan_id), after, before, finished=before)
    stamps = digest_of_stamps(plan) if before.stamps is not None else None
    lost = before.lost(out.home)
    files = PartFiles(out.home, before)
    if lost:
        if made.plan_id != plan.id:
            raise files.damage(*lost[0])
        return _repair(request, out, after, before, files, plan, lost)
    again = request.retry_failed and before.failures
    if request.by_container or made.by_container:
        check_same_containers(request, out, plan, made, stamps == before.stamps)
        return nothing
    same_images = made.plan_id == plan.id and (request.keep_gone or before.rows + before.failures == len(plan.items))
    if same_images and not again and stamps is not None and stamps == before.stamps:
        return nothing
    with contextlib.closing(files):
        whole = files.whole()
        update = update_of(request, listed, plan, whole, made)
        if update is None:
            if made.plan_id != plan.id:
                words = difference(whole, made, plan, request)
                raise MismatchError(f"{out.address} was made {words}: give another output{_or_overwrite(out)}")
            if again:
                raise InputError(
                    f"nobody looked at the photos of {out.address} when they were described, so those that failed cannot be "
                    "tried again alone: --overwrite describes all of them"
                )
            return nothing
        if out.home.once:
            raise MismatchError(
                f"the images of {out.address} have changed ({update.changes}), and nothing in a bucket is replaced: give another "
                "output; isc-fast merge puts sets together"
            )
        first = [f"{_AFTER}{after}"] + ([_KEEP] if request.keep_gone else [])
        wanted = replace(plan, inputs=[*first, *plan.inputs])
        todo = replace(plan, inputs=[UPDATE, *first, *plan.inputs], items=Chosen(plan.items, update.changes.anew))
        job = _begin(request, out, after, before, wanted, todo)
        return job if job.note else replace(job, note=str(update.changes))


def _or_overwrite(out: OutputFolder) -> str:
    return "" if out.home.once else ", or --overwrite it"


def _repair(
    request: Request,
    out: OutputFolder,
    after: str,
    before: Manifest,
    files: PartFiles,
    plan: Plan,
    lost: Sequence[tuple[int, str]],
) -> FolderJob:
    """Compute parts of a finished set again that are gone."""
    folder = out.plan_folder(before.plan_id)
    if plan.id == before.plan_id:
        folder.begin(plan)
    stored = _readable(out, Begun(before.plan_id))
    if stored is None or any(number >= stored.shard_count for number, _ in lost):
        raise files.damage(*lost[0])
    share = (request.share or Share()).shards(stored.shard_count)
    missing = [number for number, _ in lost if number in share]
    note = f"{len(lost)} of {len(before.parts)} parts were gone or cut, and are computed again"
    return FolderJob(stored, stored, missing, share, Begun(before.plan_id), after, before, note)


def _begin(
    request: Request, out: OutputFolder, after: str, before: Manifest | None, wanted: Plan, todo: Plan | None
) -> FolderJob:
    """Begin a plan, or go on with the one that was begun first.

    Args:
        wanted: the plan whose parts will be the result.
        todo: the plan of the images to describe, where it is another one.
    """
    mine = Begun(wanted.id, todo.id if todo else "")
    note = None
    while True:
        begun = out.begun(after)
        if begun is not None and begun != mine:
            plan = _readable(out, begun)
            words = None if plan is None else plan.difference(wanted)
            if plan is None or (words and request.overwrite):
                for plan_id in {begun.plan, begun.todo} - {mine.plan, mine.todo, ""}:
                    out.remove_plan(plan_id)
                out.give_up(after)
                continue
            if words:
                raise MismatchError(
                    f"{out.address} holds an unfinished extraction with {words}: repeat that command, give another output"
                    f"{'' if out.home.once else ', or start again with --overwrite'}"
                )
            changed = change_in_words(plan, wanted)
            note = (
                f"the images have changed since this extraction began ({changed}); it ends as it began"
                if changed
                else None
            )
            break
        out.plan_folder(mine.plan).begin(wanted)
        if todo is not None:
            out.plan_folder(mine.todo).begin(todo)
        if out.claim(after, mine) == mine:
            begun = mine
            break
    for plan_id in {mine.plan, mine.todo} - {begun.plan, begun.todo, ""}:
        if not out.plan_folder(plan_id).has_parts():
            out.remove_plan(plan_id)  # another job was faster
    folder = out.plan_folder(begun.todo or begun.plan)
    work_on = _stored(folder)
    share = (request.share or Share()).shards(work_on.shard_count)
    return FolderJob(
        plan=_stored(out.plan_folder(begun.plan)),
        todo=work_on,
        missing=_missing(folder, work_on, share, again=request.retry_failed and before is None),
        share=share,
        begun=begun,
        after=after,
        before=before,
        note=note,
    )


def _stored(folder: PlanFolder) -> Plan:
    plan = folder.found_plan()
    if plan is None:
        raise FormatError(f"the plan in {folder.address} was removed while this job began; run the same command again")
    return plan


def _missing(folder: PlanFolder, plan: Plan, share: Sequence[int], *, again: bool) -> list[int]:
    missing = folder.missing(plan, among=share, and_failed=again)
    if again:
        for index in missing:
            folder.remove_part(index)
    return missing
