"""HDF5 files, written so that a full disk is an error and nothing worse."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from ..errors import FormatError, OutputError
from ..files.atomic import replacing
from ..files.reading import open_regular


class _PatientFile(io.RawIOBase):
    """A file that keeps its first write error instead of raising it.

    HDF5 keeps data back until it closes a file, and a write that fails then crashes the whole process (seen with HDF5
    2.0 on a full disk). So this file reports success to HDF5, and the code that uses the file looks at `error`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
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
        done = 0
        try:
            while done < len(view) and self.error is None:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        except OSError as error:
            self.error = error
        self._position += len(view)
        return len(view)

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
        return length

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class Hdf5Writer:
    """An HDF5 file that is being written. `check` shows early that the disk is full.

    Attributes:
        file: the open file.
    """

    def __init__(self, file: h5py.File, stream: _PatientFile) -> None:
        self.file = file
        self._stream = stream

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self._stream.error is not None:
            raise self._stream.error


_OTHERS = frozenset(".csv .tsv .txt .json .jsonl .npy .npz .parquet .html .gz .zip .xz .zst .onnx .pt2 .plan".split())


def check_name(path: str | os.PathLike[str]) -> None:
    """Refuse the name of another kind of file for descriptors: who gives it expects that kind.

    Raises:
        OutputError: it is such a name.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _OTHERS:
        raise OutputError(
            f"cannot write {os.fspath(path)}: descriptors are written as HDF5, not as {suffix}; give a name that ends in .h5"
        )


@contextlib.contextmanager
def create_hdf5(path: str | os.PathLike[str], *, scratch: Path | None = None) -> Iterator[Hdf5Writer]:
    """Write an HDF5 file that appears whole or not at all.

    Raises:
        OutputError: it cannot be written, or its name is that of another kind of file.
    """
    check_name(path)
    with (
        replacing(path, scratch=scratch) as temporary,
        contextlib.closing(_PatientFile(temporary)) as stream,
    ):
        with h5py.File(stream, "w") as file:
            writer = Hdf5Writer(file, stream)
            yield writer
        writer.check()


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading. Read its data sets through `dataset`, which reaches no other file.

    It is not locked: a file appears whole and is never changed, and some file systems have no locks.

    Raises:
        FormatError: it does not exist, may not be read, is not HDF5, or was cut short.
    """
    name = os.fspath(path)
    try:
        open_regular(path).close()  # a pipe would be waited for, and HDF5 does not tell why a file cannot be opened
    except FileNotFoundError as error:
        raise FormatError(f"there is no {name}; expected a descriptor file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot read {name}: {reason}; expected a descriptor file") from error
    try:
        file = h5py.File(path, "r", locking=False)
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{name} is not an HDF5 file, or it was cut short; expected descriptors made by isc-fast extract"
        ) from error
    with file:
        yield file


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set whose numbers are all in this file; ``name`` may lead through groups.

    HDF5 can also point to other files: by a link, by raw data that lie elsewhere, or by a virtual data set. Then whoever made
    the file would choose which file of its reader's is read.

    Raises:
        KeyError: there is no such data set.
        FormatError: it is kept elsewhere, or is no data set.
    """
    found: Any = file
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise KeyError(name)
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):  # raises KeyError where there is nothing
            raise FormatError(f"{name} is a link, which isc-fast does not follow")
        found = found[part]
    if not isinstance(found, h5py.Dataset):
        raise FormatError(f"{name} is no data set")
    if found.is_virtual or found.external:
        raise FormatError(f"{name} keeps its data in other files, which isc-fast does not read")
    return found
