"""Temporary files, which hold what may be too large for the memory: their folder, and their errors in words."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from .locks import NoLocks, lock

_LOCK = "lock"
_YOUNG_S = 3600.0  # a folder that is younger may not be locked yet


class ScratchFolder:
    """A folder for temporary files, which goes with this object or with its process. Those that killed processes left go first.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        prefix = f"isc-fast-{os.getuid()}-"
        _sweep(Path(tempfile.gettempdir()), prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        self._held = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(NoLocks):
            lock(self._held)
        weakref.finalize(self, _removed, self.path, self._held, os.getpid())


def _removed(folder: Path, held: int, process: int) -> None:
    if os.getpid() == process:  # and not a child that was forked
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _sweep(folder: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed: nobody holds their locks."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            left = folder / name
            if not name.startswith(prefix) or time.time() - os.lstat(left).st_mtime < _YOUNG_S:
                continue
            with contextlib.suppress(OSError, NoLocks):
                held = os.open(left / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    lock(held)
                    shutil.rmtree(left, ignore_errors=True)
                finally:
                    os.close(held)


@contextlib.contextmanager
def needs_scratch(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors of temporary files into an OutputError that names the cause and the remedy.

    Args:
        what: what needs the temporary files, as the subject of the message.
        errors: further errors to turn, beside OSError, such as those of a library that writes the files.

    Raises:
        OutputError: there is no room for the files, or no permission to write them.
    """
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except caught as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputError(
            f"{what} needs temporary files, and they cannot be written ({reason}); free some space, or name another folder in "
            "the variable TMPDIR"
        ) from error
