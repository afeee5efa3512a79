"""The processor: how many cores this process may use, and which instructions they have."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Any of these says that a processor multiplies bf16 numbers by itself."""


_most: int | None = None


def use_cores(count: int) -> None:
    """Let this process use no more cores than so many: it is one of several workers, or got them from a cluster."""
    global _most
    _most = count


def _cgroup_quota(root: Path) -> float | None:
    """Return the cores that the container's quota allows (cgroup v2, then v1), or None where there is no quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    except (OSError, ValueError):
        return None


def available_cores(cgroup_root: Path = _CGROUP) -> int:
    """Count the cores that this process may use: its affinity mask, cut to the container's quota and to `use_cores`; at least 1.

    `os.cpu_count` counts the machine's cores, so a container with two of 64 would start 64 threads and crawl.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    limits = [affinity if _most is None else min(affinity, _most)]
    quota = _cgroup_quota(cgroup_root)
    if quota is not None:
        limits.append(math.ceil(quota))
    return max(1, min(limits))


def most_threads() -> int:
    """The most threads that anybody may ask for: more help nobody, and some thousands end the process."""
    return max(64, 4 * available_cores())


def wrong_count(threads: int | None) -> str | None:
    """Say in words what is wrong with a number of threads that somebody asks for; None where it will do."""
    if threads is None or 1 <= threads <= most_threads():
        return None
    return f"must be at {'least 1' if threads < 1 else f'most {most_threads()} on this machine'}, not {threads}"


@dataclass(frozen=True)
class Part:
    """This process among several that share the processor; by default it is the only one."""

    number: int = 0
    of: int = 1

    def share(self, whole: int) -> int:
        """Return this process' share of so many threads, at least one; all shares together are the whole, or one each."""
        return max(1, whole // self.of + (self.number < whole % self.of))


def processor_flags() -> frozenset[str]:
    """Return the processor's instructions in the system's words (``avx512_vnni``, ``amx_int8``); empty where it says none."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return frozenset()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(flag for line in lines for flag in line.partition(":")[2].split())


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers by itself (AVX-512 BF16, AMX, Arm's BF16), not by imitation.

    This is False also where the system does not say.
    """
    return bool(processor_flags() & BF16_FLAGS)


def processor() -> str:
    """Return the processor's name, for figures that hold on one kind of machine only."""
    with contextlib.suppress(OSError):
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
