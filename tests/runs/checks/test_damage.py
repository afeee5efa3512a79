"""Damage: single bytes and cuts, seeded, over every file of ours. Each is noticed. `--injuries N` tries more."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes import FakeEngine, Interrupted
from oracles import named, unit_rows

from isc_fast.cli.main import main
from isc_fast.descriptors.hdf5 import open_hdf5
from isc_fast.descriptors.store import load_descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import DamageError, FormatError, IscFastError
from isc_fast.extraction.parts import PartsFolder
from isc_fast.extraction.pipeline import extract
from isc_fast.files.sums import BLOCK_BYTES, SumsWriter, append_sums, read_sums
from isc_fast.files.verified import VerifiedFile
from isc_fast.matching.normalizing.smoothing import smooth_to_file
from isc_fast.runs.checks.verification import verify_file

STRANGERS = Path(__file__).parents[2] / "descriptors" / "strangers"


@pytest.fixture
def injured(request) -> Callable[[bytes, int], Iterator[tuple[str, bytes]]]:
    """Return a function that makes damaged copies of a file's content, each with what was done to it."""

    def make(content: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
        chance = random.Random(seed)
        for number in range(request.config.getoption("--injuries")):
            place = chance.randrange(len(content))
            if number % 5 == 4:
                yield f"cut at {place}", content[:place]
                continue
            if number % 5 == 3:  # where bookkeeping is, which is denser in harm than numbers
                place = chance.choice(
                    [chance.randrange(min(4096, len(content))), len(content) - 1 - chance.randrange(99)]
                )
            value = content[place] ^ chance.randrange(1, 256)
            yield f"byte {place}", content[:place] + bytes([value]) + content[place + 1 :]

    return make


@pytest.fixture
def begun(tmp_path, folder_of) -> tuple[Path, Path, bytes]:
    """A folder of photos, one of which fails, an output of which two of three parts are done, and the bytes that it must get."""
    folder, output = folder_of(tmp_path / "in", 10), tmp_path / "out.h5"
    (folder / "broken.jpg").write_bytes(b"no photo")
    extract(folder, FakeEngine(), tmp_path / "whole.h5", batch_size=2, shard_size=4)
    whole = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "whole.h5").unlink()
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, batch_size=2, shard_size=4)
    return folder, output, whole


@pytest.mark.parametrize("kind", ["output", "negatives"])
@pytest.mark.timeout(36_000)
def test_every_damage_of_a_result_is_noticed(tmp_path, injured, kind):
    file = tmp_path / "a.h5"
    rows = named(unit_rows(0, 500, 64), engine_id="e" * 64, engine={"name": "n"})
    write_descriptors(file, rows)
    if kind == "negatives":
        smooth_to_file(rows, file)
    content = file.read_bytes()
    assert load_descriptors(file).ids == rows.ids
    for what, damaged in injured(content, 1):
        file.write_bytes(damaged)
        with pytest.raises(FormatError):  # what was done: see `what`
            load_descriptors(file)
        with contextlib.suppress(FormatError):
            assert not verify_file(file).sound, what


@pytest.mark.timeout(36_000)
def test_damaged_parts_are_computed_again(begun, injured):
    folder, output, whole = begun
    parts = PartsFolder(output)
    kept = {file: file.read_bytes() for file in parts.folder.iterdir()}
    for what, damaged in injured(kept[parts.part(1)], 2):
        parts.folder.mkdir(exist_ok=True)
        for file, content in kept.items():
            file.write_bytes(content)
        parts.part(1).write_bytes(damaged)
        assert extract(folder, FakeEngine(), output).computed == 7, what
        assert output.read_bytes() == whole, what
        output.unlink()


@pytest.mark.timeout(36_000)
def test_a_damaged_plan_is_made_anew_and_costs_no_part(begun, injured):
    folder, output, whole = begun
    parts = PartsFolder(output)
    kept = {file: file.read_bytes() for file in parts.folder.iterdir()}
    for what, damaged in injured(kept[parts.folder / "plan.sqlite"], 3):
        parts.folder.mkdir(exist_ok=True)
        for file, content in kept.items():
            file.write_bytes(content)
        (parts.folder / "plan.sqlite").write_bytes(damaged)
        assert extract(folder, FakeEngine(), output, batch_size=2, shard_size=4).computed == 3, what
        assert output.read_bytes() == whole, what
        output.unlink()


