"""Extraction: photos become one descriptor file, through shards that survive any interruption."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..decoders.base import AUTO, Decoder, make_decoder
from ..descriptors.store import Descriptors, open_descriptors
from ..engines.base import DeviceEngine, Engine, gpu_of, load_engine
from ..errors import FormatError, InputError, MismatchError, OutputError
from ..files.lazy import Lazy
from ..items import Failure, Item
from ..machine import cuda
from ..machine.devices import parse_devices
from ..progress import ProgressCallback, Tally
from ..sources.listing import Listing, list_images
from .compute import Vectors, compute_shards
from .parts import PartsFolder
from .plan import Plan, Shard, default_shard_size
from .runners.processes import Crew, EngineFacts


@dataclass(frozen=True)
class Extraction:
    """What `extract` did.

    Attributes:
        path: of the descriptor file.
        count: descriptors in it.
        failures: the images that got none, in order.
        computed: images that this run worked on; the others were done before.
        ignored: files in the input folders whose name is not an image's.
        seconds: of this run.
        note: what the user should know about the listing, or None.
    """

    path: Path
    count: int
    failures: Sequence[Failure]
    computed: int
    ignored: int
    seconds: float
    note: str | None = None


def extract(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Listing,
    engine: Engine | Crew | str | os.PathLike[str],
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
    devices: str | Sequence[str] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Extraction:
    """Describe photos: decode each, run the engine, write one HDF5 file of descriptors.

    May be interrupted at any moment, also by ``kill -9`` or a power cut: the same call goes on where it stopped. The
    bytes of the result depend on the images, the engine, the decoder and the batch size alone, not on ``workers``,
    interruptions or how many devices of one kind there are.
    An image that cannot be read becomes a row of the file's ledger of failures. Images are told apart by their paths: one
    that was replaced by another under the same name is not noticed, and ``overwrite`` describes it again.

    Args:
        inputs, ids, limit: what to describe; see `isc_fast.list_images`, whose result may be given too.
        engine: a loaded engine, or the path of one; with several ``devices`` its path, since each process loads its own. What
            `load_for` gave is taken too.
        output: the descriptor file. While it is being made, ``OUTPUT.parts/`` beside it holds the parts.
        batch_size: images in one engine call; by default what suits the engine, and on resuming what it was.
        workers: threads that decode, of all processes together; by default one for each core.
        decoder: one of `isc_fast.decoders.base.DECODERS`; by default (``"auto"``) the one that the output or its parts were
            begun with, else dali for an engine that takes pixels on its GPU, if that works here, else turbo where its
            libraries are installed, else pillow.
        shard_size: images of one part, the unit of resuming; rounded up to whole batches.
        overwrite: replace an output, or parts, that come from other inputs or another engine, and recompute an output
            that is complete.
        retry_failed: compute the shards again in which images failed.
        devices: where to run an engine given by its path, such as ``"cuda:1"``; by default see `isc_fast.load_engine`.
            Several (``"cuda:0,1"``, ``"cuda:all"``, ``["cuda:0", "cuda:1"]``) are as many processes beside each other, in which
            nothing of the calling program runs. Threads and decoding are shared among them.
        engine_options: further arguments of `isc_fast.load_engine`, for an engine given by its path.
        progress: called after each batch.

    Raises:
        InputError: there is nothing to describe, or every single image failed.
        MismatchError: the output, or its parts, come from other inputs, another engine or another decoder.
        MissingExtraError: what the decoder needs is not installed.
        EngineError: the engine cannot be loaded, or failed; there is no such device; or a process on one ended by itself
            and no other could do its work.
        OutputError: the output cannot be written, or another process is writing it.
    """
    began = time.monotonic()
    output = Path(output)
    for name, number in (("limit", limit), ("batch size", batch_size), ("shard size", shard_size)):
        if number is not None and number < 1:
            raise InputError(f"the {name} must be at least 1, not {number}")
    if output.is_dir():
        raise OutputError(
            f"cannot write {output}: it is a folder; expected the name of a file, such as {output / 'out.h5'}"
        )
    decoding = make_decoder(decoder, workers)
    found, ignored, described = _listed(inputs, ids, limit)
    runner = load_for(engine, devices, engine_options, workers)
    facts = runner.facts if isinstance(runner, Crew) else runner
    if decoder == AUTO:
        there = facts.takes_pixels_there if isinstance(facts, EngineFacts) else isinstance(facts, DeviceEngine)
        decoding = make_decoder(AUTO, workers, stays_there=there)

    def wanted(items: Sequence[Item], earlier: tuple[int, int, str] | None) -> Plan:
        """The plan of this call; what is not asked for is as in an earlier plan (batch size, shard size, decoder)."""
        batch = batch_size or (earlier[0] if earlier else facts.default_batch_size)
        size = shard_size or (earlier[1] if earlier else default_shard_size(len(items), batch))
        name = earlier[2] if earlier and decoder == AUTO else decoding.name
        return Plan(described, items, facts.id, name, batch, -(-size // batch) * batch)

    def result(count: int, failures: Sequence[Failure], computed: int, note: str | None = None) -> Extraction:
        return Extraction(output, count, failures, computed, ignored, time.monotonic() - began, note)

    parts = PartsFolder(output)
    with parts.locked() as lock:
        try:
            note = None
            if output.exists() and not overwrite:
                with _finished(output) as whole:
                    made_by = whole.meta["plan"]
                    plan = wanted(found, (made_by["batch_size"], made_by["shard_size"], whole.meta["decoder"]))
                    _refuse_other_plan(output, whole, plan)
                    if not (retry_failed and whole.failures):
                        parts.remove()
                        return result(len(whole), whole.failures, 0)
                    plan = parts.begin_again(plan, whole)
            else:
                begun = parts.stored_plan()
                plan = wanted(found, (begun.batch_size, begun.shard_size, begun.decoder) if begun else None)
                plan, note = parts.begin_or_resume(plan, overwrite=overwrite)
            found = ()  # from here on, the plan's file has them
            missing = parts.missing(plan, and_failed=retry_failed and not output.exists())
            computed = sum(len(plan.rows(index)) for index in missing)
            tally = Tally(len(plan.items), computed, progress)
            if isinstance(runner, Crew):
                runner.compute(parts, plan, missing, lock, tally)
            else:
                decoding = make_decoder(plan.decoder, workers, gpu=gpu_of(runner))
                _compute_here(parts, plan, missing, runner, decoding, tally)
            meta = {
                "engine_id": facts.id,
                "engine": asdict(facts.spec),
                "decoder": plan.decoder,
                "plan": {"id": plan.id, "batch_size": plan.batch_size, "shard_size": plan.shard_size},
                "normalization": None,
            }
            count, failures = parts.assemble(plan, facts.spec.dim, meta)
            if not count:
                parts.remove()
                worst = failures[0]
                raise InputError(
                    f"none of the {len(failures)} images could be described; the first is {worst.path}: {worst.reason}"
                )
        except BaseException:
            if not parts.has_parts():
                parts.remove()  # nothing to resume, so no litter behind a mistyped command
            raise
        parts.remove()
    return result(count, failures, computed, note)


class _Absolute(Lazy[Item]):
    """The same images with absolute paths, so that resuming from another folder finds the same files."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`."""
        return [Item(item.id, os.path.abspath(item.path)) for item in self._items[start:stop]]


