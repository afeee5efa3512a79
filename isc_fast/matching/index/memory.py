"""How much memory the inverted lists of an index take, and which kind of them fits into a budget."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ...errors import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_ID_BYTES = 8  # faiss keeps the number of each row


def to_bytes(memory: int | str) -> int:
    """A budget such as ``"8GB"``, ``"500 MiB"`` or a number of bytes, in bytes.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", str(memory).strip().upper())
    if found is None or found[2] not in _UNITS:
        raise InputError(f"the memory {str(memory)!r:.40} is no amount; give one such as 8GB or 500MB")
    return int(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True)
class ListKind:
    """One way in which inverted lists keep rows.

    Attributes:
        code: faiss' name of it.
        bits: of one number.
        spread: so many times k candidates are scored by their stored rows, since the coarser ones order worse.
    """

    code: str
    bits: int
    spread: int

    def bytes(self, rows: int, dim: int) -> int:
        """Memory of the lists of so many rows."""
        return rows * (-(-self.bits * dim // 8) + _ID_BYTES) + list_count(rows) * dim * 4


LIST_KINDS = (ListKind("SQ8", 8, 4), ListKind("SQ6", 6, 6), ListKind("SQ4", 4, 8))
"""The finest first: the first one that fits into the budget is taken. Product quantizers take less, but training one took faiss
1.15.1 more than eight seconds for 3,000 rows of 64 numbers on two busy cores (`IVF110,PQ16`)."""


def list_count(rows: int) -> int:
    """So many lists share the rows out: with more, training takes longer than searching gains."""
    return max(1, round(2 * math.sqrt(rows)))


def choose_kind(rows: int, dim: int, memory_bytes: int | None) -> ListKind:
    """The finest kind of lists that fits.

    Raises:
        InputError: none does.
    """
    for kind in LIST_KINDS:
        if memory_bytes is None or kind.bytes(rows, dim) <= memory_bytes:
            return kind
    least, left = LIST_KINDS[-1].bytes(rows, dim), max(0, memory_bytes or 0)
    raise InputError(
        f"the lists of {rows} rows of {dim} numbers take at least {math.ceil(least / 1e6)} MB, and {left // 10**6} MB are left "
        "for them; build the index with a larger --memory"
    )
