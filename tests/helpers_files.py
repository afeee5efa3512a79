"""Files of earlier versions, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from isc_fast.files.sums import read_sums


def cut_sums(file: Path) -> None:
    """Leave what version 0.2 wrote: a plan without checksums, and without the application id that says it has some."""
    with open(file, "r+b") as stream:
        sums = read_sums(stream.fileno(), file.name)
        os.pwrite(stream.fileno(), bytes(4), 68)
    os.truncate(file, sums.length)


def with_two_that_are_none(folder: Path) -> Path:
    """Put two files into a folder that are no photos, before and behind all others; returns the folder."""
    for name in ("0bad.jpg", "zbad.jpg"):
        (folder / name).write_text("no picture")
    return folder
