"""Where engines are made, and how all files of one appear at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files.atomic import replacing, write_text
from ..files.scratch import needs_scratch

_PREFIX = "isc-fast-export-"
_OLD_S = 60  # a younger folder may belong to an export that has not locked it yet


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files, which is gone when the block ends.

    A killed process leaves its folder behind. So every folder is locked while it is used, and each call first removes the
    folders of which nobody holds the lock any more.

    Raises:
        OutputError: there is no room for temporary files.
    """
    _remove_left_behind()
    with needs_scratch("the export"), tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(lock)


def _remove_left_behind() -> None:
    """Remove the scratch folders of killed exports."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is somebody else's, or in use, or gone already
            if time.time() - folder.stat().st_mtime < _OLD_S:
                continue
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


@contextlib.contextmanager
def replacing_together(files: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Give a temporary path for each file; when the block ends well, all of them stand, else all are as before.

    The first file is renamed last. Between two renames a power cut can leave new files beside an old first one: the sidecar
    of a TensorRT plan beside an older plan, for example, which loading notices by the plan's sum.

    Args:
        files: the first may be large; the others are small texts.

    Raises:
        OutputError: one of them cannot be written.
    """
    first, *beside = files
    before = {file: _text(file) for file in beside}
    try:
        with replacing(first) as temporary, contextlib.ExitStack() as others:
            yield (temporary, *(others.enter_context(replacing(file)) for file in beside))
    except BaseException:
        for file, text in before.items():
            with contextlib.suppress(Exception):
                _restore(file, text)
        raise


def _text(file: Path) -> str | None:
    return file.read_text("utf-8", "surrogateescape") if file.is_file() else None


def _restore(file: Path, text: str | None) -> None:
    if _text(file) == text:
        return
    if text is None:
        file.unlink()
    else:
        write_text(file, text)


class _Tried(Exception):
    """Ends a trial of the output before anything is renamed."""


def try_to_write(files: Sequence[Path]) -> None:
    """Make and remove a temporary file for each output, so that a mistake shows before minutes of work.

    Raises:
        OutputError: one of them cannot be written.
    """
    with contextlib.suppress(_Tried), replacing_together(files):
        raise _Tried


def publish(made: Sequence[Path], files: Sequence[Path]) -> None:
    """Copy the files of an engine that passed its gate to the names under which a user finds them.

    Args:
        made: in a folder for temporary files, which may be another disk.
        files: their final paths, in the same order.

    Raises:
        OutputError: one of them cannot be written; then all are as before.
    """
    with replacing_together(files) as temporaries:
        for source, temporary in zip(made, temporaries, strict=True):
            shutil.copyfile(source, temporary)