def _listed(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Listing, ids: str, limit: int | None
) -> tuple[Sequence[Item], int, list[str]]:
    """The images, how many other files there were, and the inputs as a plan says them."""
    if isinstance(inputs, Listing):
        found = inputs.found if limit is None else inputs.found[:limit]
        return _Absolute(found), inputs.ignored, [f"limit={limit}"]
    listing = list_images(inputs, ids=ids, limit=limit)
    roots = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    described = [*(os.path.abspath(root) for root in roots), f"ids={ids}", f"limit={limit}"]
    return _Absolute(listing.found), listing.ignored, described


@contextlib.contextmanager
def _finished(output: Path) -> Iterator[Descriptors]:
    """An output that is there already, with the plan it was made by.

    Raises:
        MismatchError: it is no result of `extract`.
    """
    with contextlib.ExitStack() as stack:
        try:
            whole = stack.enter_context(open_descriptors(output))
            made_otherwise = whole.meta.get("normalization") or whole.meta.get("smoothing")
            if made_otherwise or not isinstance(whole.meta.get("plan"), dict):
                raise FormatError("no plan of an extraction")
        except FormatError as error:
            raise MismatchError(
                f"{output} exists and is not a result of isc-fast extract: give another output, or --overwrite it"
            ) from error
        yield whole


def _refuse_other_plan(output: Path, whole: Descriptors, plan: Plan) -> None:
    if whole.meta["plan"]["id"] == plan.id:
        return
    if whole.meta["engine_id"] != plan.engine_id:
        difference = f"by another engine ({whole.meta['engine']['name']} {whole.meta['engine_id'][:12]})"
    elif whole.meta["decoder"] != plan.decoder:
        difference = f"with the decoder {whole.meta['decoder']}, not {plan.decoder}"
    elif whole.meta["plan"]["batch_size"] != plan.batch_size:
        difference = f"in batches of {whole.meta['plan']['batch_size']}, not {plan.batch_size}"
    else:
        count = len(whole) + len(whole.failures)
        difference = f"from other inputs, or of other images ({count} images then, {len(plan.items)} now)"
    raise MismatchError(f"{output} was made {difference}: give another output, or --overwrite it")


def _compute_here(
    parts: PartsFolder, plan: Plan, missing: Sequence[int], engine: Engine, decoder: Decoder, tally: Tally
) -> None:
    """Compute the missing shards in this process."""

    def store(shard: Shard, vectors: Vectors, failures: Sequence[Failure]) -> None:
        parts.write_part(plan.id, shard, vectors, failures)

    tally.begin()
    shards = map(plan.shard, missing)
    compute_shards(shards, plan.batch_size, engine, decoder, store, lambda _shard, *counts: tally.add(*counts))


def load_for(
    engine: Engine | Crew | str | os.PathLike[str],
    devices: str | Sequence[str] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> Engine | Crew:
    """The engine, loaded where it was given by its path; or, where several devices are named, processes that will load it.

    Args:
        engine, devices, engine_options, workers: see `extract`.

    Raises:
        InputError: devices or options are given for an engine that is loaded already.
        EngineError: it cannot be loaded, or there is no such device.
    """
    options = dict(engine_options or {})
    if not isinstance(engine, (str, os.PathLike)):
        if devices is not None or options:
            raise InputError(
                "this engine is loaded already, and its device chosen with that; give the path of its file, or no devices and "
                "no engine options"
            )
        return engine
    if devices is None:
        return load_engine(engine, **options)
    names = parse_devices(devices, cuda.count_devices)
    if len(names) == 1:
        return load_engine(engine, device=names[0], **options)
    crew = Crew(os.fspath(engine), tuple(names), options, workers)
    crew.check()
    return crew
