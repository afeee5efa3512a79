"""The kind ``.onnx``: a graph that ONNX Runtime or OpenVINO runs, on a processor or, in fp32, on a GPU."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError, MissingExtraError
from ..files.reading import file_sha256
from .header import read_spec
from .kind import Described, EngineKind, LoadOptions
from .spec import EngineSpec
from .trials import ONNX_TRIALS
from .tuning import Setting, saved_setting, tuning_path

if TYPE_CHECKING:
    from .protocol import Engine


def _describe(path: Path) -> Described:
    spec = read_spec(path)
    return Described(path, file_sha256(path), spec)


def _load(file: Path, options: LoadOptions) -> Engine:
    spec = read_spec(file)
    if spec.precision != "fp32" and options.runtime not in (None, spec.runtime):
        raise EngineError(
            f"{file} in {spec.precision} was verified with {spec.runtime}; run by {options.runtime} it would be another "
            "engine; leave out the runtime"
        )
    if spec.precision != "fp32" and options.device != "cpu":
        raise EngineError(
            f"{file} in {spec.precision} is made for the processor; use the device cpu, or an fp32 engine"
        )
    setting = _fitting_setting(file, spec, options)
    if setting:
        # A setting is about speed only: where its runtime is gone by now, the engine is opened as if there were none.
        with contextlib.suppress(EngineError, MissingExtraError):
            return open_with(file, setting.runtime, options, setting=setting)
    return open_with(file, options.runtime or spec.runtime, options)


def _fitting_setting(file: Path, spec: EngineSpec, options: LoadOptions) -> Setting | None:
    """Return what `isc_fast.tune` found for this engine here, unless the options ask for something else."""
    if options.device != "cpu" or not tuning_path(file).exists():
        return None
    setting = saved_setting(file, file_sha256(file))
    fits = (
        setting
        and options.threads in (None, setting.threads)
        and options.runtime in (None, setting.runtime)
        and (spec.precision == "fp32" or setting.runtime == spec.runtime)
    )
    return setting if fits else None


def open_with(
    file: Path, runtime: str, options: LoadOptions | None = None, *, setting: Setting | None = None
) -> Engine:
    """Open an ``.onnx`` engine with one runtime and, if given, with a setting that `isc_fast.tune` found.

    What decides over the bytes of descriptors, the runtime and the sizes of batches, is the same for every process; threads
    and streams are shared out.

    Raises:
        EngineError: the runtime cannot run the engine on this device.
        MissingExtraError: the runtime is not installed.
    """
    options = options or LoadOptions()
    share = options.part.share
    threads = share(setting.threads) if setting else options.own_threads
    engine: Engine
    if runtime == "openvino":
        if options.device != "cpu":
            raise EngineError(
                f"OpenVINO runs engines on the processor here, not on {options.device}; leave out the runtime"
            )
        from .ov import OvEngine

        streams, size = (share(setting.streams), setting.request_size) if setting else (None, None)
        engine = OvEngine(file, threads=threads, streams=streams, request_size=size)
    else:
        from .ort import OrtEngine

        engine = OrtEngine(file, device=options.device, index=options.gpu, threads=threads, provider=options.provider)
    if setting:
        engine.default_batch_size = setting.batch_size
    return engine


ONNX = EngineKind(
    suffix=".onnx",
    describe=_describe,
    load=_load,
    default_device="cpu",
    precisions=("fp32", "bf16", "int8", "int8-bf16"),
    default_precision="fp32",
    takes_gpu_pixels=False,
    tunable=True,
    trials=ONNX_TRIALS,
)

REDUCED = tuple(precision for precision in ONNX.precisions if precision != ONNX.default_precision)
"""The lower precisions in which processors compute."""
