"""How the shards of an extraction go to workers in other processes: the messages on one side, an engine on the other."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

from ...decoders.base import can_isolate
from ...decoders.opening import ImageProblem, open_photo, quiet_pillow
from ...engines.base import Engine, load_engine
from ...errors import EngineError, InputError
from ...items import Item
from ...machine.cores import Part, available_cores
from ...sources.listing import open_item
from ..parts import PartsFolder
from ..plan_folder import parts_at
from .account import refuse_undone
from .assignment import Assignment, Channel
from .base import Facts, Work, device_of
from .handed import Handed, Task, compute_handed
from .seen import check_seen


def job_of(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The job of workers that describe photos: the engine's path, or ``"demo"``, and arguments of `isc_fast.load_engine`."""
    return {"tool": __name__, "engine": engine, "options": dict(options)}


def assigned(
    work: Work, job: Mapping[str, Any], *, threads: int | None, isolated: bool, elsewhere: bool = False
) -> Assignment:
    """The shards of an extraction for workers.

    Args:
        work: the shards.
        job: what `job_of` gives.
        threads: that decode, in all workers of a machine together; by default one for each core.
        isolated: see `isc_fast.decoders.base.make_decoder`.
        elsewhere: whether workers may run on other machines, which have to see the same folder and the same photos.

    Raises:
        InputError: only this process can open the photos.
    """
    if not work.source.by_path:
        need = (
            "a cluster needs photos that have paths; leave out the cluster, or write the photos to files"
            if elsewhere
            else "several devices need several processes; name one device"
        )
        raise InputError(f"this source opens its photos in this process only, and {need}")
    plan = work.plan
    task = {
        "engine_id": plan.engine_id,
        "plan_id": plan.id,
        "batch_size": plan.batch_size,
        "decoder": plan.decoder,
        "views": plan.views,
        "decode_threads": threads,
        "isolated": isolated,
        "checksum": work.checksum,
        "expansion": work.expansion,
    }
    begin: dict[str, Any] = {"output": work.parts.address, "in_folder": work.parts.in_folder, "task": task}
    if elsewhere:
        begin |= {"plan_bytes": work.parts.plan_size(), "probe": _probe(work)}
    return Assignment(
        job,
        begin,
        work.missing,
        lambda index, careful: Handed(plan.shard(index), careful).message(),
        lambda account: refuse_undone(account, plan),
        careful=not isolated and can_isolate(plan.decoder),
        lock=work.lock,
    )


def _probe(work: Work) -> tuple[str, str] | None:
    """An image that this machine can open, and so must the others."""
    for item in work.images(work.missing[0])[:16]:
        with contextlib.suppress(ImageProblem):
            open_photo(open_item(item)).close()
            return item.id, item.path
    return None


class EngineTool:
    """An engine in a worker; see `isc_fast.extraction.runners.assignment.Tool`.

    Args:
        engine: the loaded engine.
        part: which of the workers on this machine this is.
    """

    def __init__(self, engine: Engine, part: Part) -> None:
        self._engine, self._part = engine, part

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """See there."""
        return Facts.of(self._engine).message()

    @cached_property
    def hardware(self) -> Mapping[str, str]:
        """See there."""
        return device_of(self._engine)

    def compute(self, channel: Channel, begin: Mapping[str, Any]) -> None:
        """See there."""
        parts = parts_at(begin["output"], in_folder=begin["in_folder"])
        if "plan_bytes" in begin:
            _check_shared(parts, begin["plan_bytes"], begin["probe"])
            parts.share()
        threads = self._part.share(begin["task"]["decode_threads"] or available_cores())
        task = Task(**{**begin["task"], "decode_threads": threads})
        compute_handed(channel, self._engine, parts.on(partial(device_of, self._engine)), task)


def open_tool(job: Mapping[str, Any], part: Part | None) -> EngineTool:
    """Load the engine of a job; see `isc_fast.extraction.runners.assignment.load_tool`.

    Raises:
        EngineError: it cannot be loaded.
    """
    quiet_pillow()
    path, options = job["engine"], {"device": job["device"], **job["options"]}
    if part is not None:
        return EngineTool(load_engine(path, part=part, **options), part)
    if path != "demo" and not os.path.exists(path):
        raise EngineError(
            f"the node {socket.gethostname()} has no file {path}; put the engine where all nodes see it under that path"
        )
    return EngineTool(load_engine(path, threads=job["cores"], **options), Part())


def _check_shared(parts: PartsFolder, plan_bytes: int, probe: tuple[str, str] | None) -> None:
    """Refuse to work where the output's folder or the photos are not those of the machine that began the run.

    Raises:
        OutputError: the folder is another one.
        InputError: a photo that can be opened there cannot be opened here.
    """
    check_seen(parts.plan_size, plan_bytes, parts.address)
    if probe is not None:
        try:
            open_photo(open_item(Item(*probe))).close()
        except ImageProblem as error:
            raise InputError(
                f"the node {socket.gethostname()} cannot open {probe[1]} ({error}); photos must be there for all nodes under the "
                "same paths"
            ) from error
