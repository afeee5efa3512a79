"""HDF5 files, written so that a full disk is an error and nothing worse, and read so that a damaged file is one too.

HDF5 that meets damaged bytes may crash the process, or run for ever and hear no signal. So it never sees any:

* a file of ours has checksums behind it (`isc_fast.files.sums`), and each block is compared with its own before HDF5 gets it;
* every other file is first read in another process, which may be lost (`isc_fast.descriptors.stranger`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import DamageError, FormatError, OutputError
from ..files.atomic import replacing
from ..files.reading import one_line, open_regular
from ..files.sums import check_whole, damage, damaged_runs, read_sums
from ..files.verified import PlainFile, VerifiedFile
from .patient import PatientFile
from .stranger import look_at

CHECKSUMS = "checksums"
"""Attribute of a file with checksums. A file that has it and no checksums has lost them."""


class Hdf5Writer:
    """An HDF5 file that is being written. `check` shows early that the disk is full.

    Attributes:
        file: the open file.
    """

    def __init__(self, file: h5py.File, stream: PatientFile) -> None:
        self.file = file
        self._stream = stream

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self._stream.error is not None:
            raise self._stream.error


_OTHERS = frozenset(
    (
        ".csv .tsv .txt .json .jsonl .npy .npz .parquet .html .gz .zip .xz .zst .tar .onnx .pt2 .plan "
        ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif .heic .heif .jp2 .jxl"
    ).split()
)


def check_name(path: str | os.PathLike[str]) -> None:
    """Refuse the name of another kind of file for descriptors: who gives it expects that kind.

    Raises:
        OutputError: it is such a name.
    """
    if os.fspath(path).endswith(os.sep):
        raise OutputError(
            f"cannot write {os.fspath(path)}: it is the name of a folder, and only isc-fast extract, normalize and negatives "
            "make such folders; give a name that ends in .h5"
        )
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _OTHERS:
        raise OutputError(
            f"cannot write {os.fspath(path)}: descriptors are written as HDF5, not as {suffix}; give a name that ends in .h5"
        )


@contextlib.contextmanager
def create_hdf5(
    path: str | os.PathLike[str], *, scratch: Path | None = None, with_sums: bool = False
) -> Iterator[Hdf5Writer]:
    """Write an HDF5 file that appears whole or not at all.

    Args:
        path: the file.
        scratch: folder for the temporary file, on the same disk.
        with_sums: whether the file gets checksums. The files of other tools get none, and stay as these tools write them.

    Raises:
        OutputError: it cannot be written, or its name is that of another kind of file.
    """
    check_name(path)
    with (
        replacing(path, scratch=scratch) as temporary,
        contextlib.closing(PatientFile(temporary)) as stream,
    ):
        with h5py.File(stream, "w") as file:
            if with_sums:
                file.attrs[CHECKSUMS] = np.bytes_("crc32")
            writer = Hdf5Writer(file, stream)
            yield writer
        if with_sums:
            stream.append_sums()
        writer.check()


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, its data sets through `dataset`, which reaches no other file.

    What is read from it may raise DamageError. It is not locked: a file appears whole and is never changed, and some file
    systems have no locks.

    Raises:
        FormatError: it does not exist, may not be read, is not HDF5, or was cut short.
        DamageError: its bytes are not those that were written, or HDF5 hangs or crashes on it.
    """
    with contextlib.closing(_opened(path)) as stream:
        try:
            with _as_hdf5(path, stream) as file:
                with damage_in_words(path):
                    has_lost_sums = not isinstance(stream, VerifiedFile) and CHECKSUMS in file.attrs
                if has_lost_sums:
                    raise damage(os.fspath(path), "it has lost its checksums, or another program has changed it")
                yield file
        except Exception as error:
            if stream.error is not None and error is not stream.error:
                raise stream.error from error  # a library has made something else of it
            raise
    if stream.error is not None:
        raise stream.error


DAMAGE = (
    *(KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError),
    MemoryError,  # of sizes that no machine has
    FormatError,
)
"""The errors that reading an HDF5 file raises where it finds something unexpected."""


