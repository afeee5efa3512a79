"""The network alone on a GPU, pixels → descriptors: torch, compiled packages, TensorRT, ONNX Runtime, beside their ceiling.

    python bench/gpu_engine.py                   the network of v107 (random weights) at 512 × 512
    python bench/gpu_engine.py --ckpt v107.pth   the published weights
    python bench/gpu_engine.py --smoke           takes seconds to minutes with a small network; on the processor without a GPU

The reference way is torch in eager mode with fp16 autocast and channels_last, at its best batch. A row has two rates. The first
is from pixels in the host's memory to descriptors there, as `Engine.run` does it; ratios compare this rate. The second,
``on_device``, is for pixels that are on the GPU already; some ways do not have it. The ceiling is the rate that the GPU's matrix
peak in the row's precision and the bandwidth of its memory allow for the operations and the bytes of this network (see
`gpu.network_work`). Both limits are measured in the same run. The share of the ceiling is that of ``on_device``, if the way has
it. Each row also gives the cosine with the network in fp32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu import BENCH, REFERENCE, Settings, cosines, on_gpu, rate_of, run_bench, wait_for
from gpu_engines import CEILINGS, NETWORK, ONNX, PLAN, PT2, PT2_BF16, checkpoint_of, engine_of, limits_of
from gpu_engines import steps as preparation
from gpu_limits import ceiling, exact_fp32
from steps import NotHere, Result, Row, Step, so_far

Pixels = npt.NDArray[np.uint8]
SCRIPT = str(BENCH / "gpu_engine.py")
_BASE = (CEILINGS, NETWORK)


@dataclass(frozen=True)
class Way:
    """One way to run the network.

    Attributes:
        run: ``uint8 (n, h, w, 3)`` in the host's memory → ``float32 (n, dim)`` there.
        precision: the precision in which it computes.
        put: a context that puts pixels on the device and gives a function that describes them there, or None.
        batches: the numbers of images in one call to try; by default those of the settings.
    """

    run: Callable[[Pixels], npt.NDArray[np.float32]]
    precision: str
    put: Callable[[Pixels], AbstractContextManager[Callable[[], object]]] | None = None
    batches: tuple[int, ...] = ()


def steps() -> list[Step]:
    """Return the rows, each with the steps that it needs."""
    return [
        Step(f"engine/{REFERENCE}", SCRIPT, 60, order=2, needs=_BASE),
        Step("engine/torch fp32", SCRIPT, 60, order=2, needs=_BASE),
        Step("engine/pt2", SCRIPT, 60, order=3, needs=(*_BASE, PT2)),
        Step("engine/plan", SCRIPT, 60, order=5, needs=(*_BASE, PLAN)),
        Step("engine/onnx", SCRIPT, 60, order=7, needs=(*_BASE, ONNX)),
        Step("engine/torch.compile", SCRIPT, 150, order=9, needs=_BASE),
        Step("engine/pt2 bf16", SCRIPT, 60, order=9, needs=(*_BASE, PT2_BF16)),
        Step("engine/onnx tensorrt", SCRIPT, 240, order=9, needs=(*_BASE, ONNX)),
    ]


def measure(way: Way, settings: Settings) -> Result:
    """Measure the rates of a way at each batch, the cosines of its descriptors, and its share of the ceiling."""
    pixels, expected = (np.load(settings.folder / f"{name}.npy") for name in ("pixels", "expected"))
    known = limits_of(settings)
    batches = way.batches or settings.batches
    first = batches[0]
    found = np.concatenate([way.run(pixels[start : start + first]) for start in range(0, len(pixels), first)])
    result: Result = {"precision": way.precision, **cosines(found, expected), "by_batch": {}}
    out_of_memory: Any = _memory_errors()
    for batch in batches:
        some = np.ascontiguousarray(np.resize(pixels, (batch, *pixels.shape[1:])))
        limit = ceiling(known["work"], known["limits"], way.precision, batch)
        try:
            row: Result = {**rate_of(lambda some=some: way.run(some), batch, settings), "ceiling": limit}  # type: ignore[misc]
            if way.put:
                with way.put(some) as there:
                    row["on_device"] = rate_of(there, batch, settings)
        except out_of_memory as error:
            result["by_batch"][batch] = {"out_of_memory": str(error)[:200]}
            break
        most = row.get("on_device", row)["images_per_s"]
        row["share_of_ceiling"] = most / limit["images_per_s"]
        result["by_batch"][batch] = row
        best = max(result["by_batch"], key=lambda size: result["by_batch"][size].get("images_per_s", 0))
        result |= {**result["by_batch"][best], "batch": best}
        so_far(result)
    return result


def _memory_errors() -> tuple[type[Exception], ...]:
    """Return the errors that mean that a batch is too large. Only torch has them: engines have their own batch sizes."""
    torch: Any = sys.modules.get("torch")
    return (torch.OutOfMemoryError,) if torch else ()


def _torch_way(settings: Settings, *, half: bool, compiled: bool = False) -> Way:
    import torch
    from torch_way import TorchWay

    from isc_fast.networks.checkpoint import build_network, load_checkpoint

    on_gpu = settings.device == "cuda"
    exact_fp32()
    autocast = (torch.float16 if on_gpu else torch.bfloat16) if half else None
    net = build_network(load_checkpoint(checkpoint_of(settings)))
    way = TorchWay(net, device=settings.device, channels_last=half, autocast=autocast, compiled=compiled)

    @contextmanager
    def put(pixels: Pixels) -> Iterator[Callable[[], object]]:
        there = torch.from_numpy(pixels).to(settings.device)
        yield lambda: way.on_device(there)

    precision = "fp32" if not half else "fp16" if on_gpu else "bf16"
    return Way(way.run, precision, put, settings.batches[-2:-1] if compiled else ())


def _package_way(settings: Settings, step: str) -> Way:
    from isc_fast.engines.aoti import AotiEngine

    engine = AotiEngine(engine_of(settings, step), device=settings.device)
    return Way(engine.run, engine.spec.precision)


def _plan_way(settings: Settings) -> Way:
    """Return the TensorRT plan as a way. For pixels on the GPU it takes their address, as from a GPU decoder, without torch."""
    from isc_fast.engines.trt.engine import TrtEngine

    engine = TrtEngine(engine_of(settings, PLAN))

    @contextmanager
    def put(pixels: Pixels) -> Iterator[Callable[[], object]]:
        with on_gpu(pixels) as there:
            yield lambda: engine.run_device(there, len(pixels))

    size = engine.default_batch_size
    return Way(engine.run, engine.spec.precision, put, (size, 4 * size))


def _onnx_way(settings: Settings, provider: str) -> Way:
    from isc_fast.engines.base import load_engine

    on_gpu = settings.device == "cuda"
    engine = load_engine(
        engine_of(settings, ONNX), device=settings.device, provider=provider if on_gpu else None, runtime="onnxruntime"
    )
    # TensorRT's provider computes fp32 in TF32; for CUDA's provider this is switched off.
    return Way(engine.run, "tf32" if provider == "tensorrt" else "fp32", batches=(engine.default_batch_size, 64))


def _onnx_tensorrt(settings: Settings) -> Result:
    if settings.device != "cuda":
        raise NotHere("ONNX Runtime's TensorRT provider needs an NVIDIA GPU")
    return measure(_onnx_way(settings, "tensorrt"), settings)


def _compiled(settings: Settings) -> Result:
    import time

    began = time.perf_counter()
    way = _torch_way(settings, half=True, compiled=True)
    (batch,) = way.batches
    pixels = np.load(settings.folder / "pixels.npy")
    way.run(np.resize(pixels, (batch, *pixels.shape[1:])))
    wait_for(settings.device)()
    return {"compile_s": round(time.perf_counter() - began, 1), **measure(way, settings)}


ROWS: dict[str, Row] = {
    REFERENCE: lambda settings: measure(_torch_way(settings, half=True), settings),
    "torch fp32": lambda settings: measure(_torch_way(settings, half=False), settings),
    "torch.compile": _compiled,
    "pt2": lambda settings: measure(_package_way(settings, PT2), settings),
    "pt2 bf16": lambda settings: measure(_package_way(settings, PT2_BF16), settings),
    "plan": lambda settings: measure(_plan_way(settings), settings),
    "onnx": lambda settings: measure(_onnx_way(settings, "cuda"), settings),
    "onnx tensorrt": _onnx_tensorrt,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return run_bench("engine", __doc__, [*preparation(), *steps()], ROWS, arguments)


if __name__ == "__main__":
    sys.exit(main())
