"""Locks that end with the process that holds them, also where a file system has none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_UNKNOWN = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF))
"""What `flock` gives where the file system has no locks: some network file systems, and some in user space. Some have none for
what is only read, as a folder is (EBADF)."""


class NoLocks(Exception):
    """The file system has no locks."""


def lock(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file. The lock ends when the last process that has this descriptor ends or closes it.

    Raises:
        BlockingIOError: somebody else holds the lock, and ``wait`` is not given.
        NoLocks: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _UNKNOWN:
            raise NoLocks(error.strerror) from error
        raise


@contextlib.contextmanager
def locked(descriptor: int, path: Path, *, wait: bool = False) -> Iterator[int]:
    """Hold a lock for a file that may lie where there are no locks.

    There, a file in the system's temporary folder is locked instead, whose name is made from the path. So the runs of one
    machine still keep out of each other's way; those of other machines are not seen.

    Args:
        descriptor: of the open file.
        path: of the file.
        wait: wait for whoever holds it.

    Returns:
        the descriptor that holds the lock, for processes that shall hold it too.

    Raises:
        BlockingIOError: somebody else holds the lock, and ``wait`` is not given.
    """
    try:
        lock(descriptor, wait=wait)
    except NoLocks:
        with _instead(path, wait) as other:
            yield descriptor if other is None else other
        return
    yield descriptor


@contextlib.contextmanager
def _instead(path: Path, wait: bool) -> Iterator[int | None]:
    """Lock a file in the temporary folder; None where that has no locks either, or cannot be written."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    file = Path(tempfile.gettempdir()) / f"isc-fast-{os.getuid()}-{name}.lock"
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            yield None
            return
        try:
            try:
                lock(descriptor, wait=wait)
            except NoLocks:
                yield None
                return
            if not same_file(descriptor, file):
                continue  # whoever held it has just removed it
            try:
                yield descriptor
            finally:
                file.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
