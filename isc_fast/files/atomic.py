"""Files that appear whole or not at all: written under a temporary name, synced, renamed.

A temporary file is locked while its writer lives. So whoever writes to a folder next can tell what a killed run left there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from ..stores.urls import is_url, unfold
from .locks import NoLocks, lock, same_file

_WORDS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EACCES: "no permission to write there; choose another output, or make its folder writable: chmod u+w FOLDER",
    errno.EPERM: "no permission to write there; choose another output",
    errno.EROFS: "that disk is read-only; choose another output",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder",
}


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Describe why a file could not be written, and what the user can do about it."""
    refuse_address(path)
    return OutputError(f"cannot write {os.fspath(path)}: {_in_words(error)}")


def _in_words(error: OSError) -> str:
    return _WORDS.get(error.errno or 0) or error.strerror or str(error).splitlines()[0]


def refuse_address(output: str | os.PathLike[str]) -> None:
    """Refuse an output in a bucket, which would become a folder called ``s3:``.

    Raises:
        OutputError: it is one.
    """
    address = unfold(os.fspath(output))  # a Path has lost one slash
    if is_url(address):
        raise OutputError(
            f"cannot write {address}: of all outputs, a bucket takes results in parts and searches in tasks (isc-fast extract or "
            f"search -o {address.rstrip('/')}/) and those of dedup, find and leaks; give a path on this machine"
        )


_NO_SYNC = frozenset(
    (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)
)
"""What the system gives where a file or a folder cannot be synced, which says nothing about what was written."""

_NO_LINKS = frozenset(
    (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV)
)
"""What the system gives where a file system has no hard links."""

_SUFFIX = ".isc-fast.tmp"
_TEMPORARY = re.compile(rf"\..*\.[0-9a-f]{{16}}{re.escape(_SUFFIX)}", re.DOTALL)
_swept: set[tuple[int, int]] = set()


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut, where the file system can.

    Raises:
        OSError: the disk failed.
    """
    sync_file(folder)


def sync_file(path: Path) -> None:
    """Put what was written to a file on the disk, where the file system can.

    Raises:
        OSError: the disk failed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def temporary_beside(final: Path) -> Path:
    """A path in the folder of a file that nobody else has, neither here nor on another host: 64 bits of it are random."""
    # 56 characters of the name take at most 224 bytes; the system allows 255 for the whole name.
    return final.with_name(f".{final.name[-56:]}.{secrets.token_hex(8)}{_SUFFIX}")


def _new_temporary(final: Path, folder: Path) -> tuple[Path, int]:
    """Make an empty file beside the final one, and lock it; returns its path and the descriptor that holds the lock.

    Nobody else can have its name: neither another host or container that writes there too, nor somebody who prepared a link.
    The lock says that its writer lives.
    """
    while True:
        path = temporary_beside(folder / final.name)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        try:
            with contextlib.suppress(NoLocks):
                lock(descriptor)
            if same_file(descriptor, path):
                return path, descriptor
        except BlockingIOError:  # somebody sweeps the folder, and met the file before it was locked
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _first_time(folder: Path) -> bool:
    status = os.stat(folder)
    before = (status.st_dev, status.st_ino) in _swept
    _swept.add((status.st_dev, status.st_ino))
    return not before


def _sweep(folder: Path) -> None:
    """Remove temporary files whose writer is gone, once for each folder in the life of a process.

    Where the file system has no locks, nobody knows whether a writer is gone, and the files stay.
    """
    with contextlib.suppress(OSError):
        if not _first_time(folder):
            return
        for name in os.listdir(folder):
            if _TEMPORARY.fullmatch(name):
                _remove_if_left(folder / name)


def keep_temporaries(folder: Path) -> None:
    """Let this process leave alone what it did not write to a folder.

    Several hosts may write there, and where a lock does not reach from one to the other, nobody knows whether a writer is gone.
    """
    with contextlib.suppress(OSError):
        _first_time(folder)


