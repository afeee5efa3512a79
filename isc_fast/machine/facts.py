"""What decides about the last bits of a descriptor on this machine, in words: the processor, the GPU, the libraries."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

from .cores import processor_flags
from .versions import installed

_VECTOR_FLAGS = ("avx", "amx", "fma", "f16c", "asimd", "sve", "bf16")
"""What the names of instructions begin with that compute several numbers at once."""

_LIBRARIES = (
    *("numpy", "pillow", "simplejpeg", "cykooz-resizer", "nvidia-dali-cuda130"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt-cu13", "tensorrt-rtx-cu13"),
)


@cache
def machine_facts() -> dict[str, Any]:
    """The kind of this machine's processor, with its vector instructions, and the versions of the libraries that compute.

    Machines of the same kind say the same: nothing names the machine.
    """
    return {
        "machine": platform.machine(),
        "instructions": sorted(flag for flag in processor_flags() if flag.startswith(_VECTOR_FLAGS)),
        "versions": installed(_LIBRARIES),
    }
