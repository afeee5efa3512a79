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
from ...files.reading import one_line, open_regular
from ..store import Descriptors
from .base import Contents, Format, only_set, read_npy, write_npy

_ROWS_PER_FILE = 1_000_000
_ID_COLUMNS = ("image_path", "id", "key", "url")  # the first one that a table has


def _recognises(contents: Contents) -> bool:
    return contents.is_folder and (contents.path / "img_emb").is_dir()


def _read(folder: Path, _which: str | None) -> Descriptors:
    arrow = require("pyarrow.parquet", "parquet")
    vectors: list[npt.NDArray[np.float32]] = []
    ids: list[str] = []
    for array in sorted((folder / "img_emb").glob("img_emb_*.npy")):
        table_file = folder / "metadata" / (array.stem.replace("img_emb", "metadata") + ".parquet")
        rows = read_npy(array)
        try:
            with open_regular(table_file) as stream:
                table = arrow.ParquetFile(stream).read()
            column = next((name for name in _ID_COLUMNS if name in table.column_names), None)
            found = [str(id_) for id_ in table.column(column).to_pylist()] if column else []
        except OSError as error:  # pyarrow's errors of damaged files are among these, without a number
            reason = error.strerror or one_line(error)
            raise FormatError(f"cannot read {table_file}: {reason}") from error
        except Exception as error:  # pyarrow's other errors share no base class
            raise FormatError(f"{table_file} is not a parquet file, or it is damaged ({one_line(error)})") from error
        if vectors and rows.shape[1] != vectors[0].shape[1]:
            expected = f"(n, {vectors[0].shape[1]}) like the file before"
            raise FormatError(f"{array} holds an array of shape {rows.shape}; expected {expected}")
        if column is None or table.num_rows != len(rows):
            raise FormatError(
                f"{table_file} has {table.num_rows} rows of {', '.join(table.column_names)}; "
                f"expected {len(rows)} rows with image_path, id, key or url"
            )
        if table.column(column).null_count:
            raise FormatError(f"{table_file} has {table.column(column).null_count} rows without {column}")
        vectors.append(rows)
        ids.extend(found)
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
