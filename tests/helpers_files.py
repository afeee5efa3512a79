"""Files of earlier versions, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from isc_fast.files.sums import read_sums


def cut_sums(file: Path) -> None:
    """Leave what version 0.2 wrote: a plan without checksums."""
    with open(file, "rb") as stream:
        sums = read_sums(stream.fileno(), file.name)
    os.truncate(file, sums.length)
