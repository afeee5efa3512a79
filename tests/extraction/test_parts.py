"""The folder of an unfinished extraction: what a damaged plan, one of isc-fast 0.1 or equal ids do to resuming."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, Interrupted
from helpers_files import cut_sums

from isc_fast.descriptors.store import open_descriptors
from isc_fast.errors import DamageError, FormatError, OutputError
from isc_fast.extraction import pipeline
from isc_fast.extraction.parts import PartsFolder
from isc_fast.extraction.pipeline import extract
from isc_fast.extraction.plan import Plan
from isc_fast.items import Item
from isc_fast.sources.listing import Listing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def begun(tmp_path: Path, folder_of) -> tuple[Path, Path, bytes]:
    """A folder of photos, an output of which two of three parts are done, and the bytes that it must get."""
    folder, output = folder_of(tmp_path / "in", 11), tmp_path / "out.h5"
    extract(folder, FakeEngine(), tmp_path / "whole.h5", batch_size=2, shard_size=4)
    whole = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "whole.h5").unlink()
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, batch_size=2, shard_size=4)
    return folder, output, whole


def plan_file(output: Path) -> Path:
    return PartsFolder(output).folder / "plan.sqlite"


def to_json(output: Path) -> Path:
    """Store the plan as isc-fast 0.1 did."""
    file = plan_file(output).with_suffix(".json")
    file.write_text("".join(piece + "\n" for piece in Plan.read(plan_file(output)).pieces()), "ascii")
    plan_file(output).unlink()
    return file


def test_only_the_plan_the_lock_and_the_parts_lie_in_the_folder(begun):
    _, output, _ = begun
    names = ["lock", "part-000000.h5", "part-000001.h5", "plan.sqlite"]
    assert sorted(os.listdir(PartsFolder(output).folder)) == names


def test_a_part_that_a_lost_worker_of_an_older_run_wrote_is_refused_and_computed_anew(begun, monkeypatch):
    """It comes when all shards are done, and before they are put together."""
    photos, output, whole = begun
    real = pipeline.assemble_parts

    def late(parts: PartsFolder, plan: Plan, *arguments: object) -> object:
        shard = plan.shard(1)
        parts.write_part("f" * 64, shard, np.ones((len(shard.items), 8), np.float32), [])
        return real(parts, plan, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "assemble_parts", late)
    words = r"a part of this extraction is damaged \(part-000001.h5 is of another run\); run the same command again"
    with pytest.raises(DamageError, match=words):
        extract(photos, FakeEngine(), output, batch_size=2, shard_size=4)
    assert not output.exists()
    monkeypatch.setattr(pipeline, "assemble_parts", real)
    assert extract(photos, FakeEngine(), output).computed == 4
    assert output.read_bytes() == whole


def test_what_isc_fast_0_1_began_is_finished(begun, tmp_path):
    folder, output, whole = begun
    to_json(output)
    made = extract(folder, FakeEngine(), output)
    assert (made.computed, made.note) == (3, None)
    assert output.read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["in", "out.h5"]


def test_a_folder_with_both_plans_is_resumed(begun):
    """A process that is killed while it stores the plan of isc-fast 0.1 anew may leave both."""
    folder, output, whole = begun
    content = plan_file(output).read_bytes()
    to_json(output)
    plan_file(output).write_bytes(content)
    assert extract(folder, FakeEngine(), output).computed == 3
    assert output.read_bytes() == whole


def test_a_damaged_plan_of_isc_fast_0_1_is_refused(begun):
    folder, output, _ = begun
    file = to_json(output)
    file.write_text(file.read_text()[:-5])
    with pytest.raises(FormatError, match=f"damaged .*; remove the folder {PartsFolder(output).folder} to start again"):
        extract(folder, FakeEngine(), output)
    assert PartsFolder(output).has_parts()


def change_a_letter(output: Path, name: str) -> None:
    """As a bad disk might: the file is a sound table, and one path is another."""
    content = plan_file(output).read_bytes()
    assert content.count(os.fsencode(name)) == 1
    plan_file(output).write_bytes(content.replace(os.fsencode(name), os.fsencode("?" + name[1:])))


def test_a_damaged_plan_of_the_same_inputs_is_made_anew(begun):
    folder, output, whole = begun
    change_a_letter(output, sorted(os.listdir(folder))[9])
    made = extract(folder, FakeEngine(), output)
    assert (made.computed, made.note, list(made.failures)) == (3, None, [])
    assert output.read_bytes() == whole


def test_a_damaged_plan_of_other_images_is_refused(begun):
    folder, output, _ = begun
    names = sorted(os.listdir(folder))
    change_a_letter(output, names[9])
    (folder / names[0]).unlink()
    words = r"damaged \(bytes 0 to \d+ are not those that were written\); remove the folder"
    with pytest.raises(FormatError, match=words):
        extract(folder, FakeEngine(), output)
    assert PartsFolder(output).has_parts()


def test_a_file_of_something_else_is_refused_or_overwritten_by_hand(begun):
    folder, output, whole = begun
    plan_file(output).write_text("something else")
    with pytest.raises(FormatError, match=f"remove the folder {PartsFolder(output).folder} to start again"):
        extract(folder, FakeEngine(), output)
    PartsFolder(output).remove()
    assert extract(folder, FakeEngine(), output, batch_size=2, shard_size=4).computed == 11
    assert output.read_bytes() == whole


@pytest.mark.parametrize(("bad", "unique"), [(False, False), (True, True)])
def test_a_file_says_whether_the_ids_of_a_plan_differ(tmp_path, photos, bad, unique):
    """Two images of one id are two rows of the file, unless one has failed, in a shard of its own."""
    items = [Item("a", str(photos[0])), Item("b", str(photos[1])), Item("a", str(photos[2]))]
    if bad:
        items[2] = Item("a", str(tmp_path / "missing.jpg"))
    extract(Listing(items), FakeEngine(), tmp_path / "out.h5", batch_size=2, shard_size=2)
    with open_descriptors(tmp_path / "out.h5") as found:
        assert list(found.ids) == (["a", "b"] if bad else ["a", "b", "a"])
        assert found.ids.unique == unique


def test_a_file_says_that_the_ids_of_a_listing_differ(tmp_path, folder_of):
    extract(folder_of(tmp_path / "in", 5), FakeEngine(), tmp_path / "out.h5", batch_size=2, shard_size=2)
    with open_descriptors(tmp_path / "out.h5") as found:
        assert found.ids.unique


@pytest.mark.parametrize("name", ["thesis.docx", "part-1.h5.bak", ".hidden", "plan.sqlite.old"])
def test_a_folder_of_that_name_with_other_files_is_refused(tmp_path, folder_of, name):
    folder_of(tmp_path / "photos", 2)
    mine = tmp_path / "out.h5.parts"
    mine.mkdir()
    (mine / name).write_text("mine")
    with pytest.raises(OutputError, match="which is not isc-fast's"):
        extract(tmp_path / "photos", FakeEngine(), tmp_path / "out.h5", overwrite=True)
    assert [(file.name, file.read_text()) for file in mine.iterdir()] == [(name, "mine")]


def test_a_file_that_somebody_puts_there_meanwhile_stays(begun):
    folder, output, whole = begun
    engine = FakeEngine()
    honest = engine.run

    def run(pixels):
        (PartsFolder(output).folder / "mine").write_text("mine")
        return honest(pixels)

    engine.run = run
    extract(folder, engine, output)
    assert output.read_bytes() == whole
    assert os.listdir(PartsFolder(output).folder) == ["mine"]


def test_a_prepared_link_in_the_place_of_the_lock_is_not_followed(tmp_path, folder_of):
    folder_of(tmp_path / "photos", 2)
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out.h5.parts").mkdir()
    (tmp_path / "out.h5.parts" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="cannot write"):
        extract(tmp_path / "photos", FakeEngine(), tmp_path / "out.h5")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    "script",
    [
        "ALTER TABLE images RENAME TO hidden; CREATE VIEW images AS SELECT * FROM hidden",
        "CREATE TRIGGER t AFTER INSERT ON images BEGIN SELECT 1; END",
        "DROP TABLE head; CREATE VIEW head AS WITH RECURSIVE n(text) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT * FROM n",
    ],
)
def test_a_plan_that_is_a_program_is_not_run(begun, script):
    folder, output, _ = begun
    cut_sums(plan_file(output))
    with contextlib.closing(sqlite3.connect(plan_file(output))) as db:
        db.executescript(script)
    with pytest.raises(FormatError, match="it has other tables than a plan"):
        extract(folder, FakeEngine(), output)


def test_a_plan_that_may_not_be_read_is_told_in_the_system_s_words(begun, monkeypatch):
    folder, output, _ = begun
    honest = os.open

    def refuse(path, flags, *arguments, **options):
        if os.fspath(path).endswith("/plan.sqlite"):
            raise PermissionError(13, "Permission denied", path)
        return honest(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(
        FormatError, match=r"cannot read the plan of this extraction, .*plan\.sqlite: Permission denied"
    ):
        extract(folder, FakeEngine(), output)


WITHOUT_LOCKS = """
import sys
sys.path[:0] = ["tests", "tests/files"]
from test_locks import without_locks
without_locks(sys.argv[1], int(sys.argv[2]))
from isc_fast.cli.main import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_works_and_a_second_run_is_still_refused(tmp_path, folder_of, number):
    folder, output = folder_of(tmp_path / "photos", 3), tmp_path / "out.h5"
    arguments = ["extract", str(folder), "--engine", "demo", "--device", "cpu,cpu", "-o", str(output)]
    command = [sys.executable, "-c", WITHOUT_LOCKS, str(tmp_path), str(number), *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path.parent)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)

    lock = PartsFolder(output).folder / "lock"
    lock.parent.mkdir()
    lock.touch()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), str(number), str(lock)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        second = run()
        assert (second.returncode, second.stderr) == (
            1, f"error: another process is extracting to {output}: wait for it, or end it\n",
        )  # fmt: skip
    finally:
        holder.kill()
        holder.wait()
    done = run()
    assert done.returncode == 0, done.stderr
    with open_descriptors(output) as found:
        assert len(found) == 3


HOLDER = """
import sys, time
sys.path[:0] = ["tests", "tests/files"]
from pathlib import Path
from test_locks import without_locks
from isc_fast.files.locks import locked
without_locks(sys.argv[1], int(sys.argv[2]))
path = Path(sys.argv[3])
with open(path) as stream, locked(stream.fileno(), path):
    print("held", flush=True)
    time.sleep(600)
"""
