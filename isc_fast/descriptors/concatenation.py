"""Several sets of descriptors as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..decoders.base import EXACT
from ..errors import FormatError, InputError
from ..files.lazy import Chosen
from ..files.repeats import repeated_rows
from ..items import Ints
from .assembling import Piece, assemble
from .comparing import compare_to_merge
from .provenance import EngineFacts, Provenance
from .store import Descriptors
from .texts import ids_at

Prefer = Literal["first", "last"]
"""Which of two equal ids stays: that of the first set, or that of the last one."""


def concatenate(
    sets: Sequence[Descriptors],
    *,
    prefer: Prefer | None = None,
    names: Sequence[str] = (),
    scratch: Path | None = None,
) -> Descriptors:
    """Several sets as one. Rows, ids and ledgers are read when somebody goes through the result, while the sets are open.

    Of rows with equal ids, one stays. A failure whose id has a row in the result is left out, and of equal failures the first
    stays. Beside the result, memory holds eight bytes a row where rows are left out, and the ids that occur twice.

    Args:
        sets: in the order in which their rows will be.
        prefer: which of two equal ids stays; by default, they are refused.
        names: of the sets, for messages.
        scratch: folder for a temporary file of eight bytes an id; by default the system's.

    Raises:
        FormatError: dimensions differ, or an id occurs twice.
        MismatchError: they come from different networks or normalisations.
        InputError: there is no set at all, or no such preference.
    """
    if prefer not in (None, "first", "last"):
        raise InputError(f"of two equal ids, the first or the last can stay, not {prefer!r}")
    if not sets:
        raise InputError("there is nothing to put together")
    if len(sets) == 1:
        return sets[0]
    if len({part.dim for part in sets}) > 1:  # views are compared below
        raise FormatError(f"sets of different dimensions ({', '.join(str(part.dim) for part in sets)}) cannot be one")
    compare_to_merge(sets, names).require()
    pieces = _without_repeats(sets, prefer, ", ".join(names) or "the sets together", scratch)
    return assemble(pieces, merged_provenance([part.provenance for part in sets]).write(), unique=True)


def merged_provenance(records: Sequence[Provenance]) -> Provenance:
    """The record of a set that is made of several: that of the first, and which other engines and decoders made rows of it.

    Its rows are stored as float16 where those of all sets are.
    """
    first = records[0].belonging
    decoders = [record.decoder for record in records if record.decoder]
    inexact = [decoder for decoder in decoders if decoder not in EXACT]
    others: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        rows: list[Any] = [*(record.merged or [])]
        if record.engine_id and record.engine_id != first.engine_id:
            engine = record.engine or EngineFacts()
            rows.append({"engine_id": record.engine_id, "name": engine.name, "arithmetic": engine.arithmetic})
        for row in rows:
            if isinstance(row, dict) and row.get("engine_id") != first.engine_id:
                others[row.get("engine_id"), row.get("arithmetic")] = row
    made = replace(first, decoder=next(iter(inexact + decoders), None), merged=[*others.values()] or None)
    types = {record.row_type for record in records}
    return made.stored_as(types.pop() if len(types) == 1 else None)


@dataclass
class _Kept:
    """Where the ids are that occur several times, and which places go."""

    rows: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    going: list[int] = field(default_factory=list)


def _without_repeats(
    sets: Sequence[Descriptors], prefer: Prefer | None, where: str, scratch: Path | None
) -> list[Piece]:
    """Of each set what stays, so that every id is in the result once."""
    columns: list[Sequence[str]] = [part.ids for part in sets]
    count = sum(map(len, columns))
    everything = chain(*columns, (row.id for part in sets for row in part.failures))
    places = repeated_rows(everything, scratch)
    kept = _Kept()
    for place, id_ in zip(places.tolist(), _ids(sets, places, count), strict=True):
        if place >= count:
            repeated = id_ in kept.rows or kept.failures.setdefault(id_, place) != place
            kept.going += [place] if repeated else []
        elif (earlier := kept.rows.setdefault(id_, place)) != place:
            if prefer is None:
                raise FormatError(
                    f"the id {id_!r} occurs twice in {where}; rename it, or choose which one stays: --prefer first or last "
                    "(in Python prefer)"
                )
            kept.going.append(place if prefer == "first" else earlier)
            kept.rows[id_] = earlier if prefer == "first" else place
    going = np.sort(np.array(kept.going, np.int64))
    rows = _split(going[going < count], map(len, columns))
    failures = _split(going[going >= count] - count, (len(part.failures) for part in sets))
    return [without_rows(part, *gone) for part, gone in zip(sets, zip(rows, failures, strict=True), strict=True)]


def _ids(sets: Sequence[Descriptors], places: Ints, count: int) -> Iterator[str]:
    """The ids at rising places of all rows, and behind them of all failures."""
    for part, rows in zip(sets, _split(places[places < count], map(len, sets)), strict=True):
        yield from ids_at(part.ids, rows)
    behind = _split(places[places >= count] - count, (len(part.failures) for part in sets))
    for part, rows in zip(sets, behind, strict=True):
        yield from (failure.id for failure in Chosen(part.failures, rows))


def _split(places: Ints, lengths: Iterable[int]) -> list[Ints]:
    """Places in columns that stand behind each other, as places in each of them."""
    made, start = [], 0
    for length in lengths:
        made.append(places[(places >= start) & (places < start + length)] - start)
        start += length
    return made


def without_rows(part: Descriptors, rows: Ints, failures: Ints) -> Piece:
    """What stays of a set without some rows and failures, by their rising numbers; the notes of these rows go too."""
    gone = set(ids_at(part.ids, rows))
    notes = [number for number, note in enumerate(part.notes) if note.id in gone] if gone else []
    return Piece(
        part, _others(len(part), rows), _others(len(part.failures), failures), _others(len(part.notes), np.array(notes))
    )


def _others(count: int, gone: Ints) -> Ints | None:
    """The numbers below a count that are not among those gone; None for all."""
    if not len(gone):
        return None
    stays = np.ones(count, bool)
    stays[gone] = False
    return np.flatnonzero(stays)
