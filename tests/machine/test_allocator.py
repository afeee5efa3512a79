"""Freed memory that stays: large arrays cost no page faults the second time."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from isc_fast.machine import allocator

FAULTS = """
import resource, sys
import numpy as np
from isc_fast.machine.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def fill():
    several = [np.ones(16 << 20, np.uint8) for _ in range(4)]
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_kept_memory_is_used_again_without_asking_the_system():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "as it is")
    }
    assert faults["keep"] < 100
    assert faults["as it is"] > 10 * max(faults["keep"], 1)


def test_another_c_library_changes_nothing(monkeypatch):
    def none(_name):
        raise OSError("no such library")

    monkeypatch.setattr(allocator.ctypes, "CDLL", none)
    assert not allocator.keep_freed_memory()
