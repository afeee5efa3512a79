"""The seam between the package and whatever holds the photos: a toy source in memory, and a toy kind of input."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes import FakeEngine
from images import UNKNOWN, encode, make_zoo, noise

from isc_fast import extract
from isc_fast.decoders.base import DECODERS, Decoder, make_decoder
from isc_fast.decoders.opening import ImageProblem, open_photo
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.decoders.rules import load_input, load_rgb
from isc_fast.descriptors.store import load_descriptors
from isc_fast.errors import InputError
from isc_fast.items import Item, Photo, Problem
from isc_fast.sources import listing
from isc_fast.sources.base import Entry, Kind, Source, opener
from isc_fast.sources.choice import Choice
from isc_fast.sources.listing import Listing, as_source, list_images, open_item

SIZE = Preprocessing(20, 28)


class InMemory(Source):
    """Serves the files of a folder from memory, and one photo of which it only knows that it is gone."""

    inputs = ("a toy",)

    def __init__(self, files: dict[str, bytes], missing: Sequence[str] = ()) -> None:
        self.files, self.missing = files, missing
        self.threads: set[str] = set()

    def list(self) -> Listing:
        return Listing([Item(name.rpartition(".")[0], name) for name in sorted([*self.files, *self.missing])])

    def open(self, item: Item) -> Photo:
        self.threads.add(threading.current_thread().name)
        if item.path in self.missing:
            return Problem("read", "the toy has lost it")
        return self.files[item.path]


@pytest.fixture(params=DECODERS, scope="module")
def decoder(request) -> Decoder:
    if request.param.startswith("dali"):
        pytest.importorskip("nvidia.dali")
    elif request.param != "pillow":
        pytest.importorskip("simplejpeg")
        pytest.importorskip("cykooz_resizer")
    try:
        return make_decoder(request.param, 2)
    except InputError as error:  # there is no GPU
        pytest.skip(str(error))


# --- every decoder takes every kind of photo ---


def _raise(error: Exception) -> Photo:
    raise error


@pytest.mark.timeout(120)
def test_content_is_decoded_as_its_file_is(tmp_path, decoder):
    paths = [str(tmp_path / name) for name in make_zoo(tmp_path) if _readable(tmp_path / name)]
    contents = [Path(path).read_bytes() for path in paths]
    (by_path,) = decoder.batches([paths], SIZE)
    for photos in (contents, [partial(bytes, content) for content in contents], [partial(str, path) for path in paths]):
        (batch,) = decoder.batches([photos], SIZE)
        assert list(batch.problems) == list(by_path.problems)
        np.testing.assert_array_equal(batch.pixels, by_path.pixels)
    assert len([problem for problem in by_path.problems if problem]) > 20


def test_problems_pass_through_and_spoil_no_neighbour(photos, decoder):
    good, problem = str(photos[0]), Problem("read", "the bucket is gone")
    given: list[Photo] = [
        problem,
        good,
        lambda: problem,
        lambda: _raise(OSError(5, "Input/output error")),
        lambda: _raise(KeyError("no such key")),
        lambda: lambda: Path(good).read_bytes(),
        b"",
        b"no photo",
    ]
    (batch,) = decoder.batches([given], SIZE)
    assert list(batch.problems)[:-1] == [
        problem,
        None,
        problem,
        Problem("read", "[Errno 5] Input/output error"),
        Problem("read", "'no such key'"),
        None,
        Problem("decode", "the file is empty"),
    ]
    assert UNKNOWN in batch.problems[-1].reason
    np.testing.assert_array_equal(batch.pixels[1], batch.pixels[5])
    failed = [i for i, found in enumerate(batch.problems) if found]
    assert not batch.pixels[failed].any()


def test_a_photo_is_opened_by_the_threads_of_the_decoder(decoder, photos):
    source = InMemory({photo.name: photo.read_bytes() for photo in photos[:6]})
    give = opener(source)
    for _ in decoder.batches([[give(item) for item in source.list().items]], SIZE):
        pass
    assert source.threads
    assert all(name.startswith("decode") for name in source.threads)


def test_the_content_of_a_photo_is_not_copied():
    content = os.urandom(1000)
    with open_photo(content) as stream:
        assert stream.read() is content


def test_a_problem_is_an_image_problem_for_single_photos():
    with pytest.raises(ImageProblem, match="gone") as raised:
        load_rgb(Problem("read", "gone"))
    assert raised.value.problem == Problem("read", "gone")


# --- extraction from a source ---


@pytest.fixture
def toy(tmp_path, photos) -> tuple[InMemory, Path]:
    """Photos in memory, and a folder of the same; in both one is damaged and one is missing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    files = {photo.name: photo.read_bytes() for photo in photos[:9]} | {"damaged.jpg": photos[0].read_bytes()[:999]}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "gone.jpg").symlink_to("nowhere")
    return InMemory(files, ["gone.jpg"]), folder


