"""The file that HDF5 writes to: errors wait until somebody asks for them, and checksums are computed on the way."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

from ..files.sums import SumsWriter, read_exactly, trailer_bytes

_END_OF_FILE = 40
"""Where the first version of HDF5's superblock, which h5py writes, says where the file ends: 8 bytes, little-endian."""


class PatientFile(io.RawIOBase):
    """A file that keeps its first write error instead of raising it.

    HDF5 keeps data back until it closes a file, and a write that fails then crashes the whole process (seen with HDF5
    2.0 on a full disk). So this file reports success to HDF5, and the code that uses the file looks at `error`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
        self._sums = SumsWriter()
        self.error: OSError | None = None

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.fstat(self._descriptor).st_size if start is None else start)
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._write(self._position, view)
        self._position += len(view)
        return len(view)

    def _write(self, start: int, view: memoryview) -> None:
        done = 0
        try:
            while done < len(view) and self.error is None:
                done += os.pwrite(self._descriptor, view[done:], start + done)
        except OSError as error:
            self.error = error
        self._sums.wrote(start, view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = os.preadv(self._descriptor, [view], self._position)
        if self.error is not None:
            view[done:] = bytes(len(view) - done)  # what could not be written reads as zeros
            done = len(view)
        self._position += done
        return done

    def truncate(self, size: int | None = None) -> int:
        length = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, length)
        except OSError as error:
            self.error = self.error or error
        self._sums.cut(length)
        return length

    def append_sums(self) -> None:
        """Put checksums behind a finished HDF5 file.

        HDF5's superblock gets the length with the checksums, which are unused space to HDF5. So every reader of HDF5 notices a
        file that was cut there, and one that changes the file leaves them where they are.
        """
        length = os.fstat(self._descriptor).st_size
        head = self._read(0, _END_OF_FILE + 8)
        if head[8] == 0 and int.from_bytes(head[_END_OF_FILE:], "little") == length:
            self._write(_END_OF_FILE, memoryview(struct.pack("<Q", length + trailer_bytes(length))))
        self._write(length, memoryview(self._sums.finish(self._read, length).trailer()))

    def _read(self, start: int, length: int) -> bytearray:
        content = bytearray(length)
        read_exactly(self._descriptor, start, memoryview(content))
        return content

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
