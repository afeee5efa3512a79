"""Photos inside files that hold many: the names under which they are opened, and the files that are open.

The path of a photo is ``tar:///photos/shard-0.tar//000001.jpg#512,40960,a2800,17b…``: the container, the member's name for
people, and behind ``#`` numbers that say where its bytes are, then size and time of the container when it was listed. So
opening a photo is one look at an open file, in any thread and process, and a container that was changed since is noticed. A
photo that cannot be there has ``#!`` and the reason in place of the numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from ..items import Photo, Problem
from ..stores.store import store_of
from ..stores.trouble import NoObject
from ..stores.urls import fold, is_url, split, unfold, without_stamp
from .cache import Cache
from .catalog import Entry
from .paths import absolute_file
from .range_file import ChangedError, open_readable

MAX_MEMBER_BYTES = 1 << 28
"""Bytes of one photo in a container. It is in memory while it is decoded, in every thread of the decoder."""

_INSIDE = "//"  # not in the path of a container, which has no slash twice
OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a photo are.

    Attributes:
        container: the path of the file that holds it.
        name: what it is called in there.
        numbers: where it is, as its kind counts.
        stamp: size in bytes and time of change in nanoseconds of the container when it was listed.
    """

    container: str
    name: str
    numbers: tuple[int, ...]
    stamp: tuple[int, int]


class Container:
    """A container that is being listed. It is open as long as this object lives.

    Entries are named by what they are called inside. A given id goes on behind the container's: ``/key`` or ``#end``.

    Args:
        scheme: of its kind.
        file: its path.

    Attributes:
        file: its path, from any working directory.
        length: its size in bytes.

    Raises:
        InputError: it cannot be opened.
        StoreError: its bucket cannot be reached.
    """

    def __init__(self, scheme: str, file: str) -> None:
        self.file = _name_of(file)
        try:
            self._opened = open_readable(file)
            size, time = self._opened.stamp()
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
        self.length = self._opened.length
        self._head = f"{scheme}://{fold(self.file)}{_INSIDE}"
        self._tail = f",{size:x},{time:x}"

    def read(self, size: int, offset: int) -> bytes:
        """Read at a place; fewer bytes where the file ends before.

        Raises:
            InputError: the system cannot.
        """
        try:
            return self._opened.read(size, offset)
        except OSError as error:
            raise InputError(f"cannot read {self.file}: {error.strerror or error}") from error

    def entry(self, name: str, *numbers: int, given: str = "") -> Entry:
        """The entry of a photo whose bytes the numbers find."""
        return name, f"{self._head}{name}#{','.join([f'{number:x}' for number in numbers])}{self._tail}", given

    def problem(self, name: str, reason: str) -> Entry:
        """The entry of a photo that cannot be opened, and why: a row of the ledger."""
        return name, f"{self._head}{name}#!{_plain(reason)}", ""

    def end(self, reason: str) -> Entry:
        """The entry that stands for what lies behind the point from which on the container cannot be read."""
        return "#end", f"{self._head}#!{_plain(reason)}", "#end"


def unreadable(scheme: str, file: str, reason: str) -> str:
    """The path that stands for all photos of a container that cannot be read."""
    return f"{scheme}://{fold(_name_of(file))}{_INSIDE}#!{_plain(reason)}"


def whole(scheme: str, file: str, stamp: tuple[int, int]) -> str:
    """The path that stands for a whole container as it was when it was listed."""
    return f"{scheme}://{fold(_name_of(file))}{_INSIDE}#{stamp[0]:x},{stamp[1]:x}"


def stamp_now(file: str) -> tuple[int, int] | None:
    """Size, and time of change or tag, of a container as it is now; None where it is not there.

    Raises:
        StoreError: its bucket cannot be reached.
    """
    try:
        if is_url(file):
            return store_of(split(file)[0]).head(split(file)[1], first=True).stamp
        status = os.stat(file)
        return status.st_size, status.st_mtime_ns
    except (OSError, NoObject):
        return None


def _name_of(file: str) -> str:
    return file if is_url(file) else re.sub("/+", "/", absolute_file(file))


