"""The manifest of parts that are complete: each is read once, and what it holds becomes a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..descriptors.hdf5 import DAMAGE
from ..descriptors.manifest import AGAIN, Manifest, Part, digests_of
from ..descriptors.picking import place_of_rows
from ..descriptors.store import Descriptors, open_descriptors
from ..errors import DamageError, FormatError
from ..items import Ints
from ..machine.cores import available_cores
from ..sources.stamps import stamps_of, unknown
from .plan import Plan, StoredItems
from .plan_folder import DEVICES, PlanFolder

_AT_ONCE = 32  # parts whose digests are computed beside each other before their lines are written


def manifest_of(parts: PlanFolder, plan: Plan, count: int, width: int, meta: Mapping[str, Any]) -> Manifest:
    """Read all parts of a plan, and make their manifest.

    Args:
        parts: the folder of the plan.
        plan: whose shards they are; parts behind its last one hold rows of images that are gone.
        count: how many parts there are.
        width: numbers of a row: those of the descriptors of all views.
        meta: how they were made.

    Raises:
        DamageError: a part is damaged, or of another plan.
    """
    devices: dict[str, Mapping[str, Any]] = {}
    lines: list[tuple[Part, list[str]]] = []
    seen = _Stamps(plan)
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        for start in range(0, count, _AT_ONCE):
            block = range(start, min(start + _AT_ONCE, count))
            for index, digests in zip(block, threads.map(lambda n: _digests(parts, n), block), strict=True):
                try:
                    with open_descriptors(parts.part(index)) as found:
                        line, by = _line(parts, plan, index, found, digests)
                        if index < plan.shard_count and not plan.by_container:
                            seen.add(index, found)
                except DAMAGE as error:
                    raise broken(parts, index, error) from error
                keys = [json.dumps(device, sort_keys=True) for device in by]
                devices |= zip(keys, by, strict=True)
                lines.append((line, keys))
    order = {key: number for number, key in enumerate(sorted(devices))}
    return Manifest(
        plan_id=plan.id,
        dim=width,
        unique=StoredItems(parts.plan_file).first_repeat() is None,
        stamps=digest_of_stamps(plan) if plan.by_container else seen.digest,
        meta=meta,
        devices=[devices[key] for key in sorted(devices)],
        parts=[line._replace(devices=tuple(sorted(order[key] for key in keys))) for line, keys in lines],
    )


def broken(parts: PlanFolder, index: int, error: BaseException) -> DamageError:
    """The error of a part that has to be computed again."""
    place = error.place if isinstance(error, DamageError) else str(error)
    return DamageError(
        f"the part {parts.home.address}/{parts.name_of(index)} is damaged ({place}); remove it and {AGAIN}", place
    )


def _digests(parts: PlanFolder, index: int) -> tuple[int, str, str]:
    try:
        return digests_of(parts.part(index))
    except FormatError as error:
        raise broken(parts, index, error) from error


def _line(
    parts: PlanFolder, plan: Plan, index: int, found: Descriptors, digests: tuple[int, str, str]
) -> tuple[Part, Sequence[Mapping[str, Any]]]:
    """The line of a part, and the devices that it names.

    Raises:
        FormatError: it is of another plan.
    """
    made = found.provenance
    if (made.plan_id, made.shard) != (plan.id, index):
        raise FormatError("it is of another plan")
    devices = made.other.get(DEVICES)
    part = Part(
        parts.name_of(index),
        len(found),
        len(found.failures),
        len(found.notes),
        *digests,
        vectors=place_of_rows(found.vectors),
    )
    return part, devices if isinstance(devices, list) else []


class _Stamps:
    """The digest of the stamps of a plan's images, in order; see `digest_of_stamps`."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._known, self._sha = plan, True, hashlib.sha256()

    def add(self, index: int, part: Descriptors) -> None:
        """Take the stamps of the next shard from its part."""
        rows = unknown(len(part)) if part.stamps is None else part.stamps[:]
        self._known = self._known and bool((rows[:, 0] >= 0).all())
        failed = {row.id for row in part.failures}
        if failed:
            lost = unknown(len(part.failures)) if part.failure_stamps is None else part.failure_stamps[:]
            is_lost = np.array([item.id in failed for item in self._plan.shard(index).items], bool)
            made = np.empty((len(is_lost), 2), np.int64)
            made[~is_lost], made[is_lost] = rows, lost
            rows = made
        self._sha.update(_bytes(rows))

    @property
    def digest(self) -> str | None:
        """SHA-256, in hexadecimal; None where a photo that has a descriptor has no stamp."""
        return self._sha.hexdigest() if self._known else None


def digest_of_stamps(plan: Plan) -> str:
    """SHA-256 of sizes and times of a plan's photos as they are now, as little-endian 64-bit numbers, in order.

    The plan knows its id afterwards.
    """
    sha = hashlib.sha256()
    plan.look_through(lambda items: sha.update(_bytes(stamps_of([item.path for item in items]))))
    return sha.hexdigest()


def _bytes(stamps: Ints) -> bytes:
    return np.ascontiguousarray(stamps, "<i8").tobytes()
