"""Locks, also where the file system has none. No such file system is here, so `flock` refuses what lies in one folder."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from isc_fast.files.locks import locked

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]
OTHER = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/files")
from test_locks import without_locks
from isc_fast.files.locks import locked
without_locks(sys.argv[1], int(sys.argv[2]))
path = Path(sys.argv[1]) / "lock"
try:
    with open(path) as stream, locked(stream.fileno(), path): print("free")
except BlockingIOError: print("held")
"""


def without_locks(folder: str | os.PathLike[str], number: int) -> None:
    """Let files in a folder have no locks in this process."""
    honest = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(os.fspath(folder)):
            raise OSError(number, os.strerror(number))
        honest(descriptor, operation)

    fcntl.flock = refuse


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lock_keeps_others_out_even_where_there_are_none(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)  # is put back after the test
    folder, temporary = tmp_path / "without", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    without_locks(folder, number)
    path = folder / "lock"
    path.touch()
    other = [sys.executable, "-c", OTHER, str(folder), str(number)]

    def answer() -> str:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        return subprocess.run(
            other, capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        ).stdout.strip()

    with open(path) as stream, locked(stream.fileno(), path):
        assert answer() == "held"
    assert answer() == "free"
    assert os.listdir(temporary) == []


def test_where_nothing_has_locks_the_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    without_locks(tmp_path, errno.ENOLCK)
    with open(tmp_path / "lock", "w") as stream, locked(stream.fileno(), tmp_path / "lock") as holder:
        assert holder == stream.fileno()


def test_another_error_than_a_missing_lock_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)
    without_locks(tmp_path, errno.EIO)
    with (
        open(tmp_path / "lock", "w") as stream,
        pytest.raises(OSError, match="Input/output"),
        locked(stream.fileno(), tmp_path / "lock"),
    ):
        pass
