"""The first directory of a TIFF file: its whole numbers, by tag. Classic and BigTIFF, both byte orders."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers: byte, short, long, and offsets
_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}  # by type
_MOST_ENTRIES = 4096
_SPARE_BYTES = 1 << 24
_MOST_VALUES = 1 << 18
"""Values of a tag, such as the places of strips: each costs Python some microseconds. A page in tiles of 128 × 128 has 11,000."""

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 274, 277, 278, 279, 284, 317
COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES, SUBDIRECTORIES = 320, 322, 323, 324, 325, 330
INKS, EXTRA, FORMAT, SUBSAMPLING, DNG = 332, 338, 339, 530, 50706
_READ = frozenset(
    (
        *(SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, ORIENTATION, SAMPLES, ROWS),
        *(STRIP_BYTES, PLANAR, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES, SUBDIRECTORIES),
        *(INKS, EXTRA, FORMAT, SUBSAMPLING, DNG),
    )
)


@dataclass(frozen=True)
class Directory:
    """The tags of a page whose values are whole numbers, and which bytes of a number come first.

    Attributes:
        order: ``"<"`` or ``">"``, as in `struct` and NumPy.
        tags: by tag, its values.
        size: bytes of the file.
        big: whether it is a BigTIFF.
    """

    order: str
    tags: dict[int, tuple[int, ...]]
    size: int
    big: bool

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return self.tags.get(tag, (default,))[0]


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins with these four bytes is a TIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_directory(stream: IO[bytes]) -> Directory:
    """Read the first directory of a TIFF.

    Raises:
        ValueError: it is damaged, or its tags together are larger than the file: whoever reads them all would be busy for long.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        stream.seek(start)
        (count,) = struct.unpack(order + ("Q" if big else "H"), stream.read(8 if big else 2))
        length, room = (20, 8) if big else (12, 4)
        if not 0 < count <= _MOST_ENTRIES:
            raise ValueError(f"a TIFF with {count} entries in its directory")
        entries = stream.read(count * length)
        tags: dict[int, tuple[int, ...]] = {}
        outside = 0
        for at in range(0, len(entries) - length + 1, length):
            tag, kind, many = struct.unpack_from(order + ("HHQ" if big else "HHI"), entries, at)
            outside += min(size, many * _BYTES.get(kind, 0))
            if outside > 2 * size + _SPARE_BYTES:
                raise ValueError("a TIFF whose tags lie over each other")
            if kind not in _WHOLE or tag not in _READ or tag in tags or many * _BYTES[kind] > size:
                continue  # of no use, or damaged, such as one of metadata
            if many > _MOST_VALUES:
                raise ValueError(f"a TIFF of {many} strips or tiles, limit {_MOST_VALUES}")
            code = f"{order}{many}{_WHOLE[kind]}"
            needed = many * struct.calcsize("=" + _WHOLE[kind])
            if not needed:
                continue
            if needed <= room:
                values = entries[at + length - room : at + length - room + needed]
            else:
                (place,) = struct.unpack_from(order + ("Q" if big else "I"), entries, at + length - room)
                stream.seek(place)
                values = stream.read(needed)
            if len(values) == needed:
                tags[tag] = struct.unpack(code, values)
    except (struct.error, OverflowError, OSError) as error:
        raise ValueError("a TIFF whose directory is damaged") from error
    return Directory(order, tags, size, big)
