"""The limits of a GPU, measured, and what they allow for a network: the matrix peaks, the bandwidth, and the ceiling of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu import Settings, rate_of

if TYPE_CHECKING:
    from isc_fast.networks.model import DescriptorNet

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}


def exact_fp32() -> None:
    """Make torch compute fp32 in fp32. By default its convolutions round to TF32 on a GPU: three digits instead of seven."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def matrix_peaks(settings: Settings) -> dict[str, float]:
    """Measure the best rate of square matrix products by torch in each precision, in operations per second."""
    import torch

    on_gpu = settings.device == "cuda"
    settings = replace(settings, seconds=max(settings.seconds, 0.1))
    side, found = settings.side, {}
    for name, dtype in (
        ("fp32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ):
        if name == "tf32" and not on_gpu:
            continue
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a, b = (torch.randn(side, side, device=settings.device).to(dtype) for _ in range(2))
        found[name] = 2 * side**3 * rate_of(lambda a=a, b=b: a @ b, 1, settings)["max"]  # type: ignore[misc]
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def bandwidth(settings: Settings) -> float:
    """Measure a copy within the device's memory, in bytes per second. Bytes that are read and bytes that are written count."""
    import torch

    size = (1 << 32) if settings.device == "cuda" else (1 << 24)
    source = torch.ones(size, dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    return 2 * size * rate_of(lambda: target.copy_(source), 1, settings)["max"]


def network_work(net: DescriptorNet, size: int) -> dict[str, float]:
    """Count what one image costs: operations, numbers that go in and out of convolutions, and weights.

    A runtime has to move at least these numbers if it joins everything else (normalisation, activations, additions) to the
    convolutions and keeps nothing of one convolution in fast memory for the next.
    """
    import copy

    import torch

    found = {"operations": 0.0, "moved": 0.0, "weights": 0.0}

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            found["operations"] += 2.0 * output.numel() * module.weight.numel() / module.weight.shape[0]
            found["moved"] += inputs[0].numel() + output.numel()
            found["weights"] += module.weight.numel()

    shadow = copy.deepcopy(net).to("meta")
    for module in shadow.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        shadow(torch.zeros(1, 3, size, size, device="meta"))
    return found


def ceiling(work: Mapping[str, float], limits: Mapping[str, Any], precision: str, batch: int) -> dict[str, float]:
    """Return the images/s that no runtime can exceed, by the matrix peak and by the memory's bandwidth.

    Args:
        work: see `network_work`.
        limits: ``"peaks"`` by precision, in operations per second, and ``"bandwidth"`` in bytes per second.
        precision: precision of the row.
        batch: number of images that share one reading of the weights.
    """
    by_peak = limits["peaks"][precision] / work["operations"]
    moved = (work["moved"] + work["weights"] / batch) * BYTES[precision]
    by_memory = limits["bandwidth"] / moved
    return {"by_matrix_peak": by_peak, "by_bandwidth": by_memory, "images_per_s": min(by_peak, by_memory)}
