"""Lists with columns, and the list on standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_containers import SMALL

from isc_fast.errors import InputError
from isc_fast.sources.choice import Choice
from isc_fast.sources.listing import list_images


def listed(file: Path, **options: object) -> list[tuple[str, str]]:
    return [
        (item.id, os.path.relpath(item.path, file.parent)) for item in list_images(file, choice=Choice(**options)).items
    ]


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("l.csv", "path\na.jpg\nb/c.png\n", {}, [("a", "a.jpg"), ("b/c", "b/c.png")]),
        ("l.csv", "id,path\none,a.jpg\ntwo,b/c.png\n", {}, [("one", "a.jpg"), ("two", "b/c.png")]),
        (
            "l.CSV",
            'path,id\r\n"a,1.jpg",one\r\n\r\n"b ""c"".png",\r\n',
            {},
            [("one", "a,1.jpg"), ('b "c"', 'b "c".png')],
        ),
        ("l.csv", "\ufefffile_name,text\nü.jpg,x\n", {}, [("ü", "ü.jpg")]),
        ("l.csv", "n,photo\n7,a.jpg\n", {"image_column": "photo", "id_column": "n"}, [("7", "a.jpg")]),
        ("l.jsonl", '{"path": "a.jpg"}\n\n{"path": "b.png", "id": 12}\n', {}, [("a", "a.jpg"), ("12", "b.png")]),
        ("l.jsonl", '{"file_name": "\\u00fc.jpg", "x": [1]}', {}, [("ü", "ü.jpg")]),
        ("l.ndjson", '{"k": "one", "p": "a.jpg"}\n', {"image_column": "p", "id_column": "k"}, [("one", "a.jpg")]),
    ],
)
def test_lists_with_columns(tmp_path, name, content, options, expected):
    (tmp_path / name).write_text(content, "utf-8", newline="")
    assert listed(tmp_path / name, **options) == expected


def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"path\ncaf\xe9.jpg\n")
    ((id_, path),) = listed(tmp_path / "l.csv")
    assert (os.fsencode(id_), os.fsencode(path)) == (b"caf\xe9", b"caf\xe9.jpg")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"", "found no image in {} "),
        (
            "l.csv",
            b"url,n\nx,1\n",
            "entry 1 of {} has no column path, image, image_path, file_name or filename; it has 'url', 'n'; ",
        ),
        ("l.csv", b"path,id\n,one\n", "entry 1 of {} has no path"),
        ("l.csv", b"path\na\0b.jpg\n", ""),
        ("l.csv", b'path\n"' + b"x" * (1 << 21) + b'"\n', "the list {} is not CSV: field larger than field limit"),
        ("l.jsonl", b"[1]\n", "entry 1 of {} is '[1]'; expected a JSON object"),
        ("l.jsonl", b'{"path": "a"}\n{"path"\n', "entry 2 of {} is no JSON ("),
        ("l.jsonl", b"[" * 100_000, "entry 1 of {} is no JSON (its brackets are nested too deeply)"),
        ("l.jsonl", b'{"id": 1}', "entry 1 of {} has no column path, image, "),
        ("l.jsonl", b'{"path": null}', "entry 1 of {} has no path"),
        ("l.jsonl", b'{"path": ["a.jpg"]}', "entry 1 of {} has a path that is no text: "),
        ("l.jsonl", b'{"path": "a\\u0000.jpg"}', "entry 1 of {} has a path that no file can be called: "),
        ("l.jsonl", b'{"path": "a.jpg", "id": "\\ud800"}', "entry 1 of {} has a id that no file can be called: "),
        ("l.jsonl", b'{"path": "\xff.jpg"}', "the list {} is not UTF-8 ("),
        (
            "l.jsonl",
            b'{"path": "a.jpg", "id": "x"}\n{"path": "b.jpg", "id": "x"}\n',
            "two images would have the id 'x': ",
        ),
    ],
)
def test_lists_that_are_refused(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError) as raised:
        list_images(file)
    assert str(raised.value).startswith(message.format(file))
    assert "\n" not in str(raised.value)


def test_a_column_that_is_missing_is_named(tmp_path):
    (tmp_path / "l.csv").write_text("path,n\na.jpg,1\n")
    for option, flag in (("image_column", "--image-column"), ("id_column", "--id-column")):
        with pytest.raises(InputError) as raised:
            listed(tmp_path / "l.csv", **{option: "key"})
        assert str(raised.value).endswith(f"has no column 'key'; it has 'path', 'n'; choose one with {flag}")


# --- standard input ---


def extracted(folder: Path, names: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "isc_fast", "extract", "-", "--engine", "demo", "-o", "out.h5", "--ids", "path"]
    return subprocess.run(command, input=names, cwd=folder, capture_output=True, check=False, timeout=120)


def test_a_list_on_standard_input_is_kept_and_resumed(tmp_path):
    pytest.importorskip("onnxruntime")
    for name, data in SMALL.items():
        (tmp_path / name).write_bytes(data)
    for names in (b"b.png\0a.png\0gone.png\0", b"b.png\0a.png\0gone.png\0"):
        done = extracted(tmp_path, names)
        assert done.returncode == 0, done.stderr
        assert b"out.h5: 2 descriptors, 1 images failed" in done.stdout
    assert b"complete already" in done.stdout
    other = extracted(tmp_path, b"c.png\n")
    assert other.returncode == 1
    assert b"from other inputs, or of other images (3 images then, 1 now)" in other.stderr


def test_an_empty_standard_input_is_one_line(tmp_path):
    done = extracted(tmp_path, b"")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"error: found no image in - (0 other files)")