def _plain(reason: str) -> str:
    return reason.replace("#", " ")


def repeated(path: str) -> str:
    """The path of a photo whose name was in its container before, from the path that it would have."""
    return f"{path.rpartition('#')[0]}#!the container holds this name twice, and the first is described"


def container_of(path: str) -> str:
    """What the paths of all photos in one container begin with; empty for a path in the file system."""
    scheme, found, rest = path.partition("://")
    return f"{scheme}://{rest.partition(_INSIDE)[0]}" if found and _INSIDE in rest and not is_url(path) else ""


def file_of(path: str) -> str:
    """The path or address of the container that a photo is in; empty where it is in none."""
    return unfold(container_of(path).partition("://")[2])


def lasting(path: str) -> str:
    """What stays of a path when its container, or its object, is only touched or written anew: without the numbers behind it."""
    return path.rpartition("#")[0] if container_of(path) else without_stamp(path)


def path_in_words(path: str) -> str:
    """A path for people: of a photo in a container, the container's path, a slash, and its name in there; of an object, its
    address.
    """
    container = container_of(path)
    if not container:
        return without_stamp(path)
    return file_of(path) + "/" + lasting(path)[len(container) + len(_INSIDE) :]


def place_of(path: str) -> Place | Problem:
    """The place that a path names, or the problem that it says."""
    container, _, rest = path.partition("://")[2].partition(_INSIDE)
    name, _, where = rest.rpartition("#")
    if where.startswith("!"):
        return Problem("read", where[1:])
    try:
        *numbers, size, time = (int(number, 16) for number in where.split(","))
    except ValueError:
        return Problem("read", "this is not the path of a photo in a container")
    return Place(unfold(container), name, tuple(numbers), (size, time))


class OpenFile:
    """A container that is open to read photos; it is closed when nobody has this object.

    Args:
        file: its path.

    Raises:
        OSError: it cannot be opened.
        NoObject, StoreError: an object cannot.
    """

    def __init__(self, file: str) -> None:
        self._opened = open_readable(file)

    def changed(self, place: Place) -> Problem | None:
        """The problem where the container is not as it was when it was listed."""
        if self._opened.stamp() == place.stamp:
            return None
        return Problem("read", f"{place.container} has changed since it was listed: extract again")

    def read(self, size: int, offset: int) -> bytes:
        """Read at a place; fewer bytes where the file ends before."""
        return self._opened.read(size, offset)


_FILES: Cache[tuple[str, tuple[int, int]], OpenFile] = Cache(lambda key: OpenFile(key[0]), limit=OPEN_FILES)


def open_file(place: Place) -> OpenFile | Problem:
    """The container of a place, or the problem because of which it cannot be read or is another one by now."""
    try:
        file = _FILES.get((place.container, place.stamp))
    except OSError as error:
        return Problem("read", f"{place.container} cannot be opened: {error.strerror or error}")
    except NoObject as error:
        return Problem("read", f"{place.container} cannot be opened: {error.reason}")
    return file.changed(place) or file


def reading(read: Callable[[OpenFile, Place], Photo]) -> Callable[[str], Photo]:
    """Make what opens a photo by its path, of what reads it at its place in an open container."""

    def open_(path: str) -> Photo:
        place = place_of(path)
        if isinstance(place, Problem):
            return place
        file = open_file(place)
        try:
            return file if isinstance(file, Problem) else read(file, place)
        except (ChangedError, NoObject) as error:
            return Problem("read", str(error))

    return open_


def member_bytes(file: OpenFile, offset: int, size: int) -> Photo:
    """The bytes of a photo that lie in one piece, or the problem because of which they do not."""
    problem = too_large(size)
    if problem is not None:
        return problem
    content = file.read(size, offset)
    return content if len(content) == size else Problem("read", "the container ends inside of this photo")


def too_large(size: int) -> Problem | None:
    """The problem of a photo that is too large to be read from a container."""
    if size <= MAX_MEMBER_BYTES:
        return None
    return Problem("read", f"the photo has {size} bytes, limit {MAX_MEMBER_BYTES} in a container: unpack it")
