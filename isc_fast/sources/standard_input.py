"""A list on standard input: ``find photos -name '*.jpg' -print0 | isc-fast extract - …``."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from ..errors import InputError
from ..files.scratch import needs_scratch
from .base import Entry, Kind
from .choice import Choice
from .lists import entries_of

NAME = "-"


@functools.cache
def _kept() -> IO[bytes]:
    """What standard input holds, in a temporary file: it can be read only once, and a list is gone through several times.

    Raises:
        InputError: it is closed.
        OutputError: there is no room for temporary files.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed; expected a list of images, one path a line")
    with needs_scratch("the list on standard input", OSError):
        file = tempfile.NamedTemporaryFile(prefix="isc-fast-list-")  # noqa: SIM115  it lives as long as the process
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
    return file


def _entries(_name: str, _choice: Choice) -> Iterator[Entry | None]:
    return entries_of(_kept().name, "")


STANDARD_INPUT = Kind("a list on standard input (-)", lambda path: path == NAME, _entries)
