"""Extraction: photos become one descriptor file, through shards that survive any interruption.

`extract` takes an engine. `extract_with` takes a runner, which is whoever computes the shards; it reads from top to
bottom as the extraction goes: list the images, find the job, let the runner compute what is missing, assemble the
output.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..decoders.base import AUTO, check_decoder
from ..decoders.contents import digests_of
from ..decoders.views import WHOLE, view_names
from ..descriptors.hdf5 import check_name
from ..engines.base import Engine
from ..errors import InputError, MismatchError, OutputError
from ..files.homes import is_bucket
from ..files.lazy import Lazy
from ..items import Failure, Item
from ..progress import ProgressCallback, Tally, saying_what_is_kept
from ..sources.base import Source
from ..sources.choice import Choice
from ..sources.listing import Inputs, as_source
from ..sources.whole_containers import as_containers
from ..stores.urls import without_stamp
from .assembling import assemble_parts
from .job import Job, Listed, Outcome, Request, find_job, made_by
from .output_folder import OutputFolder, is_parts_output
from .parts import PartsFolder
from .plan import BY_CONTAINER
from .runners.base import Facts, Runner, Work
from .runners.choose import opened_runner
from .runners.cluster import Cluster
from .share import Share
from .to_folder import FolderOutcome, extract_to_folder
from .update import bring_up_to_date


@dataclass(frozen=True)
class Extraction:
    """What `extract` did.

    Attributes:
        path: the descriptor file; or the folder of its parts, or their address in a bucket.
        count: number of descriptors in it.
        failures: the images that got none, in order.
        computed: number of images that this run worked on; the others were done before.
        ignored: number of files in the input folders that do not have the name of an image.
        seconds: how long this run took.
        note: what the user should know about the listing, or what an update found; None for nothing.
        notes: images in the file whose descriptor says little, in order: those of one single colour.
        ignored_suffixes: by suffix, in lower case, how many of the ignored files have it.
        excluded: how many files and folders each pattern of the choice left out.
        complete: whether the output is whole. It is not where other jobs still compute parts of it; then the count, the failures
            and the notes are those of this job's share.
    """

    path: Path | str
    count: int
    failures: Sequence[Failure]
    computed: int
    ignored: int
    seconds: float
    note: str | None = None
    notes: Sequence[Failure] = ()
    ignored_suffixes: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True


def extract(
    inputs: Inputs | Source,
    engine: Engine | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ids: str = "auto",
    limit: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    decoder: str = AUTO,
    shard_size: int | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    isolated: bool = False,
    keep_gone: bool = False,
    choice: Choice | None = None,
    share: Share | None = None,
    by_container: bool = False,
    checksum: bool = False,
    dtype: Literal["float32", "float16"] | None = None,
    views: str = WHOLE,
    devices: str | Sequence[str] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    cluster: Cluster | None = None,
    progress: ProgressCallback | None = None,
) -> Extraction:
    """Describe photos: decode each, run the engine, write one HDF5 file of descriptors.

    A run may be interrupted at any moment, also by ``kill -9`` or a power cut; the same call then continues it. The
    bytes of the result depend on the images, the engine, the decoder, the batch size and, since the file names its plan, the
    part size alone. They do not depend on ``workers``, on interruptions or on the number of devices of one kind. An image that
    cannot be read becomes a row in the file's ledger of failures.

    A finished output, and one whose run was interrupted, is brought up to date: images that are new, or whose file has another
    size or time than when it was described, are described; the others keep their rows, in the order of the listing; those that
    are gone are left out. The folder of the images may have moved. Photos in an archive or a table count as changed if that file
    was, unless ``checksum`` compares their bytes. An output that shares no image with the inputs is refused; one of the same
    inputs shares those whose ids it has, however much they have changed.

    Args:
        inputs, ids, limit, choice: what to describe; see `isc_fast.list_images`. Its result may be given too, and so may any
            `isc_fast.sources.base.Source`.
        engine: a loaded engine, or the path of an engine file. Several ``devices`` need the path, since each process
            loads the engine itself.
        output: the descriptor file. Until it is complete, ``OUTPUT.parts/`` beside it holds the parts. A name that ends with a
            slash is a folder which keeps the parts, with a manifest; it is taken wherever a descriptor file is. The folder may be
            in a bucket (``s3://bucket/out/``), where nothing is replaced.
        batch_size: images in one engine call. By default what suits the engine; a resumed run keeps the size it began
            with.
        workers: number of threads that decode, in all processes together; by default one for each core.
        decoder: one of `isc_fast.decoders.base.DECODERS`. By default (``"auto"``) the one that the output or its parts
            were begun with; else dali for an engine that takes pixels on its GPU, if dali works here; else turbo if its
            libraries are installed; else pillow.
        shard_size: images of one part, which is the unit of resuming; rounded up to whole batches. By default as the run that is
            resumed has it, or as many as give some 256 descriptors: 256 images, or 26 with 10 views each. With
            ``by_container``, containers of one part.
        overwrite: replace an output, or parts, that come from other inputs or another engine, and recompute an output
            that is complete.
        retry_failed: compute the shards again in which images failed.
        isolated: decode photos in processes of their own, so that one on which an image library hangs (60 s), crashes or takes
            too much memory (4 GiB) costs that photo alone. The bytes of the result are the same.
        keep_gone: keep the rows of images that are gone, behind the others.
        share: compute only this share of a folder's parts; other jobs, on this machine or on others, compute the others. The job
            that sees all of them writes the manifest.
        by_container: plan archives and tables as they are, and not each photo in them, which takes an hour and gigabytes for 10⁸
            photos. They are gone through when their part is computed. For a folder that keeps its parts, and inputs that are
            nothing but containers. A container that is changed meanwhile is an error; the result is not brought up to date.
        checksum: decide by the bytes of an image whether it has changed, not by size and time: every image is read for that.
            The output keeps the first 16 bytes of each image's SHA-256. Where it has none yet, size and time decide once.
        dtype: the type in which the output holds the rows. ``"float16"`` takes half the disk: what is read is float32 again, each
            number rounded to 11 bits. By default as the output has it already, or float32.
        views: of each photo, words of `isc_fast.decoders.views.WORDS`, such as ``"10,mirror"``. A row of the output then holds
            the descriptors of all views of a photo, one behind the other, and a search takes the best of them.
        devices: where to run an engine given by its path, such as ``"cuda:1"``; for the default see
            `isc_fast.load_engine`. Several devices (``"cuda:0,1"``, ``"cuda:all"``, ``["cuda:0", "cuda:1"]``) get one
            process each, which runs nothing of the calling program. Threads and decoding are shared among these
            processes.
        engine_options: further arguments of `isc_fast.load_engine`, for an engine given by its path.
        cluster: the Ray cluster whose workers compute, instead of this process.
        progress: called after each batch.

    Raises:
        InputError: there is nothing to describe, every single image failed, or there are no such views.
        MismatchError: the output, or its parts, come from other inputs, another engine or another decoder.
        MissingExtraError: what the decoder needs is not installed.
        EngineError: the engine cannot be loaded, or failed; there is no such device; or a process on a device died and
            no other could do its work.
        OutputError: the output cannot be written, or another process is writing it.
        StoreError: a bucket or a server cannot be reached, or refuses. The parts stay, and the same call goes on.
    """
    seen = view_names(views)
    request = Request(
        ids,
        limit,
        batch_size,
        decoder,
        shard_size,
        overwrite,
        retry_failed,
        keep_gone,
        choice,
        share,
        checksum,
        dtype,
        seen,
        by_container,
    )
    with opened_runner(engine, devices, engine_options, workers, isolated=isolated, cluster=cluster) as runner:
        return extract_with(runner, inputs, output, request, progress)


def extract_with(
    runner: Runner,
    inputs: Inputs | Source,
    output: str | os.PathLike[str],
    request: Request,
    progress: ProgressCallback | None = None,
) -> Extraction:
    """Describe photos as `extract` does, with any runner.

    Args:
        runner: computes the shards.
        inputs, output, progress: see `extract`.
        request: the other arguments of `extract`.

    Raises:
        IscFastError: see `extract`.
    """
    check_decoder(request.decoder)
    source = _source_of(inputs, request)
    work: _Work
    if is_parts_output(output):
        out = OutputFolder(output)
        work, give_up = partial(_to_folder, runner, source, out), out.remove_if_empty
    else:
        _refuse_for_file(output, request)
        work, give_up = partial(_to_file, runner, source, PartsFolder(_checked(Path(output)))), _nothing
    try:
        listed = _listed(source, request)
        made, resumed = work(listed, request, progress)
    except BaseException:
        give_up()
        raise
    if not resumed or request.share is not None or not made.complete:
        return made
    # Photos may have changed since the run began that was interrupted: the same call once more finds that.
    try:
        again, _ = work(listed, replace(request, overwrite=False, retry_failed=False), progress)
    except MismatchError as error:  # nobody had looked at the photos; or it is in a bucket, where nothing is replaced
        return replace(made, note=made.note or str(error)) if is_bucket(output) else made
    except OutputError as error:
        return replace(made, note=f"whether photos have changed since it began was not looked at: {error}")
    note = again.note or (None if again.computed else made.note)
    return replace(again, computed=made.computed + again.computed, seconds=made.seconds + again.seconds, note=note)


def _nothing() -> None:
    pass


_Work = Callable[[Listed, Request, ProgressCallback | None], tuple[Extraction, bool]]
"""Extracts; says also whether it went on with what an earlier run had begun."""


def _refuse_for_file(output: str | os.PathLike[str], request: Request) -> None:
    if request.by_container:
        raise InputError(
            f"{os.fspath(output)} is one file, and containers are planned for a folder that keeps its parts: give -o FOLDER/, "
            "with a slash"
        )
    if request.share is not None:
        raise InputError(
            f"{os.fspath(output)} is one file, and jobs share a folder that keeps their parts: give -o FOLDER/, with a slash"
        )


def _to_file(
    runner: Runner,
    source: Source,
    parts: PartsFolder,
    listed: Listed,
    request: Request,
    progress: ProgressCallback | None,
) -> tuple[Extraction, bool]:
    """Extract to one file; see `_Work`."""
    began, facts = time.monotonic(), runner.facts
    with parts.locked() as lock, _litter_removed(parts):
        resumed = parts.has_parts()
        job = find_job(request, listed, facts, parts)
        made = job.finished
        if made is None:
            tally = Tally(len(job.plan.items), job.images, progress)
            with saying_what_is_kept(partial(parts.kept_in_words, job.plan)):
                if job.missing:
                    runner.run(Work(job.plan, job.missing, parts, lock, source, request.checksum), tally)
                else:
                    tally.begin()
                made = _written(job, parts, facts)
        parts.remove()
    outcome = FolderOutcome(made, job.images, job.note)
    return _told(parts.output, listed, outcome, began), resumed and len(job.missing) < job.plan.shard_count


def _to_folder(
    runner: Runner,
    source: Source,
    out: OutputFolder,
    listed: Listed,
    request: Request,
    progress: ProgressCallback | None,
) -> tuple[Extraction, bool]:
    """Extract to a folder that keeps its parts; see `_Work`."""
    began = time.monotonic()
    made = extract_to_folder(runner, source, listed, request, out, progress)
    return _told(out.home.path, listed, made, began), made.resumed


def _told(path: Path | str, listed: Listed, made: FolderOutcome, began: float) -> Extraction:
    outcome, seconds = made.outcome, time.monotonic() - began
    left_out = {name: getattr(listed, name) for name in ("ignored", "ignored_suffixes", "excluded")}
    return Extraction(
        path=path,
        count=outcome.count,
        failures=outcome.failures,
        notes=outcome.notes,
        computed=made.images,
        seconds=seconds,
        note=made.note,
        complete=made.complete,
        **left_out,
    )


def _checked(output: Path) -> Path:
    check_name(output)
    if output.is_dir():
        raise OutputError(
            f"cannot write {output}: it is a folder; expected the name of a file, such as {output / 'out.h5'}, or {output}/ "
            "with a slash for a folder that keeps its parts"
        )
    return output


class _First(Lazy[Item]):
    """The first images of a sequence."""

    def __init__(self, items: Sequence[Item], count: int) -> None:
        self._items, self._count = items, min(count, len(items))

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`."""
        return [*self._items[start:stop]]


def _source_of(inputs: Inputs | Source, request: Request) -> Source:
    made = as_containers if request.by_container else as_source
    return made(inputs, request.ids, request.choice)


def _listed(source: Source, request: Request) -> Listed:
    """List the images that a call is about."""
    listing, limit = source.list(), request.limit
    found = listing.found if limit is None else _First(listing.found, limit)
    inputs = [*source.inputs, f"limit={limit}", *([BY_CONTAINER] if request.by_container else [])]
    digesting = partial(digests_of, photo_of=source.content) if request.checksum else None
    given = listing.given or source.inputs
    return Listed(found, inputs, listing.ignored, listing.ignored_suffixes, listing.excluded, digesting, given)


@contextlib.contextmanager
def _litter_removed(parts: PartsFolder) -> Iterator[None]:
    """Remove the folder of parts after an error if there is nothing in it to resume, such as after a mistyped command."""
    try:
        yield
    except BaseException:
        if not parts.has_parts():
            parts.remove()
        raise


def _written(job: Job, parts: PartsFolder, facts: Facts) -> Outcome:
    if job.update:
        return bring_up_to_date(job, job.update, facts, parts)
    return _assembled(parts, job, facts)


def _assembled(parts: PartsFolder, job: Job, facts: Facts) -> Outcome:
    """Make the output from the parts.

    Raises:
        InputError: no image could be described.
        OutputError: the output cannot be written.
    """
    width = facts.spec.dim * len(job.plan.views)
    count, failures, notes = assemble_parts(parts, job.plan, width, made_by(job.plan, facts, job.dtype, job.inputs_id))
    if not count:
        parts.remove()
        worst = failures[0]
        raise InputError(
            f"none of the {len(failures)} images could be described; the first is {without_stamp(worst.path)}: "
            f"{worst.reason}"
        )
    return Outcome(count, failures, notes)
