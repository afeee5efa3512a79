"""Descriptor files of other tools, read and written.

| dialect | what it is |
|---|---|
| ``isc-fast`` | our own, see `isc_fast.descriptors.store` |
| ``submission`` | the challenge's: ``query``, ``query_ids``, ``reference``, ``reference_ids``, perhaps ``train`` |
| ``reference`` | the reference solution's: a submission with ``train_feats.npy`` beside it |
| ``kit`` | the evaluation kit's: ``vectors`` and ``image_names``; one set a file, or several files for one set |
| ``clip-retrieval`` | a folder of ``img_emb/img_emb_*.npy`` and ``metadata/metadata_*.parquet`` |
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FormatError, InputError, MismatchError, require
from ...files.atomic import make_folder, replacing
from ..comparing import compare
from ..hdf5 import create_hdf5, open_hdf5
from ..store import (
    BLOCK_ROWS,
    DAMAGE,
    Descriptors,
    is_ours,
    load_descriptors,
    open_descriptors,
    repeated_id,
    rows_at,
    write_descriptors,
)

SETS = ("query", "reference", "train")
MAX_DIM = 256
"""Dimensions that the challenge allows."""
TRAIN_FILE = "train_feats.npy"
_ROWS_PER_FILE = 1_000_000


def _text(values: npt.NDArray[Any]) -> list[str]:
    return [v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else str(v) for v in values.tolist()]


def dialect_of(path: str | os.PathLike[str]) -> str:
    """The dialect of a file or folder, as named in this module's table (``"submission"`` also for ``reference``).

    Raises:
        FormatError: it is none of them.
    """
    if os.path.isdir(path):
        if (Path(path) / "img_emb").is_dir():
            return "clip-retrieval"
        raise FormatError(f"{os.fspath(path)} is a folder without img_emb; expected a descriptor file")
    with open_hdf5(path) as file:
        if is_ours(file):
            return "isc-fast"
        names = set(file)
    if {"query", "query_ids"} <= names or {"reference", "reference_ids"} <= names:
        return "submission"
    if {"vectors", "image_names"} <= names:
        return "kit"
    raise FormatError(
        f"{os.fspath(path)} holds {', '.join(sorted(names)) or 'nothing'}; expected vectors and ids (isc-fast), query "
        "and reference (a submission), or vectors and image_names (the evaluation kit)"
    )


def read_descriptors(path: str | os.PathLike[str], *, which: str | None = None) -> Descriptors:
    """Read descriptors of any dialect into memory.

    Args:
        path: a file, or a folder of clip-retrieval.
        which: ``"query"``, ``"reference"`` or ``"train"``, for a file that holds several sets.

    Raises:
        FormatError: it is no descriptor file, is damaged, or holds several sets and ``which`` does not choose one.
    """
    dialect = dialect_of(path)
    if dialect == "submission":
        return _read_submission(Path(path), which)
    if which is not None:
        raise FormatError(f"{os.fspath(path)} holds one set of descriptors, so there is no {which!r} to choose")
    if dialect == "isc-fast":
        return load_descriptors(path)
    return _read_kit(path) if dialect == "kit" else _read_clip_retrieval(Path(path))


@contextlib.contextmanager
def open_any(path: str | os.PathLike[str], *, which: str | None = None) -> Iterator[Descriptors]:
    """Descriptors of any dialect for work that goes through them block by block.

    Those of our own files stay on disk, and are gone when the block ends; others are read into memory.

    Args:
        path, which: see `read_descriptors`.

    Raises:
        FormatError: see `read_descriptors`.
    """
    if which is None and dialect_of(path) == "isc-fast":
        with open_descriptors(path) as found:
            yield found
    else:
        yield read_descriptors(path, which=which)


def concatenate(sets: Sequence[Descriptors]) -> Descriptors:
    """Several sets as one; equal ids are refused.

    Raises:
        FormatError: dimensions differ, or an id occurs twice.
        MismatchError: they come from different engines or normalisations.
        InputError: there is no set at all.
    """
    if not sets:
        raise InputError("there is nothing to put together")
    if len(sets) == 1:
        return sets[0]
    if len({part.dim for part in sets}) > 1:
        raise FormatError(f"sets of different dimensions ({', '.join(str(part.dim) for part in sets)}) cannot be one")
    ids = [id_ for part in sets for id_ in part.ids]
    _refuse_repeated(ids, "the sets together")
    stamps = [part.provenance.belonging for part in sets]
    if any(stamp != stamps[0] for stamp in stamps):
        raise MismatchError("these sets were made by different engines or normalised differently; keep them apart")
    failures = [failure for part in sets for failure in part.failures]
    vectors = np.concatenate([np.asarray(part.vectors[:], np.float32) for part in sets])
    return Descriptors(vectors, ids, stamps[0].write(), failures)


def _refuse_repeated(ids: Sequence[str], where: str) -> None:
    twice = repeated_id(ids)
    if twice is not None:
        raise FormatError(f"the id {twice!r} occurs twice in {where}")


def _read_submission(path: Path, which: str | None) -> Descriptors:
    with open_hdf5(path) as file:
        beside = path.with_name(TRAIN_FILE)
        held = [name for name in SETS if name in file]
        if "train" not in held and beside.exists():
            held.append("train")
        if which is None and len(held) == 1:
            which = held[0]
        if which not in held:
            asked = f"has no set {which!r}" if which else "holds several sets"
            raise FormatError(f"{path} {asked}; choose one of {', '.join(held)} (--set, in Python which=)")
        try:
            if which != "train":
                return Descriptors(np.asarray(file[which][:], np.float32), _text(file[f"{which}_ids"][:]))
            if "train" in file:
                vectors = np.asarray(file["train"][:], np.float32)
                ids = _text(file["train_ids"][:]) if "train_ids" in file else _row_ids(len(vectors))
                return Descriptors(vectors, ids)
        except DAMAGE as error:
            raise FormatError(f"{path} is damaged ({error})") from error
    return _read_npy(beside)


def _row_ids(count: int) -> list[str]:
    """Ids of a set that came without any: the number of the row."""
    return [f"train/{row}" for row in range(count)]


def _read_npy(path: Path) -> Descriptors:
    try:
        vectors = np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise FormatError(f"{path} is not a numpy array ({error})") from error
    if vectors.ndim != 2:
        raise FormatError(f"{path} holds an array of shape {vectors.shape}; expected (n, d)")
    return Descriptors(vectors, _row_ids(len(vectors)))


def _kit_id(name: str) -> str:
    """The kit's own rule: folders and one suffix, .jpg or .png, do not belong to the id."""
    stem = name.rpartition("/")[2]
    return stem[:-4] if stem.endswith((".jpg", ".png")) else stem


