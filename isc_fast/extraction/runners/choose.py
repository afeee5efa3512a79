"""Which runner computes an extraction."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ...decoders.threads import count_workers
from ...engines.base import Engine, load_engine
from ...engines.kinds import kind_of
from ...errors import InputError
from ...machine import cuda
from ...machine.devices import parse_devices
from .base import Runner
from .cluster import Cluster
from .here import Here
from .processes import Processes
from .ray_runner import OnRay, on_ray


def choose_runner(
    engine: Engine | str | os.PathLike[str],
    devices: str | Sequence[str] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    decode_threads: int | None = None,
    *,
    isolated: bool = False,
) -> Runner:
    """The runner for an engine: several devices need processes, everything else is computed here.

    The engine is not loaded yet: `Runner.facts` loads it.

    Args:
        engine, devices, engine_options: see `isc_fast.extract`.
        decode_threads: number of threads that decode, in all processes together; by default one for each core.
        isolated: see `isc_fast.decoders.base.make_decoder`.

    Raises:
        InputError: devices or options are given for an engine that is loaded already, or there is no thread.
        EngineError: there is no such device, or the devices do not give the same bytes.
    """
    count_workers(decode_threads)
    options = dict(engine_options or {})
    if not isinstance(engine, (str, os.PathLike)):
        if devices is not None or options:
            raise InputError(
                "this engine is loaded already, and its device was chosen then; give the path of its file, or leave out the "
                "devices and the engine options"
            )
        return Here(lambda: engine, decode_threads, isolated)
    names = [] if devices is None else parse_devices(devices, cuda.count_devices)
    if len(names) > 1:
        return Processes(os.fspath(engine), tuple(names), options, decode_threads, isolated)
    if names:
        options = {"device": names[0], **options}
    return Here(partial(load_engine, engine, **options), decode_threads, isolated)


@contextlib.contextmanager
def opened_runner(
    engine: Engine | str | os.PathLike[str],
    devices: str | Sequence[str] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    decode_threads: int | None = None,
    *,
    isolated: bool = False,
    cluster: Cluster | None = None,
) -> Iterator[Runner]:
    """The runner for an engine, as `choose_runner` says, or one on a cluster, which is left when the block ends.

    Raises:
        IscFastError: see `choose_runner` and `isc_fast.extraction.runners.ray_runner.on_ray`; or an argument means nothing on
            a cluster.
    """
    if cluster is None:
        yield choose_runner(engine, devices, engine_options, decode_threads, isolated=isolated)
        return
    with _on_cluster(cluster, engine, devices, dict(engine_options or {}), decode_threads, isolated) as runner:
        yield runner


def _on_cluster(
    cluster: Cluster,
    engine: Engine | str | os.PathLike[str],
    devices: str | Sequence[str] | None,
    options: dict[str, Any],
    decode_threads: int | None,
    isolated: bool,
) -> contextlib.AbstractContextManager[OnRay]:
    if not isinstance(engine, (str, os.PathLike)):
        raise InputError("workers on a cluster load the engine themselves; give the path of its file")
    if decode_threads is not None or "threads" in options:
        raise InputError(
            "on a cluster a worker has as many threads as cores; give these (--worker-cores), and no threads"
        )
    kind = kind_of(engine)
    device = options.pop("device", None) or devices or (kind.default_device if kind else "cpu")
    if device not in ("cpu", "cuda", ["cpu"], ["cuda"]):
        raise InputError(f"on a cluster the device is cpu or cuda, of which each worker has one, not {device}")
    return on_ray(
        cluster, os.fspath(engine), device if isinstance(device, str) else device[0], options, isolated=isolated
    )
