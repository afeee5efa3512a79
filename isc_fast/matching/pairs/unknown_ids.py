"""Says how many ids of a stop list, and pairs of verdicts, are not among the photos: a list of others is not taken in silence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from .left_out import LeftOut, rows_of

LOGGER = "isc_fast.left_out"
_log = logging.getLogger(LOGGER)


def warn_of_unknown(
    left_out: LeftOut, photos: Sequence[str] | Mapping[str, Sequence[str]], others: Sequence[str] | None = None
) -> None:
    """Log a warning for a file of which some ids are not among the photos; it leaves out less than its reader may think.

    Args:
        left_out: what was read.
        photos: ids of the queries, or of the collection; of several collections, by their names.
        others: ids of the other side; None where a collection is compared with itself.
    """
    if not left_out:
        return
    sets = photos if isinstance(photos, Mapping) else {"": photos}
    said = () if left_out.verdicts is None else tuple(left_out.verdicts.words)
    asked = {*left_out.stop, *(id_ for _, *pair in said for id_ in pair)}
    here = {name: rows_of(ids, asked).keys() for name, ids in sets.items()}
    there = next(iter(here.values())) if others is None else rows_of(others, asked).keys()
    ids = left_out.stop.difference(there, *here.values())
    _warn(len(ids), len(left_out.stop), "ids", left_out.stop_list)

    def known(collection: str, one: str, other: str) -> bool:
        names = [name for name in here if collection in ("", name)]
        return any(one in here[name] and other in there for name in names)

    _warn(sum(not known(*pair) for pair in said), len(said), "pairs", left_out.file)


def _warn(unknown: int, count: int, what: str, file: str) -> None:
    if unknown:
        where = "the photos" if what == "ids" else "those of the photos that are compared"
        _log.warning("%d of the %d %s of %s are not among %s, and leave nothing out", unknown, count, what, file, where)
