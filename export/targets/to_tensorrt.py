"""Building a TensorRT plan from an ONNX graph; torch-free, and in one way for TensorRT 10.13 to 11 and TensorRT-RTX.

TensorRT 11 builds strongly typed networks only and has no precision flags: the types are in the graph (see
`isc_fast.export.precision.precision_graph`). TensorRT 10 needs a flag for such networks, and TensorRT 11 ignores it.

TensorRT-RTX builds without a GPU, so the tests build real plans with it.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from ...engines.trt.load import installed_flavour
from ...engines.trt.log import make_logger, reason
from ...engines.trt.sidecar import Batch
from ...errors import EngineError, InputError, MissingExtraError
from ...files.atomic import replacing
from ...machine.cuda import Device
from ..telling import Say, say_nothing
from .plan_options import PlanOptions

FLAVOURS = ("tensorrt", "tensorrt_rtx")

_LARGEST_BATCH = 4096
_LARGEST_TENSOR = 2**31 - 1  # elements; what kernels index with


def check_batch(batch: tuple[int, ...], height: int, width: int) -> Batch:
    """Make a batch profile from one number, or from fewest, best and most.

    It is checked here because TensorRT takes a profile that makes no sense without a word, and fails later.

    Args:
        batch: one or three numbers.
        height, width: the input's size in pixels, which limits the number of images.

    Raises:
        InputError: the numbers make no profile.
    """
    numbers = batch * 3 if len(batch) == 1 else batch
    wrong = f"the batch {','.join(map(str, batch))} cannot be used"
    if len(numbers) != 3:
        raise InputError(f"{wrong}; expected one number, or three: fewest, best, most, such as 1,16,64")
    fewest, best, most = numbers
    if not 1 <= fewest <= best <= most <= _LARGEST_BATCH:
        raise InputError(f"{wrong}; expected 1 ≤ fewest ≤ best ≤ most ≤ {_LARGEST_BATCH}, such as 1,16,64")
    # The widest tensors of the networks that we know hold some eight times as many numbers as their input.
    if most * height * width * 3 * 8 > _LARGEST_TENSOR:
        raise InputError(
            f"{wrong} at {height} × {width} pixels: tensors of more than 2³¹ numbers; expected at most "
            f"{_LARGEST_TENSOR // (height * width * 24)} images"
        )
    return fewest, best, most


def find_flavour() -> str:
    """Find which TensorRT builds here: ``"tensorrt"`` where it is installed, else ``"tensorrt_rtx"``.

    Raises:
        MissingExtraError: neither is installed.
    """
    for flavour in FLAVOURS:
        if importlib.util.find_spec(flavour) is not None:
            return flavour
    raise MissingExtraError("a plan needs TensorRT, which is not installed; run: pip install 'isc-fast[gpu,export]'")


def cache_file(given: Path, version: str, device: Device) -> Path:
    """Name the timing cache of one TensorRT on one kind of GPU: ``t.cache`` → ``t.NVIDIA-H100-9.0-trt11.4.0.cache``.

    With times that were measured elsewhere TensorRT would choose the wrong kernels.
    """
    key = re.sub(r"[^A-Za-z0-9.]+", "-", f"{device.name}-{device.capability}-trt{version}")
    return given.with_name(f"{given.stem}.{key}{given.suffix}")


def _set_cache(trt: Any, config: Any, file: Path, say: Say) -> Any:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise InputError(f"cannot read the timing cache {file}: {error.strerror or error}") from error
    for known in (content, b"") if content else (b"",):
        cache = config.create_timing_cache(known)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        say(f"{file} is no timing cache of this TensorRT and GPU; beginning a new one")
    raise EngineError(f"TensorRT {trt.__version__} takes no timing cache; leave out --timing-cache")


def _parse(trt: Any, network: Any, logger: Any, graph: bytes) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(graph):
        return
    problems = []
    for number in range(parser.num_errors):
        problem = parser.get_error(number)
        where = f" at the {problem.node_operator()} {problem.node_name()}" if problem.node_name() else ""
        problems.append(f"{' '.join(problem.desc().split())[:200]}{where}")
    said = problems[0] if problems else reason(logger.messages)
    raise EngineError(f"{trt.__name__} {trt.__version__} cannot read the graph: {said}; try another version of it")


def build_plan(
    graph: bytes,
    name: str,
    options: PlanOptions,
    *,
    flavour: str,
    device: Device | None,
    say: Say = say_nothing,
) -> bytes:
    """Build a plan for this GPU.

    Args:
        graph: the bytes of an ONNX file, with the precision in it.
        name: what the network is called in the plan.
        options: how the plan is built.
        flavour: one of `FLAVOURS`.
        device: the GPU of this machine, or None; ``tensorrt`` crashes without one, ``tensorrt_rtx`` builds without one.
        say: gets a line where the timing cache cannot be used.

    Raises:
        EngineError: TensorRT cannot read the graph or cannot build it; its reason is in the message.
        InputError: the timing cache cannot be read.
        OutputError: the timing cache cannot be written.
        MissingExtraError: this flavour is not installed.
    """
    if flavour == "tensorrt" and device is None:
        raise EngineError("TensorRT builds plans on the GPU that they are made for, and there is none here")
    trt = installed_flavour(flavour)
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, graph)
    network.name = name
    config = _configure(trt, builder, options, flavour)
    if config.add_optimization_profile(_profile(builder, network, options)) < 0:
        raise EngineError(f"TensorRT takes no batch of {options.batch}: {reason(logger.messages)}")
    cache, file = None, None
    if options.timing_cache is not None:
        if flavour != "tensorrt" or device is None:
            say(f"{flavour} measures no kernels while it builds; the timing cache is left alone")
        else:
            file = cache_file(options.timing_cache, str(trt.__version__), device)
            cache = _set_cache(trt, config, file, say)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{flavour} {trt.__version__} cannot build the plan: {reason(logger.messages)}; "
            "try a smaller --batch, or another --precision"
        )
    if cache is not None and file is not None:
        with replacing(file) as temporary:
            temporary.write_bytes(bytes(cache.serialize()))
    return bytes(plan)


def _configure(trt: Any, builder: Any, options: PlanOptions, flavour: str) -> Any:
    """The builder's settings."""
    config = builder.create_builder_config()
    # By default TensorRT computes fp32 in TF32, which has ten bits; the user asked for fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible and flavour == "tensorrt":  # RTX compiles for the GPU when it loads a plan
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    return config


def _profile(builder: Any, network: Any, options: PlanOptions) -> Any:
    """How many images the plan takes in one execution."""
    profile = builder.create_optimization_profile()
    pixels = network.get_input(0)
    inner = tuple(pixels.shape)[1:]
    profile.set_shape(pixels.name, *((count, *inner) for count in options.batch))
    return profile
