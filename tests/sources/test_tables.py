"""Photos in Parquet and Arrow files."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_containers import as_table, write_arrow, write_parquet
from test_containers import SMALL, content, reason

from isc_fast.decoders.opening import ImageProblem
from isc_fast.errors import InputError
from isc_fast.sources import tables
from isc_fast.sources.choice import Choice
from isc_fast.sources.listing import list_images

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(file: Path, table: object) -> Path:
    """Write a table, in groups of three rows."""
    with open(file, "wb") as sink:
        if file.suffix == ".parquet":
            parquet.write_table(table, sink, row_group_size=3)
        else:
            with pa.ipc.new_stream(sink, table.schema) as writer:  # type: ignore[attr-defined]
                writer.write_table(table, max_chunksize=3)
    return file


@pytest.fixture(params=["parquet", "arrow"])
def file(request, tmp_path) -> Path:
    return tmp_path / f"x.{request.param}"


def contents(file: Path, **options: object) -> dict[str, bytes]:
    return {item.id: content(item) for item in list_images(file, choice=Choice(**options)).items}


def refusal(file: Path, **options: object) -> str:
    with pytest.raises(InputError) as raised:
        list_images(file, choice=Choice(**options))
    return str(raised.value)


BYTES = list(SMALL.values())


# --- columns ---


def test_a_column_of_bytes_and_ids(file):
    write(file, pa.table({"key": [f"k{number}.jpg" for number in range(8)], "jpg": BYTES, "n": range(8)}))
    assert contents(file) == {f"x/{number}": data for number, data in enumerate(BYTES)}
    assert contents(file, id_column="key") == {f"x/k{number}.jpg": data for number, data in enumerate(BYTES)}
    assert contents(file, id_column="n", image_column="jpg") == contents(file)


def test_a_column_of_paths_is_relative_to_the_table(file):
    for name, data in SMALL.items():
        (file.parent / name).write_bytes(data)
    write(file, pa.table({"n": range(8), "file_name": [*SMALL]}))
    assert contents(file) == {f"x/{number}": data for number, data in enumerate(BYTES)}
    assert contents(file, id_column="file_name") == {f"x/{name}": data for name, data in SMALL.items()}


def test_a_struct_that_holds_a_path_only_or_nothing(file):
    (file.parent / "a.png").write_bytes(BYTES[0])
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": "a.png"}, {"bytes": BYTES[1], "path": None}, {"bytes": None, "path": None}, None]
    write(file, pa.table({"image": pa.array(rows, kind)}))
    one, two, three, four = list_images(file).items
    assert (content(one), content(two)) == (BYTES[0], BYTES[1])
    assert reason(three) == reason(four) == "the row holds no photo"


def test_rows_without_a_path_or_with_an_id_twice_are_rows_of_the_ledger(file):
    write(file, pa.table({"path": ["a.png", None, ""], "id": ["one", "two", "three"]}))
    (file.parent / "a.png").write_bytes(BYTES[0])
    one, *others = list_images(file, choice=Choice(id_column="id")).items
    assert (one.id, content(one)) == ("x/one", BYTES[0])
    assert [(item.id, reason(item)) for item in others] == [
        ("x/two", "the row names no photo"),
        ("x/three", "the row names no photo"),
    ]
    write(file, pa.table({"image": BYTES[:3], "id": ["one", "two", "one"]}))
    *_, again = list_images(file, choice=Choice(id_column="id")).items
    assert (again.id, reason(again)[:35]) == ("x/one#2", "the container holds this name twice")


def test_what_hugging_face_calls_an_image_counts(file):
    table = as_table(SMALL).append_column("mask", pa.array(BYTES))
    write(file, table)
    assert list(contents(file).values()) == BYTES
    two = {"info": {"features": {name: {"_type": "Image"} for name in ("image", "mask")}}}
    write(file, table.replace_schema_metadata({"huggingface": json.dumps(two)}))
    assert refusal(file) == f"{file} has several columns of photos (image, mask); choose one with --image-column"
    assert list(contents(file, image_column="mask").values()) == BYTES


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"n": [1], "text": ["a"]},
            {},
            "{} has no column of photos; its columns are n (int64), text (string); name one with ",
        ),
        (
            {"n": [1]},
            {"image_column": "image"},
            "{} has no column 'image'; its columns are n (int64); choose one with --image-",
        ),
        (
            {"image": [b"a"]},
            {"id_column": "key"},
            "{} has no column 'key'; its columns are image (binary); choose one with --id",
        ),
        ({"n": [1]}, {"image_column": "n"}, "the column n of {} is of int64; expected bytes, text or {{bytes, path}}"),
        ({"a": [b"a"], "b": [b"b"]}, {}, "{} has several columns of photos (a, b); choose one with --image-column"),
    ],
)
def test_tables_without_the_column(file, columns, options, message):
    write(file, pa.table(columns))
    assert refusal(file, **options).startswith(message.format(file))


# --- Hugging Face's folders ---


def test_a_folder_of_save_to_disk(tmp_path):
    """As `datasets` writes it, with the files that it leaves beside the data."""
    for split in ("train", "test"):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        names = [f"data-0000{number}-of-00002.arrow" for number in range(2)]
        for name in names:
            write_arrow(folder / name, SMALL)
        write_arrow(folder / "cache-1234.arrow", SMALL)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = list_images(tmp_path / "set")
    assert len(found.found) == 32
    assert found.items[0].id == "test/data-00000-of-00002/0"
    assert [content(item) for item in found.items[-8:]] == BYTES
    assert found.ignored_suffixes == {".json": 5, ".arrow": 2}


def test_a_folder_of_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(2):
        write_parquet(tmp_path / "data" / f"train-0000{number}-of-00002.parquet", SMALL)
    (tmp_path / "README.md").touch()
    assert [item.id for item in list_images(tmp_path).items][7:9] == [
        "data/train-00000-of-00002/7",
        "data/train-00001-of-00002/0",
    ]


def test_arrow_s_file_format_is_told_from_a_stream(tmp_path):
    table = as_table(SMALL)
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert refusal(tmp_path / "x.arrow").endswith(
        "in Arrow's file format; expected a stream, as save_to_disk writes it, or Parquet"
    )


# --- reading ---


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_a_row_group_is_read_once(tmp_path, monkeypatch, compression):
    with open(tmp_path / "x.parquet", "wb") as sink:
        parquet.write_table(as_table(SMALL), sink, row_group_size=3, compression=compression)
    items = list_images(tmp_path / "x.parquet").items
    read: list[int] = []
    real = tables._group
    monkeypatch.setattr(tables._GROUPS, "_make", lambda key: (read.append(key[3]), real(key))[1])
    assert [content(item) for item in items] == BYTES
    assert read == [0, 1, 2]


def test_without_pyarrow_the_extra_is_named(tmp_path):
    write_parquet(tmp_path / "x.parquet", SMALL)
    code = "import sys; sys.modules['pyarrow'] = None\nfrom isc_fast.cli.main import main\n"
    code += "sys.exit(main(['extract', sys.argv[1], '--engine', 'demo', '-o', sys.argv[2]]))"
    command = [sys.executable, "-c", code, str(tmp_path / "x.parquet"), str(tmp_path / "out.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: this needs pyarrow, which is not installed; run: pip install 'isc-fast[parquet]'\n"


# --- cut and damaged ---


def test_a_stream_cut_anywhere_gives_its_rows_and_one_more(tmp_path):
    file = write(tmp_path / "x.arrow", as_table(SMALL))
    data, seen_in_schema = file.read_bytes(), list[int]()
    for cut in (*range(8, len(data), 512), len(data) - 8, len(data) - 1):
        file.write_bytes(data[:cut])
        try:
            *rows, end = list_images(file).items
        except InputError:
            seen_in_schema.append(cut)
            continue
        assert [content(item) for item in rows] == BYTES[: len(rows)]
        assert len(rows) % 3 == 0 or len(rows) == 8
        assert (end.id, reason(end)) == ("x#end", f"the stream is cut short or damaged behind row {len(rows)}")
    assert len(rows) == 8
    assert seen_in_schema
    assert max(seen_in_schema) < 2000


def read_all(file: Path) -> None:
    try:
        items = list_images(file).items
    except InputError:
        return
    for item in items[:30]:
        with contextlib.suppress(ImageProblem):
            content(item)


def test_a_table_cut_or_flipped_anywhere_is_a_line_or_rows_of_the_ledger(file):
    """In a process of its own, since whatever pyarrow does to a damaged file must not end the run either."""
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
    code += "import test_tables; from pathlib import Path; test_tables.injure(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def injure(file: Path) -> None:
    """Cut a table at each of its blocks, and flip bits in it."""
    small = pa.table({"image": [b"%d" % number * 40 for number in range(12)], "id": range(12)})
    write(file, small)
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for cut in range(0, len(data), 64):
        file.write_bytes(data[:cut])
        read_all(file)
    for number in range(250):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        os.utime(file, ns=(number, number))
        read_all(file)
