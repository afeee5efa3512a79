"""The other process of `isc_fast.descriptors.stranger`: ``python -m isc_fast.descriptors.stranger_child``.

It reads paths from standard input, one a line, in JSON. For each it does with HDF5 what a reader would do, and prints null or
what is wrong. What HDF5 says in an exception is not wrong here: the reader will get the same exception. A file on which HDF5
crashes ends this process, and so does one that it is not done with in time.

Large numbers in one piece are not read: that is a copy of bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

import h5py

PROCESSOR_S, WALL_S = 5.0, 60.0
"""Time that a step may take, a step being at most `_STEP_BYTES` of data."""

_STEP_BYTES = 1 << 22
_MEMORY_BYTES = 4 << 30
_MOST_OBJECTS = 10_000
_GROWTH = 1000
"""A file holds at most so many times its size: compression by more is an attack on memory."""


_ORDINARY = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, OverflowError, ArithmeticError)
"""What h5py raises where it finds something unexpected."""
ELSEWHERE = "takes its data from other files, which isc-fast does not follow"
"""Wrong, and no damage."""


class _Harmful(Exception):
    """What is wrong with a file."""


def _step() -> None:
    """Begin a step. The system ends this process if the next one does not begin in time, whatever HDF5 does."""
    signal.setitimer(signal.ITIMER_VIRTUAL, PROCESSOR_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)


def _objects(file: h5py.File) -> Iterator[Any]:
    """Every group and data set, each once."""
    seen: set[Any] = set()
    todo: list[Any] = [file]
    while todo:
        _step()
        found = todo.pop()
        yield found
        if len(seen) > _MOST_OBJECTS:
            raise _Harmful(f"it has more than {_MOST_OBJECTS} objects")
        if not isinstance(found, h5py.Group):
            continue
        with contextlib.suppress(*_ORDINARY):
            for name in list(found):
                _refuse_external(found, name)
                with contextlib.suppress(*_ORDINARY):
                    child = found[name]
                    address = h5py.h5o.get_info(child.id).addr
                    if address not in seen:
                        seen.add(address)
                        todo.append(child)


def _refuse_external(group: h5py.Group, name: str) -> None:
    link = None
    with contextlib.suppress(*_ORDINARY):
        link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise _Harmful(ELSEWHERE)


def _read(data: h5py.Dataset, file_bytes: int) -> None:
    """Read a data set as far as HDF5 has to understand it."""
    if data.is_virtual or data.external:
        raise _Harmful(ELSEWHERE)
    if data.shape is None:
        return
    whole = data.size * data.dtype.itemsize
    if whole > _GROWTH * file_bytes + _MEMORY_BYTES:
        raise _Harmful(f"it has {file_bytes} bytes, and {data.name} is said to hold {whole}")
    if not data.shape or not data.size:
        data[()]
        return
    plain = data.chunks is None and data.dtype.kind in "biufcS"
    rows = max(1, _STEP_BYTES * len(data) // max(1, whole))
    for start in (0, len(data) - 1) if plain else range(0, len(data), rows):
        _step()
        data[start : start + (1 if plain else rows)]


def look(path: str) -> str | None:
    """Read a file; returns what is wrong with it, or None."""
    size = os.path.getsize(path)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES + 3 * size
    resource.setrlimit(resource.RLIMIT_AS, (limit if most < 0 else min(limit, most), most))
    _step()
    try:
        with h5py.File(path, "r", locking=False) as file:
            for found in _objects(file):
                for name in list(found.attrs):
                    with contextlib.suppress(*_ORDINARY):
                        found.attrs[name]
                if isinstance(found, h5py.Dataset):
                    with contextlib.suppress(*_ORDINARY):
                        _read(found, size)
    except _Harmful as error:
        return str(error)
    except MemoryError:
        return f"it has {size} bytes, and reading it takes more than {limit} bytes of memory"
    except Exception:  # the reader gets it too, and has words for it
        return None
    return None


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, meant for the process that asks
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        answer = look(json.loads(line))
        for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
