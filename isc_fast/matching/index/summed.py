"""The files of an index: each has checksums behind it, whose digest the manifest knows. No library reads an unchecked byte."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...errors import DamageError, FormatError
from ...files.atomic import replacing
from ...files.reading import one_line
from ...files.sums import append_sums, damage
from ...files.sums import digest_of as digest_of
from ...files.verified import VerifiedFile
from ...files.verified import open_summed as open_summed


def write_summed(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file with checksums, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as temporary:
        with open(temporary, "wb") as out:
            write(out)
        append_sums(temporary)


def write_numbers(path: Path, numbers: npt.NDArray[Any]) -> None:
    """Write an array ``(n,)`` as plain little-endian numbers with checksums.

    Raises:
        OutputError: it cannot be written.
    """
    write_summed(path, lambda out: _write_all(out, np.ascontiguousarray(numbers)))


def _write_all(out: IO[bytes], numbers: npt.NDArray[Any]) -> None:
    out.write(numbers.tobytes())


def read_numbers(path: Path, digest: str, kind: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
    """Read what `write_numbers` wrote.

    Raises:
        DamageError: it is damaged, or holds another count.
        FormatError: it cannot be read.
    """
    made = np.empty(count, kind)
    with contextlib.closing(open_summed(path, digest)) as stream:
        if stream.content_bytes != made.nbytes:
            raise damage(str(path), f"it holds {stream.content_bytes} bytes where {made.nbytes} are expected")
        stream.read_at(0, made.view(np.uint8))
    return made


@contextlib.contextmanager
def damage_first(stream: VerifiedFile) -> Iterator[None]:
    """Raise the damage that a library met while it read a file, whatever the library makes of it."""
    try:
        yield
    except DamageError:
        raise
    except Exception as error:
        if stream.error is not None:
            raise stream.error from error
        raise FormatError(f"{stream.name} is no file of this index ({one_line(error)}); build it again") from error
    if stream.error is not None:
        raise stream.error
