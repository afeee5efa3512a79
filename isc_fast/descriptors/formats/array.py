"""A file of `numpy.save` with the vectors, and the ids beside it, one a line: ``NAME.npy`` and ``NAME.txt``.

The training vectors of the reference solution, ``train_feats*.npy``, come without ids: they get the numbers of their rows.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import FormatError
from ...files.atomic import write_text
from ..store import Descriptors
from .base import Contents, Format, only_set, read_npy, refuse_repeated, write_npy
from .submission import TRAIN_FILE, row_ids

_TRAIN = Path(TRAIN_FILE).stem


def _recognises(contents: Contents) -> bool:
    return contents.is_array


def _read(path: Path, _which: str | None) -> Descriptors:
    vectors, listed = read_npy(path), path.with_suffix(".txt")
    if not listed.exists() and path.name.startswith(_TRAIN):
        return Descriptors(vectors, row_ids(len(vectors)))
    try:
        text = listed.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise FormatError(
            f"{path} holds vectors without ids; expected them in {listed}, one a line ({error.strerror or error})"
        ) from error
    ids = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    if len(ids) != len(vectors):
        raise FormatError(f"{listed} has {len(ids)} lines; expected {len(vectors)} ids, one for each row of {path}")
    if not all(ids):
        raise FormatError(f"line {ids.index('') + 1} of {listed} is empty; expected an id")
    refuse_repeated(ids, str(listed))
    return Descriptors(vectors, ids)


def write_array(path: Path, descriptors: Descriptors) -> None:
    """Write one set as ``NAME.npy`` and ``NAME.txt``.

    Raises:
        FormatError: the path ends in ``.txt``, or an id is empty, repeated or holds a line end.
        OutputError: a file cannot be written.
    """
    if path.suffix == ".txt":
        raise FormatError(f"{path} is where the ids go; write to {path.with_suffix('.npy')}")
    refuse_repeated(descriptors.ids, "the set")
    for id_ in descriptors.ids:
        try:
            id_.encode("utf-8", "surrogateescape")
            bad = not id_ or "\n" in id_ or "\r" in id_
        except UnicodeEncodeError:
            bad = True
        if bad:
            raise FormatError(
                f"the id {id_!r} is empty, no text or holds a line end, which a list of ids cannot express"
            )
    write_text(path.with_suffix(".txt"), "".join(f"{id_}\n" for id_ in descriptors.ids))
    write_npy(path, descriptors.vectors[:])


ARRAY = Format(
    name="npy",
    expected="a numpy array",
    recognises=_recognises,
    read=_read,
    write=lambda path, sets: write_array(path, only_set(sets)),
    beside=lambda path: (path.with_suffix(".txt"),),
)
