"""Results in parts of rows that nobody described, for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    cuts = [slice(start, start + size) for start in range(0, len(rows), size)]
    parts_of_blocks(folder, ((rows[cut], ids[cut]) for cut in cuts), meta)


def parts_of_blocks(
    folder: Path, blocks: Iterable[tuple[npt.NDArray[np.float32], Sequence[str]]], meta: Mapping[str, object]
) -> None:
    """A result in parts, one for each block of rows and ids, of which one is in memory."""
    plan_id, parts, dim = "ab" * 32, [], 0
    (folder / plan_id).mkdir(parents=True)
    for number, (rows, ids) in enumerate(blocks):
        name, dim = f"{plan_id}/part-{number:06d}.h5", rows.shape[1]
        write_descriptors(folder / name, Descriptors(rows, ids, meta))
        with open_descriptors(folder / name) as found:
            facts = len(found), 0, 0, *digests_of(folder / name)
            parts.append(Part(name, *facts, vectors=place_of_rows(found.vectors)))
    Manifest(plan_id, dim, True, None, meta, [], parts).write(folder)
