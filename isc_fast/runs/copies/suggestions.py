"""The file of photos that may belong on a stop list, which ``--stop-list`` takes once somebody has looked at it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...files.rows import write_rows
from ...matching.groups.hubs import Hub

NAME = "stop_list_suggestions"


def write_suggestions(folder: Path, form: str, hubs: Sequence[Hub]) -> Path | None:
    """Write the photos that `isc_fast.matching.groups.hubs` found, with their numbers; None where there are none.

    Args:
        folder: exists.
        form: of the table, see `isc_fast.files.rows.FORMATS`.
        hubs: as they were found. A photo that is one on both sides has one row.

    Raises:
        OutputError: the file cannot be written.
        FormatError: an id cannot stand in a table of this format.
    """
    if not hubs:
        return None
    by_id = {hub.id: hub for hub in reversed(hubs)}
    rows = ((hub.id, hub.matches, hub.share) for hub in hubs if by_id[hub.id] is hub)
    return write_rows(folder, NAME, form, {"id": str, "matches": int, "share": float}, rows)
