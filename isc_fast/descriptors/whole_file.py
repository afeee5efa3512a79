"""One descriptor file made of a result in parts."""

from __future__ import annotations

import os
from pathlib import Path

from ..files.atomic import try_to_write
from .hdf5 import check_name
from .part_set import open_parts
from .rewriting import Rewritten
from .writing import write_set


def assemble(parts: str | os.PathLike[str], output: str | os.PathLike[str]) -> Rewritten:
    """Make one descriptor file of a result in parts: the bytes of the file that `isc_fast.extract` would have written.

    Memory holds one block of rows. The parts stay.

    Args:
        parts: the folder, or its manifest.
        output: the file to make.

    Raises:
        FormatError: there is no manifest, or a part is missing or damaged.
        OutputError: the file cannot be written.
    """
    check_name(output)
    try_to_write(output)
    with open_parts(parts) as whole:
        write_set(output, whole)
        return Rewritten(Path(output), len(whole), len(whole.failures))
