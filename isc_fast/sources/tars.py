"""Photos in tar archives, such as the shards of WebDataset: ``shard-000000.tar``."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..errors import InputError
from ..items import Photo
from .base import Entry, Kind
from .choice import Choice, Sieve
from .containers import Container, OpenFile, Place, member_bytes, reading
from .folders import is_image_name
from .paths import is_there
from .tar_headers import BLOCK, EndOfTar, Member, members

TAR_SUFFIXES = frozenset((".tar",))
PACKED = (
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".tzst",
    ".tar.lz4",
    ".tar.z",
    ".taz",
)
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x1f\x9d": "compress",
}
_UNPACK = "an archive that is compressed as a whole has no random access: unpack it, and give the .tar or the folder"


def _entries(file: str, choice: Choice) -> Iterator[Entry | None]:
    if file.lower().endswith(PACKED):
        raise InputError(f"{file} is a compressed tar archive; {_UNPACK}")
    tar, sieve = Container("tar", file), Sieve(choice)
    _refuse_others(file, tar)
    try:
        for member in members(tar.read, tar.length):
            yield _entry(tar, member, sieve)
    except EndOfTar as end:
        yield tar.end(str(end))


def _refuse_others(file: str, tar: Container) -> None:
    """Refuse what is no tar archive at all.

    Raises:
        InputError: it is something else, and what.
    """
    begin = tar.read(BLOCK, 0)
    for magic, name in _MAGIC.items():
        if begin.startswith(magic):
            raise InputError(f"{file} is compressed with {name}; {_UNPACK}")
    try:
        next(members(tar.read, tar.length), None)
    except EndOfTar as end:
        if end.at < BLOCK:
            raise InputError(f"cannot read {file}: {end}; expected a tar archive, such as WebDataset writes") from end


def _entry(tar: Container, member: Member, sieve: Sieve) -> Entry | None:
    """The entry of a member; what is no photo has the path ""."""
    name = member.name
    pattern = sieve.excluded_member(name)
    if pattern is not None or not sieve.included(name) or not is_image_name(name):
        return name, "", pattern or ""
    if member.problem is not None:
        return tar.problem(name, member.problem)
    return tar.entry(name, member.offset, member.size)


def _read(file: OpenFile, place: Place) -> Photo:
    offset, size = place.numbers
    return member_bytes(file, offset, size)


def _takes(path: str) -> bool:
    name = path.lower()
    return is_there(path) and (os.path.splitext(name)[1] in TAR_SUFFIXES or name.endswith(PACKED))


TAR = Kind("a tar archive (.tar)", _takes, _entries, scheme="tar", open=reading(_read), packs=TAR_SUFFIXES)
