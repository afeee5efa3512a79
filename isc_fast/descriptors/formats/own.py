"""isc-fast's own descriptor files, see `isc_fast.descriptors.store`, as a row of the table of formats."""

from __future__ import annotations

from ..store import load_descriptors
from ..writing import write_descriptors
from .base import Format, only_set

OWN = Format(
    name="isc-fast",
    expected="vectors and ids (isc-fast)",
    recognises=lambda contents: contents.is_ours,
    read=lambda path, _which: load_descriptors(path),
    write=lambda path, sets: write_descriptors(path, only_set(sets)),
)
