"""Loading a TensorRT plan: what it was built for is compared with what is here, and the plan with its sidecar."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import EngineError, require
from ...machine import cuda
from ..spec import EngineSpec
from .log import make_logger, meaning, reason
from .sidecar import PlanFacts
from .slot import Slot


def installed_flavour(flavour: str) -> Any:
    """The module ``tensorrt`` or ``tensorrt_rtx``. To be called only where `cuda.find_device` found a GPU, or to build
    with ``tensorrt_rtx``.

    Raises:
        EngineError: there is no such flavour.
        MissingExtraError: it is not installed.
    """
    if flavour not in ("tensorrt", "tensorrt_rtx"):
        raise EngineError(f"there is no TensorRT called {flavour!r}; install the isc-fast that made the plan")
    return require(flavour, "gpu" if flavour == "tensorrt" else "rtx")


def _release(version: str) -> tuple[int, ...]:
    """Major, minor and patch: plans are good for one of them, whatever the build."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def check_machine(path: Path, facts: PlanFacts, device: cuda.Device, version: str) -> None:
    """Compare what the plan was built with to what is here.

    Raises:
        EngineError: this GPU or this TensorRT cannot run the plan.
    """
    again = f"build it again on this machine: isc-fast export --ckpt CHECKPOINT -o {path.name}"
    same = (facts.gpu, facts.capability) == (device.name, device.capability)
    if not same and not facts.hardware_compatible:
        raise EngineError(
            f"{path} was built for {facts.gpu} (compute capability {facts.capability}) and this GPU is {device}; {again}, "
            "there or here with --hardware-compatible"
        )
    here, then = _release(version), _release(facts.tensorrt)
    if here != then and not (facts.version_compatible and here > then):
        raise EngineError(
            f"{path} was built with {facts.flavour} {facts.tensorrt} and {version} is installed here; {again}, or install "
            f"that version: pip install '{facts.flavour.replace('_', '-')}-cu13=={facts.tensorrt}'"
        )


def load_plan(
    trt: Any,
    path: Path,
    content: bytes,
    spec: EngineSpec,
    facts: PlanFacts,
    size: int,
    slots: int,
    resources: contextlib.ExitStack,
) -> list[Slot]:
    """Deserialize the plan and make its slots; all of it is freed, in the right order, by ``resources``."""
    logger = make_logger(trt)
    # pybind11 keeps an owner alive as long as what it made; dropping these in order frees contexts, engine, runtime.
    owned: list[Any] = [logger]
    resources.callback(_drop_last_first, owned)
    runtime = trt.Runtime(logger)
    owned.append(runtime)
    if facts.version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        known = meaning(logger.messages)
        raise EngineError(
            f"{facts.flavour} {trt.__version__} cannot load {path}: {known or reason(logger.messages)}; build it again on this "
            f"machine: isc-fast export --ckpt CHECKPOINT -o {path.name}"
        )
    owned.append(engine)
    names = _check_engine(trt, engine, path, spec, facts)
    made: list[Slot] = []
    for number in range(slots):
        try:
            slot = Slot(engine, spec, size, names, logger)
        except EngineError as error:
            if number:  # it is only slower with fewer
                break
            raise EngineError(f"{path} cannot be run here: {error}") from error
        resources.callback(slot.close)
        made.append(slot)
    return made


def _drop_last_first(owned: list[Any]) -> None:
    while owned:
        owned.pop()


def _tensors(trt: Any, engine: Any) -> Iterator[tuple[str, str, Any, tuple[int, ...]]]:
    """(input or output, name, type, shape) of each tensor that goes in or comes out."""
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        side = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
        yield side, name, engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))


def _check_engine(trt: Any, engine: Any, path: Path, spec: EngineSpec, facts: PlanFacts) -> tuple[str, str]:
    """The names of the plan's input and output.

    Raises:
        EngineError: the plan is not what the sidecar says.
    """
    found = sorted((side, name, str(dtype), shape[1:]) for side, name, dtype, shape in _tensors(trt, engine))
    expected = [
        ("input", str(trt.DataType.UINT8), (spec.height, spec.width, 3)),
        ("output", str(trt.DataType.FLOAT), (spec.dim,)),
    ]
    if [(side, dtype, shape) for side, _, dtype, shape in found] != expected:
        raise EngineError(
            f"the plan {path} has {[entry[:1] + entry[2:] for entry in found]} and its sidecar says {expected}; build it again"
        )
    if engine.name != facts.network:
        raise EngineError(
            f"the plan {path} calls its network {engine.name[:80]!r} and its sidecar says {facts.network!r}; build it again"
        )
    name = found[0][1]
    fixed = engine.get_tensor_shape(name)[0]
    batches = {fixed} if fixed != -1 else {shape[0] for shape in engine.get_tensor_profile_shape(name, 0)}
    if batches != set(facts.batch):
        raise EngineError(
            f"the plan {path} executes {sorted(batches)} images and its sidecar says {facts.batch}; build it again"
        )
    return found[0][1], found[1][1]
