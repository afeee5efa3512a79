"""Photos in zip archives, also of more than 4 GB (zip64)."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator

from ..errors import InputError
from ..items import Photo, Problem
from .base import Entry, Kind
from .choice import Choice, Sieve
from .containers import Container, OpenFile, Place, member_bytes, reading, too_large
from .folders import is_image_name
from .paths import is_there
from .zip_directory import Member, members

ZIP_SUFFIXES = frozenset((".zip",))
_STORED, _DEFLATED = 0, 8
_LOCAL = struct.Struct("<4s22xHH")
_ENCRYPTED = 1 | 1 << 6 | 1 << 13


def _entries(file: str, choice: Choice) -> Iterator[Entry | None]:
    archive, sieve = Container("zip", file), Sieve(choice)
    try:
        for member in members(archive.read, archive.length):
            if not member.name.endswith("/"):
                yield _entry(archive, member, sieve)
    except ValueError as error:
        raise InputError(f"{file} is not a zip archive that can be read: {error}") from error


def _entry(archive: Container, member: Member, sieve: Sieve) -> Entry | None:
    """The entry of a member; what is no photo has the path ""."""
    name = member.name
    pattern = sieve.excluded_member(name)
    if pattern is not None or not sieve.included(name) or not is_image_name(name):
        return name, "", pattern or ""
    if member.flags & _ENCRYPTED:
        return archive.problem(name, "encrypted: unpack the archive with its password")
    if stat.S_ISLNK(member.mode):
        return archive.problem(name, "a symbolic link, and links are not followed")
    if member.method not in (_STORED, _DEFLATED):
        return archive.problem(name, f"compressed by method {member.method}, which is not read: unpack the archive")
    numbers = (member.offset, member.packed, member.size, member.method, member.crc)
    return archive.entry(name, *numbers)


def _read(file: OpenFile, place: Place) -> Photo:
    offset, packed, size, method, crc = place.numbers
    content = _content(file, offset, packed, size, method)
    if isinstance(content, bytes) and zlib.crc32(content) != crc:
        return Problem("read", "the photo differs from its checksum in the archive")
    return content


def _content(file: OpenFile, offset: int, packed: int, size: int, method: int) -> Photo:
    problem = too_large(max(size, packed))
    if problem is not None:
        return problem
    header = file.read(_LOCAL.size, offset)
    magic, name, extra = _LOCAL.unpack(header) if len(header) == _LOCAL.size else (b"", 0, 0)
    if magic != b"PK\3\4":
        return Problem("read", "the archive is damaged: the photo is not where its directory says")
    content = member_bytes(file, offset + _LOCAL.size + name + extra, packed)
    if method == _STORED or not isinstance(content, bytes):
        return content
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return unpacking.decompress(content, size + 1)  # whatever else it would unpack to: a bomb costs its row
    except zlib.error as error:
        return Problem("read", f"the archive is damaged: {error}")


ZIP = Kind(
    "a zip archive (.zip)",
    lambda path: is_there(path) and os.path.splitext(path)[1].lower() in ZIP_SUFFIXES,
    _entries,
    scheme="zip",
    open=reading(_read),
    packs=ZIP_SUFFIXES,
)
