"""The table of formats, and what is done with it: recognise a file, read it, write it.

| format | what it is |
|---|---|
| ``isc-fast`` | our own, see `isc_fast.descriptors.store` |
| ``submission`` | the challenge's: ``query``, ``query_ids``, ``reference``, ``reference_ids``, perhaps ``train`` |
| ``reference`` | the reference solution's: a submission with ``train_feats.npy`` beside it |
| ``kit`` | the evaluation kit's: ``vectors`` and ``image_names``; one set a file, or several files for one set |
| ``npy`` | a file of `numpy.save`, and its ids in a ``.txt`` of the same name |
| ``clip-retrieval`` | a folder of ``img_emb/img_emb_*.npy`` and ``metadata/metadata_*.parquet`` |

A new format is one file with a `Format` in this folder and one row in `FORMATS`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import FormatError, InputError
from ...files.homes import home_of, is_bucket
from ...stores.urls import is_url, unfold
from ..comparing import compare
from ..manifest import is_unfinished, parts_home
from ..store import Descriptors, open_descriptors
from .array import ARRAY
from .base import SETS, Format, Sets, contents_of, refuse_views
from .clip_retrieval import CLIP_RETRIEVAL
from .kit import KIT
from .other_folders import descriptors_instead
from .own import OWN
from .reference import REFERENCE
from .submission import SUBMISSION

FORMATS: dict[str, Format] = {row.name: row for row in (OWN, SUBMISSION, REFERENCE, KIT, ARRAY, CLIP_RETRIEVAL)}
"""By name; a file is of the first format that recognises it."""


_FILES = tuple(".h5 .hdf5 .npy .csv .json .jsonl .parquet .html .onnx .pt2 .plan".split())
"""What names of files end with that isc-fast reads on this machine only."""


def find_format(path: str | os.PathLike[str]) -> Format:
    """The format of a file or folder; a file of the reference solution is a submission, and a result in parts is our own.

    Raises:
        FormatError: no format recognises it.
    """
    if parts_home(path) is not None:
        return OWN
    if is_unfinished(path):
        raise FormatError(
            f"{os.fspath(path)} holds an extraction that is not complete: run the same isc-fast extract again; when all parts "
            "are there, it writes manifest.json"
        )
    address = unfold(os.fspath(path))
    if is_url(address):
        if is_bucket(address):
            home_of(address).check()
        if address.lower().endswith(_FILES):
            raise FormatError(
                f"{address} names one file, and such files are read on this machine only: download it first; of what is in a "
                "bucket, results in parts are read, named by their prefix"
            )
        raise FormatError(
            f"there is no manifest.json under {address}; expected the prefix of a result in parts, which isc-fast extract -o "
            f"{address.rstrip('/')}/ writes, or a file on this machine: download it first"
        )
    contents = contents_of(path)
    for row in FORMATS.values():
        if row.recognises(contents):
            return row
    expected = list(dict.fromkeys(row.expected for row in FORMATS.values() if row.is_folder == contents.is_folder))
    if contents.is_folder:
        raise FormatError(
            f"{os.fspath(path)} is a folder without {' or '.join(expected)}; expected a descriptor file; "
            + descriptors_instead(os.fspath(path))
        )
    raise FormatError(
        f"{os.fspath(path)} holds {', '.join(contents.names) or 'nothing'}; expected {', '.join(expected[:-1])}, or "
        f"{expected[-1]}"
    )


def read_descriptors(path: str | os.PathLike[str], *, which: str | None = None) -> Descriptors:
    """Read descriptors of any format into memory.

    Args:
        path: a file, a folder of clip-retrieval, or a result in parts: its folder or its manifest.
        which: ``"query"``, ``"reference"`` or ``"train"``, for a file that holds several sets.

    Raises:
        FormatError: it is no descriptor file, is damaged, or holds several sets and ``which`` does not choose one.
    """
    row = find_format(path)
    if which is not None and not row.needs:
        raise FormatError(f"{os.fspath(path)} holds one set of descriptors, so there is no {which!r} to choose")
    return row.read(Path(path), which)


@contextlib.contextmanager
def open_any(path: str | os.PathLike[str], *, which: str | None = None) -> Iterator[Descriptors]:
    """Open descriptors of any format for work that goes through them block by block.

    Those of our own files stay on disk, and are gone when the block ends. Those of other formats are read into memory.

    Args:
        path, which: see `read_descriptors`.

    Raises:
        FormatError: see `read_descriptors`.
    """
    if which is None and find_format(path) is OWN:
        with open_descriptors(path) as found:
            yield found
    else:
        yield read_descriptors(path, which=which)


def convert(sets: dict[str, Descriptors], output: str | os.PathLike[str], dialect: str) -> None:
    """Write descriptors in a format of this module's table.

    Args:
        sets: by name: ``query``, ``reference`` and ``train`` for a submission, exactly one set for the others.
        output: the file, or for clip-retrieval the folder.
        dialect: the name of the format.

    Raises:
        InputError: there is no such format, or it needs other sets.
        MismatchError: queries and references do not belong together.
        FormatError: a set holds several views of each photo; or see the writers.
        OutputError: see the writers.
    """
    row = FORMATS.get(dialect)
    if row is None:
        raise InputError(f"there is no format {dialect!r}; choose one of {', '.join(FORMATS)}")
    (_check_sides if row.needs else _check_one)(row, sets)
    if row is not OWN:
        refuse_views(sets, row.name)
    row.write(Path(output), sets)


def _check_sides(row: Format, sets: Sets) -> None:
    if not set(row.needs) <= set(sets) or set(sets) - set(SETS):
        raise InputError(
            f"the format {row.name} needs the sets {', '.join(row.needs)} and was given {', '.join(sets) or 'none'}; "
            "name them: query=FILE reference=FILE"
        )
    compare(sets["query"], sets["reference"]).require()


def _check_one(row: Format, sets: Sets) -> None:
    if len(sets) != 1:
        raise InputError(f"the format {row.name} holds one set and was given {', '.join(sets) or 'none'}")
