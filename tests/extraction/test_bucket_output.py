"""A bucket as output: objects are created once, the bytes are those of a folder, and everything that reads a folder reads it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from buckets import use
from fakes import FakeEngine, Interrupted
from helpers_files import with_two_that_are_none
from PIL import Image
from spoiling_proxy import at_random, proxy_to

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.manifest import parts_home, read_manifest
from isc_fast.descriptors.store import open_descriptors
from isc_fast.errors import FormatError, InputError, MismatchError, OutputError, StoreError
from isc_fast.extraction.output_folder import read_begun
from isc_fast.extraction.pipeline import extract
from isc_fast.extraction.share import Share
from isc_fast.files import bucket_home
from isc_fast.files.homes import home_of
from isc_fast.stores import store as store_module

SIZES = {"batch_size": 2, "shard_size": 4}
JOB = Path(__file__).resolve().parents[1] / "array_job.py"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """No pauses between tries."""
    monkeypatch.setattr(store_module, "_PAUSE_S", 0.001)


@pytest.fixture
def photos(tmp_path, folder_of) -> Path:
    """22 photos and two files that are none: six shards."""
    return with_two_that_are_none(folder_of(tmp_path / "in", 22))


@pytest.fixture
def manifest(tmp_path, photos) -> bytes:
    """What the folder on this machine has."""
    extract(photos, FakeEngine(), f"{tmp_path}/first/", **SIZES)
    return (tmp_path / "first" / "manifest.json").read_bytes()


def keys(bucket, prefix="out/") -> list[str]:
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix).get("Contents", [])
    return sorted(one["Key"] for one in found)


def content(bucket, key) -> bytes:
    return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


def manifest_in(bucket) -> bytes:
    return content(bucket, "out/manifest.json")


# --- the same as a folder


def test_a_bucket_holds_what_the_folder_holds(tmp_path, photos, bucket, manifest):
    made = extract(photos, FakeEngine(), f"{bucket.url}/out/", **SIZES)
    assert (made.path, made.count, made.computed, made.complete) == (f"{bucket.url}/out", 22, 24, True)
    assert [row.id for row in made.failures] == ["0bad", "zbad"]
    assert manifest_in(bucket) == manifest
    plan_id = read_manifest(f"{bucket.url}/out").plan_id
    names = [f"{plan_id}/{name}" for name in [*(f"part-{n:06d}.h5" for n in range(6)), "plan.sqlite"]]
    assert keys(bucket) == [f"out/{name}" for name in sorted([*names, "manifest.json"])], "and no litter"
    for name in names[:-1]:
        assert content(bucket, f"out/{name}") == (tmp_path / "first" / name).read_bytes()
    engine = FakeEngine()
    again = extract(photos, engine, f"{bucket.url}/out/")
    assert (again.computed, again.count, engine.calls) == (0, 22, [])


def test_everything_that_reads_a_folder_reads_a_bucket(tmp_path, photos, bucket, capsys):
    url = f"{bucket.url}/out/"
    extract(photos, FakeEngine(), url, **SIZES)
    extract(photos, FakeEngine(), tmp_path / "whole.h5", **SIZES)
    isc_fast.assemble(url, tmp_path / "one.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert isc_fast.verify_file(url).sound
    whole = isc_fast.read_descriptors(tmp_path / "whole.h5")
    for name in (url, f"{url}manifest.json", Path(url)):
        found = isc_fast.read_descriptors(name)
        assert list(found.ids) == list(whole.ids)
        np.testing.assert_array_equal(found.vectors, whole.vectors)
    for verb in (
        ["assemble", url, "-o", "a.h5"],
        ["search", url, url, "-k", "3", "-o", "m.csv"],
        ["search", str(tmp_path / "whole.h5"), url, "-k", "3", "-o", "n.csv"],
        ["merge", url, "--dtype", "float16", "-o", "f.h5"],
        ["convert", url, "-o", "c.h5"],
        ["dedup", url, "--threshold", "0.999", "-o", "dedup"],
        ["find", url, "--in", url, "--threshold", "0.999", "-o", "find"],
        ["info", url],
        ["verify", url],
    ):
        assert (
            main([str(tmp_path / one) if place and verb[place - 1] == "-o" else one for place, one in enumerate(verb)])
            == 0
        )
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "n.csv").read_bytes()
    assert "parts              6" in capsys.readouterr().out


def test_what_is_read_takes_a_bounded_room_on_this_disk(photos, bucket, monkeypatch):
    extract(photos, FakeEngine(), f"{bucket.url}/out/", batch_size=1, shard_size=1)
    monkeypatch.setattr(bucket_home, "KEPT_BYTES", 0)
    monkeypatch.setattr(bucket_home, "LEAST_KEPT", 5)
    home = home_of(f"{bucket.url}/out")
    for part in read_manifest(home).parts:
        assert home.file(part.name).stat().st_size == part.bytes
    (scratch,) = {home.file(read_manifest(home).parts[n].name).parent for n in range(24)}
    assert len(list(scratch.iterdir())) == 5 + 1, "and the lock"
    del home
    assert not scratch.exists()


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(tmp_path, monkeypatch):
    from isc_fast.files import scratch

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os; from isc_fast.files.scratch import ScratchFolder as S; x = S(); print(x.path, flush=True); os._exit(1)"
    left = Path(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"TMPDIR": str(tmp_path)}
        ).stdout.strip()
    )
    held = scratch.ScratchFolder()
    assert left.exists(), "it is young"
    monkeypatch.setattr(scratch, "_YOUNG_S", -1.0)
    scratch.ScratchFolder()
    assert (left.exists(), held.path.exists()) == (False, True)


# --- interrupted, shared, spoilt


def test_an_interrupted_run_goes_on_with_what_a_listing_says(photos, bucket, manifest):
    url = f"{bucket.url}/out/"
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), url, **SIZES)
    assert read_begun(url) is not None
    assert not isc_fast.verify_file(url).findings[1].words.startswith("0 ")
    with pytest.raises(
        FormatError, match="holds an extraction that is not complete: run the same isc-fast extract again"
    ):
        isc_fast.read_descriptors(url)
    assert extract(photos, FakeEngine(), url).computed == 24 - 8
    assert manifest_in(bucket) == manifest


def test_a_photo_that_was_replaced_while_it_was_interrupted_is_said(photos, bucket):
    """Nothing in a bucket is replaced, so its old row stays."""
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), f"{bucket.url}/out/", **SIZES)
    first = next(path for path in sorted(photos.iterdir()) if path.is_symlink())
    target = sorted(photos.iterdir())[-3].resolve()
    first.unlink()
    first.symlink_to(target)
    made = extract(photos, FakeEngine(), f"{bucket.url}/out/", **SIZES)
    assert made.complete
    assert "have changed (0 new, 1 changed, 0 gone" in made.note
    assert "nothing in a bucket is replaced: give another output" in made.note


@pytest.mark.parametrize("seed", range(2))
def test_any_mix_of_jobs_kills_and_orders_makes_one_manifest(tmp_path, photos, bucket, manifest, monkeypatch, seed):
    """Several at once through a network that spoils a quarter of all requests; some are killed, and then each runs once more."""
    chance = random.Random(seed)
    with proxy_to(bucket.port, at_random(0.25, seed)) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        jobs = [job(photos, bucket, chance.randrange(2)) for _ in range(3)]
        for one in jobs:
            if chance.random() < 0.6:
                time.sleep(chance.random() * 3)
                one.send_signal(signal.SIGKILL)
        for one in jobs:
            _, errors = one.communicate(timeout=300)
            assert one.returncode in (0, -signal.SIGKILL), errors
        for index in chance.sample(range(2), 2):
            extract(photos, FakeEngine(), f"{bucket.url}/out/", share=Share(index, 2), **SIZES)
        assert proxy.seen.total() > proxy.seen[""]
    assert manifest_in(bucket) == manifest
    assert sum(key.endswith(".h5") for key in keys(bucket)) == 6


def job(photos, bucket, index) -> subprocess.Popen[str]:
    command = [sys.executable, str(JOB), str(photos), f"{bucket.url}/out/", str(index), "2", "0.05"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_write_there_themselves(tmp_path, photos, bucket):
    extract(photos, "demo", f"{tmp_path}/demo/", **SIZES)
    extract(photos, "demo", f"{bucket.url}/out/", devices="cpu,cpu", **SIZES)
    assert manifest_in(bucket) == (tmp_path / "demo" / "manifest.json").read_bytes()


def test_a_part_that_was_removed_is_computed_again_and_a_damaged_one_is_named(photos, bucket, manifest):
    url = f"{bucket.url}/out/"
    extract(photos, FakeEngine(), url, **SIZES)
    parts = [key for key in keys(bucket) if key.endswith(".h5")]
    bucket.delete(parts[2])
    assert extract(photos, FakeEngine(), url).computed == 4
    assert manifest_in(bucket) == manifest
    damaged = bytearray(content(bucket, parts[3]))
    damaged[2000] ^= 1
    bucket.put({parts[3]: bytes(damaged)})
    with pytest.raises(
        FormatError, match=r"part-000003.h5 of s3://.*/out is damaged .*; copy it from a sound copy, or remove it"
    ):
        isc_fast.assemble(url, Path(photos).parent / "x.h5")
    bucket.delete("out/manifest.json")
    with pytest.raises(FormatError, match=r"the part s3://.*part-000003.h5 is damaged .*; remove it and run the same"):
        extract(photos, FakeEngine(), url, **SIZES)


# --- what is refused


def test_nothing_in_a_bucket_is_replaced(photos, bucket, manifest):
    url = f"{bucket.url}/out/"
    extract(photos, FakeEngine(), url, **SIZES)
    for name in ("overwrite", "retry_failed"):
        with pytest.raises(
            InputError, match="does not go with an output in a bucket, where nothing is replaced; give another"
        ):
            extract(photos, FakeEngine(), url, **{name: True})
    with pytest.raises(MismatchError, match=r"was made by another engine .*: give another output$"):
        extract(photos, FakeEngine(seed=1), url)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "new.png")
    with pytest.raises(
        MismatchError, match=r"have changed \(1 new, .*\), and nothing in a bucket is replaced: give another output"
    ):
        extract(photos, FakeEngine(), url)
    assert manifest_in(bucket) == manifest


def test_another_plan_that_was_begun_is_one_line(photos, bucket):
    url = f"{bucket.url}/out/"
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), url, **SIZES)
    with pytest.raises(
        MismatchError,
        match=r"unfinished extraction with another batch size .*: repeat that command, give another output$",
    ):
        extract(photos, FakeEngine(), url, batch_size=3)


def test_what_is_no_output_is_one_line(tmp_path, photos, bucket, capsys):
    bucket.put({"mine/a.txt": b"mine", "site/manifest.json": b"{}"})
    for name, words in (
        (f"{bucket.url}/mine/", "holds 'a.txt', which is not isc-fast's"),
        (f"{bucket.url}/site/", "holds 'manifest.json', which is not isc-fast's"),
        (f"{bucket.url}/out.h5", "keeps its parts, and has a name with a slash: -o "),
        ("s3://no-such-bucket/out/", "there is no bucket s3://no-such-bucket"),
        ("https://host/out/", "is on a web server, which keeps no results"),
    ):
        assert main(["extract", str(photos), "--engine", "demo", "-o", name]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1, said
        assert words in said[0]
    assert keys(bucket, "") == ["mine/a.txt", "site/manifest.json"], "no litter"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.jpg").write_text("no picture")
    with pytest.raises(InputError, match="none of the 1 images could be described"):
        extract(tmp_path / "none", FakeEngine(), f"{bucket.url}/out/")
    assert keys(bucket) == []
    for name, words in (
        (f"{bucket.url}/none/", "there is no manifest.json under s3://"),
        ("s3://no-such-bucket/out/", "there is no bucket"),
    ):
        assert main(["search", name, name, "-o", str(tmp_path / "m.csv")]) == 1
        assert words in capsys.readouterr().err
    assert main(["search", "a.h5", "b.h5", "-o", f"{bucket.url}/m.csv"]) == 1
    assert parts_home(f"{bucket.url}/none") is None


def test_credentials_that_may_not_write_are_one_line_before_any_work(tmp_path, photos, bucket, monkeypatch):
    def forbid(method, _path):
        return "403" if method in ("PUT", "POST") else None

    with proxy_to(bucket.port, forbid) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        engine = FakeEngine()
        with pytest.raises(
            StoreError, match=r"does not let these credentials create s3://.* \(403 \w+\); .*; or give another output"
        ):
            extract(photos, engine, f"{bucket.url}/out/")
        assert engine.calls == []


def test_a_part_that_is_too_large_for_one_request_is_one_line(photos, bucket, monkeypatch):
    monkeypatch.setattr(bucket_home, "MOST_BYTES", 10_000)
    with pytest.raises(OutputError, match=r"has \d+ bytes, limit 10000 .*--shard-size"):
        extract(photos, FakeEngine(), f"{bucket.url}/out/", **SIZES)


def test_the_command_line_says_where_it_is(photos, bucket, capsys):
    command = [
        "extract",
        str(photos),
        "--engine",
        "demo",
        "-o",
        f"{bucket.url}/out/",
        "--batch-size",
        "8",
        "--shard-size",
        "8",
    ]
    assert main([*command, "--shard-index", "0", "--num-shards", "2"]) == 0
    assert "1 of 3 parts are there" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["path"], said["descriptors"], said["complete"]) == (f"{bucket.url}/out", 22, True)
    with open_descriptors(f"{bucket.url}/out/") as found:
        assert len(found) == 22
