"""What holds for photos in every kind of container."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, Interrupted
from helpers_containers import WRITERS, keys_of, write_tar
from images import encode, make_zoo, noise

from isc_fast import extract
from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.opening import ImageProblem, open_photo
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.descriptors.store import load_descriptors
from isc_fast.errors import InputError
from isc_fast.items import Item
from isc_fast.sources import containers, tables
from isc_fast.sources.cache import Cache
from isc_fast.sources.folders import is_image_name
from isc_fast.sources.listing import list_files, list_images, open_item

SUFFIXES = tuple(WRITERS)
SMALL = {f"{name}.png": encode(noise(40, 30, seed=number), "PNG") for number, name in enumerate("abcdefgh")}


@pytest.fixture(params=SUFFIXES)
def suffix(request) -> str:
    return str(request.param)


def content(item: Item) -> bytes:
    with open_photo(open_item(item)) as stream:
        return stream.read()


def reason(item: Item) -> str:
    with pytest.raises(ImageProblem) as raised:
        open_photo(open_item(item))
    return str(raised.value)


# --- the same photos as in a folder ---


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["pillow", "turbo", "dali-cpu"])
def test_every_decoder_makes_the_pixels_of_the_files(tmp_path, suffix, name):
    pytest.importorskip({"turbo": "simplejpeg", "dali-cpu": "nvidia.dali", "pillow": "PIL"}[name])
    folder = tmp_path / "zoo"
    files, paths = dict[str, bytes](), list[str]()
    for path in (folder / inner for inner in make_zoo(folder) if is_image_name(inner)):
        with contextlib.suppress(OSError):  # some of them are links to what cannot be read
            if path.is_file():
                files[f"{len(paths):03d}.jpg"] = path.read_bytes()
                paths.append(str(path))
    decoder, size = make_decoder(name, 2), Preprocessing(20, 28)
    WRITERS[suffix](tmp_path / f"zoo.{suffix}", files)
    items = list_images(tmp_path / f"zoo.{suffix}", ids="path").items
    (inside,) = decoder.batches([[open_item(item) for item in items]], size)
    (outside,) = decoder.batches([paths], size)
    assert len(items) == len(files) > 60
    assert list(inside.problems) == list(outside.problems)
    np.testing.assert_array_equal(inside.pixels, outside.pixels)


def test_descriptors_are_those_of_the_folder(tmp_path, suffix, photos):
    files = {photo.name: photo.read_bytes() for photo in photos[:11]}
    (tmp_path / "folder").mkdir()
    for name, data in files.items():
        (tmp_path / "folder" / name).write_bytes(data)
    WRITERS[suffix](tmp_path / f"x.{suffix}", files)
    extract(tmp_path / "folder", FakeEngine(), tmp_path / "folder.h5")
    extract(tmp_path / f"x.{suffix}", FakeEngine(), tmp_path / "packed.h5")
    one, two = load_descriptors(tmp_path / "folder.h5"), load_descriptors(tmp_path / "packed.h5")
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert list(two.ids) == [f"x/{key}" for key in keys_of(suffix, files)]


def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path, suffix, monkeypatch):
    files = {f"{number:03d}.png": encode(noise(9, 9, seed=number), "PNG") for number in range(30)}
    WRITERS[suffix](tmp_path / f"x.{suffix}", files)
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    options = {"shard_size": 8, "batch_size": 4}
    extract(tmp_path / f"x.{suffix}", FakeEngine(), tmp_path / "whole" / "out.h5", **options)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        extract(f"x.{suffix}", Interrupted(), "broken/out.h5", **options)
    monkeypatch.chdir(tmp_path / "whole")
    made = extract(tmp_path / f"x.{suffix}", FakeEngine(), tmp_path / "broken" / "out.h5", **options)
    assert 0 < made.computed < 30
    assert (tmp_path / "whole" / "out.h5").read_bytes() == (tmp_path / "broken" / "out.h5").read_bytes()


@pytest.mark.slow
def test_several_processes_make_the_same_bytes(tmp_path, suffix):
    pytest.importorskip("onnxruntime")
    WRITERS[suffix](tmp_path / f"x.{suffix}", SMALL)
    for name, devices in (("one", "cpu"), ("two", "cpu,cpu")):
        (tmp_path / name).mkdir()
        extract(
            *(tmp_path / f"x.{suffix}", "demo", tmp_path / name / "out.h5"),
            **{"devices": devices, "shard_size": 2, "batch_size": 2, "workers": 2},
        )
    assert (tmp_path / "one" / "out.h5").read_bytes() == (tmp_path / "two" / "out.h5").read_bytes()


def test_isolated_decoding_takes_them(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"x.{suffix}", dict(list(SMALL.items())[:3]))
    made = extract(tmp_path / f"x.{suffix}", FakeEngine(), tmp_path / "out.h5", isolated=True, workers=1)
    assert (made.count, len(made.failures)) == (3, 0)


# --- which containers, and under which names ---


def test_a_folder_of_nothing_but_containers_gives_their_photos(tmp_path, suffix):
    folder = tmp_path / "shards"
    (folder / "b").mkdir(parents=True)
    (folder / "README.md").touch()
    WRITERS[suffix](folder / f"b/10.{suffix}", SMALL)
    WRITERS[suffix](folder / f"9.{suffix.upper()}", dict(list(SMALL.items())[:2]))
    keys = keys_of(suffix, SMALL)
    found = list_images(folder)
    assert [item.id for item in found.items] == [*(f"9/{key}" for key in keys[:2]), *(f"b/10/{key}" for key in keys)]
    assert found.ignored_suffixes == {".md": 1}
    assert [content(item) for item in found.items[2:]] == list(SMALL.values())
    other = tmp_path / "other.png"
    other.write_bytes(SMALL["a.png"])
    assert [item.id for item in list_images([folder, other]).items][:1] == [f"shards/9/{keys[0]}"]
    (folder / "cover.png").write_bytes(SMALL["a.png"])
    beside = list_images(folder)
    assert [item.id for item in beside.items] == ["cover"]
    assert beside.ignored_suffixes == {f".{suffix}": 2, ".md": 1}


def test_a_list_may_name_containers(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"x.{suffix}", SMALL)
    WRITERS[suffix](tmp_path / f"y.{suffix}", dict(list(SMALL.items())[:1]))
    (tmp_path / "list.txt").write_text(f"x.{suffix}\none.png\nmine\ty.{suffix}\ngone.{suffix}\n")
    keys = keys_of(suffix, SMALL)
    items = list_images(tmp_path / "list.txt").items
    assert [item.id for item in items] == [*(f"x/{key}" for key in keys), "one", f"mine/{keys[0]}", "gone"]
    assert reason(items[-1]) == "No such file or directory"


def test_containers_of_one_name_beside_each_other(tmp_path):
    for suffix in ("tar", "zip"):
        WRITERS[suffix](tmp_path / f"x.{suffix}", {"a.png": SMALL["a.png"]})
    assert [item.id for item in list_images(tmp_path).items] == ["x.tar/a", "x.zip/a"]
    with pytest.raises(InputError, match=r"two images would have the id 'x/a\.png'"):
        list_images([tmp_path / "x.tar", tmp_path / "x.zip"])


def test_a_container_given_twice_is_named(tmp_path, suffix):
    file = tmp_path / f"x.{suffix}"
    WRITERS[suffix](file, SMALL)
    (tmp_path / f"link.{suffix}").symlink_to(file)
    with pytest.raises(InputError, match=rf"x\.{suffix} is given twice; name it once$"):
        list_images([file, str(file)])
    with pytest.raises(InputError, match=rf"link\.{suffix} is given twice, also as .*x\.{suffix}; name it once$"):
        list_images([file, tmp_path / f"link.{suffix}"])
    (tmp_path / "list.txt").write_text(f"x.{suffix}\nlink.{suffix}\n")
    with pytest.raises(InputError, match="is given twice, also as"):
        list_images(tmp_path / "list.txt")


def test_a_container_without_photos(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"x.{suffix}", {})
    with pytest.raises(InputError, match=rf"^found no image in .*x\.{suffix} \(0 other files\)"):
        list_images(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("garbage", [b"", b"no container", b"\0" * 3000, b"\xff" * 3000])
def test_what_is_no_container_is_one_line(tmp_path, suffix, garbage):
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(garbage)
    with pytest.raises(InputError) as raised:
        list_images(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    if garbage != b"\0" * 3000 or suffix != "tar":  # zeros are an archive of nothing
        (tmp_path / "shards").mkdir()
        WRITERS[suffix](tmp_path / "shards" / f"a.{suffix}", SMALL)
        (tmp_path / "shards" / f"b.{suffix}").write_bytes(garbage)
        *good, bad = list_images(tmp_path / "shards").items
        assert (len(good), bad.id) == (len(SMALL), "b#end")
        assert f"b.{suffix}" in reason(bad)


def test_a_container_with_an_odd_name(tmp_path, suffix):
    folder = tmp_path / os.fsdecode(b"\xff #1") / "a?b%20"
    folder.mkdir(parents=True)
    file = folder / f"x#!y.{suffix}"
    WRITERS[suffix](file, SMALL)
    items = list_images(str(file).replace("/a?b", "///a?b")).items
    assert [content(item) for item in items] == list(SMALL.values())
    assert items[0].id == f"x#!y/{keys_of(suffix, SMALL)[0]}"


def test_what_takes_files_only_says_so(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"x.{suffix}", SMALL)
    with pytest.raises(InputError, match=rf"^.*x\.{suffix} holds its photos inside: unpack it, and give the folder$"):
        list_files(tmp_path / f"x.{suffix}")


# --- containers that change ---


def test_a_container_that_changed_is_named_and_gives_no_wrong_photo(tmp_path, suffix, monkeypatch):
    file = tmp_path / f"x.{suffix}"
    WRITERS[suffix](file, SMALL)
    items = list_images(file).items
    assert content(items[0]) == SMALL["a.png"]
    os.utime(file, ns=(1, 1))
    assert reason(items[0]) == f"{file} has changed since it was listed: extract again"
    file.unlink()
    WRITERS[suffix](file, dict.fromkeys(SMALL, SMALL["h.png"]))
    for item in items[1:]:
        with pytest.raises(ImageProblem, match=f"{file} has changed since it was listed"):
            assert content(item) in SMALL.values()
    file.unlink()
    monkeypatch.setattr(containers, "_FILES", Cache(lambda key: containers.OpenFile(key[0]), limit=1))
    assert reason(items[0]) == f"{file} cannot be opened: No such file or directory"


def test_photos_of_a_touched_container_are_described_again_as_files_are(tmp_path, suffix):
    file, output = tmp_path / f"x.{suffix}", tmp_path / "out.h5"
    WRITERS[suffix](file, SMALL)
    extract(file, FakeEngine(), output)
    assert extract(file, FakeEngine(), output).computed == 0
    os.utime(file, ns=(1, 1))
    made = extract(file, FakeEngine(), output)
    assert (made.computed, made.note) == (len(SMALL), f"0 new, {len(SMALL)} changed, 0 gone, 0 as they were")
    assert extract(file, FakeEngine(), output).computed == 0


def test_by_their_bytes_photos_of_a_touched_container_stay(tmp_path, suffix):
    file, output = tmp_path / f"x.{suffix}", tmp_path / "out.h5"
    WRITERS[suffix](file, SMALL)
    extract(file, FakeEngine(), output, checksum=True)
    os.utime(file, ns=(1, 1))
    made = extract(file, FakeEngine(), output, checksum=True)
    assert (made.computed, made.note) == (
        0,
        f"0 new, 0 changed, 0 gone, {len(SMALL)} as they were ({len(SMALL)} of them only touched)",
    )
    assert extract(file, FakeEngine(), output).computed == 0, "the new time is known"
    file.unlink()
    WRITERS[suffix](file, {**SMALL, "a.png": SMALL["h.png"]})  # every photo lies elsewhere now, and one is another
    assert extract(file, FakeEngine(), output, checksum=True).note.startswith("0 new, 1 changed, 0 gone")


def test_a_container_that_is_touched_while_it_is_described_is_described_to_the_end(tmp_path, suffix):
    file, output = tmp_path / f"x.{suffix}", tmp_path / "out.h5"
    WRITERS[suffix](file, SMALL)

    class Touching(FakeEngine):
        def run(self, pixels):
            os.utime(file, ns=(1, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(file, Touching(), output, batch_size=2, shard_size=2)
    assert extract(file, FakeEngine(), output, batch_size=2, shard_size=2).failures == []
    extract(file, FakeEngine(), output)
    assert extract(file, FakeEngine(), output).computed == 0


# --- opening is cheap and safe ---


def test_many_threads_open_many_containers(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(containers, "_FILES", Cache(lambda key: containers.OpenFile(key[0]), limit=3))
    for number in range(8):
        files = {f"{name}{number}.png": data + bytes([number]) for name, data in SMALL.items()}
        WRITERS[suffix](tmp_path / f"{number}.{suffix}", files)
    items = list_images(tmp_path).items
    order = [items[row] for row in np.random.default_rng(0).permutation(np.tile(np.arange(len(items)), 20))]
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(content, order))
    expected = {
        item.id: data + bytes([int(item.id[0])]) for item, data in zip(items, list(SMALL.values()) * 8, strict=True)
    }
    assert contents == [expected[item.id] for item in order]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_a_large_photo_costs_its_row(tmp_path, suffix, monkeypatch):
    files = {"a.png": SMALL["a.png"], "b.bmp": bytes(100_000), "c.png": SMALL["c.png"]}
    WRITERS[suffix](tmp_path / f"x.{suffix}", files)
    monkeypatch.setattr(containers, "MAX_MEMBER_BYTES", 50_000)
    one, large, two = list_images(tmp_path / f"x.{suffix}").items
    assert (content(one), content(two)) == (files["a.png"], files["c.png"])
    assert reason(large) == "the photo has 100000 bytes, limit 50000 in a container: unpack it"


def test_a_row_group_that_is_too_large_is_named(tmp_path, monkeypatch):
    WRITERS["parquet"](tmp_path / "x.parquet", SMALL)
    monkeypatch.setattr(tables, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(InputError, match=r"x.parquet has row groups of \d+ bytes, limit 1000: write it again"):
        list_images(tmp_path / "x.parquet")


def test_a_cache_makes_each_value_once_and_keeps_what_fits():
    made: list[int] = []
    gate = threading.Event()

    def make(key: int) -> bytes:
        gate.wait(5)
        made.append(key)
        if key == 99:
            raise OSError("gone")
        return bytes(key)

    cache = Cache(make, limit=10, size_of=len, least=1)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(cache.get, 4) for _ in range(6)]
        gate.set()
        assert {len(one.result()) for one in asked} == {4}
    assert made == [4]
    assert [len(cache.get(key)) for key in (5, 4, 6, 5)] == [5, 4, 6, 5]  # 5 is the one that goes for 6
    assert made == [4, 5, 6, 5]
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            cache.get(99)
    assert made[4:] == [99, 99]
    assert len(cache.get(30)) == 30


@pytest.mark.timeout(120)
def test_listing_keeps_nothing_of_a_member_in_memory(tmp_path):
    """A hundred thousand more members take no megabytes more, beside SQLite's 8."""
    peaks = []
    for count in (20_000, 120_000):
        write_tar(tmp_path / "x.tar", {f"{number:09d}.jpg": b"" for number in range(count)})
        code = (
            "import sys; from isc_fast.sources.listing import list_images\n"
            "assert len(list_images(sys.argv[1]).found) == int(sys.argv[2])\n"
            "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "x.tar"), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 15, peaks


def test_paths_that_are_none_are_problems():
    for path in ("tar:///x.tar//a.jpg#1,2,z,4", "tar:///x.tar//a.jpg", "tar://"):
        assert reason(Item("a", path)) == "this is not the path of a photo in a container"
    assert Path("/x.tar").exists() or "cannot be opened" in reason(Item("a", "tar:///x.tar//a.jpg#1,2,3,4"))
