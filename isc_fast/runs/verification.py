"""Whether a descriptor file, or an unfinished extraction, is whole and sound, and what to do where it is not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ..descriptors.formats.table import open_any
from ..descriptors.hdf5 import DAMAGE, check_hdf5, damaged_places
from ..descriptors.manifest import AGAIN, digests_of, parts_folder, read_manifest
from ..descriptors.part_set import open_parts
from ..descriptors.store import Descriptors, open_descriptors
from ..errors import DamageError, FormatError, InputError, IscFastError
from ..extraction.output_folder import read_begun
from ..extraction.parts import PARTS, PartsFolder, holds_shard
from ..extraction.plan import Plan
from ..extraction.plan_folder import PlanFolder
from ..files.repeats import repeated_rows

OK, NOTE, PROBLEM = "ok", "note", "problem"
"""Grades of a finding: as it should be; cannot be checked, or worth knowing; not as it should be."""

_OFF_UNIT = 1e-3
"""By how much a length of 1 may be off: int8 engines and saved halves stay far below."""

_SHOWN = 5  # rows, ids or places that a message names


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        what: was checked, such as ``"norms"``.
        grade: `OK`, `NOTE` or `PROBLEM`.
        words: what was found, and for a problem what to do.
    """

    what: str
    grade: str
    words: str


