"""Results in parts of rows that nobody described, for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isc_fast.descriptors.manifest import Manifest, Part, digests_of
from isc_fast.descriptors.picking import place_of_rows
from isc_fast.descriptors.store import Descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors


def in_parts(
    folder: Path, rows: npt.NDArray[np.float32], ids: Sequence[str], size: int, meta: Mapping[str, object]
) -> None:
    """A result in parts of so many rows."""
    plan_id, parts = "ab" * 32, []
    (folder / plan_id).mkdir(parents=True)
    for number, start in enumerate(range(0, len(rows), size)):
        name = f"{plan_id}/part-{number:06d}.h5"
        part = slice(start, start + size)
        write_descriptors(folder / name, Descriptors(rows[part], ids[part], meta))
        with open_descriptors(folder / name) as found:
            facts = len(found), 0, 0, *digests_of(folder / name)
            parts.append(Part(name, *facts, vectors=place_of_rows(found.vectors)))
    Manifest(plan_id, rows.shape[1], True, None, meta, [], parts).write(folder)
