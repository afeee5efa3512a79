"""Which extraction a call is about: a new one, the rest of an unfinished one, or one that is finished already.

A call says what it wants (`Request`). An earlier run of the same output says what it was made by (`Settings`), either
in the finished output or in the plan of the unfinished one. What the call leaves open is inherited from the earlier
run. If the plan that results is the plan of the earlier run, it is the same job. If not, the call is refused in words
that name the difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..decoders.base import AUTO, choose_decoder
from ..decoders.views import ONLY_WHOLE, in_words
from ..descriptors.provenance import ExtractionFacts, PlanFacts, Provenance, check_row_type
from ..descriptors.store import Descriptors, open_descriptors
from ..errors import DamageError, FormatError, InputError, MismatchError
from ..files.lazy import Chosen
from ..files.ledger import keep
from ..items import Failure, Item
from ..sources.choice import Choice
from .changes import Changes, find_changes
from .parts import PartsFolder
from .plan import Digesting, Plan, default_shard_size, rounded_up
from .runners.base import Facts
from .share import Share

_LOOKED_AT = 1000
"""Ids of an output and of a call that are compared, to say how they differ."""
UPDATE = "update"
"""The input that the plan of an update has, so that it is no other plan."""


@dataclass(frozen=True)
class Request:
    """What a call wants; the fields are the arguments of `isc_fast.extract`, but for the views, which stand here by name.

    Raises:
        InputError: a number is below 1, or there is no such type of rows.
    """

    ids: str = "auto"
    limit: int | None = None
    batch_size: int | None = None
    decoder: str = AUTO
    shard_size: int | None = None
    overwrite: bool = False
    retry_failed: bool = False
    keep_gone: bool = False
    choice: Choice | None = None
    share: Share | None = None
    checksum: bool = False
    dtype: str | None = None
    views: tuple[str, ...] = ONLY_WHOLE
    by_container: bool = False

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "shard_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"the {name.replace('_', ' ')} must be at least 1, not {number}")
        check_row_type(self.dtype)


@dataclass(frozen=True)
class Listed:
    """The images of a call.

    Attributes:
        items: the images, with absolute paths.
        inputs: where and how they were listed, as the plan writes it down.
        ignored, ignored_suffixes, excluded: see `isc_fast.sources.listing.Listing`.
        digesting: gives digests of the images, where the call wants them.
        given: the inputs alone, without what this call takes of them; empty where nobody said which they are.
    """

    items: Sequence[Item]
    inputs: Sequence[str]
    ignored: int
    ignored_suffixes: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    digesting: Digesting | None = None
    given: Sequence[str] = ()

    @property
    def inputs_id(self) -> str | None:
        """SHA-256 of the inputs, in hexadecimal; None where nobody said which they are."""
        return hashlib.sha256(json.dumps([*self.given]).encode("ascii")).hexdigest() if self.given else None


@dataclass(frozen=True)
class Settings:
    """What a call inherits from an earlier run of the same output."""

    batch_size: int
    shard_size: int
    decoder: str


@dataclass(frozen=True)
class Outcome:
    """What an output holds: the number of descriptors, the images that failed, and the noted ones, in order."""

    count: int
    failures: Sequence[Failure]
    notes: Sequence[Failure] = ()


@dataclass(frozen=True)
class Update:
    """How a finished output is brought up to date.

    Attributes:
        plan: of all images, whose id the output will have.
        changes: how the images relate to the output.
        keep_gone: whether rows stay whose image is gone.
    """

    plan: Plan
    changes: Changes
    keep_gone: bool


@dataclass(frozen=True)
class Job:
    """What there is to do.

    Attributes:
        plan: the plan to work on, whose items are in its file in the folder of parts.
        missing: the indices of the shards to compute.
        note: what the user should know about the images, or None.
        finished: what the output holds if it is complete already; then there is nothing to do.
        update: for an output that is brought up to date; then the plan holds only the images to describe.
        dtype: the type in which the output holds the rows.
        inputs_id: see `Listed`.
    """

    plan: Plan
    missing: Sequence[int] = ()
    note: str | None = None
    finished: Outcome | None = None
    update: Update | None = None
    dtype: str | None = None
    inputs_id: str | None = None

    @property
    def images(self) -> int:
        """The number of images in the missing shards."""
        return sum(len(self.plan.rows(index)) for index in self.missing)


def find_job(request: Request, listed: Listed, facts: Facts, parts: PartsFolder) -> Job:
    """Find out what there is to do, and begin the plan in the folder of parts.

    Args:
        request, listed: what the call wants.
        facts: what the engine is.
        parts: the folder of parts, which must be locked.

    Raises:
        MismatchError: the output, or the folder of parts, belongs to another job, and the request does not overwrite
            it.
        FormatError: the plan in the folder of parts is damaged, and the images are not those of the finished parts.
        OutputError: the plan cannot be written.
    """
    if parts.output.exists() and not request.overwrite:
        with opened_output(parts.output) as (whole, made):
            return _job_of_finished(request, listed, facts, parts, whole, made)
    begun = parts.readable_plan()
    earlier = Settings(begun.batch_size, begun.shard_size, begun.decoder) if begun else None
    plan, note = parts.begin_or_resume(plan_of(request, listed, facts, earlier), overwrite=request.overwrite)
    retries = request.retry_failed and not parts.output.exists()
    missing = parts.missing(plan, and_failed=retries)
    return Job(plan, missing, note, dtype=request.dtype, inputs_id=listed.inputs_id)


def _job_of_finished(
    request: Request, listed: Listed, facts: Facts, parts: PartsFolder, whole: Descriptors, made: ExtractionFacts
) -> Job:
    plan = plan_of(request, listed, facts, Settings(made.batch_size, made.shard_size, made.decoder))
    dtype = whole.provenance.row_type
    if request.dtype not in (None, dtype):
        raise MismatchError(
            f"{parts.output} holds rows of {dtype}, not {request.dtype}: isc-fast merge {parts.output} --dtype {request.dtype} "
            f"-o {parts.output} writes it so, and --overwrite describes the photos again"
        )
    update = update_of(request, listed, plan, whole, made)
    if update:
        todo = Chosen(plan.items, update.changes.anew)
        wanted = replace(plan, inputs=[UPDATE, *plan.inputs], items=todo)
        begun, _ = parts.begin_or_resume(wanted, overwrite=True, exactly=True)
        missing, words = parts.missing(begun), str(update.changes)
        return Job(begun, missing, words, update=update, dtype=dtype, inputs_id=listed.inputs_id)
    if made.plan_id != plan.id:
        raise MismatchError(
            f"{parts.output} was made {difference(whole, made, plan, request)}: give another output, or --overwrite it"
        )
    if not (request.retry_failed and whole.failures):
        return Job(plan, finished=Outcome(len(whole), keep(whole.failures), keep(whole.notes)))
    plan = parts.begin_again(plan, whole)
    return Job(plan, parts.missing(plan), dtype=dtype, inputs_id=listed.inputs_id)


def update_of(request: Request, listed: Listed, plan: Plan, whole: Descriptors, made: ExtractionFacts) -> Update | None:
    """How a finished output is to be brought up to date; None where it is, or where it cannot be.

    It cannot be where it was made in another way than the plan says, does not say what its photos were, or is not of this
    collection: it is if one of its photos is as it was, wherever that lies now; or if it has the name of one, and was made from
    the same inputs. Names alone say little: other folders have an ``IMG_0001.jpg`` too.
    """
    then = made.engine_id, made.decoder, made.batch_size, made.views
    if then != (plan.engine_id, plan.decoder, plan.batch_size, plan.views) or whole.stamps is None:
        return None
    digesting = listed.digesting
    by_bytes = digesting is not None and whole.digests is not None
    if not by_bytes and not (whole.stamps[:, 0] >= 0).any():  # then no change can be seen
        return None
    changes = find_changes(plan.items, whole, digesting)
    if request.retry_failed:
        changes = changes.without_failures()
    same_images = made.plan_id == plan.id  # as far as their names say: each of them may be another photo by now
    unchanged = same_images and not len(changes.anew) and not changes.refreshed
    same_inputs = made.inputs is not None and made.inputs == listed.inputs_id
    known = changes.kept or same_images or (same_inputs and changes.changed)
    if not known or (unchanged and (request.keep_gone or not changes.gone)):
        return None
    return Update(plan, changes, request.keep_gone)


def plan_of(
    request: Request,
    listed: Listed,
    facts: Facts,
    earlier: Settings | None,
    shard_size: Callable[[int, int, int], int] = default_shard_size,
) -> Plan:
    """The plan of a call. What the call leaves open is as in the earlier run, or else what suits the engine.

    Args:
        request, listed: what the call wants.
        facts: what the engine is.
        earlier: what an earlier run of the same output was made by.
        shard_size: gives the images of a shard by the number of images, the batch size and the number of views.
    """
    batch = request.batch_size or (earlier.batch_size if earlier else facts.default_batch_size)
    default = earlier.shard_size if earlier else shard_size(len(listed.items), batch, len(request.views))
    size = request.shard_size or default
    whole_already = request.shard_size is None and (earlier is None or earlier.batch_size == batch)
    if not (whole_already or request.by_container):
        size = rounded_up(size, batch)
    decoder = name_decoder(request.decoder, facts, earlier, request.views)
    return Plan(listed.inputs, listed.items, facts.id, decoder, batch, size, request.views)


def name_decoder(wanted: str, facts: Facts, earlier: Settings | None, views: tuple[str, ...] = ONLY_WHOLE) -> str:
    """The name of the decoder: the wanted one; for `AUTO` that of the earlier run, or else what suits the engine here."""
    inherited = earlier.decoder if earlier and wanted == AUTO else wanted
    return choose_decoder(inherited, replace(facts.spec.input, views=views), stays_there=facts.takes_gpu_pixels)


def made_by(plan: Plan, facts: Facts, dtype: str | None, inputs_id: str | None) -> dict[str, Any]:
    """What an output says it was made by; its rows are stored in this type. For the inputs' id see `Listed`."""
    by_plan = PlanFacts(plan.id, plan.batch_size, plan.shard_size, plan.by_container or None, inputs_id)
    made = Provenance.of_extraction(facts.id, facts.spec.to_dict(), plan.decoder, by_plan, plan.views)
    return made.stored_as(dtype).write()


