"""Files of the challenge's evaluation kit: HDF5 with ``vectors`` and ``image_names``, one set a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...errors import FormatError
from ..hdf5 import create_hdf5, damage_in_words, dataset, open_hdf5
from ..store import Descriptors
from .base import Contents, Format, as_text, ascii_ids, only_set, refuse_repeated


def _recognises(contents: Contents) -> bool:
    return not contents.is_folder and {"vectors", "image_names"} <= set(contents.names)


def _kit_id(name: str) -> str:
    """The id of an image name by the kit's own rule: without its folders and without one suffix, .jpg or .png."""
    stem = name.rpartition("/")[2]
    return stem[:-4] if stem.endswith((".jpg", ".png")) else stem


def _read(path: Path, _which: str | None) -> Descriptors:
    with open_hdf5(path) as file, damage_in_words(path):
        ids = [_kit_id(name) for name in as_text(dataset(file, "image_names")[:])]
        found = Descriptors(np.asarray(dataset(file, "vectors")[:], np.float32), ids)
    refuse_repeated(ids, f"{path}, folders and suffixes stripped as the evaluation kit does")
    return found


def write_kit(path: str | os.PathLike[str], descriptors: Descriptors) -> None:
    """Write one set for the challenge's evaluation kit, atomically.

    Raises:
        FormatError: an id is not ASCII, or repeated, or the kit would read it back as another one (it strips folders,
            .jpg and .png).
        OutputError: the file cannot be written.
    """
    names = ascii_ids(descriptors.ids)
    refuse_repeated(descriptors.ids, "the set")
    for id_ in descriptors.ids:
        if _kit_id(id_) != id_:
            raise FormatError(
                f"the evaluation kit would read the id {id_!r} as {_kit_id(id_)!r}; extract with --ids stem"
            )
    with create_hdf5(path) as writer:
        file = writer.file
        file.create_dataset("vectors", data=np.asarray(descriptors.vectors[:], np.float32))
        file.create_dataset("image_names", data=names)


KIT = Format(
    name="kit",
    expected="vectors and image_names (the evaluation kit)",
    recognises=_recognises,
    read=_read,
    write=lambda path, sets: write_kit(path, only_set(sets)),
)
