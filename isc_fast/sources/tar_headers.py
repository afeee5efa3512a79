"""The headers of a tar archive, one after the other: ustar, GNU's and POSIX's (pax) ways to say long names and large sizes.

Python's own `tarfile` takes three times as long and keeps each member in memory. This reads a header of 512 bytes at a time, and
nothing of what is between them. Links are not followed, and names are only names: nothing is ever unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_SPECIAL = 1 << 20  # bytes of a long name or of the records of one member
_REGULAR, _FOLDER = b"0\x007", b"5"
_NO_PHOTO = {
    ord("1"): "a link to another member, and links are not followed",
    ord("2"): "a symbolic link, and links are not followed",
    ord("3"): "a device, not a photo",
    ord("4"): "a device, not a photo",
    ord("6"): "a pipe, not a photo",
}
_SPARSE = "stored with holes (a sparse file): pack it without them"

Read = Callable[[int, int], bytes]
"""Reads so many bytes at an offset."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file, link, device or pipe in a tar archive.

    Attributes:
        name: its path, without ``./`` before it.
        offset, size: where its bytes are.
        problem: why it cannot be read as a photo, or None.
    """

    name: str
    offset: int
    size: int
    problem: str | None = None


class EndOfTar(Exception):
    """The archive cannot be read any further; the text says why, and ``at`` is the byte."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.at = at


def members(read: Read, length: int) -> Iterator[Member]:
    """Yield the members of an archive, but for folders.

    Zero blocks end an archive. What follows them is read too, where it is another archive: `cat` makes such files.

    Args:
        read: reads the archive.
        length: of the archive in bytes.

    Raises:
        EndOfTar: the archive is cut short or damaged there.
    """
    at, zeros = 0, 0
    special = _Special()
    while True:
        header = read(BLOCK, at)
        if len(header) < BLOCK:
            if zeros and special.is_empty and not header.strip(b"\0"):
                return
            raise EndOfTar(f"the archive is cut short at byte {length}: it lacks its end", at)
        if header == _ZEROS:
            at, zeros = at + BLOCK, zeros + 1
            continue
        kind, size = _checked(header, at, behind_end=bool(zeros))
        zeros, data = 0, at + BLOCK
        if kind in b"xXgLK":
            special.take(kind, read, data, size, at)
            at = data + _whole(size)
            continue
        named = _stored_name(header)
        while (
            kind == ord("S") and header[482 if data == at + BLOCK else 504]
        ):  # more maps of the holes come before the data
            header = read(BLOCK, data)
            if len(header) < BLOCK:
                raise EndOfTar(f"the archive is cut short at byte {length}", at)
            data += BLOCK
        name, size, is_sparse = special.applied(named, size, at)
        special = _Special(special.shared)
        has_data = kind not in b"123456"
        end = data + _whole(size) * has_data
        if kind != ord("5") and not name.endswith(b"/"):
            if has_data and data + size > length:
                raise EndOfTar(f"the archive is cut short at byte {length}, inside of a member", at)
            problem = _SPARSE if is_sparse or kind == ord("S") else _NO_PHOTO.get(kind)
            if problem is None and kind not in _REGULAR:
                problem = "no regular file"
            yield Member(_clean(name), data, size, problem)
        at = end


def _whole(size: int) -> int:
    """A size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def _clean(name: bytes) -> str:
    while name.startswith(b"./"):
        name = name[2:].lstrip(b"/")
    return os.fsdecode(name)


def _checked(header: bytes, at: int, *, behind_end: bool) -> tuple[int, int]:
    """The type and the size that a header says, if its sum is right.

    Raises:
        EndOfTar: it is no header.
    """
    try:
        told = _number(header[148:156])
        size = _number(header[124:136])
    except ValueError:
        told, size = -1, -1
    own, rest = header[:148], header[156:]
    if told != 256 + sum(own) + sum(rest):
        signed = sum(byte - 256 * (byte > 127) for byte in own + rest)  # as some old programs count
        if told != 256 + signed:
            where = "behind its end, at" if behind_end else "at"
            raise EndOfTar(f"the archive is damaged {where} byte {at}: there is no header of tar", at)
    if size < 0:
        raise EndOfTar(f"the archive is damaged at byte {at}: a size is no number", at)
    return header[156], size


def _number(field: bytes) -> int:
    """A number in octal digits, or in binary behind a byte 0x80.

    Raises:
        ValueError: it is neither.
    """
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _stored_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


class _Special:
    """What stands before a member and says more of it: GNU's long name, and pax records, also those that hold from there on."""

    def __init__(self, shared: dict[bytes, bytes] | None = None) -> None:
        self.shared = shared or {}
        self.is_empty = True
        self._own: dict[bytes, bytes] = {}

    def take(self, kind: int, read: Read, data: int, size: int, at: int) -> None:
        """Read one of them.

        Raises:
            EndOfTar: it is cut or damaged.
        """
        content = read(size, data) if size <= _MAX_SPECIAL else b""
        if len(content) < size:
            raise EndOfTar(f"the archive is cut short or damaged at byte {at}, where a long name stands", at)
        self.is_empty = False
        if kind == ord("L"):
            self._own[b"path"] = content.partition(b"\0")[0]
        elif kind == ord("g"):
            self.shared = {**self.shared, **_records(content, at)}
            self.is_empty = not self._own
        elif kind != ord("K"):
            self._own.update(_records(content, at))

    def applied(self, name: bytes, size: int, at: int) -> tuple[bytes, int, bool]:
        """Name and size as they are meant, and whether the member is stored with holes.

        Raises:
            EndOfTar: a size is no number.
        """
        if self.is_empty and not self.shared:
            return name, size, False
        records = {**self.shared, **self._own}
        is_sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        text = records.get(b"size")
        if text is not None:
            if not text.isdigit() or len(text) > 18:
                raise EndOfTar(f"the archive is damaged at byte {at}: a size is no number", at)
            size = int(text)
        found = records.get(b"GNU.sparse.name") or records.get(b"path") or name
        return found.partition(b"\0")[0], size, is_sparse


def _records(content: bytes, at: int) -> dict[bytes, bytes]:
    """The pax records ``LENGTH KEY=VALUE\\n``.

    Raises:
        EndOfTar: they are damaged.
    """
    records, position = {}, 0
    while position < len(content) and content[position]:
        digits, space, _ = content[position : position + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = content[position + len(digits) + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if not (space and equals and record.endswith(b"\n")):
            raise EndOfTar(f"the archive is damaged at byte {at}: the records of a member are none", at)
        records[key] = value[:-1]
        position += length
    return records