@dataclass(frozen=True)
class Verification:
    """What `verify_file` found.

    Attributes:
        path: the file or folder.
        findings: in the order in which they were checked. After damage nothing else is checked.
    """

    path: str
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether there is no problem."""
        return all(finding.grade != PROBLEM for finding in self.findings)


def verify_file(path: str | os.PathLike[str]) -> Verification:
    """Read a whole descriptor file, a result in parts, or an unfinished extraction, and check what can be checked.

    Memory holds one block of rows and eight bytes an id, however large the file is.

    Args:
        path: descriptors of any format, the folder of a result in parts, or the folder ``OUTPUT.parts``.

    Raises:
        FormatError: there is no such file, or it is no descriptor file at all.
    """
    place = Path(path)
    if place.is_dir() and place.name.endswith(PARTS):
        found = _of_folder(place, PartsFolder(place.with_name(place.name.removesuffix(PARTS))))
    elif (folder := parts_folder(path)) is not None:
        found = _of_result(folder)
    elif place.is_dir() and (begun := read_begun(place)) is not None:
        found = _of_folder(place / begun.plan, PlanFolder(place / begun.plan))
    else:
        found = _of_file(path)
    return Verification(os.fspath(path), tuple(found))


def _of_result(folder: Path) -> Iterator[Finding]:
    """Check a result in parts: the manifest, each part against it, and the set of all of them."""
    try:
        manifest = read_manifest(folder)
    except DamageError as error:
        yield Finding("manifest", PROBLEM, str(error))
        return
    yield Finding("manifest", OK, f"{len(manifest.parts)} parts of plan {manifest.plan_id[:12]}")
    wrong: list[str] = []
    for part in manifest.parts:
        try:
            same = digests_of(folder / part.name) == (part.bytes, part.sha256, part.checksums)
        except FormatError:
            same = False
        wrong += [] if same else [part.name]
    if wrong:
        names = _list(wrong[:_SHOWN], len(wrong))
        words = f"{names} are missing, or not those that the manifest names; remove them and {AGAIN}"
        yield Finding("parts", PROBLEM, words)
        return
    total = sum(part.bytes for part in manifest.parts)
    yield Finding("parts", OK, f"all {total} bytes are as they were written, by SHA-256")
    with open_parts(folder) as found:
        yield from _of_descriptors(found)


def _list(values: list[str], count: int) -> str:
    return ", ".join(values) + (f" and {count - len(values)} more" if count > len(values) else "")


def _of_file(path: str | os.PathLike[str]) -> Iterator[Finding]:
    if not os.path.isdir(path):
        yield (sums := _sums(path))
        if sums.grade == PROBLEM:
            return
    try:
        with open_any(path) as found:
            yield from _of_descriptors(found)
    except DamageError as error:
        yield Finding("content", PROBLEM, str(error))


def _sums(path: str | os.PathLike[str]) -> Finding:
    """Compare the file with its checksums."""
    try:
        has_sums = check_hdf5(path)
    except DamageError as error:
        where = error.place
        with contextlib.suppress(DamageError):
            places = [f"{start} to {stop - 1}" for start, stop in damaged_places(path)]
            where = f"bytes {_list(places[:_SHOWN], len(places))} are not those that were written"
        advice = "copy the file again from a sound copy, or compute it again (isc-fast extract … --overwrite)"
        return Finding("checksums", PROBLEM, f"{where}; {advice}")
    if has_sums:
        return Finding("checksums", OK, f"all {os.path.getsize(path)} bytes are as they were written")
    return Finding(
        "checksums",
        NOTE,
        "there are none, so damage may go unnoticed: the file is another tool's, or of isc-fast 0.2 or older; isc-fast convert "
        "writes a copy that has them",
    )


def _of_descriptors(found: Descriptors) -> Iterator[Finding]:
    yield Finding("counts", OK, f"{len(found)} descriptors of {found.dim} numbers, {len(found.failures)} failed images")
    yield _of_ids(found)
    yield from _of_vectors(found)
    if found.meta or found.failures:
        yield _of_ledger(found)


def _of_ids(found: Descriptors) -> Finding:
    seen: set[str] = set()
    twice: list[str] = []
    for row in repeated_rows(found.ids).tolist():
        id_ = found.ids[row]
        (twice.append if id_ in seen else seen.add)(id_)
    if twice:
        names = _list([repr(id_) for id_ in twice[:_SHOWN]], len(twice))
        return Finding("ids", PROBLEM, f"{names} stand in more than one row; convert the sets with ids that differ")
    return Finding("ids", OK, "all differ")


def _of_vectors(found: Descriptors) -> Iterator[Finding]:
    endless: list[int] = []
    off: list[int] = []
    least, most, row = np.inf, -np.inf, 0
    for block in found.blocks():
        squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        finite = np.isfinite(squares)
        lengths = np.sqrt(squares[finite])
        endless += (np.flatnonzero(~finite) + row).tolist()
        off += (np.flatnonzero(finite & (np.abs(np.sqrt(np.where(finite, squares, 1)) - 1) > _OFF_UNIT)) + row).tolist()
        if len(lengths):
            least, most = min(least, float(lengths.min())), max(most, float(lengths.max()))
        row += len(block)
    if endless:
        rows = _list([str(row) for row in endless[:_SHOWN]], len(endless))
        yield Finding("numbers", PROBLEM, f"the rows {rows} hold NaN or infinity; extract these images again")
    else:
        yield Finding("numbers", OK, "all are finite")
    normalization = found.provenance.normalization
    if not off:
        yield Finding("norms", OK, "every descriptor has length 1")
    elif normalization is not None and normalization.by_score:
        yield Finding(
            "norms", OK, f"lengths are {least:.4f} to {most:.4f}: scores are normalised, so they need not be 1"
        )
    else:
        rows = _list([str(row) for row in off[:_SHOWN]], len(off))
        ours = found.provenance.stamped
        advice = "compute the file again" if ours else "scores are no cosines until they are divided by their lengths"
        words = f"the rows {rows} have another length than 1 (all: {least:.4f} to {most:.4f}); {advice}"
        yield Finding("norms", PROBLEM if ours else NOTE, words)


def _of_ledger(found: Descriptors) -> Finding:
    both: list[str] = []
    if found.failures:
        count = len(found)
        rows = repeated_rows(chain(found.ids, (failure.id for failure in found.failures))).tolist()
        failed = {found.failures[row - count].id for row in rows if row >= count}
        both = [id_ for id_ in (found.ids[row] for row in rows if row < count) if id_ in failed]
    plan = found.provenance.plan
    of = f"; of plan {plan.id[:12]}" if plan is not None and plan.id is not None else ""
    if both:
        names = _list([repr(id_) for id_ in both[:_SHOWN]], len(both))
        return Finding(
            "ledger", PROBLEM, f"{names} have a descriptor and a failure{of}; extract again with --overwrite"
        )
    return Finding("ledger", OK, f"{len(found.failures)} failures, none of them an image with a descriptor{of}")


def _of_folder(folder: Path, parts: PartsFolder) -> Iterator[Finding]:
    """Check an unfinished extraction: the plan, each part, and the ledger of each part against the plan."""
    again = "run the same isc-fast extract again"
    try:
        plan = parts.found_plan()
        if plan is None:
            raise InputError(
                f"{folder} holds no plan of an extraction; expected the folder beside an output, OUTPUT{PARTS}"
            )
        if replace(plan).id != plan.id:
            raise FormatError(
                f"its images are not those that it was written with; remove the folder {folder} to start again"
            )
    except FormatError as error:
        yield Finding("plan", PROBLEM, f"{error}, or {again}: it makes the plan anew if the images are the same")
        return
    yield Finding("plan", OK, f"{plan.id[:12]}: {len(plan.items)} images in {plan.shard_count} parts")
    missing = parts.missing(plan)
    there = [index for index in missing if parts.part(index).exists()]
    done = plan.shard_count - len(missing)
    yield Finding("parts", OK, f"{done} are done and sound, {len(missing) - len(there)} are to be computed: {again}")
    if there:
        names = _list([str(index) for index in there[:_SHOWN]], len(there))
        yield Finding(
            "damage", PROBLEM, f"the parts {names} are damaged or of another plan; {again}, which computes them anew"
        )
    gone = set(missing)
    yield from _against_plan(parts, plan, [index for index in range(plan.shard_count) if index not in gone])


def _against_plan(parts: PartsFolder, plan: Plan, done: list[int]) -> Iterator[Finding]:
    """Whether each image of a part's shard has a descriptor or a failure, in the order of the plan."""
    rows = failures = 0
    wrong: list[str] = []
    for index in done:
        try:
            with open_descriptors(parts.part(index)) as part:
                rows, failures = rows + len(part), failures + len(part.failures)
                if not holds_shard(part, plan.shard(index)):
                    wrong.append(str(index))
        except (IscFastError, *DAMAGE):
            wrong.append(str(index))
    if wrong:
        names = _list(wrong[:_SHOWN], len(wrong))
        words = (
            f"the parts {names} do not hold the images of the plan; remove them and run the same isc-fast extract again"
        )
        yield Finding("ledger", PROBLEM, words)
    else:
        yield Finding(
            "ledger", OK, f"{rows} descriptors and {failures} failures: each image of the parts that are done has one"
        )
