"""Archives and tables that are planned as they are: the same rows as where each photo is listed, from a plan of a few lines."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from buckets import use
from fakes import FakeEngine, Interrupted
from helpers_containers import WRITERS
from spoiling_proxy import proxy_to
from toy_runner import Toy

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.manifest import read_manifest
from isc_fast.descriptors.store import load_descriptors
from isc_fast.errors import InputError, MismatchError
from isc_fast.extraction.job import Request
from isc_fast.extraction.pipeline import extract, extract_with
from isc_fast.extraction.plan import MOST_KEPT_PARTS, Plan, container_shard_size
from isc_fast.extraction.share import Share
from isc_fast.sources.listing import list_images
from isc_fast.sources.whole_containers import Containers

SIZES = {"batch_size": 2, "shard_size": 2, "by_container": True}


@pytest.fixture
def shards(tmp_path, photos) -> Path:
    """Five tars, one of them cut short, one without photos, one that is none; a zip with a damaged photo and one in a folder."""
    folder = tmp_path / "shards"
    (folder / "sub").mkdir(parents=True)
    content = [photo.read_bytes() for photo in photos[:20]]
    for number in range(3):
        some = {f"{place}.jpg": content[4 * number + place] for place in range(4)}
        WRITERS["tar"](folder / f"a{number}.tar", {**some, "2.png": content[0], "0.txt": b"a label"})
    whole = (folder / "a1.tar").read_bytes()
    (folder / "a1.tar").write_bytes(whole[: len(whole) // 2])
    WRITERS["tar"](folder / "b.tar", {"note.txt": b"no photo"})
    (folder / "c.tar").write_bytes(b"no tar at all" * 99)
    WRITERS["zip"](folder / "d.zip", {"x.jpg": content[12], "y.jpg": content[13][:500], "z/x.jpg": content[14]})
    WRITERS["zip"](folder / "sub" / "d.zip", {"x.jpg": content[15]})
    return folder


def same(made, plain) -> None:
    one, two = load_descriptors(made), load_descriptors(plain)
    assert list(one.ids) == list(two.ids)
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert list(one.failures) == list(two.failures)
    assert list(one.notes) == list(two.notes)
    np.testing.assert_array_equal(one.stamps, two.stamps)


def plan_of(folder) -> Plan:
    (file,) = Path(folder).glob("*/plan.sqlite")
    return Plan.read(file)


# --- the same rows


def test_the_rows_are_those_of_a_list_of_photos(tmp_path, shards):
    plain = extract(shards, FakeEngine(), tmp_path / "plain.h5", batch_size=2)
    made = extract(shards, FakeEngine(), f"{tmp_path}/out/", **SIZES)
    isc_fast.assemble(made.path, tmp_path / "made.h5")
    assert {"a1#end", "c#end", "d/y"} == {row.id for row in made.failures}
    assert (made.count, made.computed, made.complete) == (plain.count, plain.computed, True)
    with isc_fast.open_descriptors(tmp_path / "out") as found:
        assert found.ids.unique
    assert isc_fast.verify_file(tmp_path / "out").sound
    assert [item.id for item in plan_of(tmp_path / "out").items] == ["a0", "a1", "a2", "b", "c", "d", "sub/d"]
    assert len(read_manifest(tmp_path / "out").parts) == 4
    one, two = load_descriptors(tmp_path / "made.h5"), load_descriptors(tmp_path / "plain.h5")
    assert list(one.ids) == list(two.ids)
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert list(one.failures) == list(two.failures)


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_every_kind_of_container(tmp_path, photos, suffix):
    for number in range(2):
        some = {photo.name: photo.read_bytes() for photo in photos[3 * number : 3 * number + 4]}
        WRITERS[suffix](tmp_path / f"{number}.{suffix}", some)
    files = [tmp_path / f"{number}.{suffix}" for number in range(2)]
    made = extract(files, FakeEngine(), f"{tmp_path}/out/", **SIZES)
    extract(files, FakeEngine(), f"{tmp_path}/plain/", batch_size=2)
    assert made.count == 8
    same(tmp_path / "out", tmp_path / "plain")


def test_a_container_without_photos_is_an_empty_part(tmp_path, shards):
    extract(shards, FakeEngine(), f"{tmp_path}/out/", batch_size=2, shard_size=1, by_container=True)
    assert [part.rows for part in read_manifest(tmp_path / "out").parts] == [5, 2, 5, 0, 0, 2, 1]
    with pytest.raises(InputError, match="there is no photo in the 1 containers"):
        extract(shards / "b.tar", FakeEngine(), f"{tmp_path}/none/", by_container=True)
    assert not (tmp_path / "none").exists()


def test_choices_hold_in_containers_too(tmp_path, shards):
    choice = isc_fast.Choice(exclude=("2.*",))
    for output, more in (
        (f"{tmp_path}/out/", {"by_container": True, "devices": "cpu,cpu"}),
        (tmp_path / "plain.h5", {}),
    ):
        extract(shards, "demo", output, choice=choice, ids="path", batch_size=2, **more)
    assert list(load_descriptors(tmp_path / "out").ids) == list(load_descriptors(tmp_path / "plain.h5").ids)
    assert "a0/2.png" not in load_descriptors(tmp_path / "out").ids


# --- whoever computes, in whatever order


@pytest.mark.parametrize("seed", range(2))
def test_any_mix_of_executors_deaths_and_orders_makes_one_manifest(tmp_path, shards, seed):
    extract(shards, "demo", f"{tmp_path}/one/", **SIZES)
    wanted = (tmp_path / "one" / "manifest.json").read_bytes()
    chance, output = random.Random(seed), f"{tmp_path}/out/"
    for step in chance.sample(["share", "share", "processes", "killed"], 3):
        if step == "killed":
            with pytest.raises(KeyboardInterrupt):
                extract(shards, _Stops("demo", chance.randrange(3)), output, **SIZES)
        else:
            devices = {"devices": "cpu,cpu"} if step == "processes" else {}
            extract(shards, "demo", output, share=Share(chance.randrange(3), 3), **devices, **SIZES)
    extract(shards, "demo", output, **SIZES)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == wanted


class _Stops:
    """An engine that is interrupted at its n-th call."""

    def __init__(self, name: str, calls: int) -> None:
        self._engine, self._left = isc_fast.load_engine(name), calls

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def run(self, pixels):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._engine.run(pixels)


def test_another_runner_expands_too(tmp_path, shards):
    request = Request(batch_size=2, shard_size=2, by_container=True)
    extract_with(Toy(FakeEngine(), 1, deaths=2), shards, f"{tmp_path}/out/", request)
    extract(shards, FakeEngine(), f"{tmp_path}/plain/", batch_size=2)
    same(tmp_path / "out", tmp_path / "plain")


# --- what has changed


def test_a_container_that_changes_while_it_is_described_is_named(tmp_path, shards):
    with pytest.raises(KeyboardInterrupt):
        extract(shards, Interrupted(), f"{tmp_path}/out/", **SIZES)
    assert isc_fast.verify_file(tmp_path / "out").sound
    os.utime(shards / "d.zip", ns=(1, 1))
    with pytest.raises(
        InputError, match=r"shards/d.zip is gone, or has changed since this extraction was planned: put it back"
    ):
        extract(shards, FakeEngine(), f"{tmp_path}/out/", **SIZES)
    (shards / "d.zip").unlink()
    with pytest.raises(InputError, match=r"shards/d.zip is gone"):
        extract(shards, FakeEngine(), f"{tmp_path}/out/", **SIZES)


def test_a_finished_result_is_left_or_refused_in_words(tmp_path, shards, capsys):
    output = f"{tmp_path}/out/"
    extract(shards, FakeEngine(), output, **SIZES)
    engine = FakeEngine()
    assert extract(shards, engine, output, by_container=True).computed == 0
    assert engine.calls == []
    with pytest.raises(
        MismatchError, match=r"was planned with --by-container .*: run the same command again, or give another"
    ):
        extract(shards, FakeEngine(), output)
    with pytest.raises(InputError, match="failed cannot be tried again alone"):
        extract(shards, FakeEngine(), output, by_container=True, retry_failed=True)
    os.utime(shards / "a2.tar", ns=(1, 1))
    with pytest.raises(
        MismatchError, match=r"made otherwise \(\S+a2.tar has changed\), and by containers nothing is updated: give"
    ):
        extract(shards, FakeEngine(), output, by_container=True)
    (shards / "a2.tar").unlink()
    with pytest.raises(MismatchError, match="0 containers are new, 1 gone"):
        extract(shards, FakeEngine(), output, by_container=True)
    assert extract(shards, FakeEngine(), output, overwrite=True, **SIZES).count == 10
    extract(shards, FakeEngine(), f"{tmp_path}/plain/", batch_size=2)
    with pytest.raises(MismatchError, match="was planned by images, without --by-container"):
        extract(shards, FakeEngine(), f"{tmp_path}/plain/", by_container=True)


# --- what is refused


def test_what_cannot_be_planned_so_is_one_line(tmp_path, shards, folder_of, capsys):
    folder_of(tmp_path / "photos", 2)
    for inputs, flags, output, words in (
        ([shards], [], "out.h5", "is one file, and containers are planned for a folder that keeps its parts"),
        ([shards], ["--limit", "3"], "out/", "--limit (in Python limit) counts images"),
        ([shards], ["--ids", "stem"], "out/", "by one of the rules auto, path, not stem"),
        ([tmp_path / "photos"], [], "out/", "is no archive and no table, and --by-container"),
        ([shards / "d.zip", shards / "sub" / "d.zip"], [], "out/", "would both begin with 'd'"),
        ([tmp_path / "none.tar"], [], "out/", "there is no "),
    ):
        command = [
            "extract",
            *map(str, inputs),
            "--engine",
            "demo",
            "--by-container",
            "-o",
            f"{tmp_path}/{output}",
            *flags,
        ]
        assert main(command) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1, said
        assert words in said[0]
        assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="lists archives and tables by their names"):
        extract(list_images(shards), FakeEngine(), f"{tmp_path}/out/", by_container=True)


def test_ids_of_a_container_never_begin_as_those_of_another(tmp_path, photos):
    (tmp_path / "in" / "a").mkdir(parents=True)
    WRITERS["tar"](tmp_path / "in" / "a.tar", {"b/c.jpg": photos[0].read_bytes()})
    WRITERS["tar"](tmp_path / "in" / "a" / "b.tar", {"c.jpg": photos[1].read_bytes()})
    with pytest.raises(InputError, match=r"photos in \S+a.tar and in \S+a/b.tar would both begin with 'a/b'"):
        Containers(tmp_path / "in").list()


# --- how much there is of it


@pytest.mark.parametrize(
    ("count", "total_bytes", "parts"),
    [(1, 1 << 30, 1), (10_000, 10_000 << 30, 10_000), (100_000, 100_000 << 30, 100_000), (10**6, 10**6 << 27, 100_000)],
)
def test_parts_are_neither_too_many_nor_too_large(count, total_bytes, parts):
    size = container_shard_size(count, total_bytes)
    assert -(-count // size) == parts <= MOST_KEPT_PARTS
    assert container_shard_size(5000, 5000 << 10) == 5000, "small ones are one part"


def test_planning_looks_into_no_container(tmp_path, photos, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(300):
        (tmp_path / "in" / f"{number:05d}.tar").write_bytes(b"")
    monkeypatch.setattr("isc_fast.sources.containers.open_readable", None)
    found = Containers(tmp_path / "in").list()
    assert [item.id for item in found.found] == [f"{number:05d}" for number in range(300)]


# --- from bucket to bucket


def test_a_bucket_is_planned_by_its_listing_alone(tmp_path, shards, bucket, monkeypatch):
    bucket.put_folder(shards, "in/")
    with proxy_to(bucket.port, lambda *_: None) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        assert len(Containers(f"{bucket.url}/in/").list().found) == 7
        assert proxy.seen.total() <= 4
    use(monkeypatch, tmp_path, f"http://127.0.0.1:{bucket.port}")
    made = extract(f"{bucket.url}/in/", FakeEngine(), f"{bucket.url}/out/", **SIZES)
    extract(shards, FakeEngine(), f"{tmp_path}/here/", **SIZES)
    here, there = load_descriptors(tmp_path / "here"), load_descriptors(made.path)
    assert list(here.ids) == list(there.ids)
    np.testing.assert_array_equal(here.vectors, there.vectors)
    assert [row.id for row in here.failures] == [row.id for row in there.failures]
    assert extract(f"{bucket.url}/in/", FakeEngine(), f"{bucket.url}/out/", by_container=True).computed == 0
    bucket.put({"in/a0.tar": (shards / "a2.tar").read_bytes()})
    with pytest.raises(
        MismatchError,
        match=r"\(s3://\S+/in/a0.tar has changed\), and by containers nothing is updated: give another output$",
    ):
        extract(f"{bucket.url}/in/", FakeEngine(), f"{bucket.url}/out/", by_container=True)
