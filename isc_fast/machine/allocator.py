"""The C library's allocator: whether freed memory goes back to the system."""

from __future__ import annotations

import ctypes

# The parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next large arrays. It cannot be undone.

    glibc returns large arrays to the system and asks for them again, and the system clears every page of them. A program
    that makes the same large arrays over and over, as training does on a processor, can spend a quarter of its time there.
    The process holds its largest amount of memory until it ends. Call this from programs only, not from functions that run
    in somebody else's process.

    Returns:
        whether the C library took it: false where it is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
