"""Writers of containers of photos, one for each kind: the same files in a tar, a zip, a Parquet and an Arrow file."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Files = Mapping[str, bytes]
"""Contents by name, in order."""


def write_tar(file: Path, files: Files, form: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(file, "w", format=form) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


def write_zip(file: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def as_table(files: Files) -> Any:
    """The table that Hugging Face makes of images, with its description."""
    arrow = pytest.importorskip("pyarrow")
    images = [{"bytes": content, "path": name} for name, content in files.items()]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = {"image": arrow.array(images, kind), "label": arrow.array(range(len(images)))}
    features = {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}
    return arrow.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(file: Path, files: Files) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with open(file, "wb") as sink:
        parquet.write_table(as_table(files), sink, row_group_size=3)


def write_arrow(file: Path, files: Files) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = as_table(files)
    with open(file, "wb") as sink, arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


WRITERS: dict[str, Callable[[Path, Files], None]] = {
    "tar": write_tar,
    "zip": write_zip,
    "parquet": write_parquet,
    "arrow": write_arrow,
}
"""By suffix."""


def keys_of(suffix: str, files: Files) -> list[str]:
    """What the photos are called in the ids: by their names, or in tables by their numbers."""
    names = [name.rpartition(".")[0] for name in files]
    return names if suffix in ("tar", "zip") else [str(number) for number in range(len(names))]
