"""Where the row of an id is: 64 bits of each id's hash in rising order, with the row's number beside them.

A million ids take 12 MB, which are searched in microseconds. Two ids may share a hash, so the id itself is read and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...descriptors.texts import ids_at

KIND = np.dtype([("key", "<u8"), ("row", "<u4")])
MOST_ROWS = 2**32 - 1


def hashes(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """64 bits of a hash of each id, ``(n,)``."""
    whole = b"".join(hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id_ in ids)
    return np.frombuffer(whole, "<u8")


def make_keys(ids: Sequence[str]) -> npt.NDArray[Any]:
    """The table of a segment's ids ``(n,)`` of `KIND`."""
    found = hashes(ids)
    order = np.argsort(found, kind="stable")
    made = np.empty(len(found), KIND)
    made["key"], made["row"] = found[order], order
    return made


class Keys:
    """The ids of one segment, for looking up.

    Args:
        table: from `make_keys`.
        ids: of the segment, of which only those are read whose hash fits.
    """

    def __init__(self, table: npt.NDArray[Any], ids: Sequence[str]) -> None:
        self._keys, self._rows = np.ascontiguousarray(table["key"]), np.ascontiguousarray(table["row"])
        self._ids = ids

    def rows_of(self, wanted: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of some ids ``(n,)``; −1 where there is none."""
        found = np.full(len(wanted), -1, np.int64)
        asked = hashes(wanted)
        first, last = (np.searchsorted(self._keys, asked, side) for side in ("left", "right"))
        counts = last - first
        which = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._rows[first[which] + within].astype(np.int64)
        for number, row, id_ in zip(which.tolist(), rows.tolist(), ids_at(self._ids, rows), strict=True):
            if id_ == wanted[number]:
                found[number] = row
        return found
