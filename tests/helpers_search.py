"""Two sides of a search for tests: queries in a file, references in parts, with copies and with rows that are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from oracles import unit_rows
from part_sets import in_parts

import isc_fast
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


_KILLS = """
import os, signal, sys
FLAG = os.environ.get("ISC_FAST_TEST_FLAG")
if FLAG and "isc_fast.extraction.runners.worker" in sys.orig_argv:
    from {module} import {name}
    real, calls = {name}.pairs, []
    def pairs(self, number):
        calls.append(number)
        with open(FLAG + ".log", "a") as log:
            log.write(f"{{os.getpid()}} {{number}}\\n")
        if len(calls) == 2 or os.path.exists(FLAG + ".always"):
            try:
                open(FLAG, "x").close()
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                if os.path.exists(FLAG + ".always"):
                    os.kill(os.getpid(), signal.SIGKILL)
        return real(self, number)
    {name}.pairs = pairs
"""


def kill_a_worker(monkeypatch: pytest.MonkeyPatch, folder: Path, join: type) -> Path:
    """Kill the first worker that takes a second piece of a join over it; or every worker, where FLAG.always exists.

    Returns:
        FLAG, a file that exists once one was killed. FLAG.log has a line for each piece that was begun: process and number.
    """
    site = folder / "site"
    site.mkdir()
    text = _KILLS.format(module=join.__module__, name=join.__name__)
    (site / "sitecustomize.py").write_text(text)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("ISC_FAST_TEST_FLAG", str(folder / "flag"))
    return folder / "flag"
