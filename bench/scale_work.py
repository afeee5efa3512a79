"""What `scale.py` measures, as functions that a new process runs: plans, extraction with stand-ins, and the sides of a search."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common.part_sets import parts_of_blocks
from stand_in import Dark, Network, decode_with

import isc_fast
from isc_fast.extraction.plan import BY_CONTAINER, Plan, container_shard_size
from isc_fast.extraction.share import Share
from isc_fast.sources.listing import as_source
from isc_fast.sources.whole_containers import Containers

PART = 10_000
"""Rows of a part that is searched."""


def write_tars(folder: Path, count: int, members: int) -> Path:
    """Write so many tars of members without content."""
    folder.mkdir()
    first = folder / "00000000.tar"
    with tarfile.open(first, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(members):
            tar.addfile(tarfile.TarInfo(f"{number:06d}.jpg"))
    for number in range(1, count):  # no links: a container that is given twice is refused
        (folder / f"{number:08d}.tar").write_bytes(first.read_bytes())
    return folder


def touch(folder: Path, suffix: str, count: int) -> None:
    """Make so many empty files, in folders of a thousand."""
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:06d}").mkdir(parents=True)
        (folder / f"{number // 1000:06d}" / f"{number % 1000:03d}{suffix}").touch()


def plan_of_containers(place: str) -> None:
    """List tars, and write their plan."""
    source = Containers(Path(place) / "in")
    found = source.list().found
    plan = Plan([*source.inputs, BY_CONTAINER], found, "e" * 64, "none", 64, container_shard_size(len(found), 1))
    plan.write(Path(place) / "plan.sqlite")


def plan_of_files(place: str) -> None:
    """The same of photos that are files."""
    source = as_source(Path(place) / "in")
    found = source.list().found
    Plan([*source.inputs], found, "e" * 64, "none", 64, 256).write(Path(place) / "plan.sqlite")


def describe(folder: str, output: str, dim: int, index: int, count: int) -> None:
    """Extract a share of a folder of tars, with a network and a decoder that do nothing."""
    decode_with(Dark())
    isc_fast.extract(folder, Network(dim), output, by_container=True, shard_size=1, share=Share(index, count))


def extract_again(folder: str, output: str, dim: int) -> None:
    """Extract what is left of it, in this process."""
    describe(folder, output, dim, 0, 1)


def search_sides(scratch: Path, queries: int, references: int, dim: int) -> tuple[Path, Path]:
    """Queries and references in parts; a query is a reference of the first part with some noise."""
    sides = scratch / "queries", scratch / "references"
    rng = np.random.default_rng(references)

    def unit(rows: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def blocks() -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], list[str]]]:
        for start in range(0, references, PART):
            names = [f"r{row}" for row in range(start, min(start + PART, references))]
            rows = unit(rng.standard_normal((len(names), dim), np.float32))
            if not start:
                asked = rows[rng.integers(0, len(rows), queries)]
                asked = unit(asked + 0.05 * rng.standard_normal((queries, dim), np.float32))
                cuts = range(0, queries, PART)
                few = (
                    (asked[cut : cut + PART], [f"q{row}" for row in range(cut, min(cut + PART, queries))])
                    for cut in cuts
                )
                parts_of_blocks(sides[0], few, {})
            yield rows, names

    parts_of_blocks(sides[1], blocks(), {})
    return sides