def remove_old_temporaries(folder: Path, *, older_than_s: float) -> None:
    """Remove temporary files that nobody has written to for so long, by the clock of the folder's own file system."""
    with contextlib.suppress(OSError):
        now = os.stat(folder)
        for name in os.listdir(folder):
            if _TEMPORARY.fullmatch(name):
                status = os.stat(folder / name, follow_symlinks=False)
                if now.st_mtime - status.st_mtime > older_than_s:
                    forget(folder / name)


def _remove_if_left(file: Path) -> None:
    with contextlib.suppress(OSError, NoLocks):  # in use, gone already, or somebody else's
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            lock(descriptor)
            if same_file(descriptor, file):
                file.unlink()
        finally:
            os.close(descriptor)


def _refuse_other_than_file(final: Path) -> None:
    if final.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if final.exists() and not final.is_file():
        raise OSError(errno.EINVAL, "it is a device or a pipe, and a file would take its place")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary path to write to. When the block ends without an error, the file gets its own name in one step.

    The first call for a folder removes what killed runs left there.

    Args:
        path: where the finished file stands; it replaces an older file.
        scratch: folder for the temporary file, on the same disk; by default the folder of the finished file.

    Raises:
        OutputError: the file cannot be written. The temporary file is removed, and an older file stays as it was.
    """
    final = Path(path)
    folder = scratch or final.parent
    with contextlib.ExitStack() as stack:
        try:
            _refuse_other_than_file(final)
            _sweep(folder)
            # The file is made before any work, so that the most common mistakes show early, with the system's own reason.
            temporary, descriptor = _new_temporary(final, folder)
            stack.callback(os.close, descriptor)
            stack.callback(forget, temporary)
            yield temporary
            sync_file(temporary)
            os.replace(temporary, final)
            sync_folder(final.parent)
        except OSError as error:
            raise output_error(path, error) from error


def publish(temporary: Path, final: Path) -> bool:
    """Give a finished file its own name, unless a file of that name is there already, which stays. Nothing is locked.

    Where a file system has no hard links, two that publish in the same instant may both succeed; then the last one stays.

    Args:
        temporary: what `temporary_beside` gave, written and synced. It is gone if it got its name, else it stays.
        final: its own name.

    Returns:
        whether the file got its name.

    Raises:
        OSError: the file cannot be given a name.
    """
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(final):
            return False
        os.replace(temporary, final)
    forget(temporary)
    sync_folder(final.parent)
    return True


def write_once(path: str | os.PathLike[str], text: str) -> bool:
    """Write a small text file atomically, unless a file of that name is there already.

    Returns:
        whether it was written.

    Raises:
        OutputError: the file cannot be written.
    """
    final = Path(path)
    temporary = temporary_beside(final)
    write_text(temporary, text)
    try:
        return publish(temporary, final)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        forget(temporary)


def forget(file: Path) -> None:
    """Remove a file, if it is there and that is possible."""
    with contextlib.suppress(OSError):
        file.unlink()


def try_to_write(path: str | os.PathLike[str]) -> None:
    """Make and remove a temporary file, so that a mistake in an output's name shows before minutes of work.

    Raises:
        OutputError: the file cannot be written.
    """
    final = Path(path)
    try:
        _refuse_other_than_file(final)
        temporary, descriptor = _new_temporary(final, final.parent)
        os.close(descriptor)
        temporary.unlink()
    except OSError as error:
        raise output_error(path, error) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file atomically. File names in the text that are not valid UTF-8 keep their bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and those of its parents that are missing.

    Raises:
        OutputError: the folder cannot be made.
    """
    if not os.fspath(path):
        raise OutputError("the output has an empty name; give the name of a folder: -o FOLDER")
    folder = Path(path)
    refuse_address(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"cannot use {folder} as a folder: there is a file of that name") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {_in_words(error)}") from error
    return folder
