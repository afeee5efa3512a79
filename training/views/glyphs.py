"""Reads which characters a font file has, from its ``cmap`` table. Pillow reads this table too, but does not show it.

Source: the OpenType specification, "cmap — Character to Glyph Index Mapping Table", formats 4 and 12.
"""

from __future__ import annotations

import struct

import numpy as np


def codes_of(font: bytes) -> list[int]:
    """Return the code points that a font maps to a glyph, in ascending order.

    Args:
        font: the content of a TTF, OTF or TTC file. Only the first font of a TTC file is read.

    Returns:
        the code points. The list is empty if the font has no Unicode table of a known format.

    Raises:
        struct.error, IndexError, ValueError: the file is damaged.
    """
    start = struct.unpack_from(">I", font, 12)[0] if font[:4] == b"ttcf" else 0
    (tables,) = struct.unpack_from(">H", font, start + 4)
    for i in range(tables):
        tag, _, offset, _ = struct.unpack_from(">4sIII", font, start + 12 + 16 * i)
        if tag == b"cmap":
            return _read(font, offset)
    return []


def _read(font: bytes, cmap: int) -> list[int]:
    (count,) = struct.unpack_from(">H", font, cmap + 2)
    best: tuple[int, int] | None = None
    for i in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", font, cmap + 4 + 8 * i)
        (kind,) = struct.unpack_from(">H", font, cmap + offset)
        # Platform 0 is Unicode. Platform 3 is Windows, whose encodings 1 and 10 are Unicode. Format 12 goes beyond 16 bits.
        if (platform == 0 or (platform == 3 and encoding in (1, 10))) and kind in (4, 12):
            best = max(best or (0, 0), (kind, cmap + offset))
    if best is None:
        return []
    return _format_12(font, best[1]) if best[0] == 12 else _format_4(font, best[1])


def _format_12(font: bytes, at: int) -> list[int]:
    (groups,) = struct.unpack_from(">I", font, at + 12)
    codes: set[int] = set()
    for i in range(groups):
        first, last, glyph = struct.unpack_from(">III", font, at + 16 + 12 * i)
        if last < first or last > 0x10FFFF:
            raise ValueError(f"the font has a range of characters from {first:#x} to {last:#x}")
        codes.update(code for code in range(first, last + 1) if glyph + code - first)
    return sorted(codes)


def _format_4(font: bytes, at: int) -> list[int]:
    (double,) = struct.unpack_from(">H", font, at + 6)
    segments = double // 2
    ends = np.frombuffer(font, ">u2", segments, at + 14).astype(int)
    starts = np.frombuffer(font, ">u2", segments, at + 16 + double).astype(int)
    deltas = np.frombuffer(font, ">u2", segments, at + 16 + 2 * double).astype(int)
    where = at + 16 + 3 * double
    jumps = np.frombuffer(font, ">u2", segments, where).astype(int)
    codes: list[int] = []
    for i, (first, last, delta, jump) in enumerate(zip(starts, ends, deltas, jumps, strict=True)):
        for code in range(first, min(last, 0xFFFE) + 1):
            glyph = code
            if jump:
                (glyph,) = struct.unpack_from(">H", font, where + 2 * i + jump + 2 * (code - first))
                if not glyph:
                    continue
            if (glyph + delta) & 0xFFFF:
                codes.append(code)
    return sorted(set(codes))