@contextlib.contextmanager
def damage_in_words(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what reading an HDF5 file raises into a FormatError. A DamageError, which says where, stays as it is."""
    try:
        yield
    except DamageError:
        raise
    except DAMAGE as error:
        raise FormatError(f"{os.fspath(path)} is damaged ({one_line(error)})") from error


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set whose numbers are all in this file; ``name`` may lead through groups.

    HDF5 can also point to other files: by a link, by raw data that lie elsewhere, or by a virtual data set. Then whoever made
    the file would choose which file of its reader's is read.

    Raises:
        KeyError: there is no such data set.
        FormatError: it is kept elsewhere, or is no data set.
    """
    *groups, last = name.split("/")
    [found] = datasets(file, "/".join(groups), [last])
    return found


def datasets(file: h5py.File, group: str, names: Iterable[str]) -> Iterator[h5py.Dataset]:
    """Some data sets of one group, as `dataset` gives them; the group is the file itself where it is named ``""``.

    Raises:
        KeyError, FormatError: see `dataset`.
    """
    inside = file.id
    before = ""
    for part in filter(None, group.split("/")):
        inside = _linked(inside, part, before + part)
        before += f"{part}/"
    for name in names:
        whole = f"{group}/{name}" if group else name
        found = _linked(inside, name, whole)
        if not isinstance(found, h5py.h5d.DatasetID):
            raise FormatError(f"{whole} is no data set")
        made = found.get_create_plist()
        if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
            raise FormatError(f"{whole} keeps its data in other files, which isc-fast does not read")
        yield h5py.Dataset(found, readonly=True)  # its shape and how it is read are found out once then


def _linked(inside: Any, name: str, whole: str) -> Any:
    """What a group has under a name, by HDF5's own handles: h5py's classes take three times as long to find it.

    Raises:
        KeyError: nothing, or it is no group.
        FormatError: it is a link to something elsewhere.
    """
    place = name.encode("utf-8", "surrogateescape")
    if not isinstance(inside, h5py.h5g.GroupID) or not inside.links.exists(place):
        raise KeyError(f"there is no {whole}")
    if inside.links.get_info(place).type != h5py.h5l.TYPE_HARD:
        raise FormatError(f"{whole} is a link, which isc-fast does not follow")
    return h5py.h5o.open(inside, place)


def check_hdf5(path: str | os.PathLike[str]) -> bool:
    """Compare a whole file with its checksums; returns whether it has any.

    Raises:
        FormatError: it cannot be read.
        DamageError: it is not as it was written.
    """
    descriptor = _descriptor(path)
    try:
        sums = read_sums(descriptor, os.fspath(path))
        if sums is not None:
            check_whole(descriptor, sums)
        return sums is not None
    except OSError as error:
        raise _no_hdf5(path) from error
    finally:
        os.close(descriptor)


def damaged_places(path: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """The damaged places of a file with checksums, all of it read: the first byte of each, and the one after its last.

    Raises:
        FormatError: it cannot be read.
        DamageError: its checksums themselves are damaged.
    """
    descriptor = _descriptor(path)
    try:
        sums = read_sums(descriptor, os.fspath(path))
        return [] if sums is None else list(damaged_runs(descriptor, sums))
    finally:
        os.close(descriptor)


def _descriptor(path: str | os.PathLike[str]) -> int:
    name = os.fspath(path)
    try:
        with open_regular(path) as stream:  # a pipe would be waited for
            return os.dup(stream.fileno())
    except FileNotFoundError as error:
        raise FormatError(f"there is no {name}; expected a descriptor file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot read {name}: {reason}; expected a descriptor file") from error


def _opened(path: str | os.PathLike[str]) -> PlainFile:
    """Open a file whose bytes HDF5 may see.

    Raises:
        FormatError, DamageError: see `open_hdf5`.
    """
    descriptor = _descriptor(path)
    try:
        sums = read_sums(descriptor, os.fspath(path))
        if sums is not None:
            return VerifiedFile(path, descriptor, sums)
        look_at(path, descriptor)
        return PlainFile(path, descriptor)
    except OSError as error:  # a folder, for example
        os.close(descriptor)
        raise _no_hdf5(path) from error
    except BaseException:
        os.close(descriptor)
        raise


_OPEN: dict[int, h5py.File] = {}


@atexit.register
def _close_all() -> None:
    """Close what a program has left open: HDF5 would do so after Python's end, and call Python for it."""
    for file in list(_OPEN.values()):
        file.close()


@contextlib.contextmanager
def _as_hdf5(path: str | os.PathLike[str], stream: PlainFile) -> Iterator[h5py.File]:
    try:
        file = h5py.File(stream, "r")
    except BaseException as error:
        _clear_frames(error)
        failure = error.with_traceback(None)
    else:
        _OPEN[id(file)] = file
        try:
            with file:
                yield file
        finally:
            del _OPEN[id(file)]
        return
    if isinstance(failure, (OSError, ValueError, RuntimeError)):
        raise _no_hdf5(path) from failure
    raise failure


def _clear_frames(error: BaseException) -> None:
    """Clear the frames of an error and of those behind it.

    They hold h5py's list of access properties, which holds the Python file. If the error lived until the end of the
    program, HDF5 would free that list after Python's end, and crash.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


def _no_hdf5(path: str | os.PathLike[str]) -> FormatError:
    return FormatError(
        f"{os.fspath(path)} is not an HDF5 file, or it was cut short; expected descriptors made by isc-fast extract"
    )
