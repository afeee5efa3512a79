"""HDF5 files that nobody can vouch for are first read in another process, since HDF5 may crash or run for ever on them.

One process (`isc_fast.descriptors.stranger_child`) reads all such files of a program, one after the other; a file that ends it
is damaged, and the next file gets a new process. The first file costs the start of a Python with h5py, every other one about a
millisecond. A file that was looked at once is not looked at again until it changes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import threading

from ..errors import FormatError
from ..files.sums import damage
from ..machine.child import child_command, signal_name
from .stranger_child import ELSEWHERE

_CHILD = "isc_fast.descriptors.stranger_child"
_TIMED_OUT = (signal.SIGALRM, signal.SIGVTALRM)


class _Reader:
    """The other process."""

    def __init__(self) -> None:
        command, environment = child_command(_CHILD)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
            env=environment,
        )
        self.owner = os.getpid()

    def read(self, path: str) -> str | None:
        """Let the process read a file; returns what is wrong with it, or None.

        Raises:
            BrokenPipeError: the file has ended the process, or something else did.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(path) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            raise BrokenPipeError
        found: str | None = json.loads(answer)
        return found

    def end(self) -> int:
        """End the process; returns its exit status."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            return self._process.wait(1)  # it ends by itself when its input does
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class _Readers:
    """The one process that reads at a time, and what it found."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: _Reader | None = None
        self._found: dict[tuple[int, ...], str | None] = {}
        atexit.register(self._end)

    def look_at(self, path: str, file: tuple[int, ...]) -> str | None:
        with self._lock:
            if file not in self._found:
                self._found[file] = self._read(path)
            return self._found[file]

    def _read(self, path: str) -> str | None:
        if self._reader is None or self._reader.owner != os.getpid():  # a process that was forked has none of its own
            self._reader = _Reader()
        try:
            return self._reader.read(path)
        except OSError:
            status = self._end()
            if -status in _TIMED_OUT:
                return "HDF5 does not come to an end with it"
            return f"it ends the process that reads it ({signal_name(status) if status < 0 else f'status {status}'})"
        except BaseException:  # an interrupt: the answer would be taken for that of the next file
            self._end()
            raise

    def _end(self) -> int:
        reader, self._reader = self._reader, None
        return reader.end() if reader is not None and reader.owner == os.getpid() else 0


_READERS = _Readers()


def look_at(path: str | os.PathLike[str], descriptor: int) -> None:
    """Return if HDF5 can read a file without harm. What it reads may still be wrong.

    Args:
        path: of the file.
        descriptor: of the same file, open.

    Raises:
        DamageError: HDF5 crashes or hangs on it.
        FormatError: HDF5 would read other files.
    """
    status = os.fstat(descriptor)
    file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    reason = _READERS.look_at(os.path.abspath(os.fspath(path)), file)
    if reason == ELSEWHERE:
        raise FormatError(f"{os.fspath(path)} {reason}")
    if reason is not None:
        raise damage(os.fspath(path), reason)
