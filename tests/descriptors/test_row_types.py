"""Descriptors that a file holds in 16 bits: half the disk, and everything that takes a file takes them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from fakes import FakeEngine, Interrupted

from isc_fast import (
    build_index,
    extract,
    merge_descriptors,
    normalize_to_file,
    open_descriptors,
    read_descriptors,
    remove_descriptors,
    rename_descriptors,
    search,
    smooth_negatives,
    verify_file,
    write_descriptors,
)
from isc_fast.cli.main import main
from isc_fast.descriptors.comparing import compare
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.verdict import Grade
from isc_fast.errors import FormatError, InputError, MismatchError
from isc_fast.matching.index.opened import OpenIndex


def unit(count: int, dim: int = 64, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def made(count: int = 300, seed: int = 0) -> Descriptors:
    meta = {"engine_id": "e" * 64, "engine": {"name": "n", "checkpoint_sha256": "c"}, "normalization": None}
    return Descriptors(unit(count, seed=seed), [f"{seed}-{row}" for row in range(count)], meta)


def stored(path) -> tuple[str, str | None]:
    """In which type the file really holds its rows, and which one it says."""
    with h5py.File(path) as file, open_descriptors(path) as found:
        assert found.vectors.dtype == np.float32
        return str(file["vectors"].dtype), found.provenance.dtype


HALF, FULL = ("float16", "float16"), ("float32", None)


def test_rows_are_rounded_once_and_read_as_float32(tmp_path):
    file, rows = tmp_path / "half.h5", made()
    write_descriptors(file, rows, dtype="float16")
    write_descriptors(tmp_path / "full.h5", rows)
    assert (stored(file), stored(tmp_path / "full.h5")) == (HALF, FULL)
    expected = rows.vectors.astype(np.float16).astype(np.float32)
    with open_descriptors(file) as found:
        numbers = np.array([5, 250, 7])
        assert np.array_equal(np.concatenate(list(found.blocks(100))), expected)
        assert np.array_equal(np.asarray(found.vectors), expected)
        assert np.array_equal(found.vectors[np.sort(numbers)], expected[np.sort(numbers)])
        assert found.vectors[:2].dtype == np.float32
    assert np.abs(np.sum(expected * rows.vectors, axis=1) - 1).max() < 1e-3
    assert file.stat().st_size < 0.6 * (tmp_path / "full.h5").stat().st_size
    assert verify_file(file).sound


def test_a_number_that_float16_does_not_have_is_refused(tmp_path):
    large = Descriptors(np.full((2, 4), 70_000, np.float32), ["a", "b"])
    with pytest.raises(FormatError, match=r"beyond 65504, the largest of float16; use float32"):
        write_descriptors(tmp_path / "a.h5", large, dtype="float16")
    assert not (tmp_path / "a.h5").exists()
    with pytest.raises(InputError, match="float32 or float16, not as 'int8'"):
        write_descriptors(tmp_path / "a.h5", large, dtype="int8")
    with pytest.raises(FormatError, match="rows of type 'float8'"):
        write_descriptors(tmp_path / "a.h5", Descriptors(unit(2), ["a", "b"], {"dtype": "float8"}))


def test_an_extraction_stores_them_and_an_update_keeps_the_type(tmp_path, folder_of):
    folder, output = folder_of(tmp_path / "in", 8), tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, batch_size=1, shard_size=1, dtype="float16")
    extract(folder, FakeEngine(), output, dtype="float16")
    assert stored(output) == HALF
    before = output.read_bytes()
    (folder / "bad.jpg").write_text("none")
    made_now = extract(folder, FakeEngine(), output)
    assert (made_now.computed, stored(output)) == (1, HALF)
    extract(folder, FakeEngine(), output, retry_failed=True)
    extract(folder, FakeEngine(), tmp_path / "fresh.h5", dtype="float16", batch_size=1, shard_size=1)
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes() != before
    with pytest.raises(MismatchError, match="holds rows of float16, not float32: isc-fast merge"):
        extract(folder, FakeEngine(), output, dtype="float32")
    merge_descriptors([output], output, dtype="float32")
    assert extract(folder, FakeEngine(), output, dtype="float32").note is None, "it is the same extraction"
    merge_descriptors([output], output, dtype="float16")
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()
    assert extract(folder, FakeEngine(), output, dtype="float32", overwrite=True).computed == 9
    assert stored(output) == FULL


def test_what_is_made_of_a_file_keeps_its_type_unless_its_numbers_are_new(tmp_path):
    half, full, other, out = (tmp_path / f"{name}.h5" for name in ("half", "full", "other", "out"))
    write_descriptors(half, made(), dtype="float16")
    write_descriptors(full, made(seed=1))
    write_descriptors(other, made(seed=2), dtype="float16")
    remove_descriptors(half, ["0-3"], out)
    assert stored(out) == HALF
    rename_descriptors(half, {"0-3": "x"}, out)
    assert stored(out) == HALF
    for files, options, expected in (
        ([half, other], {}, HALF),
        ([half, full], {}, FULL),
        ([half, other], {"dtype": "float32"}, FULL),
        ([full, half], {"dtype": "float16"}, HALF),
    ):
        merge_descriptors(files, out, **options)
        assert stored(out) == expected
    negatives = smooth_negatives(read_descriptors(other))
    assert negatives.provenance.dtype is None
    with open_descriptors(half) as found:
        normalize_to_file(found, negatives, out)
        assert stored(out) == FULL
        normalize_to_file(found, negatives, out, dtype="float16")
        assert stored(out) == HALF
        assert read_descriptors(out).provenance.normalization is not None


def test_both_types_are_compared_without_a_word(tmp_path):
    half, full = tmp_path / "half.h5", tmp_path / "full.h5"
    write_descriptors(half, made(), dtype="float16")
    write_descriptors(full, made())
    with open_descriptors(half) as queries, open_descriptors(full) as references:
        verdict = compare(queries, references)
        matches = search(queries, references, k=1)
    assert (verdict.remarks, verdict.grade) == ((), Grade.YES)
    assert list(matches.query_ids) == list(matches.reference_ids)
    assert matches.scores.dtype == np.float32


def test_an_index_takes_them_and_keeps_float32(tmp_path):
    half, full = tmp_path / "half.h5", tmp_path / "full.h5"
    write_descriptors(half, made(), dtype="float16")
    write_descriptors(full, made(seed=1))
    with open_descriptors(half) as found:
        build_index(found, tmp_path / "index")
        expected = np.asarray(found.vectors[:])
    assert main(["index", "add", str(tmp_path / "index"), str(full)]) == 0
    index = OpenIndex(tmp_path / "index")
    with open_descriptors(half) as queries:
        answer = index.query(queries, k=1, threshold=None)
    index.close()
    assert list(answer.reference_ids) == list(answer.query_ids)
    assert answer.scores[7] == pytest.approx(float(expected[7] @ expected[7]), abs=1e-6)


def test_the_command_line(tmp_path, capsys):
    full, half, back = (str(tmp_path / f"{name}.h5") for name in ("full", "half", "back"))
    write_descriptors(full, made())
    assert main(["convert", full, "--dtype", "float16", "-o", half]) == 0
    assert main(["convert", half, "-o", back]) == 0
    assert (stored(half), stored(back)) == (HALF, HALF)
    assert main(["convert", half, "--dtype", "float32", "-o", back]) == 0
    assert stored(back) == FULL
    capsys.readouterr()
    assert main(["info", half, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "float16"
    assert main(["convert", half, "--dtype", "float16", "--to", "kit", "-o", back]) == 1
    assert "leave it out for kit" in capsys.readouterr().err
    assert main(["convert", half, "--to", "npy", "-o", str(tmp_path / "a.npy")]) == 0
    assert np.load(tmp_path / "a.npy").dtype == np.float32
