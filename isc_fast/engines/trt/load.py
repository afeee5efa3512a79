"""Loading a TensorRT plan. This compares what the plan was built for with what is here, and the plan with its sidecar."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import EngineError, require
from ...machine import cuda
from .log import make_logger, meaning, reason
from .sidecar import Plan, PlanFacts
from .slot import Slot


def installed_flavour(flavour: str) -> Any:
    """Import the module ``tensorrt`` or ``tensorrt_rtx``.

    Call this only after `isc_fast.machine.gpus.find_device` has found a GPU, because TensorRT crashes without a driver. To
    build with ``tensorrt_rtx`` no GPU is needed.

    Raises:
        EngineError: there is no such flavour.
        MissingExtraError: it is not installed.
    """
    if flavour not in ("tensorrt", "tensorrt_rtx"):
        raise EngineError(f"there is no TensorRT called {flavour!r}; install the isc-fast that made the plan")
    return require(flavour, "gpu" if flavour == "tensorrt" else "rtx")


def _release(version: str) -> tuple[int, ...]:
    """Return major, minor and patch: a plan fits one such release, whatever its build number."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def check_machine(path: Path, facts: PlanFacts, device: cuda.Device, version: str) -> None:
    """Compare what the plan was built for with what is here.

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


def load_plan(trt: Any, plan: Plan, size: int, slots: int, resources: contextlib.ExitStack) -> list[Slot]:
    """Deserialize a plan and make its slots.

    Args:
        trt: the module that built the plan.
        plan: the plan.
        size: images in one execution.
        slots: how many slots to make; there are fewer where the GPU's memory does not hold so many.
        resources: frees everything, in the right order.

    Raises:
        EngineError: TensorRT cannot load the plan, or the plan is not what its sidecar says.
    """
    path, facts = plan.path, plan.facts
    logger = make_logger(trt)
    # pybind11 keeps an owner alive as long as what it made. Dropping these in order frees contexts, engine, runtime.
    owned: list[Any] = [logger]
    resources.callback(_drop_last_first, owned)
    runtime = trt.Runtime(logger)
    owned.append(runtime)
    if facts.version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan.content)
    if engine is None:
        known = meaning(logger.messages)
        raise EngineError(
            f"{facts.flavour} {trt.__version__} cannot load {path}: {known or reason(logger.messages)}; build it again on this "
            f"machine: isc-fast export --ckpt CHECKPOINT -o {path.name}"
        )
    owned.append(engine)
    names = _check_engine(trt, engine, plan)
    made: list[Slot] = []
    for number in range(slots):
        try:
            slot = Slot(engine, plan.spec, size, names, logger)
        except EngineError as error:
            if number:  # with fewer slots the engine is only slower
                break
            raise EngineError(f"{path} cannot be run here: {error}") from error
        resources.callback(slot.close)
        made.append(slot)
    return made


def _drop_last_first(owned: list[Any]) -> None:
    while owned:
        owned.pop()


def _tensors(trt: Any, engine: Any) -> Iterator[tuple[str, str, Any, tuple[int, ...]]]:
    """Yield (``"input"`` or ``"output"``, name, type, shape) of each tensor that goes in or comes out."""
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        side = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
        yield side, name, engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))


def _check_engine(trt: Any, engine: Any, plan: Plan) -> tuple[str, str]:
    """Compare a plan with its sidecar, and return the names of the plan's input and output.

    Raises:
        EngineError: the plan is not what the sidecar says.
    """
    path, spec, facts = plan.path, plan.spec, plan.facts
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
