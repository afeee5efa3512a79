"""Two sides of a search for tests: queries in a file, references in parts, with copies and with rows that are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from oracles import unit_rows

import isc_fast
from isc_fast.descriptors.manifest import Manifest, Part, digests_of
from isc_fast.descriptors.picking import place_of_rows
from isc_fast.descriptors.store import Descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors

QUERIES, REFERENCES, DIM = 90, 700, 24
VIEWS = {"views": ["whole", "mirrored"]}


def clustered(seed: int, count: int, views: int = 1) -> npt.NDArray[np.float32]:
    """Rows with copies, and rows that are equal in every bit, so that scores tie."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(5, 60, DIM)[rng.integers(0, 60, count * views)]
    rows = rows + rng.choice([0.0, 0.3], (len(rows), 1)) * rng.standard_normal(rows.shape, np.float32)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows.reshape(count, -1)


def in_parts(folder: Path, rows: npt.NDArray[np.float32], ids: list[str], size: int, meta: dict[str, object]) -> None:
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


def two_sides(folder: Path, views: int = 1) -> tuple[Path, Path]:
    """Queries in a file, and references in parts of 64 photos."""
    meta = {} if views == 1 else VIEWS
    rows = clustered(1, QUERIES, views)
    write_descriptors(folder / "q.h5", Descriptors(rows, [f"q{row:03d}" for row in range(QUERIES)], meta))
    in_parts(folder / "r", clustered(2, REFERENCES, views), [f"r{row:04d}" for row in range(REFERENCES)], 64, meta)
    return folder / "q.h5", folder / "r"


def at_once(sides: tuple[Path, Path], form: str = "csv", **options: object) -> bytes:
    """The file of one search in this process."""
    with open_descriptors(sides[0]) as queries, open_descriptors(sides[1]) as references:
        found = isc_fast.search(queries, references, **options)  # type: ignore[arg-type]
    path = sides[0].parent / f"whole.{form}"
    isc_fast.write_matches(path, found)
    return path.read_bytes()
