"""A folder as output: the parts stay, a manifest names them, and jobs that know nothing of each other make the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, Interrupted
from helpers_files import with_two_that_are_none
from PIL import Image
from toy_runner import Toy

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.manifest import read_manifest
from isc_fast.descriptors.store import open_descriptors
from isc_fast.errors import FormatError, InputError, MismatchError, OutputError
from isc_fast.extraction.job import Request
from isc_fast.extraction.output_folder import read_begun
from isc_fast.extraction.pipeline import extract, extract_with
from isc_fast.extraction.plan import MOST_KEPT_PARTS, default_shard_size, folder_shard_size
from isc_fast.extraction.share import Share
from isc_fast.files import atomic
from isc_fast.items import Item
from isc_fast.sources.base import Source
from isc_fast.sources.listing import Listing

SIZES = {"batch_size": 2, "shard_size": 4}
JOB = Path(__file__).resolve().parents[1] / "array_job.py"


@pytest.fixture
def photos(tmp_path, folder_of) -> Path:
    """22 photos and two files that are none: six shards."""
    return with_two_that_are_none(folder_of(tmp_path / "in", 22))


@pytest.fixture
def whole(tmp_path, photos) -> bytes:
    extract(photos, FakeEngine(), tmp_path / "whole.h5", **SIZES)
    return (tmp_path / "whole.h5").read_bytes()


@pytest.fixture
def manifest(tmp_path, photos) -> bytes:
    extract(photos, FakeEngine(), f"{tmp_path}/first/", **SIZES)
    return (tmp_path / "first" / "manifest.json").read_bytes()


def out(tmp_path, name="out") -> str:
    return f"{tmp_path / name}/"


def photo(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    path.unlink(missing_ok=True)  # it is a link to a photo of other tests
    Image.fromarray(pixels).save(path)


def assembled(folder, tmp_path) -> bytes:
    isc_fast.assemble(folder, tmp_path / "assembled.h5")
    return (tmp_path / "assembled.h5").read_bytes()


def parts_of(folder) -> list[Path]:
    return sorted(Path(folder).glob("*/part-*.h5"))


# --- one run


def test_the_parts_stay_with_a_manifest_and_assemble_to_the_file(tmp_path, photos, whole, capsys):
    made = extract(photos, FakeEngine(), out(tmp_path), **SIZES)
    assert (made.path, made.count, made.computed, len(made.failures), made.complete) == (
        tmp_path / "out",
        22,
        24,
        2,
        True,
    )
    found = read_manifest(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [found.plan_id, "manifest.json"]
    names = [*(f"part-{number:06d}.h5" for number in range(6)), "plan.sqlite"]
    assert sorted(os.listdir(tmp_path / "out" / found.plan_id)) == names
    for part in found.parts:
        content = (tmp_path / "out" / part.name).read_bytes()
        assert (part.bytes, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert part.checksums == content[-32:].hex()
    assert (found.rows, found.failures, found.notes, len(found.devices)) == (22, 2, 0, 1)
    assert {"device", "processor", "isc-fast", "numpy"} <= set(found.devices[0])
    assert assembled(tmp_path / "out", tmp_path) == whole
    assert main(["assemble", str(tmp_path / "out" / "manifest.json"), "-o", str(tmp_path / "cli.h5"), "--json"]) == 0
    assert (tmp_path / "cli.h5").read_bytes() == whole
    assert json.loads(capsys.readouterr().out)["count"] == 22


def test_a_finished_folder_is_left_as_it_is(tmp_path, photos, manifest):
    engine, before = FakeEngine(), {file: file.stat().st_mtime_ns for file in (tmp_path / "first").rglob("*")}
    again = extract(photos, engine, tmp_path / "first")  # without the slash: it is one already
    assert (again.computed, again.note, engine.calls) == (0, None, [])
    assert [failure.id for failure in again.failures] == ["0bad", "zbad"]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "first").rglob("*")} == before


@pytest.mark.parametrize("seed", range(3))
def test_another_order_and_deaths_give_the_same_manifest(tmp_path, photos, manifest, seed):
    extract_with(Toy(FakeEngine(), seed, deaths=seed), photos, out(tmp_path), Request(batch_size=2, shard_size=4))
    got = json.loads((tmp_path / "out" / "manifest.json").read_text())
    wanted = json.loads(manifest)
    for parts in (got["parts"], wanted["parts"]):  # the toy does not say what it computes on
        for part in parts:
            assert {"sha256", "bytes", "checksums", "devices"} <= part.keys()
            for name in ("sha256", "bytes", "checksums", "devices"):
                del part[name]
    got["devices"] = wanted["devices"] = []
    assert got == wanted


def test_an_interrupted_run_goes_on(tmp_path, photos, manifest):
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), out(tmp_path), **SIZES)
    assert read_begun(tmp_path / "out") is not None
    with pytest.raises(
        FormatError, match="holds an extraction that is not complete: run the same isc-fast extract again"
    ):
        isc_fast.read_descriptors(tmp_path / "out")
    assert isc_fast.verify_file(tmp_path / "out").sound
    assert extract(photos, FakeEngine(), tmp_path / "out").computed == 24 - 8
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


def test_processes_write_the_same_parts(tmp_path, photos):
    for name, devices in (("one", None), ("two", "cpu,cpu")):
        extract(photos, "demo", out(tmp_path, name), devices=devices, **SIZES)
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()


def test_what_is_no_output_is_refused(tmp_path, photos):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'a.txt', which is not isc-fast's.*: give a new or an empty one"):
        extract(photos, FakeEngine(), out(tmp_path, "mine"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds 'manifest.json', which is not isc-fast's"):
        extract(photos, FakeEngine(), out(tmp_path, "site"))
    with pytest.raises(OutputError, match="with a slash for a folder that keeps its parts"):
        extract(photos, FakeEngine(), tmp_path / "mine")
    with pytest.raises(InputError, match=r"is one file, and jobs share a folder .*: give -o FOLDER/, with a slash"):
        extract(photos, FakeEngine(), tmp_path / "out.h5", share=Share(0, 2))
    with pytest.raises(InputError, match="found no image"):
        extract(tmp_path / "mine", FakeEngine(), out(tmp_path, "none"))
    with pytest.raises(OutputError, match="it is the name of a folder"):
        isc_fast.merge_descriptors([], out(tmp_path, "merged"))
    assert sorted(os.listdir(tmp_path)) == ["in", "mine", "site"], "no litter"


def test_another_engine_is_refused_or_overwrites(tmp_path, photos, manifest):
    with pytest.raises(MismatchError, match=r"by another engine .*: give another output, or --overwrite it"):
        extract(photos, FakeEngine(seed=1), tmp_path / "first")
    assert (tmp_path / "first" / "manifest.json").read_bytes() == manifest
    assert extract(photos, FakeEngine(seed=1), tmp_path / "first", overwrite=True, **SIZES).computed == 24
    extract(photos, FakeEngine(seed=1), tmp_path / "other.h5", **SIZES)
    assert assembled(tmp_path / "first", tmp_path) == (tmp_path / "other.h5").read_bytes()
    assert len(os.listdir(tmp_path / "first")) == 2, "the old parts are gone"


def test_an_interrupted_overwrite_goes_on_and_the_old_set_stays_until_then(tmp_path, photos, manifest, whole):
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), tmp_path / "first", overwrite=True, **SIZES)
    assert (tmp_path / "first" / "manifest.json").read_bytes() == manifest
    assert extract(photos, FakeEngine(), tmp_path / "first", overwrite=True).computed == 16
    assert assembled(tmp_path / "first", tmp_path) == whole
    assert len(os.listdir(tmp_path / "first")) == 2


def test_an_unfinished_one_of_other_settings_is_refused_or_overwritten(tmp_path, photos, manifest):
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), out(tmp_path), **SIZES)
    with pytest.raises(MismatchError, match="holds an unfinished extraction with another batch size"):
        extract(photos, FakeEngine(), tmp_path / "out", batch_size=3)
    assert extract(photos, FakeEngine(), tmp_path / "out", overwrite=True, batch_size=4, shard_size=8).computed == 24
    assert len(parts_of(tmp_path / "out")) == 3


def test_nothing_but_failures_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_text("no picture")
    with pytest.raises(InputError, match="none of the 1 images could be described"):
        extract(tmp_path / "in", FakeEngine(), out(tmp_path))
    assert os.listdir(tmp_path) == ["in"]


# --- bringing it up to date


def change(photos: Path) -> None:
    names = sorted(name for name in os.listdir(photos) if "bad" not in name)
    photo(photos / names[3], 99)  # changed
    photo(photos / "newest.png", 98)
    (photos / names[10]).unlink()
    photo(photos / "0bad.jpg", 97)  # mended: saved as JPEG


@pytest.mark.parametrize("keep_gone", [False, True])
def test_an_update_describes_what_changed_and_equals_the_files(tmp_path, photos, manifest, whole, keep_gone):
    change(photos)
    for output in (tmp_path / "first", tmp_path / "whole.h5"):
        engine = FakeEngine()
        made = extract(photos, engine, output, keep_gone=keep_gone)
        assert (made.computed, made.note) == (3, "1 new, 2 changed, 1 gone, 21 as they were")
        assert sum(engine.calls) == 3
    assert assembled(tmp_path / "first", tmp_path) == (tmp_path / "whole.h5").read_bytes()
    assert len(os.listdir(tmp_path / "first")) == 2, "the old parts are gone"
    assert isc_fast.verify_file(tmp_path / "first").sound
    assert extract(photos, FakeEngine(), tmp_path / "first", keep_gone=keep_gone).computed == 0
    if keep_gone:
        made = extract(photos, FakeEngine(), tmp_path / "first")
        assert (made.computed, made.count, made.note) == (0, 23, "0 new, 0 changed, 1 gone, 24 as they were")


def test_an_interrupted_update_goes_on(tmp_path, photos, manifest):
    for number in range(12):
        photo(photos / f"more{number}.png", number)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), tmp_path / "first")
    with open_descriptors(tmp_path / "first") as found:
        assert len(found) == 22, "the set before is whole meanwhile"
        assert found.vectors[:].shape == (22, 16)
    assert extract(photos, FakeEngine(), tmp_path / "first").computed == 4
    extract(photos, FakeEngine(), tmp_path / "again.h5", **SIZES)
    assert assembled(tmp_path / "first", tmp_path) == (tmp_path / "again.h5").read_bytes()


def test_two_photos_that_changed_their_names_are_noticed(tmp_path, photos, manifest):
    one, two = (photos / name for name in sorted(os.listdir(photos))[2:4])
    one.rename(photos / "aside")
    two.rename(one)
    (photos / "aside").rename(two)
    assert extract(photos, FakeEngine(), tmp_path / "first").computed == 2


def test_failed_ones_are_tried_again(tmp_path, photos, manifest):
    made = extract(photos, FakeEngine(), tmp_path / "first", retry_failed=True)
    assert (made.computed, len(made.failures)) == (2, 2)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), out(tmp_path), **SIZES)
    assert extract(photos, FakeEngine(), tmp_path / "out", retry_failed=True).computed == 20, "and the shard with 0bad"
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


class InMemory(Source):
    """Photos that have no file, so that nobody can see whether they change."""

    def __init__(self, photos: Path) -> None:
        self._photos = photos

    def list(self) -> Listing:
        return Listing([Item(name, f"memory {name}") for name in sorted(os.listdir(self._photos))])

    def open(self, item: Item) -> bytes:
        return (self._photos / item.id).read_bytes()


def test_photos_in_memory(tmp_path, photos):
    assert extract(InMemory(photos), FakeEngine(), out(tmp_path), **SIZES).count == 22
    assert read_manifest(tmp_path / "out").stamps is None
    assert extract(InMemory(photos), FakeEngine(), out(tmp_path)).computed == 0
    with pytest.raises(InputError, match=r"nobody looked at the photos .*: --overwrite describes all of them"):
        extract(InMemory(photos), FakeEngine(), out(tmp_path), retry_failed=True)


def test_a_part_that_is_gone_or_cut_is_computed_again(tmp_path, photos, manifest):
    parts = parts_of(tmp_path / "first")
    parts[1].unlink()
    parts[3].write_bytes(parts[3].read_bytes()[:-1])
    made = extract(photos, FakeEngine(), tmp_path / "first")
    assert (made.computed, made.note) == (8, "2 of 6 parts were gone or cut, and are computed again")
    assert (tmp_path / "first" / "manifest.json").read_bytes() == manifest
    parts[1].unlink()
    (photos / "newest.png").write_bytes((photos / os.listdir(photos)[0]).read_bytes())
    with pytest.raises(FormatError, match=rf"the part \w+/{parts[1].name} of .* is not there; copy it"):
        extract(photos, FakeEngine(), tmp_path / "first")


def test_a_damaged_manifest_is_written_anew_from_the_parts(tmp_path, photos, manifest):
    file = tmp_path / "first" / "manifest.json"
    file.write_bytes(manifest[:-9])
    with pytest.raises(
        FormatError, match=r"manifest.json is damaged .*; copy it from a sound copy, or remove it and run"
    ):
        extract(photos, FakeEngine(), tmp_path / "first")
    file.unlink()
    assert extract(photos, FakeEngine(), f"{tmp_path}/first/", **SIZES).computed == 0
    assert file.read_bytes() == manifest
    file.write_bytes(manifest[:-9])
    extract(photos, FakeEngine(), tmp_path / "first", overwrite=True, **SIZES)
    assert file.read_bytes() == manifest


def test_what_a_killed_job_left_goes_when_it_is_a_day_old(tmp_path, photos, manifest):
    left, newer = (tmp_path / "first" / (digit * 64) for digit in "ab")
    for folder in (left, newer):
        folder.mkdir()
    os.utime(left, (1, 1))
    (tmp_path / "first" / f"begun-{'c' * 16}.json").write_text("{}")  # after a manifest that is no more
    assert extract(photos, FakeEngine(), tmp_path / "first").computed == 0
    assert (left.exists(), newer.exists()) == (False, True)
    assert not list((tmp_path / "first").glob("begun-*"))


# --- jobs of an array


def test_jobs_in_any_order_write_one_manifest(tmp_path, photos, manifest):
    for index in (2, 0, 2, 3, 0):
        made = extract(photos, FakeEngine(), out(tmp_path), share=Share(index, 4), **SIZES)
        assert not made.complete
        assert "parts are there; the job that sees the last one writes the manifest" in (made.note or "")
    assert extract(photos, FakeEngine(), out(tmp_path), share=Share(1, 4), **SIZES).complete
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest
    assert extract(photos, FakeEngine(), out(tmp_path), share=Share(3, 4), **SIZES).computed == 0


def test_jobs_share_an_update(tmp_path, photos, manifest, whole):
    for number in range(12):
        photo(photos / f"more{number}.png", number)
    assert [extract(photos, FakeEngine(), tmp_path / "first", share=Share(i, 3)).computed for i in range(3)] == [
        4,
        4,
        4,
    ]
    extract(photos, FakeEngine(), tmp_path / "whole.h5")
    assert assembled(tmp_path / "first", tmp_path) == (tmp_path / "whole.h5").read_bytes()


def test_the_plan_of_the_first_job_counts(tmp_path, photos, manifest):
    extract(photos, FakeEngine(), out(tmp_path), share=Share(0, 2), **SIZES)
    photo(photos / "newest.png", 1)
    made = extract(photos, FakeEngine(), out(tmp_path), share=Share(1, 2), **SIZES)
    assert made.complete
    assert made.note == "the images have changed since this extraction began (24 then, 25 now); it ends as it began"
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest
    assert extract(photos, FakeEngine(), out(tmp_path)).computed == 1, "the next run describes the new one"


@pytest.mark.parametrize("flag", ["overwrite", "retry_failed"])
def test_jobs_cannot_throw_away_each_others_work(tmp_path, photos, flag):
    with pytest.raises(InputError, match=f"--{flag.replace('_', '-')} .* does not go with jobs that share a folder"):
        extract(photos, FakeEngine(), out(tmp_path), share=Share(0, 2), **{flag: True})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "value"), [("checksum", True), ("dtype", "float16")])
def test_what_is_for_one_file_is_refused(tmp_path, photos, name, value):
    with pytest.raises(InputError, match=rf"--{name} .* is for one file, .* give the name of a file"):
        extract(photos, FakeEngine(), out(tmp_path), **{name: value})
    assert not (tmp_path / "out").exists()


def test_without_hard_links_the_bytes_are_the_same(tmp_path, photos, manifest, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(atomic.os, "link", refuse)
    for index in (1, 1, 0):
        extract(photos, FakeEngine(), out(tmp_path), share=Share(index, 2), **SIZES)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


def test_without_locks_the_bytes_are_the_same(tmp_path, photos, manifest, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: None)  # everybody gets every lock, as between hosts
    for index in (1, 0):
        extract(photos, FakeEngine(), out(tmp_path), share=Share(index, 2), **SIZES)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


def test_a_damaged_or_foreign_part_is_replaced_and_a_sound_one_is_not(tmp_path, photos, manifest):
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), out(tmp_path), **SIZES)
    first, second = parts_of(tmp_path / "out")
    second.write_bytes(first.read_bytes())
    kept = first.stat().st_ino
    assert extract(photos, FakeEngine(), out(tmp_path)).computed == 20
    assert first.stat().st_ino == kept
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


def job(photos, output, index="-", count=1, pause_s=0.0, prefix=(), more=()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, str(JOB), str(photos), output, str(index), str(count), str(pause_s), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def namespace() -> tuple[str, ...]:
    """A command that runs another one in a process-id namespace of its own; empty where that is not allowed."""
    command = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    try:
        return command if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0 else ()
    except OSError:
        return ()


@pytest.mark.parametrize("seed", range(3))
def test_random_jobs_kills_and_orders_write_one_manifest(tmp_path, photos, manifest, seed):
    """Several at once, some twice, some killed; then each share once more."""
    chance, count = random.Random(seed), random.Random(seed).randint(2, 4)
    jobs = [job(photos, out(tmp_path), chance.randrange(count), count, 0.05, namespace()) for _ in range(4)]
    for one in jobs:
        if chance.random() < 0.6:
            time.sleep(chance.random())
            one.send_signal(signal.SIGKILL)
    for one in jobs:
        _, errors = one.communicate(timeout=300)
        assert one.returncode in (0, -signal.SIGKILL), errors
    rest = list(range(count))
    chance.shuffle(rest)
    for index in rest:
        one = job(photos, out(tmp_path), index, count)
        assert one.communicate(timeout=300)[0].startswith("computed")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("call", "number"), [("link", 1), ("link", 2), ("link", 7), ("unlink", 9), ("replace", 9), ("fsync", 19)]
)
def test_a_kill_between_any_two_steps_leaves_what_the_next_run_ends(tmp_path, photos, manifest, call, number):
    """Also while a set is brought up to date, where parts of two plans and two manifests follow each other."""
    one = job(photos, out(tmp_path), more=(call, str(number)))
    assert one.wait(timeout=300) == -signal.SIGKILL
    extract(photos, FakeEngine(), out(tmp_path), **SIZES)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest
    change(photos)
    extract(photos, FakeEngine(), tmp_path / "updated.h5", **SIZES)
    one = job(photos, out(tmp_path), more=(call, str(number)))
    assert one.wait(timeout=300) in (0, -signal.SIGKILL)
    extract(photos, FakeEngine(), tmp_path / "out")
    assert assembled(tmp_path / "out", tmp_path) == (tmp_path / "updated.h5").read_bytes()
    kept = [name for name in os.listdir(tmp_path / "out") if not name.endswith(".tmp")]  # which go after a day
    assert len(kept) == 2, "no litter"


def test_two_process_id_namespaces_at_once(tmp_path, photos, manifest):
    if not namespace():
        pytest.skip("this machine does not let its users make process-id namespaces")
    jobs = [job(photos, out(tmp_path), prefix=namespace()) for _ in range(2)]
    for one in jobs:
        words, errors = one.communicate(timeout=300)
        assert words.endswith("complete True\n"), errors
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


# --- which share


def test_shares_are_runs_of_shards_that_make_up_the_whole():
    for shards in (0, 1, 5, 64):
        for count in (1, 3, 7):
            all_shards = [n for index in range(count) for n in Share(index, count).shards(shards)]
            assert all_shards == list(range(shards))
    for index, count in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(InputError, match="there is no share"):
            Share(index, count)


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"ARRAY_TASK_ID": "5", "ARRAY_TASK_MIN": "2", "ARRAY_TASK_COUNT": "4"}, Share(3, 4)),
        ({"ARRAY_TASK_ID": "6", "ARRAY_TASK_MIN": "2", "ARRAY_TASK_COUNT": "4", "ARRAY_TASK_STEP": "2"}, Share(2, 4)),
        ({"PROCID": "1", "NTASKS": "8"}, Share(1, 8)),
        (
            {"ARRAY_TASK_ID": "1", "ARRAY_TASK_MIN": "0", "ARRAY_TASK_COUNT": "2", "PROCID": "1", "NTASKS": "3"},
            Share(4, 6),
        ),
    ],
)
def test_the_share_that_slurm_says(environment, share):
    assert Share.of_slurm({f"SLURM_{name}": value for name, value in environment.items()}) == share


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID is set"),
        ({"ARRAY_TASK_ID": "7", "ARRAY_TASK_MIN": "1", "ARRAY_TASK_COUNT": "3"}, "the task 7 is not one of 3"),
        ({"ARRAY_TASK_ID": "x", "ARRAY_TASK_MIN": "1", "ARRAY_TASK_COUNT": "3"}, "SLURM_ARRAY_TASK_ID is 'x'"),
        ({"ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN is ''"),
    ],
)
def test_what_is_no_share_of_slurms_is_one_line(environment, words):
    with pytest.raises(InputError, match=words):
        Share.of_slurm({f"SLURM_{name}": value for name, value in environment.items()})


def test_flags_that_do_not_go_together(capsys):
    command = ["extract", "none", "--engine", "demo", "-o", "out/"]
    for flags, words in (
        (["--shard-index", "1"], "--shard-index and --num-shards go together"),
        (["--slurm", "--shard-index", "1", "--num-shards", "2"], "leave one out"),
        (["--shard-index", "2", "--num-shards", "2"], "there is no share 2 of 2"),
    ):
        assert main([*command, *flags]) == 1
        assert words in capsys.readouterr().err


def test_the_command_line_says_what_a_share_did(tmp_path, photos, capsys, monkeypatch):
    command = [
        "extract",
        str(photos),
        "--engine",
        "demo",
        "-o",
        out(tmp_path),
        "--shard-size",
        "8",
        "--batch-size",
        "8",
    ]
    assert main([*command, "--shard-index", "0", "--num-shards", "2"]) == 0
    said = capsys.readouterr()
    assert re.match(r".*out: \d+ descriptors, 1 images failed, ", said.out)
    assert "note: 1 of 3 parts are there; the job that sees the last one writes the manifest\n" in said.err
    for name, value in (("ID", "4"), ("MIN", "3"), ("COUNT", "2")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert main([*command, "--slurm", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["complete"], result["descriptors"], result["failures"]) == (True, 22, 2)
    assert main([*command, "--shard-index", "0", "--num-shards", "2"]) == 0
    assert capsys.readouterr().out.endswith("22 descriptors, 2 images failed, complete already\n")


# --- how large parts are


@pytest.mark.parametrize(
    ("count", "parts"), [(1, 1), (10**6, 3907), (4 * 10**7, 4096), (10**8, 10_000), (10**9, 100_000), (10**10, 100_000)]
)
def test_parts_are_neither_too_many_nor_too_large(count, parts):
    size = folder_shard_size(count, 1)
    assert abs(-(-count // size) - parts) <= 0.01 * parts
    assert -(-count // size) <= MOST_KEPT_PARTS
    if count <= 4 * 10**7:
        assert size == default_shard_size(count, 1), "so that the parts assemble to the file of the same photos"


def test_old_temporary_files_go_and_new_ones_stay(tmp_path, photos):
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), out(tmp_path), **SIZES)
    folder = parts_of(tmp_path / "out")[0].parent
    old, new = (folder / f".part-000005.h5.{digit * 16}.isc-fast.tmp" for digit in "ab")
    for file in (old, new):
        file.write_bytes(b"half a part")
    os.utime(old, (1, 1))
    extract(photos, FakeEngine(), out(tmp_path))
    assert (old.exists(), new.exists()) == (False, True)
    shutil.rmtree(tmp_path / "out")
