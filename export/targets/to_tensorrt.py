"""Building a TensorRT plan from an ONNX graph; torch-free, and one way for TensorRT 10.13 to 11 and TensorRT-RTX.

TensorRT 11 builds strongly typed networks only and has no precision flags: the types are in the graph (see
`isc_fast.export.precision.precision_graph`). The flag that asks for it is needed by TensorRT 10 and ignored by 11.

TensorRT-RTX builds without a GPU, so the tests build real plans with it. TensorRT itself has not run here yet.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engines.trt.load import installed_flavour
from ...engines.trt.log import make_logger, reason
from ...engines.trt.sidecar import Batch
from ...errors import EngineError, InputError, MissingExtraError
from ...files.atomic import replacing
from ...machine.cuda import Device

DEFAULT_BATCH: Batch = (1, 16, 64)
FLAVOURS = ("tensorrt", "tensorrt_rtx")

_LARGEST_BATCH = 4096
_LARGEST_TENSOR = 2**31 - 1  # elements; what kernels index with


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is built.

    Attributes:
        batch: images in one execution: fewest, what it is tuned for, most; three equal numbers make a plan for just that.
        timing_cache: file that keeps measured kernels between builds. Each version of TensorRT on each kind of GPU gets a
            file of its own, with that in its name.
        version_compatible: let later versions of TensorRT run the plan; it then holds program code.
        hardware_compatible: let other GPUs, from Ampere on, run the plan; it is slower.
    """

    batch: Batch = DEFAULT_BATCH
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False

    @property
    def static(self) -> bool:
        """Whether the plan takes one number of images only."""
        return self.batch[0] == self.batch[2]


def check_batch(batch: tuple[int, ...], height: int, width: int) -> Batch:
    """A batch profile from one number, or from fewest, best and most.

    TensorRT itself takes a senseless profile without a word and fails later.

    Raises:
        InputError: it is none.
    """
    numbers = batch * 3 if len(batch) == 1 else batch
    wrong = f"the batch {','.join(map(str, batch))} cannot be used"
    if len(numbers) != 3:
        raise InputError(f"{wrong}; expected one number, or three: fewest, best, most, such as 1,16,64")
    fewest, best, most = numbers
    if not 1 <= fewest <= best <= most <= _LARGEST_BATCH:
        raise InputError(f"{wrong}; expected 1 ≤ fewest ≤ best ≤ most ≤ {_LARGEST_BATCH}, such as 1,16,64")
    # The widest tensors of the networks at hand hold some eight times the numbers of their input.
    if most * height * width * 3 * 8 > _LARGEST_TENSOR:
        raise InputError(
            f"{wrong} at {height} × {width} pixels: tensors of more than 2³¹ numbers; expected at most "
            f"{_LARGEST_TENSOR // (height * width * 24)} images"
        )
    return fewest, best, most


def find_flavour() -> str:
    """Which TensorRT builds here: ``"tensorrt"`` where it is installed, else ``"tensorrt_rtx"``.

    Raises:
        MissingExtraError: neither is installed.
    """
    for flavour in FLAVOURS:
        if importlib.util.find_spec(flavour) is not None:
            return flavour
    raise MissingExtraError("a plan needs TensorRT, which is not installed; run: pip install 'isc-fast[gpu,export]'")


def cache_file(given: Path, version: str, device: Device) -> Path:
    """The timing cache of one TensorRT on one kind of GPU: ``t.cache`` → ``t.NVIDIA-H100-9.0-trt11.4.0.cache``.

    Times measured elsewhere would choose the wrong kernels.
    """
    key = re.sub(r"[^A-Za-z0-9.]+", "-", f"{device.name}-{device.capability}-trt{version}")
    return given.with_name(f"{given.stem}.{key}{given.suffix}")


def _set_cache(trt: Any, config: Any, file: Path, say: Callable[[str], None]) -> Any:
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
    say: Callable[[str], None] = lambda line: None,
) -> bytes:
    """Build a plan for this GPU.

    Args:
        graph: an ONNX file's bytes, with the precision in it.
        name: what the network is called in the plan.
        options: see `PlanOptions`.
        flavour: one of `FLAVOURS`.
        device: the GPU here; ``tensorrt`` crashes without one, ``tensorrt_rtx`` builds without one.
        say: is told in one line what deserves to be known.

    Raises:
        EngineError: TensorRT cannot read the graph or cannot build it, with its reason.
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
    config = builder.create_builder_config()
    # TensorRT computes fp32 in TF32 unless it is told not to: ten bits, where fp32 was asked for.
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible and flavour == "tensorrt":  # RTX compiles for the GPU when it loads a plan
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    profile = builder.create_optimization_profile()
    pixels = network.get_input(0)
    inner = tuple(pixels.shape)[1:]
    profile.set_shape(pixels.name, *((count, *inner) for count in options.batch))
    if config.add_optimization_profile(profile) < 0:
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
