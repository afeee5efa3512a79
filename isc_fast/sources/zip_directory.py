"""The directory at the end of a zip archive, read in blocks: Python's `zipfile` keeps 546 bytes of each member in memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_MEMBER = struct.Struct("<4s4B4H3L5H2L")
_BLOCK = 1 << 20
_LONGEST_COMMENT = (1 << 16) - 1
_UTF8 = 1 << 11
_FULL = 0xFFFFFFFF

Read = Callable[[int, int], bytes]
"""Reads so many bytes at an offset."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a zip archive, as the directory has it.

    Attributes:
        name: its path; a folder's ends with a slash.
        offset: where its own header is.
        packed, size: its size in the archive and unpacked, in bytes.
        method, flags, crc: as the format has them.
        mode: its type and permissions, as Unix has them, or 0.
    """

    name: str
    offset: int
    packed: int
    size: int
    method: int
    flags: int
    crc: int
    mode: int


def members(read: Read, length: int) -> Iterator[Member]:
    """Yield the members of an archive, in the order of its directory.

    Args:
        read: reads the archive.
        length: of the archive in bytes.

    Raises:
        ValueError: it is cut, damaged or no zip archive, and why.
    """
    begin, size, shift = _directory(read, length)
    held, used, at, end = b"", 0, begin, begin + size
    while at < end or used < len(held):
        need = _MEMBER.size if len(held) - used < _MEMBER.size else _length(held, used)
        if len(held) - used < need:
            piece = read(min(max(_BLOCK, need), end - at), at)
            if not piece:
                raise ValueError("its directory is cut short or damaged")
            held, used, at = held[used:] + piece, 0, at + len(piece)
            continue
        yield _member(held[used : used + need], shift)
        used += need


def _directory(read: Read, length: int) -> tuple[int, int, int]:
    """Where the directory begins, its size, and how many bytes stand before the archive."""
    tail_at = max(0, length - _END.size - _LONGEST_COMMENT)
    tail = read(length - tail_at, tail_at)
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and (at + _END.size > len(tail) or _END.unpack_from(tail, at)[-1] != len(tail) - at - _END.size):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        raise ValueError("it lacks the directory at its end, so it is cut short or something else")
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    if disk or first_disk not in (0, 0xFFFF):
        raise ValueError("it is one of several parts; put them together first, as with zip -s 0")
    if _FULL in (size, offset) or count == 0xFFFF:
        end, size, offset = _directory64(read, end) or (end, size, offset)
    shift = end - size - offset
    if shift < 0 or size > length:
        raise ValueError("its directory is said to be larger than the archive")
    return offset + shift, size, shift


def _directory64(read: Read, end: int) -> tuple[int, int, int] | None:
    """Where the end record of a large archive stands, and what it says; None where there is none."""
    locator = read(_LOCATOR.size, end - _LOCATOR.size) if end >= _LOCATOR.size else b""
    if len(locator) < _LOCATOR.size or not locator.startswith(b"PK\6\7"):
        return None
    for at in (end - _LOCATOR.size - _END64.size, _LOCATOR.unpack(locator)[2]):
        record = read(_END64.size, at) if 0 <= at < end else b""
        if len(record) == _END64.size and record.startswith(b"PK\6\6"):
            *_, size, offset = _END64.unpack(record)
            return at, int(size), int(offset)
    raise ValueError("the end record of a large archive is not where it is said to be")


def _length(held: bytes, at: int) -> int:
    """The length of the record of the directory that begins there, with its name and what follows."""
    name, extra, comment = struct.unpack_from("<3H", held, at + 28)
    return _MEMBER.size + int(name) + int(extra) + int(comment)


def _member(record: bytes, shift: int) -> Member:
    fields = _MEMBER.unpack_from(record)
    if fields[0] != b"PK\1\2":
        raise ValueError("its directory is damaged")
    flags, method, crc, packed, size = fields[5], fields[6], fields[9], fields[10], fields[11]
    name_bytes, extra_bytes, attributes, offset = fields[12], fields[13], fields[17], fields[18]
    name = record[_MEMBER.size : _MEMBER.size + name_bytes]
    extra = record[_MEMBER.size + name_bytes : _MEMBER.size + name_bytes + extra_bytes]
    if _FULL in (packed, size, offset):
        size, packed, offset = _large(extra, (size, packed, offset))
    system = fields[2]
    mode = attributes >> 16 if system == 3 else 0
    return Member(_name(name, flags), offset + shift, packed, size, method, flags, crc, mode)


def _large(extra: bytes, values: tuple[int, int, int]) -> tuple[int, ...]:
    """The values of which the directory's own field is full: they stand in a field of 64 bits each, in this order."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wanted = [i for i, value in enumerate(values) if value == _FULL]
            if length < 8 * len(wanted) or len(extra) < 4 + 8 * len(wanted):
                break
            found = dict(zip(wanted, struct.unpack_from(f"<{len(wanted)}Q", extra, 4), strict=True))
            return tuple(found.get(i, value) for i, value in enumerate(values))
        extra = extra[4 + length :]
    raise ValueError("its directory is damaged: a large size is missing")


def _name(data: bytes, flags: int) -> str:
    """The name as text. Old names are those of code page 437; what is UTF-8 without saying so, as Unix writes it, is that."""
    data = data.partition(b"\0")[0]
    if not flags & _UTF8:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            data = data.decode("cp437").encode("utf-8")
    while data.startswith(b"./"):
        data = data[2:].lstrip(b"/")
    return os.fsdecode(data)
