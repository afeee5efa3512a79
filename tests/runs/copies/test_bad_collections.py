"""Collections that no verb can take: each gives one line from dedup, find and leaks, and leaves nothing half-written."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from fakes import FakeEngine
from oracles import unit_rows

from isc_fast import Descriptors, write_descriptors
from isc_fast.cli.main import main
from isc_fast.descriptors.manifest import read_manifest
from isc_fast.extraction.pipeline import extract
from isc_fast.files.one_run import one_run

pytest.importorskip("faiss")

VERBS = {
    "dedup": "dedup {bad} -o {out}",
    "find, its queries": "find {bad} --in {good} -o {out}",
    "find, its references": "find {good} --in {bad} -o {out}",
    "leaks": "leaks --train {good} --eval {bad} -o {out}",
}
TWO_SIDED = {verb: words for verb, words in VERBS.items() if verb != "dedup"}


@pytest.fixture
def good(tmp_path, photos):
    folder = tmp_path / "good"
    folder.mkdir()
    for photo in photos[:3]:
        (folder / photo.name).symlink_to(photo)
    return folder


def parquet_without_photos(folder, _photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"n": [1], "text": ["a"]})
    parquet.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


def encrypted_zip(folder, photos):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.write(photos[0], "a.jpg")
    data = bytearray(out.getvalue())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (folder / "x.zip").write_bytes(data)
    return folder / "x.zip"


def packed_tar(folder, photos):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(photos[0], "a.jpg")
    (folder / "x.tar.gz").write_bytes(gzip.compress(out.getvalue()))
    return folder / "x.tar.gz"


def parts_of_which_one_is_gone(folder, photos):
    (folder / "in").mkdir()
    for photo in photos[:4]:
        (folder / "in" / photo.name).symlink_to(photo)
    extract(folder / "in", FakeEngine(), f"{folder}/parts/", batch_size=1, shard_size=2)
    (folder / "parts" / read_manifest(folder / "parts").parts[0].name).unlink()
    return folder / "parts"


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (parquet_without_photos, "has no column of photos; its columns are n (int64), text (string); name one with"),
        (encrypted_zip, "encrypted: unpack the archive with its password"),
        (packed_tar, "no random access: unpack it, and give the .tar or the folder"),
        (parts_of_which_one_is_gone, "is not there; copy it from a sound copy"),
    ],
)
def test_one_line_and_nothing_half_written(tmp_path, photos, good, capsys, words, make, message):
    bad = tmp_path / "bad"
    bad.mkdir()
    out = tmp_path / "out"
    places = {"bad": make(bad, photos), "good": good, "out": out}
    assert main([*words.format(**places).split(), "--threshold", "0.5"]) == 1
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert message in line
    assert printed.out == ""
    # Of the sound side there may be descriptors, whole, which the next run takes.
    left = [path.name for path in out.iterdir()] if out.exists() else []
    assert {*left} <= {"queries.h5", "references.h5", "train.h5"}
    for name in left:
        assert main(["verify", str(out / name)]) == 0


@pytest.mark.parametrize("words", TWO_SIDED.values(), ids=TWO_SIDED)
@pytest.mark.parametrize(
    ("meta", "dim", "message"),
    [
        ({"engine_id": "b"}, 8, "made by different engines"),
        ({"engine_id": "a", "normalization": {"method": "nes"}}, 8, "normalise both"),
        ({"engine_id": "a"}, 16, "dimensions"),
    ],
)
def test_sides_that_do_not_fit_each_other(tmp_path, capsys, words, meta, dim, message):
    places = {"good": tmp_path / "good.h5", "bad": tmp_path / "bad.h5", "out": tmp_path / "out"}
    write_descriptors(places["good"], Descriptors(unit_rows(1, 3, 8), list("abc"), {"engine_id": "a"}))
    write_descriptors(places["bad"], Descriptors(unit_rows(2, 3, dim), list("xyz"), meta))
    assert main([*words.format(**places).split(), "--threshold", "0.5"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line
    assert not places["out"].exists() or not [*places["out"].iterdir()]


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_two_runs_on_one_output(tmp_path, capsys, words):
    places = {"good": tmp_path / "good.h5", "bad": tmp_path / "bad.h5", "out": tmp_path / "out"}
    for side in ("good", "bad"):
        write_descriptors(
            places[side], Descriptors(np.eye(3, 8, dtype=np.float32), [f"{side}{row}" for row in range(3)])
        )
    places["out"].mkdir()
    command = [*words.format(**places).split(), "--threshold", "0.5"]
    with one_run(places["out"]):
        assert main(command) == 1
    assert f"another run is writing to {places['out']}; wait until it ends" in capsys.readouterr().err
    assert [*places["out"].iterdir()] == []
    assert main(command) == 0
