"""Making one file of the parts of a finished extraction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from ..descriptors.writing import write_blocks
from ..errors import DamageError
from ..files.ledger import keep
from ..items import Failure
from .gathered import Gathered
from .parts import PartsFolder
from .plan import Plan, StoredItems

Assembled: TypeAlias = tuple[int, Sequence[Failure], Sequence[Failure]]
"""The number of descriptors, and all failures and all notes in the order of the plan."""


@contextlib.contextmanager
def _parts_read() -> Iterator[None]:
    """Say what to do about a part that is damaged when the output is made of it."""
    try:
        yield
    except DamageError as error:
        raise DamageError(
            f"a part of this extraction is damaged ({error.place}); run the same command again, which computes that part anew",
            error.place,
        ) from error


def assemble_parts(parts: PartsFolder, plan: Plan, width: int, meta: dict[str, Any]) -> Assembled:
    """Make the output, whose rows have so many numbers, from the parts of a plan.

    Returns:
        see `Assembled`; it stays after the parts are removed.

    Raises:
        OutputError: the output cannot be written, or there is no room for temporary files. The parts stay.
        DamageError: a part is damaged, and there is no output.
    """
    with _parts_read():
        return _assembled(parts, plan, width, meta)


def _assembled(parts: PartsFolder, plan: Plan, width: int, meta: dict[str, Any]) -> Assembled:
    with contextlib.closing(Gathered(parts, plan, width)) as found:
        found.ids.unique = StoredItems(parts.plan_file).first_repeat() is None
        if len(found.ids):
            write_blocks(
                parts.output,
                found.vectors(),
                ids=found.ids,
                dim=width,
                meta=meta,
                failures=found.failures,
                notes=found.notes,
                stamps=found.stamps() if found.has_stamps else None,
                failure_stamps=found.failure_stamps if found.has_stamps else None,
                digests=found.digests() if found.has_digests else None,
                failure_digests=found.failure_digests if found.has_digests else None,
                scratch=parts.folder,
            )
        return len(found.ids), keep(found.failures), keep(found.notes)
