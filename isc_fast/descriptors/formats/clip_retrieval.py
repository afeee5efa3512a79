"""The folder that clip-retrieval and autofaiss build an index from.

It holds ``img_emb/img_emb_*.npy`` and, row by row beside them, ``metadata/metadata_*.parquet``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import FormatError, InputError, require
from ...files.atomic import make_folder, replacing
from ..store import Descriptors
from .base import Contents, Format, only_set, write_npy

_ROWS_PER_FILE = 1_000_000


def _recognises(contents: Contents) -> bool:
    return contents.is_folder and (contents.path / "img_emb").is_dir()


def _read(folder: Path, _which: str | None) -> Descriptors:
    arrow = require("pyarrow.parquet", "parquet")
    vectors: list[npt.NDArray[np.float32]] = []
    ids: list[str] = []
    for array in sorted((folder / "img_emb").glob("img_emb_*.npy")):
        table_file = folder / "metadata" / (array.stem.replace("img_emb", "metadata") + ".parquet")
        try:
            rows = np.asarray(np.load(array, allow_pickle=False), np.float32)
            table = arrow.read_table(table_file)
        except Exception as error:  # pyarrow's errors share no base class with numpy's
            raise FormatError(f"cannot read {array} with {table_file}: {error}") from error
        column = next((name for name in ("image_path", "id", "key", "url") if name in table.column_names), None)
        if rows.ndim != 2 or (vectors and rows.shape[1] != vectors[0].shape[1]):
            expected = f"(n, {vectors[0].shape[1]}) like the file before" if vectors else "(n, d)"
            raise FormatError(f"{array} holds an array of shape {rows.shape}; expected {expected}")
        if column is None or table.num_rows != len(rows):
            raise FormatError(
                f"{table_file} has {table.num_rows} rows of {', '.join(table.column_names)}; "
                f"expected {len(rows)} rows with image_path, id, key or url"
            )
        if table.column(column).null_count:
            raise FormatError(f"{table_file} has {table.column(column).null_count} rows without {column}")
        vectors.append(rows)
        ids.extend(str(id_) for id_ in table.column(column).to_pylist())
    if not vectors:
        raise FormatError(f"{folder / 'img_emb'} holds no img_emb_*.npy")
    return Descriptors(np.concatenate(vectors), ids)


def write_clip_retrieval(path: str | os.PathLike[str], descriptors: Descriptors) -> None:
    """Write the folder that clip-retrieval and autofaiss build an index from: float32, a million rows a file.

    Raises:
        FormatError: an id is not valid UTF-8.
        MissingExtraError: pyarrow is not installed.
        InputError: the folder holds embeddings already.
        OutputError: a file cannot be written.
    """
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    for id_ in descriptors.ids:  # before anything is made
        try:
            id_.encode()
        except UnicodeEncodeError as error:
            raise FormatError(f"the id {id_!r} is not valid UTF-8 and cannot stand in a parquet file") from error
    folder = Path(path)
    embeddings, metadata = make_folder(folder / "img_emb"), make_folder(folder / "metadata")
    if any(embeddings.iterdir()):
        raise InputError(f"{embeddings} is not empty: files of another run would be read as part of this one")
    made: list[Path] = []
    try:
        for number, start in enumerate(range(0, max(len(descriptors), 1), _ROWS_PER_FILE)):
            part = slice(start, start + _ROWS_PER_FILE)
            made += [embeddings / f"img_emb_{number:04d}.npy", metadata / f"metadata_{number:04d}.parquet"]
            write_npy(made[-2], descriptors.vectors[part])
            table = arrow.table({"image_path": arrow.array(list(descriptors.ids[part]), arrow.string())})
            with replacing(made[-1]) as temporary:
                parquet.write_table(table, temporary)
    except BaseException:  # a part of the set would look like the whole, and stand in the way of another try
        for path_made in made:
            path_made.unlink(missing_ok=True)
        raise


CLIP_RETRIEVAL = Format(
    name="clip-retrieval",
    expected="img_emb",
    recognises=_recognises,
    read=_read,
    write=lambda path, sets: write_clip_retrieval(path, only_set(sets)),
    is_folder=True,
)
