"""Whether a descriptor file, an index or an unfinished extraction is whole and sound, and what to do where it is not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from ...descriptors.formats.table import open_any
from ...descriptors.hdf5 import DAMAGE, check_hdf5, damaged_places
from ...descriptors.manifest import digests_of, parts_home, read_manifest
from ...descriptors.part_set import open_parts
from ...descriptors.store import Descriptors, open_descriptors
from ...errors import DamageError, FormatError, InputError, IscFastError
from ...extraction.output_folder import read_begun
from ...extraction.parts import PARTS, PartsFolder, holds_shard
from ...extraction.plan import Plan, Shard
from ...extraction.plan_folder import PlanFolder
from ...files.homes import Home, home_of, is_bucket
from ...files.repeats import repeated_rows
from ...matching.index.layout import has_manifest
from .findings import NOTE, OK, PROBLEM, SHOWN, Finding, listed, of_vectors
from .verified_index import of_index


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
    """Read a whole descriptor file, a result in parts, an index, or an unfinished extraction, and check what can be checked.

    Memory holds one block of rows and eight bytes an id, however large the file is.

    Args:
        path: descriptors of any format, the folder of a result in parts, of an index, or ``OUTPUT.parts``.

    Raises:
        FormatError: there is no such file, or it is no descriptor file at all.
    """
    place = Path(path)
    if place.is_dir() and place.name.endswith(PARTS):
        found = _of_folder(place, PartsFolder(place.with_name(place.name.removesuffix(PARTS))))
    elif (home := parts_home(path)) is not None:
        found = _of_result(home)
    elif (place.is_dir() or is_bucket(path)) and (begun := read_begun(path)) is not None:
        parts = PlanFolder(home_of(path), begun.plan)
        found = _of_folder(parts.address, parts)
    else:
        found = of_index(place) if has_manifest(place) else _of_file(path)
    return Verification(os.fspath(path), tuple(found))


def _of_result(home: Home) -> Iterator[Finding]:
    """Check a result in parts: the manifest, each part against it, and the set of all of them."""
    try:
        manifest = read_manifest(home)
    except DamageError as error:
        yield Finding("manifest", PROBLEM, str(error))
        return
    yield Finding("manifest", OK, f"{len(manifest.parts)} parts of plan {manifest.plan_id[:12]}")
    wrong: list[str] = []
    for part in manifest.parts:
        try:
            same = digests_of(home.file(part.name)) == (part.bytes, part.sha256, part.checksums)
        except FormatError:
            same = False
        wrong += [] if same else [part.name]
    if wrong:
        names = listed(wrong[:SHOWN], len(wrong))
        words = f"{names} are missing, or not those that the manifest names; remove them and {manifest.again}"
        yield Finding("parts", PROBLEM, words)
        return
    total = sum(part.bytes for part in manifest.parts)
    yield Finding("parts", OK, f"all {total} bytes are as they were written, by SHA-256")
    with open_parts(home.path) as found:
        yield from _of_descriptors(found)


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
            where = f"bytes {listed(places[:SHOWN], len(places))} are not those that were written"
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
    views = f" in {len(found.views)} views" if len(found.views) > 1 else ""
    counts = f"{len(found)} descriptors of {found.dim} numbers{views}, {len(found.failures)} failed images"
    yield Finding("counts", OK, counts)
    yield _of_ids(found)
    yield from of_vectors(found)
    if found.meta or found.failures:
        yield _of_ledger(found)


def _of_ids(found: Descriptors) -> Finding:
    seen: set[str] = set()
    twice: list[str] = []
    for row in repeated_rows(found.ids).tolist():
        id_ = found.ids[row]
        (twice.append if id_ in seen else seen.add)(id_)
    if twice:
        names = listed([repr(id_) for id_ in twice[:SHOWN]], len(twice))
        return Finding("ids", PROBLEM, f"{names} stand in more than one row; convert the sets with ids that differ")
    return Finding("ids", OK, "all differ")


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
        names = listed([repr(id_) for id_ in both[:SHOWN]], len(both))
        return Finding(
            "ledger", PROBLEM, f"{names} have a descriptor and a failure{of}; extract again with --overwrite"
        )
    return Finding("ledger", OK, f"{len(found.failures)} failures, none of them an image with a descriptor{of}")


def _of_folder(folder: str | Path, parts: PartsFolder) -> Iterator[Finding]:
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
    yield Finding("plan", OK, f"{plan.id[:12]}: {len(plan.items)} {_noun(plan)} in {plan.shard_count} parts")
    missing = parts.missing(plan)
    there = [index for index in missing if parts.part(index).exists()]
    done = plan.shard_count - len(missing)
    yield Finding("parts", OK, f"{done} are done and sound, {len(missing) - len(there)} are to be computed: {again}")
    if there:
        names = listed([str(index) for index in there[:SHOWN]], len(there))
        yield Finding(
            "damage", PROBLEM, f"the parts {names} are damaged or of another plan; {again}, which computes them anew"
        )
    gone = set(missing)
    yield from _against_plan(parts, plan, [index for index in range(plan.shard_count) if index not in gone])


def _noun(plan: Plan) -> str:
    return "containers" if plan.by_container else "images"


def _holds_containers(part: Descriptors, shard: Shard) -> bool:
    """Whether all rows and failures of a part are of its shard's containers."""
    labels = {item.id for item in shard.items}
    ids = chain(part.ids, (failure.id for failure in part.failures))
    return all(any(id_[:end] in labels for end, letter in enumerate(id_) if letter in "/#") for id_ in ids)


def _against_plan(parts: PartsFolder, plan: Plan, done: list[int]) -> Iterator[Finding]:
    """Whether each image of a part's shard has a descriptor or a failure, in the order of the plan."""
    rows = failures = 0
    wrong: list[str] = []
    for index in done:
        try:
            with open_descriptors(parts.part(index)) as part:
                rows, failures = rows + len(part), failures + len(part.failures)
                if not (_holds_containers if plan.by_container else holds_shard)(part, plan.shard(index)):
                    wrong.append(str(index))
        except (IscFastError, *DAMAGE):
            wrong.append(str(index))
    if wrong:
        names = listed(wrong[:SHOWN], len(wrong))
        words = (
            f"the parts {names} do not hold the images of the plan; remove them and run the same isc-fast extract again"
        )
        yield Finding("ledger", PROBLEM, words)
    else:
        yield Finding(
            "ledger", OK, f"{rows} descriptors and {failures} failures: each image of the parts that are done has one"
        )
