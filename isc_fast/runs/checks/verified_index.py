"""Whether an index is whole and sound: each file as the manifest knows it, each id found, each row of length 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...descriptors.hdf5 import check_hdf5
from ...errors import IscFastError
from ...files.sums import damage
from ...matching.index.layout import Manifest, SegmentFacts, read_manifest
from ...matching.index.segment import Segment
from ...matching.index.summed import digest_of
from .findings import OK, PROBLEM, SHOWN, Finding, listed, of_vectors

_AGAIN = "copy the index again from a sound copy, or build it again: isc-fast index build"
_AT_ONCE = 4096


def of_index(folder: Path) -> Iterator[Finding]:
    """Check an index. After damage nothing else is checked.

    Args:
        folder: holds a manifest.
    """
    try:
        manifest = read_manifest(folder)
    except IscFastError as error:
        yield Finding("manifest", PROBLEM, str(error))
        return
    gone = sum(facts.gone for facts in manifest.segments)
    counts = f"{manifest.live} rows of {manifest.dim} numbers in {len(manifest.segments)} segments, {gone} more removed"
    yield Finding("manifest", OK, counts)
    damaged = list(_damaged(folder, manifest))
    if damaged:
        yield Finding("checksums", PROBLEM, f"{listed(damaged[:SHOWN], len(damaged))}; {_AGAIN}")
        return
    count = sum(len(facts.files) for facts in manifest.segments)
    yield Finding("checksums", OK, f"all {count} files are as they were written")
    found = [finding for facts in manifest.segments for finding in _of_segment(folder, facts)]
    problems = [finding for finding in found if finding.grade == PROBLEM]
    yield from problems
    if not problems:
        yield Finding("rows", OK, "every id leads to its row, all numbers are finite, every row has length 1")


def _damaged(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What is wrong with files, one by one."""
    for facts in manifest.segments:
        for name, digest in facts.files.items():
            path = folder / facts.name / name
            try:
                if digest_of(path) != digest:
                    raise damage(str(path), "it is another file than the one that the index names")
                check_hdf5(path)  # whatever the file holds: its checksums are those of every file
            except IscFastError as error:
                yield str(error)


def _of_segment(folder: Path, facts: SegmentFacts) -> Iterator[Finding]:
    try:
        with Segment(folder, facts) as segment:
            rows = segment.descriptors
            for start in range(0, len(rows), _AT_ONCE):
                ids = list(rows.ids[start : start + _AT_ONCE])
                wrong = np.flatnonzero(segment.keys.rows_of(ids) != np.arange(start, start + len(ids)))
                if len(wrong):
                    words = f"the id {ids[int(wrong[0])]!r} of {facts.name} does not lead to its row; {_AGAIN}"
                    yield Finding("ids", PROBLEM, words)
                    break
            yield from of_vectors(rows)
    except IscFastError as error:
        yield Finding("segment", PROBLEM, f"{error}; {_AGAIN}")
