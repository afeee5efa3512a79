"""Which runner computes an extraction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...decoders.threads import count_workers
from ...engines.base import Engine, load_engine
from ...errors import InputError
from ...machine import cuda
from ...machine.devices import parse_devices
from .base import Runner
from .here import Here
from .processes import Processes


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
