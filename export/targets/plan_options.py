"""What can be chosen about a TensorRT plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...engines.trt.sidecar import Batch

DEFAULT_BATCH: Batch = (1, 16, 64)

GATED = ("bf16", "int8", "fp8")
"""Precisions whose plans have to pass the gate on edited copies; fp32 and fp16 have to agree on every photo instead."""


@dataclass(frozen=True)
class PlanOptions:
    """How a TensorRT plan is built.

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
