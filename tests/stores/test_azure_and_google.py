"""Buckets of Azure and of Google: the contract of stores at emulators of both, and photos in and parts out through them."""

from __future__ import annotations

import base64
import time
import traceback

import pytest
from buckets import created_by_eight
from emulators import EMULATORS, KEY, Emulator, through_json
from fakes import FakeEngine
from spoiling_proxy import Proxy, at_random, proxy_to

from isc_fast.cli.main import main
from isc_fast.errors import StoreError
from isc_fast.extraction.pipeline import extract
from isc_fast.stores import store as module
from isc_fast.stores.store import Store, store_of
from isc_fast.stores.trouble import NoObject, trouble_of

pytest.importorskip("obstore")


@pytest.fixture(scope="module", params=EMULATORS)
def emulator(request, tmp_path_factory):
    with EMULATORS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def calm(emulator: Emulator, monkeypatch):
    """The way to the emulator, which spoils nothing yet."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)
    with proxy_to(emulator.port, lambda _method, _path: None) as proxy:
        if emulator.scheme == "gs":
            through_json(proxy)
        emulator.use(monkeypatch, proxy.url)
        yield proxy


def test_objects_are_listed_looked_at_and_read(emulator, calm):
    files = {f"one/{number:04d}.jpg": b"%d" % number for number in range(30)}
    files |= {"one/sub/ü #1.jpg": b"abc", "oneq.jpg": b"x"}
    emulator.put(files)
    store = store_of(emulator.url)
    listed = [meta for block in store.list("one") for meta in block]
    assert [meta.key for meta in listed] == sorted(key for key in files if key.startswith("one/"))
    for meta in listed:
        assert store.head(meta.key).size == meta.size == len(files[meta.key])
        content, again = store.read(meta.key, 1 << 20)
        assert (content, again.stamp) == (files[meta.key], store.head(meta.key).stamp)
    assert store.read_range("one/sub/ü #1.jpg", 1, 3)[0] == b"bc"
    assert store.read("one/sub/ü #1.jpg", 2)[0] == b""
    with pytest.raises(NoObject, match="there is no such object"):
        store.read("one/none", 9)
    store.remove("one/0000.jpg")
    store.remove("one/0000.jpg")
    assert sum(len(block) for block in store.list("one")) == len(listed) - 1


def test_the_stamp_of_a_listing_is_that_of_the_object(emulator, calm):
    """A photo that did not change is not described anew, whoever looked at it last."""
    emulator.put({"stamp/x": b"a"})
    store = store_of(emulator.url)
    [[meta]] = store.list("stamp")
    assert meta.stamp == store.head("stamp/x").stamp == store.read("stamp/x", 9)[1].stamp
    emulator.put({"stamp/x": b"b"})
    assert store.head("stamp/x").stamp != meta.stamp


def test_an_object_is_created_once_and_never_replaced(emulator, calm):
    store = store_of(emulator.url)
    made = created_by_eight(store, "new/x")
    assert sorted(made) == [False] * 7 + [True]
    first = store.read("new/x", 9)[0]
    assert store.create("new/x", first)
    assert not store.create("new/x", b"other")
    assert store.read("new/x", 9)[0] == first


def test_a_quarter_of_spoilt_requests_changes_nothing(emulator, calm: Proxy):
    files = {f"many/{number:04d}": b"%d" % number * 50 for number in range(60)}
    emulator.put(files)
    calm.spoil = at_random(0.25)
    store = store_of(emulator.url)
    for _ in range(3):
        assert [meta.key for block in store.list("many") for meta in block] == list(files)
    for key, content in files.items():
        assert store.read(key, 1 << 20)[0] == content
        assert store.read_range(key, 2, 9)[0] == content[2:9]
        assert store.create("made/" + key, content)
        assert not store.create("made/" + key, b"other")
    assert all(calm.seen[kind] for kind in ("503", "cut before", "answer lost", "cut body", "slow"))


def test_photos_in_and_parts_out(emulator, calm, tmp_path, folder_of, capsys):
    folder = folder_of(tmp_path / "in", 10)
    emulator.put({f"in/{path.name}": path.read_bytes() for path in folder.iterdir()})
    sizes = {"batch_size": 2, "shard_size": 4}
    engine = FakeEngine()
    extract(folder, engine, f"{tmp_path}/here/", **sizes)
    extract(f"{emulator.url}/in/", engine, f"{tmp_path}/from/", **sizes)
    made = extract(folder, engine, f"{emulator.url}/out/", **sizes)
    whole = (tmp_path / "here" / "manifest.json").read_bytes()
    store = store_of(emulator.url)
    assert store.read("out/manifest.json", 1 << 20)[0] == whole
    assert made.computed == 10
    assert extract(folder, engine, f"{emulator.url}/out/", **sizes).computed == 0
    parts = {path.relative_to(tmp_path / "here").as_posix(): path for path in (tmp_path / "here").rglob("part-*.h5")}
    assert len(parts) == 3
    for name, path in parts.items():
        assert store.read(f"out/{name}", 1 << 20)[0] == path.read_bytes()
    for output in (f"{tmp_path}/from.h5", f"{tmp_path}/there.h5"):
        given = f"{emulator.url}/out/" if "there" in output else f"{tmp_path}/from/"
        assert main(["assemble", given, "-o", output]) == 0
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    everything += b"".join(store.read(meta.key, 1 << 24)[0] for block in store.list("out") for meta in block)
    assert KEY.encode() not in everything
    assert KEY not in "".join(capsys.readouterr())


# --- what goes wrong, each in one line and in seconds


def refused(call) -> str:
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        call()
    assert time.monotonic() - began < 10
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dead_endpoint_and_a_bucket_that_is_not_there(emulator, calm, monkeypatch):
    nowhere = f"{emulator.scheme}://no-such-place"
    for call in (lambda: next(Store(nowhere).list("p")), lambda: Store(nowhere).create("p", b"x")):
        if (
            emulator.scheme == "az"
        ):  # fake-gcs-server answers 500 to the listing, and 404 as for an object to the create
            said = refused(call)
            assert said.startswith(f"there is no bucket {nowhere} at http://127.0.0.1:")
            assert "AZURE_STORAGE_ACCOUNT_NAME" in said
    emulator.use(monkeypatch, "http://127.0.0.1:9")
    said = refused(lambda: next(store_of(emulator.url).list("p")))
    assert said.startswith(f"cannot reach {emulator.url} at http://127.0.0.1:9: no connection; ")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"wrong" * 13).decode()}, "does not let these credentials"),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "another"}, "does not let these credentials"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "not Base64!"}, "cannot be used: the account's key is not Base64"),
        ({"AZURE_STORAGE_ACCOUNT_NAME": None}, "cannot be used: no storage account is named"),
    ],
)
def test_wrong_credentials_of_azure(emulator, calm, monkeypatch, change, why):
    if emulator.scheme != "az":
        pytest.skip("fake-gcs-server asks for no credentials")
    for name, value in change.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    for call in (lambda: next(Store(emulator.url).list("p")), lambda: Store(emulator.url).create("p", b"x")):
        said = refused(call)
        assert why in said
        assert "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" in said


def test_a_file_of_google_s_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert "service account is not there, or is none; set GOOGLE_APP" in refused(lambda: Store("gs://photos").head("x"))
    (tmp_path / "none.json").write_text("{}")
    assert "service account is not there, or is none" in refused(lambda: Store("gs://photos").head("x"))


@pytest.mark.parametrize("code", ["BlobArchived", "BlobBeingRehydrated"])
def test_a_blob_in_an_archive(code):
    text = f"Server returned non-2xx status code: 409 Conflict: <Error><Code>{code}</Code></Error>"
    trouble = trouble_of(Exception(text), "az://photos", "az://photos/x")
    assert isinstance(trouble.error, NoObject)
    assert "archive tier" in str(trouble.error)
    assert not trouble.passes
