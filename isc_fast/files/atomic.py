"""Files that appear whole or not at all: written under a temporary name, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError

_WORDS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EACCES: "no permission to write there; choose another output",
    errno.EPERM: "no permission to write there; choose another output",
    errno.EROFS: "that disk is read-only; choose another output",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder",
}


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Describe why a file could not be written, and what the user can do about it."""
    words = _WORDS.get(error.errno or 0) or error.strerror or str(error).splitlines()[0]
    return OutputError(f"cannot write {os.fspath(path)}: {words}")


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary path to write to. When the block ends without an error, the file gets its own name in one step.

    Args:
        path: where the finished file stands; it replaces an older file.
        scratch: folder for the temporary file, on the same disk; by default the folder of the finished file.

    Raises:
        OutputError: the file cannot be written. The temporary file is removed, and an older file stays as it was.
    """
    final = Path(path)
    folder = scratch or final.parent
    # 60 characters of the name take at most 240 bytes; the system allows 255 for the whole name.
    temporary = folder / f".{final.name[-60:]}.{os.getpid()}.tmp"
    try:
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if final.exists() and not final.is_file():
            raise OSError(errno.EINVAL, "it is a device or a pipe, and a file would take its place")
        # The file is created before any work, so that the most common mistakes show early, with the system's own reason.
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666))
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, final)
        sync_folder(final.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"cannot use {folder} as a folder: there is a file of that name") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return folder
