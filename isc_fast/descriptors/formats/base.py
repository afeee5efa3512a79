"""What a format is, and what several formats have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FormatError
from ...files.atomic import replacing
from ...files.reading import one_line, open_regular
from ..hdf5 import damage_in_words, open_hdf5
from ..store import Descriptors, is_ours
from ..texts import repeated_id

_NPY = b"\x93NUMPY"
SETS = ("query", "reference", "train")
"""Names of the sets in a file that holds several."""


@dataclass(frozen=True)
class Contents:
    """What a file or folder holds at its top, as far as a format needs it to recognise its own.

    Attributes:
        path: of the file or folder.
        names: of the data sets in an HDF5 file, or of what lies in the folder.
        is_folder: whether it is a folder.
        is_ours: whether it is an HDF5 file with isc-fast's own attribute.
        is_array: whether it is a file of `numpy.save`.
    """

    path: Path
    names: Collection[str]
    is_folder: bool = False
    is_ours: bool = False
    is_array: bool = False


def contents_of(path: str | os.PathLike[str]) -> Contents:
    """Look into a file or folder.

    Raises:
        FormatError: it is neither a folder, nor a numpy array, nor an HDF5 file.
    """
    if os.path.isdir(path):
        try:
            return Contents(Path(path), os.listdir(path), is_folder=True)
        except OSError as error:
            raise FormatError(f"cannot list the folder {os.fspath(path)}: {error.strerror or error}") from error
    # Why a file cannot be opened is said by `open_hdf5`.
    with contextlib.suppress(OSError), open_regular(path) as file:
        if file.read(len(_NPY)) == _NPY:
            return Contents(Path(path), ("a numpy array",), is_array=True)
    with open_hdf5(path) as file, damage_in_words(path):
        return Contents(Path(path), sorted(file), is_ours=is_ours(file))


Sets = Mapping[str, Descriptors]
"""Descriptors by the name of their set; a set that stands alone may have the empty name."""


@dataclass(frozen=True)
class Format:
    """One row of the table of formats.

    Attributes:
        name: the format's name on the command line.
        expected: what a file or folder of the format holds, in words.
        recognises: whether a file or folder is of this format.
        read: reads one set into memory; the second argument chooses among several sets.
        write: writes the sets to a path.
        needs: the sets that a file must hold; empty for a format that holds one set, whatever its name.
        is_folder: whether it is a folder, not a file.
        beside: the files that are written beside a path.
    """

    name: str
    expected: str
    recognises: Callable[[Contents], bool]
    read: Callable[[Path, str | None], Descriptors]
    write: Callable[[Path, Sets], None]
    needs: tuple[str, ...] = field(default=())
    is_folder: bool = False
    beside: Callable[[Path], Sequence[Path]] = lambda _path: ()


def only_set(sets: Sets) -> Descriptors:
    """The one set of a format that holds one."""
    (one,) = sets.values()
    return one


def as_text(values: npt.NDArray[Any]) -> list[str]:
    """Strings or bytes of an HDF5 data set as text; bytes that are not UTF-8 survive."""
    return [v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else str(v) for v in values.tolist()]


def refuse_repeated(ids: Sequence[str], where: str) -> None:
    """Refuse ids of which two are equal.

    Raises:
        FormatError: naming the id.
    """
    twice = repeated_id(ids)
    if twice is not None:
        raise FormatError(f"the id {twice!r} occurs twice in {where}")


def refuse_views(sets: Sets, format_: str) -> None:
    """Refuse sets with several descriptors of each photo, which other formats than our own cannot express.

    Raises:
        FormatError: there is one.
    """
    for name, found in sets.items():
        if len(found.views) > 1:
            raise FormatError(
                f"the {name + ' ' if name else ''}set holds {len(found.views)} views of each photo, and the format {format_} has "
                "one descriptor for each; extract it without --views"
            )


def ascii_ids(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """The ids as fixed-width ASCII, which is what the challenge's files hold. An id that does not fit is never cut.

    Raises:
        FormatError: an id is empty, or holds a zero byte or something that is not ASCII.
    """
    if not len(ids):
        return np.empty(0, "S1")
    for id_ in ids:
        if not id_.isascii():
            raise FormatError(f"the id {id_!r} is not ASCII, and this format holds nothing else; give other ids")
        if not id_ or "\0" in id_:
            raise FormatError(f"the id {id_!r} is empty or holds a zero byte, which this format cannot express")
    return np.array([id_.encode("ascii") for id_ in ids], dtype=f"S{max(map(len, ids))}")


def read_npy(path: Path) -> npt.NDArray[np.float32]:
    """Read the vectors ``(n, d)`` of a file of `numpy.save`. Pickled objects and archives of arrays are refused.

    Raises:
        FormatError: it cannot be read, is damaged, or is an array of another shape or of other things than numbers.
    """
    try:
        with open_regular(path) as stream:
            vectors = np.asarray(np.lib.format.read_array(stream, allow_pickle=False), np.float32)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged header is a Python literal that goes wrong in nearly any way
        raise FormatError(f"{path} is not a numpy array, or it is damaged ({one_line(error)})") from error
    if vectors.ndim != 2:
        raise FormatError(f"{path} holds an array of shape {vectors.shape}; expected (n, d)")
    return vectors


def write_npy(path: Path, vectors: npt.NDArray[Any]) -> None:
    """Write what `numpy.save` writes, atomically.

    `numpy.save` itself hides the reason when the disk is full ("1000 requested and 10 written").

    Raises:
        OutputError: the file cannot be written.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    with replacing(path) as temporary, open(temporary, "wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(rows))
        out.write(rows.reshape(-1).data)