def test_a_damaged_plan_of_other_images_is_refused(begun):
    """The finished parts are of images that nobody can name any more: the user decides."""
    folder, output, whole = begun
    parts = PartsFolder(output)
    plan = parts.folder / "plan.sqlite"
    plan.write_bytes(plan.read_bytes()[:5000])
    (folder / "broken.jpg").rename(folder / "also.jpg")
    with pytest.raises(FormatError, match=f"lost its checksums.*; remove the folder {parts.folder} to start again"):
        extract(folder, FakeEngine(), output, batch_size=2, shard_size=4)
    assert parts.has_parts()
    (folder / "also.jpg").rename(folder / "broken.jpg")
    made = extract(folder, FakeEngine(), output, batch_size=2, shard_size=4)
    assert made.computed == 3
    assert "made again" in made.note
    assert output.read_bytes() == whole


def test_overwrite_begins_again_beside_a_damaged_plan(begun):
    folder, output, whole = begun
    (PartsFolder(output).folder / "plan.sqlite").write_bytes(b"no plan")
    assert extract(folder, FakeEngine(), output, batch_size=2, shard_size=4, overwrite=True).computed == 11
    assert output.read_bytes() == whole


def test_a_part_that_is_damaged_while_the_run_goes_on_publishes_nothing(begun):
    folder, output, whole = begun

    class Damaging(FakeEngine):
        def run(self, pixels):
            part = PartsFolder(output).part(0)
            content = bytearray(part.read_bytes())
            content[len(content) // 2] ^= 1 + len(self.calls)
            part.write_bytes(content)
            return super().run(pixels)

    with pytest.raises(DamageError, match=r"a part .* is damaged \(bytes 0 to .*; run the same command again"):
        extract(folder, Damaging(), output)
    assert not output.exists()
    assert extract(folder, FakeEngine(), output).computed == 4
    assert output.read_bytes() == whole


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_file_that_is_damaged_while_it_is_read_is_noticed(tmp_path, harm):
    file = tmp_path / "a.h5"
    write_descriptors(file, named(unit_rows(0, 5000, 256)))

    def read() -> None:
        with open_descriptors(file) as found:
            blocks = found.blocks(1000)
            next(blocks)
            if harm == "cut":
                os.truncate(file, file.stat().st_size // 2)
            else:
                with open(file, "r+b") as stream:
                    stream.seek(3_000_000)
                    stream.write(bytes(1))
            list(blocks)

    with pytest.raises(DamageError, match="damaged"):
        read()


def test_an_old_file_that_is_cut_while_it_is_read_is_noticed(tmp_path):
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as made:
        made["vectors"], made["image_names"] = unit_rows(0, 5000, 256), np.array([b"a"] * 5000)

    def read() -> None:
        with open_hdf5(file) as found:
            os.truncate(file, file.stat().st_size // 2)
            found["vectors"][4000:]

    with pytest.raises(DamageError, match="shorter"):
        read()


def test_a_file_that_lost_its_checksums_is_refused(tmp_path):
    file = tmp_path / "a.h5"
    write_descriptors(file, named(unit_rows(0, 50, 16)))
    with h5py.File(file, "r+") as changed:
        changed["more"] = np.arange(100)
    with pytest.raises(DamageError, match="lost its checksums, or another program has changed it"):
        load_descriptors(file)


def test_files_without_checksums_are_still_read(tmp_path):
    """As version 0.2 wrote them: the end of the file in the superblock is that of the data."""
    file = tmp_path / "a.h5"
    rows = named(unit_rows(0, 50, 16))
    write_descriptors(file, rows)
    with open(file, "rb") as stream:
        length = read_sums(stream.fileno(), "a").length
    content = bytearray(file.read_bytes()[:length])
    content[40:48] = length.to_bytes(8, "little")
    file.write_bytes(content)
    with h5py.File(file, "r+") as changed:
        del changed.attrs["checksums"]
    assert load_descriptors(file).ids == rows.ids
    assert [finding.grade for finding in verify_file(file).findings][:2] == ["note", "ok"]


def chained(path: Path) -> None:
    """A virtual data set of itself."""
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((4, 4), "f4")
        layout[:] = h5py.VirtualSource(".", "vectors", (4, 4))
        file.create_virtual_dataset("vectors", layout)
        file["image_names"] = np.array([b"a", b"b", b"c", b"d"])


def elsewhere(path: Path) -> None:
    """A link to a data set of another file."""
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["vectors"] = np.zeros((1, 4), np.float32)
    with h5py.File(path, "w") as file:
        file["vectors"], file["image_names"] = h5py.ExternalLink("other.h5", "vectors"), np.array([b"a"])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (STRANGERS / "crashes.h5", "ends the process that reads it (SIGSEGV)"),
        (STRANGERS / "hangs.h5", "does not come to an end"),
        (chained, "other files"),
        (elsewhere, "other files"),
    ],
    ids=["crashes", "hangs", "chained", "elsewhere"],
)
@pytest.mark.parametrize("verb", ["info", "search", "verify"])
def test_a_stranger_that_crashes_or_hangs_costs_a_line(tmp_path, capfd, made, words, verb):
    file = made if isinstance(made, Path) else tmp_path / "made.h5"
    if not isinstance(made, Path):
        made(file)
    began = time.monotonic()
    more = [str(file), "-o", str(tmp_path / "m.csv")] if verb == "search" else []
    assert main([verb, str(file), *more]) == 1
    out, err = capfd.readouterr()
    assert words in out + err
    assert time.monotonic() - began < 60


def test_a_program_that_keeps_a_damaged_file_s_error_ends_well(tmp_path):
    """HDF5 frees what h5py left after Python's end, and crashed there."""
    file = tmp_path / "a.h5"
    write_descriptors(file, named(unit_rows(0, 50, 16)))
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    (tmp_path / "b.h5").write_bytes(content)
    code = """
import builtins, sys
import isc_fast
builtins.kept = kept = []
kept.append(kept)
for name in sys.argv[1:]:
    context = isc_fast.open_descriptors(name)
    try:
        kept += [context, context.__enter__()]
    except isc_fast.IscFastError as error:
        kept.append(error)
print(len(kept))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, file, tmp_path / "b.h5"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7])
def test_a_verified_file_gives_what_any_file_gives(tmp_path, size):
    """Reads of any place and length, also over the end."""
    file = tmp_path / "a"
    content = np.random.default_rng(size).bytes(size)
    file.write_bytes(content)
    append_sums(file)
    descriptor = os.open(file, os.O_RDONLY)
    stream = VerifiedFile(file, descriptor, read_sums(descriptor, "a"))
    chance = random.Random(size)
    for _ in range(50):
        start, length = chance.randrange(size), chance.choice([1, 100, BLOCK_BYTES, 2 * BLOCK_BYTES + 5])
        stream.seek(start)
        expected = content[start : start + length]
        assert stream.read(length)[: len(expected)] == expected
    stream.close()


def test_sums_do_not_depend_on_the_order_of_writing(tmp_path):
    size = 5 * BLOCK_BYTES + 123
    for seed in range(20):
        chance = random.Random(seed)
        content, writer, at = bytearray(size), SumsWriter(), 0
        while at < size:  # from front to back in odd pieces, with changes in between
            length = min(size - at, chance.choice([1, 1000, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 9]))
            pieces = [(at, length)]
            if chance.random() < 0.3 and at:
                place = chance.randrange(at)
                pieces.append((place, min(at - place, chance.choice([3, 70_000]))))
            for start, count in pieces:
                content[start : start + count] = chance.randbytes(count)
                writer.wrote(start, memoryview(content)[start : start + count])
            at += length
        made = writer.finish(lambda start, count, content=content: content[start : start + count], size)
        for number in range(made.count):
            start = number * BLOCK_BYTES
            assert made.holds(number, memoryview(content)[start : start + made.size_of(number)]), (seed, number)


def test_verify_says_what_is_wrong_with_sound_bytes(tmp_path, capsys):
    rows = np.array(unit_rows(0, 6, 8))
    rows[1, 2], rows[3] = np.nan, rows[3] * 2
    file = tmp_path / "a.h5"
    write_descriptors(file, named(rows, engine_id="e" * 64))
    assert main(["verify", str(file), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    problems = {finding["what"]: finding["words"] for finding in found["findings"] if finding["grade"] == "problem"}
    assert not found["sound"]
    assert set(problems) == {"numbers", "norms"}
    assert "the rows 1 hold NaN" in problems["numbers"]
    assert "the rows 3 have another length" in problems["norms"]


def test_verify_holds_parts_against_the_plan(begun, capsys):
    folder, output, _ = begun
    parts = PartsFolder(output)
    assert main(["verify", str(parts.folder)]) == 0
    assert "2 are done and sound, 1 are to be computed" in capsys.readouterr().out
    content = bytearray(parts.part(0).read_bytes())
    content[3000] ^= 255
    parts.part(0).write_bytes(content)
    assert main(["verify", str(parts.folder)]) == 1
    assert "the parts 0 are damaged" in capsys.readouterr().out
    os.replace(parts.part(1), parts.part(0))  # a sound file of another shard
    assert main(["verify", str(parts.folder)]) == 1
    capsys.readouterr()
    assert main(["info", str(parts.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = {"kind": "unfinished extraction", "output": str(output), "images": 11, "parts": 3, "parts_done": 1}
    assert expected.items() <= told.items()
    assert str(folder) in told["inputs"]
    empty = folder.with_name("empty.parts")
    empty.mkdir()
    with pytest.raises(IscFastError, match="holds no plan"):
        verify_file(empty)
    assert main(["info", str(empty)]) == 1
    assert "holds no plan of this version" in capsys.readouterr().err
