"""Files that are looked at before a library is: a library that reads through these gets sound bytes, or the file's error.

A library in C that meets damaged bytes may crash or run for ever. `VerifiedFile` compares every block with its checksum before
it hands out a byte of it, each time, so the bytes are those that were written. `PlainFile` is for files without checksums: it
turns a file that ends too early into an error, where HDF5 alone would go on with zeros.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ..errors import DamageError, FormatError
from .reading import open_regular
from .sums import Sums, damage, read_digest, read_exactly

_CACHED_BLOCKS = 128
"""Blocks of a file that memory keeps, 8 MB. HDF5 reads its own bookkeeping in pieces of a few hundred bytes."""


class PlainFile(io.RawIOBase):
    """An open file without checksums, for reading.

    Attributes:
        error: the first damage that was met, whatever the library that reads makes of it.
    """

    def __init__(self, path: str | os.PathLike[str], descriptor: int) -> None:
        self.name = os.fspath(path)
        self.error: DamageError | None = None
        self._descriptor = descriptor
        self._position = 0
        self._size = os.fstat(descriptor).st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            DamageError: the bytes are damaged or gone.
        """
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        try:
            self._fill(self._position, view)
            self._position += len(view)
            return len(view)
        except OSError as error:
            failure: BaseException = damage(self.name, f"it cannot be read ({error.strerror or error})")
        except BaseException as error:
            failure = error.with_traceback(None)
        if isinstance(failure, DamageError) and self.error is None:
            self.error = DamageError(str(failure), failure.place)
        # The frames of an error must not keep the library's memory: Python would touch it after its end.
        del buffer, view
        raise failure

    def read_at(self, start: int, buffer: Any) -> None:
        """Fill a buffer from a place in the file on.

        Raises:
            DamageError: the bytes are damaged or gone.
        """
        self.seek(start)
        if self.readinto(buffer) != memoryview(buffer).nbytes:
            raise self._shorter()

    def _fill(self, start: int, view: memoryview) -> None:
        if read_exactly(self._descriptor, start, view) < len(view):
            raise self._shorter()

    def _shorter(self) -> DamageError:
        return damage(self.name, "it is shorter than when it was opened")

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class VerifiedFile(PlainFile):
    """An open file with checksums, for reading. Its size is that of content and checksums; the checksums read as zeros."""

    def __init__(self, path: str | os.PathLike[str], descriptor: int, sums: Sums) -> None:
        super().__init__(path, descriptor)
        self._sums = sums
        self._cache: OrderedDict[int, memoryview] = OrderedDict()

    @property
    def content_bytes(self) -> int:
        """Bytes of the content, without the checksums."""
        return self._sums.length

    def _fill(self, start: int, view: memoryview) -> None:
        size = self._sums.block_bytes
        number, skipped = divmod(start, size)
        block = self._cache.get(number)
        if block is not None and skipped + len(view) <= len(block):  # most of HDF5's reads, which are small
            view[:] = block[skipped : skipped + len(view)]
            return
        inside = max(0, min(len(view), self._sums.length - start))
        view[inside:] = bytes(len(view) - inside)
        done = 0
        while done < inside:
            number, skipped = divmod(start + done, size)
            whole = (inside - done) // size
            if whole and not skipped:  # whole blocks need no copy
                piece = view[done : done + whole * size]
                self._take(number, piece)
            else:
                block = self._block(number)
                piece = block[skipped : skipped + inside - done]
                view[done : done + len(piece)] = piece
            done += len(piece)

    def _block(self, number: int) -> memoryview:
        found = self._cache.get(number)
        if found is None:
            found = memoryview(bytearray(self._sums.size_of(number)))
            self._take(number, found)
            self._cache[number] = found
            if len(self._cache) > _CACHED_BLOCKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(number)
        return found

    def _take(self, number: int, view: memoryview) -> None:
        """Read consecutive blocks, and check each while it is in the processor's cache."""
        size = self._sums.block_bytes
        for start in range(0, len(view), size):
            block, first = view[start : start + size], number * size + start
            if read_exactly(self._descriptor, first, block) < len(block):
                raise self._shorter()
            if not self._sums.holds(number + start // size, block):
                raise self._sums.damage(first, first + len(block))


def open_summed(path: Path, digest: str) -> VerifiedFile:
    """Open a file whose blocks are compared with their checksums whenever they are read.

    Args:
        path: the file.
        digest: what `isc_fast.files.sums.digest_of` gave when it was written.

    Raises:
        DamageError: it is damaged, or another file.
        FormatError: it cannot be read.
    """
    try:
        with open_regular(path) as stream:
            found, sums = read_digest(stream, str(path))
            if found != digest:
                raise damage(str(path), "it is another file than the one that was written")
            return VerifiedFile(path, os.dup(stream.fileno()), sums)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