@pytest.mark.parametrize("name", ["pillow", "turbo", "dali-cpu"])
def test_extract_makes_the_same_rows_from_memory_as_from_a_folder(tmp_path, toy, name):
    pytest.importorskip({"turbo": "simplejpeg", "dali-cpu": "nvidia.dali", "pillow": "PIL"}[name])
    source, folder = toy
    made = extract(source, FakeEngine(), tmp_path / "memory.h5", decoder=name)
    extract(folder, FakeEngine(), tmp_path / "folder.h5", decoder=name)
    one, two = load_descriptors(tmp_path / "memory.h5"), load_descriptors(tmp_path / "folder.h5")
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert list(one.ids) == list(two.ids)
    assert made.count == 9
    assert [(row.id, row.path, row.stage) for row in one.failures] == [
        ("damaged", "damaged.jpg", "decode"),
        ("gone", "gone.jpg", "read"),
    ]
    assert one.failures[0].reason == two.failures[0].reason
    assert one.failures[1].reason == "the toy has lost it"


def test_a_source_is_resumed_and_told_from_another(tmp_path, toy):
    source, _ = toy
    done = extract(source, FakeEngine(), tmp_path / "out.h5", batch_size=2)
    source.threads.clear()
    again = extract(source, FakeEngine(), tmp_path / "out.h5")
    assert (again.count, again.computed, source.threads) == (done.count, 0, set())
    with h5py.File(tmp_path / "out.h5") as file:
        before = dict(file.attrs)
    del source.files["damaged.jpg"]
    source.missing = []
    made = extract(source, FakeEngine(), tmp_path / "out.h5", overwrite=True)
    assert (made.computed, len(made.failures)) == (9, 0)
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file.attrs) == set(before)


def test_a_limit_is_the_first_of_a_source(tmp_path, toy):
    source, _ = toy
    made = extract(source, FakeEngine(), tmp_path / "out.h5", limit=3)
    assert load_descriptors(made.path).ids == [item.id for item in source.list().items if item.id != "damaged"][:3]


def test_what_a_source_raises_is_a_row_of_the_ledger(tmp_path, photos):
    class Broken(InMemory):
        def open(self, item: Item) -> Photo:
            return super().open(item) if "good" in item.id else _raise(ConnectionError("reset by peer"))

    files = {name: photos[0].read_bytes() for name in ("a.jpg", "good.jpg", "z.jpg")}
    made = extract(Broken(files), FakeEngine(), tmp_path / "out.h5")
    assert (made.count, [row.reason for row in made.failures]) == (1, ["reset by peer"] * 2)


def test_several_processes_refuse_a_source_that_only_this_one_has(tmp_path, toy):
    with pytest.raises(InputError, match=r"this source opens its photos in this process only.*name one device"):
        extract(toy[0], "demo", tmp_path / "out.h5", devices=["cpu", "cpu"])


def test_files_are_a_source_too(tmp_path, photos, folder_of, monkeypatch):
    folder_of(tmp_path / "photos", 3)
    monkeypatch.chdir(tmp_path)
    source = as_source("photos")
    assert list(source.inputs) == [f"{tmp_path}/photos", "ids=auto"]
    items = source.list().items
    assert [item.path for item in items] == [f"{tmp_path}/photos/{item.id}.jpg" for item in items]
    assert [source.open(item) for item in items] == [item.path for item in items]
    relative = list_images("photos")
    assert relative.items[0].path == f"photos/{items[0].id}.jpg"
    assert as_source(relative) is relative
    assert relative.list().items == items


# --- a toy kind of input: one row of the table, and nothing else changes ---


def _entries(archive: str, _choice: Choice) -> Iterator[Entry | None]:
    for line in Path(archive).read_text().splitlines():
        name, _, _ = line.partition(" ")
        yield (name, f"toy://{os.path.abspath(archive)}!{name}", "") if name != "README" else None


def _open(path: str) -> Photo:
    archive, _, wanted = path.removeprefix("toy://").rpartition("!")
    for line in Path(archive).read_text().splitlines():
        name, _, content = line.partition(" ")
        if name == wanted:
            return bytes.fromhex(content)
    return Problem("read", f"{archive} has no {wanted}")


TOY = Kind("a toy archive", lambda path: path.endswith(".toy"), _entries, holds=True, scheme="toy", open=_open)


def test_a_kind_of_input_is_one_row_of_the_table(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(listing, "KINDS", (*listing.KINDS, TOY))
    pictures = {f"{name}.png": encode(noise(40, 30, seed=number), "PNG") for number, name in enumerate("cab")}
    lines = [f"{name} {content.hex()}" for name, content in {**pictures, "README": b"hello"}.items()]
    (tmp_path / "x.toy").write_text("\n".join(lines))
    found = list_images([tmp_path / "x.toy", photos[0]])
    assert [item.id for item in found.items] == ["x.toy/a", "x.toy/b", "x.toy/c", photos[0].stem]
    assert found.ignored == 1
    monkeypatch.chdir(tmp_path)
    made = extract("x.toy", FakeEngine(), tmp_path / "out.h5")
    pixels = np.stack([load_input(pictures[f"{name}.png"], 32, 32) for name in "abc"])
    np.testing.assert_array_equal(load_descriptors(made.path).vectors, FakeEngine().run(pixels))
    with pytest.raises(ImageProblem, match=r"has no z\.png"):
        load_rgb(open_item(Item("z", f"toy://{tmp_path}/x.toy!z.png")))
    with pytest.raises(InputError, match="nor a toy archive"):
        list_images(_written(tmp_path / "x.doc"))


def _written(path: Path) -> Path:
    path.touch()
    return path


def _readable(path: Path) -> bool:
    """Whether a file of the zoo has content: some are folders, and some are links to what cannot be read."""
    try:
        return path.is_file() and path.read_bytes() is not None
    except OSError:
        return False