@contextlib.contextmanager
def opened_output(output: Path) -> Iterator[tuple[Descriptors, ExtractionFacts]]:
    """Open an output that is there already and was made by an extraction.

    Raises:
        MismatchError: it is something else.
        DamageError: its bytes are not those that were written.
    """
    with contextlib.ExitStack() as stack:
        try:
            whole = stack.enter_context(open_descriptors(output))
            made = whole.provenance.extraction
            if made is None:
                raise FormatError("no plan of an extraction")
        except DamageError as error:
            raise DamageError(
                f"{os.fspath(output)} exists and is damaged ({error.place}): --overwrite computes it again"
            ) from error
        except FormatError as error:
            raise MismatchError(
                f"{os.fspath(output)} exists and is not a result of isc-fast extract: give another output, or --overwrite it"
            ) from error
        yield whole, made


def difference(whole: Descriptors, made: ExtractionFacts, plan: Plan, request: Request) -> str:
    """How a finished output was made otherwise than the plan says, in words."""
    if made.engine_id != plan.engine_id:
        return f"by another engine ({made.engine_name} {made.engine_id[:12]})"
    if made.views != plan.views:
        return f"with --views {in_words(made.views)}, not {in_words(plan.views)}"
    if made.decoder != plan.decoder:
        return f"with the decoder {made.decoder}, not {plan.decoder}"
    if made.batch_size != plan.batch_size:
        return f"in batches of {made.batch_size}, not {plan.batch_size}"
    count = len(whole) + len(whole.failures)
    guess = _guess(whole, plan, request)
    return f"from other inputs, or of other images ({count} images then, {len(plan.items)} now{guess})"


def _guess(whole: Descriptors, plan: Plan, request: Request) -> str:
    """What a look at the first ids says of an output with which a call shares no image, in words."""
    if whole.stamps is None:
        return "; it does not say what its photos were"
    then, now = list(whole.ids[:_LOOKED_AT]), [item.id for item in plan.items[:_LOOKED_AT]]
    if not set(then).isdisjoint(now):
        if whole.digests is None or request.checksum:
            return "; ids are the same, and the size or time of every photo is another one"
        return "; ids are the same: if these photos were only copied or touched, --checksum sees it by their bytes"
    by_stem = {_stem(id_): id_ for id_ in then}
    pair = next(((by_stem[_stem(id_)], id_) for id_ in now if _stem(id_) in by_stem), None)
    return f"; ids such as {pair[0]!r} then and {pair[1]!r} now, which --ids and the inputs decide" if pair else ""


def _stem(id_: str) -> str:
    """What the rules for ids have in common: the name of the file without its folders and its suffix."""
    name = id_.rpartition("/")[2]
    return name.rpartition(".")[0] or name
