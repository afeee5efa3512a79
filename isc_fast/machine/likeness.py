"""What of a machine decides the last bits of a descriptor: its processor's instructions, its GPU, the versions of what computes.

Libraries choose other kernels for other hardware, and these round otherwise. So one result should come from machines that are
alike.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache

from .. import __version__
from .cores import processor_flags
from .versions import installed

_INSTRUCTIONS = (
    *("fma", "f16c", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "sve", "i8mm", "bf16"),
)
_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt-cu13", "tensorrt-rtx-cu13"),
    *("pillow", "simplejpeg", "cykooz-resizer", "numpy", "nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13"),
)


@cache
def _facts() -> Mapping[str, str]:
    flags = processor_flags()
    processor = " ".join([platform.machine(), *(name for name in _INSTRUCTIONS if name in flags)])
    return {"processor": processor, "isc-fast": __version__, **installed(_PACKAGES)}


def hardware(device: str, gpu: str | None = None) -> dict[str, str]:
    """What decides the last bits here, in words by name. Machines of the same kind say the same: nothing names the machine.

    Args:
        device: what an engine computes on.
        gpu: what its GPU is, if it has one.
    """
    return {"device": device, **({"gpu": gpu} if gpu else {}), **_facts()}


def unlike(first: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """Say in words how another machine differs from the first; None where their results have the same bytes."""
    differences = []
    for name in dict.fromkeys([*first, *other]):
        one, two = (machine.get(name, "none") for machine in (first, other))
        if one == two:
            continue
        if name == "processor":
            only = [word for word in one.split() if word not in two.split()]
            also = [word for word in two.split() if word not in one.split()]
            signs = " and ".join([*(["no " + " ".join(only)] if only else []), *([" ".join(also)] if also else [])])
            differences.append(f"a processor with {signs}")
        else:
            differences.append(f"{name} {two}, not {one}")
    return "; ".join(differences) or None
