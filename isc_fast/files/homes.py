"""Where a result in parts lives: a folder on this machine, or a prefix in a bucket. Whoever reads or writes one asks its home.

Files of a home have names with slashes, such as ``PLAN-ID/part-000001.h5``. Each appears whole, and who creates one second finds
that it is there. Nothing is locked.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import OutputError
from ..stores.urls import BUCKETS, is_url, read_name, unfold
from .atomic import (
    forget,
    keep_temporaries,
    make_folder,
    output_error,
    publish,
    remove_old_temporaries,
    temporary_beside,
    try_to_write,
)
from .reading import open_regular

Write = Callable[[Path], object]
"""Writes a file to a path that nobody else has, and puts it on the disk."""


class Home(ABC):
    """See the module's text.

    Attributes:
        address: names it in messages.
        absolute: names it for another process, which may work elsewhere.
        path: names it for this process: the path of a folder, or the address of a prefix.
        once: what is here is created once: never replaced, and not brought up to date. What is here is as it was written, so that
            a name in a listing says that the file is sound.
    """

    address: str
    absolute: str
    path: Path | str
    once: bool

    @abstractmethod
    def file(self, name: str, *, stays: bool = False) -> Path:
        """The path of a file on this machine with what is here under that name; there is no such file where nothing is.

        Args:
            name: of the file.
            stays: whether the path leads to the file as long as this home is in use, and not only until many others were asked
                for.
        """

    @abstractmethod
    def read(self, name: str, most: int) -> bytes:
        """The first bytes of a file, at most so many.

        Raises:
            OSError: there is none, or it cannot be read.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""

    @abstractmethod
    def sizes(self, folder: str) -> Mapping[str, int]:
        """Names, without the folder's, and sizes of all files in a folder of the home."""

    @abstractmethod
    def create(self, name: str, write: Write, is_right: Callable[[], bool] = lambda: True) -> None:
        """Create a file, unless one is there.

        Args:
            name: of the file.
            write: writes it.
            is_right: whether the one that is there may stay. Where files may be replaced, it is replaced otherwise.

        Raises:
            OutputError: it cannot be written, or one is there that may not stay and cannot be replaced.
        """

    @abstractmethod
    def prepare(self, ours: re.Pattern[str]) -> str | None:
        """Make the home ready for a result, if need be.

        Args:
            ours: what names of files and folders at its top look like.

        Returns:
            a name there that does not look so.

        Raises:
            OutputError: nothing can be written there.
        """

    @abstractmethod
    def within(self, name: str) -> Home:
        """A folder of the home as a home of its own."""

    def check(self) -> None:  # noqa: B027  a folder that is not there says so itself
        """See that there is such a bucket.

        Raises:
            StoreError: there is not, or it may not be listed.
        """

    def begin_folder(self, name: str) -> None:  # noqa: B027  buckets have no folders to make
        """Make a folder in the home, if folders have to be made."""

    def left(self) -> Iterator[tuple[str, float]]:
        """Names of what lies at the top, and for how many seconds nobody has written to it. Nothing where nothing is removed."""
        return iter(())

    def tidy(self, folder: str, older_than_s: float) -> None:  # noqa: B027  nothing half written is ever in a bucket
        """Remove what killed jobs left half written in a folder of the home, ``""`` for its top."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there and that is possible."""

    @abstractmethod
    def remove_folder(self, name: str) -> None:
        """Remove a folder of the home, as far as that is possible."""

    def remove_if_empty(self) -> None:  # noqa: B027  an empty prefix is nothing
        """Remove the home if nothing is in it."""


class FolderHome(Home):
    """A folder, which need not be there; see `Home`."""

    once = False

    def __init__(self, folder: Path) -> None:
        self.path: Path = folder
        self.address, self.absolute = os.fspath(folder), os.path.abspath(folder)

    def file(self, name: str, *, stays: bool = False) -> Path:
        """See `Home`."""
        return self.path / name

    def read(self, name: str, most: int) -> bytes:
        """See `Home`."""
        with open_regular(self.path / name) as stream:
            return stream.read(most)

    def size(self, name: str) -> int | None:
        """See `Home`."""
        try:
            return os.stat(self.path / name).st_size
        except OSError:
            return None

    def sizes(self, folder: str) -> Mapping[str, int]:
        """See `Home`."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self.path / folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found[entry.name] = entry.stat().st_size
        return found

    def create(self, name: str, write: Write, is_right: Callable[[], bool] = lambda: True) -> None:
        """See `Home`."""
        final = self.path / name
        temporary = temporary_beside(final)
        write(temporary)
        try:
            if not publish(temporary, final) and not is_right():
                os.replace(temporary, final)  # what is there is damaged, or somebody else's
        except OSError as error:
            raise output_error(final, error) from error
        finally:
            forget(temporary)

    def prepare(self, ours: re.Pattern[str]) -> str | None:
        """See `Home`."""
        make_folder(self.path)
        keep_temporaries(self.path)
        try:
            others = sorted(name for name in os.listdir(self.path) if not ours.fullmatch(name))
        except OSError as error:
            raise output_error(self.path, error) from error
        if others:
            return others[0]
        try_to_write(self.path / "any.json")
        return None

    def within(self, name: str) -> Home:
        """See `Home`."""
        return FolderHome(self.path / name)

    def begin_folder(self, name: str) -> None:
        """See `Home`."""
        make_folder(self.path / name)
        keep_temporaries(self.path / name)

    def left(self) -> Iterator[tuple[str, float]]:
        """See `Home`."""
        with contextlib.suppress(OSError):
            clock = os.stat(self.path).st_mtime  # of the file system, not of this host: a file was just written there
            for name in os.listdir(self.path):
                yield name, clock - os.stat(self.path / name).st_mtime

    def tidy(self, folder: str, older_than_s: float) -> None:
        """See `Home`."""
        remove_old_temporaries(self.path / folder, older_than_s=older_than_s)

    def remove(self, name: str) -> None:
        """See `Home`."""
        forget(self.path / name)

    def remove_folder(self, name: str) -> None:
        """See `Home`."""
        shutil.rmtree(self.path / name, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """See `Home`."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def home_of(place: str | os.PathLike[str] | Home) -> Home:
    """The home that a path or an address names. Nothing is looked at.

    Raises:
        OutputError: it is an address where nothing can be listed or written.
        InputError: it is an address that names no bucket, or has a password in it.
        MissingExtraError: it is an address, and obstore is not installed.
    """
    if isinstance(place, Home):
        return place
    name = unfold(os.fspath(place))  # a Path has lost one slash
    if not is_url(name):
        return FolderHome(Path(place))
    if name.partition("://")[0] not in BUCKETS:
        raise OutputError(
            f"{name} is on a web server, which keeps no results; expected a folder, or an address of a bucket"
        )
    from .bucket_home import BucketHome

    return BucketHome(read_name(name))


def is_bucket(place: str | os.PathLike[str] | Home) -> bool:
    """Whether a path or an address names a bucket or something in one."""
    if isinstance(place, Home):
        return place.once
    name = unfold(os.fspath(place))
    return is_url(name) and name.partition("://")[0] in BUCKETS