def _read_kit(path: str | os.PathLike[str]) -> Descriptors:
    with open_hdf5(path) as file:
        try:
            ids = [_kit_id(name) for name in _text(file["image_names"][:])]
            found = Descriptors(np.asarray(file["vectors"][:], np.float32), ids)
        except DAMAGE as error:
            raise FormatError(f"{os.fspath(path)} is damaged ({error})") from error
    _refuse_repeated(ids, f"{os.fspath(path)}, folders and suffixes stripped as the evaluation kit does")
    return found


def _ascii_ids(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Fixed-width ASCII, as the challenge's files have it; an id that does not fit is refused, never cut."""
    if not len(ids):
        return np.empty(0, "S1")
    for id_ in ids:
        if not id_.isascii():
            raise FormatError(f"the id {id_!r} is not ASCII, and this format holds nothing else; give other ids")
        if not id_ or "\0" in id_:
            raise FormatError(f"the id {id_!r} is empty or holds a zero byte, which this format cannot express")
    return np.array([id_.encode("ascii") for id_ in ids], dtype=f"S{max(map(len, ids))}")


def write_submission(
    path: str | os.PathLike[str],
    queries: Descriptors,
    references: Descriptors,
    train: Descriptors | None = None,
) -> None:
    """Write the descriptor-track file of the challenge, atomically: rows sorted by id, ids in fixed-width ASCII.

    Args:
        path: of the HDF5 file.
        queries, references, train: ``(n, d)`` with d ≤ 256.

    Raises:
        FormatError: more than 256 dimensions, sides of different dimensions, or an id that is not ASCII or repeated.
        OutputError: the file cannot be written.
    """
    sides = {"query": queries, "reference": references} | ({"train": train} if train is not None else {})
    dims = {name: side.dim for name, side in sides.items()}
    if len(set(dims.values())) > 1 or max(dims.values()) > MAX_DIM:
        raise FormatError(f"a submission has one number of dimensions, at most {MAX_DIM}; these have {dims}")
    names = {name: _ascii_ids(side.ids) for name, side in sides.items()}
    for name, side in sides.items():
        _refuse_repeated(side.ids, f"the {name} set")
    with create_hdf5(path) as writer:
        file = writer.file
        for name, side in sides.items():
            order = np.argsort(names[name], kind="stable")
            made = file.create_dataset(name, (len(side), side.dim), "f4")
            for start in range(0, len(side), BLOCK_ROWS):
                made[start : start + BLOCK_ROWS] = rows_at(side.vectors, order[start : start + BLOCK_ROWS])
                writer.check()
            if name != "train":
                file.create_dataset(f"{name}_ids", data=names[name][order])


def _write_reference(path: Path, queries: Descriptors, references: Descriptors, train: Descriptors) -> None:
    write_submission(path, queries, references)
    _write_npy(path.with_name(TRAIN_FILE), train.vectors[:])


def _write_npy(path: Path, vectors: npt.NDArray[Any]) -> None:
    """What `numpy.save` writes; that one hides the reason when the disk is full ("1000 requested and 10 written")."""
    rows = np.ascontiguousarray(vectors, np.float32)
    with replacing(path) as temporary, open(temporary, "wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(rows))
        out.write(rows.reshape(-1).data)


def write_kit(path: str | os.PathLike[str], descriptors: Descriptors) -> None:
    """Write one set for the challenge's evaluation kit, atomically.

    Raises:
        FormatError: an id is not ASCII, or repeated, or the kit would read it back as another one (it strips folders,
            .jpg and .png).
        OutputError: the file cannot be written.
    """
    names = _ascii_ids(descriptors.ids)
    _refuse_repeated(descriptors.ids, "the set")
    for id_ in descriptors.ids:
        if _kit_id(id_) != id_:
            raise FormatError(
                f"the evaluation kit would read the id {id_!r} as {_kit_id(id_)!r}; extract with --ids stem"
            )
    with create_hdf5(path) as writer:
        file = writer.file
        file.create_dataset("vectors", data=np.asarray(descriptors.vectors[:], np.float32))
        file.create_dataset("image_names", data=names)


def _read_clip_retrieval(folder: Path) -> Descriptors:
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
            _write_npy(made[-2], descriptors.vectors[part])
            table = arrow.table({"image_path": arrow.array(list(descriptors.ids[part]), arrow.string())})
            with replacing(made[-1]) as temporary:
                parquet.write_table(table, temporary)
    except BaseException:  # a part of the set would look like the whole, and stand in the way of another try
        for path_made in made:
            path_made.unlink(missing_ok=True)
        raise


def convert(sets: dict[str, Descriptors], output: str | os.PathLike[str], dialect: str) -> None:
    """Write descriptors in a dialect of this module's table.

    Args:
        sets: by name: ``query``, ``reference`` and ``train`` for a submission, exactly one set for the others.
        output: of the file, or for clip-retrieval of the folder.
        dialect: see the table.

    Raises:
        InputError: the dialect needs other sets.
        MismatchError: queries and references do not belong together.
        FormatError, OutputError: see the writers.
    """
    if dialect in ("submission", "reference"):
        needed = ("query", "reference", "train") if dialect == "reference" else ("query", "reference")
        missing = [name for name in needed if name not in sets]
        if missing or set(sets) - set(SETS):
            raise InputError(
                f"the dialect {dialect} needs the sets {', '.join(needed)} and was given {', '.join(sets) or 'none'}; "
                "name them: query=FILE reference=FILE"
            )
        compare(sets["query"], sets["reference"]).require()
        if dialect == "reference":
            _write_reference(Path(output), sets["query"], sets["reference"], sets["train"])
        else:
            write_submission(output, sets["query"], sets["reference"], sets.get("train"))
        return
    writers = {"isc-fast": write_descriptors, "kit": write_kit, "clip-retrieval": write_clip_retrieval}
    if dialect not in writers:
        raise InputError(f"there is no dialect {dialect!r}; choose one of {', '.join(DIALECTS)}")
    if len(sets) != 1:
        raise InputError(f"the dialect {dialect} holds one set and was given {', '.join(sets) or 'none'}")
    writers[dialect](output, next(iter(sets.values())))


DIALECTS = ("isc-fast", "submission", "reference", "kit", "clip-retrieval")
