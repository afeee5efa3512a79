"""The door to stores, at a real server of S3 behind a proxy that spoils requests."""

from __future__ import annotations

import socket
import time
import traceback

import pytest
from buckets import KEY_ID, SECRET, created_by_eight, use
from spoiling_proxy import at_random, proxy_to

from isc_fast.errors import InputError, StoreError
from isc_fast.stores import store as module
from isc_fast.stores.profiles import profile_options
from isc_fast.stores.store import Store, store_of
from isc_fast.stores.trouble import NoObject


@pytest.fixture
def soon(monkeypatch):
    """No pauses between the tries of a call."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)


def test_objects_are_listed_looked_at_and_read(bucket):
    files = {f"p/{number:04d}.jpg": b"%d" % number for number in range(30)} | {
        "p/sub/ü #1%20.jpg": b"abc",
        "pq.jpg": b"x",
    }
    bucket.put(files)
    store = store_of(bucket.url)
    listed = [meta for block in store.list("p") for meta in block]
    assert [meta.key for meta in listed] == sorted(key for key in files if key.startswith("p/"))
    for meta in listed:
        assert store.head(meta.key).stamp == meta.stamp
        content, again = store.read(meta.key, 1 << 20)
        assert (content, again.stamp, again.modified_ns) == (files[meta.key], meta.stamp, meta.modified_ns)
    assert store.read_range("p/sub/ü #1%20.jpg", 1, 3)[0] == b"bc"
    assert store.read("p/sub/ü #1%20.jpg", 2)[0] == b""


def test_a_stamp_changes_with_the_content_and_not_with_the_copy(bucket):
    store = store_of(bucket.url)
    stamps = []
    for content in (b"a", b"a", b"b"):
        bucket.put({"x": content})
        stamps.append(store.head("x").stamp)
    assert stamps[0] == stamps[1] != stamps[2]


def test_a_quarter_of_spoilt_requests_changes_nothing(bucket, monkeypatch, tmp_path, soon):
    """Listings of several pages, reads and ranges; and creates, of which an answer that is lost is not "there already"."""
    files = {f"p/{number:04d}": b"%d" % number * 50 for number in range(1200)}
    bucket.put(files)
    with proxy_to(bucket.port, at_random(0.25)) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        store = store_of(bucket.url)
        for _ in range(4):
            assert [meta.key for block in store.list("p") for meta in block] == list(files)
        for key in list(files)[:60]:
            assert store.read(key, 1 << 20)[0] == files[key]
            assert store.read_range(key, 2, 9)[0] == files[key][2:9]
            assert store.create("new/" + key, files[key])
            assert not store.create("new/" + key, b"other")
        assert all(proxy.seen[kind] for kind in ("503", "cut before", "answer lost", "cut body", "slow"))
    assert bucket.client.get_object(Bucket=bucket.name, Key="new/p/0000")["Body"].read() == files["p/0000"]


def test_of_many_who_create_one_object_one_does(bucket):
    store = store_of(bucket.url)
    made = created_by_eight(store, "x")
    assert sorted(made) == [False] * 7 + [True]


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "InvalidAccessKeyId", "does not know the access key; set AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "refuses the signature, so the secret key is wrong"),
        (403, "ExpiredToken", "credentials have expired; .*run the same command again"),
        (403, "AccessDenied", r"does not let these credentials read .*403 AccessDenied"),
        (404, "NoSuchBucket", "there is no bucket s3://b at http://127.0.0.1:.*AWS_ENDPOINT_URL"),
        (301, "PermanentRedirect", "lies in another region; set AWS_REGION to its region"),
        (400, "AuthorizationHeaderMalformed", "lies in another region; set AWS_REGION=eu-west-1"),
        (503, "SlowDown", "cannot reach s3://b at http://127.0.0.1:.*: it answers 503"),
    ],
)
def test_what_a_store_says_is_one_line_that_says_what_to_do(monkeypatch, tmp_path, soon, status, code, message):
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><Region>eu-west-1</Region></Error>".encode()
    with proxy_to(1, lambda _method, _path: None) as proxy:
        proxy.forward = lambda *_: (status, [("Content-Type", "application/xml")], body)
        use(monkeypatch, tmp_path, proxy.url)
        for call in (lambda: next(Store("s3://b").list("p")), lambda: Store("s3://b").read("p/x", 9)):
            with pytest.raises(StoreError, match=message) as raised:
                call()
            told = "".join(traceback.format_exception(raised.value))
            assert SECRET not in told
            assert KEY_ID not in told
            assert "\n" not in str(raised.value)


def test_a_missing_object_is_no_fault_of_the_store(bucket):
    with pytest.raises(NoObject, match="there is no such object"):
        store_of(bucket.url).read("none", 9)


def test_an_object_in_an_archive_and_one_that_is_always_cut_are_themselves_at_fault(
    bucket, monkeypatch, tmp_path, soon
):
    bucket.put({"x": bytes(1000)})
    with proxy_to(bucket.port, lambda _method, _path: "cut body") as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        with pytest.raises(NoObject, match="cut short at each try"):
            store_of(bucket.url).read("x", 1 << 20)
        assert proxy.seen["cut body"] == module.TRIES
        proxy.spoil = lambda _method, _path: None
        proxy.forward = lambda *_: (403, [], b"<Error><Code>InvalidObjectState</Code></Error>")
        with pytest.raises(NoObject, match="archive tier"):
            store_of(bucket.url).read("x", 1 << 20)


def test_a_name_that_holds_words_of_faults_is_only_a_name(monkeypatch, tmp_path, soon):
    use(monkeypatch, tmp_path, "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="no connection"):
        store_of("s3://b").head("metadata 169.254.1 dns certificate <Code>NoSuchBucket<Code>", first=True)


def test_a_key_that_cannot_be_asked_for_is_named(bucket):
    bucket.put({"p/a//b.jpg": b"x"})
    with pytest.raises(InputError, match=r"holds an object named 'p/a//b.jpg'"):
        next(store_of(bucket.url).list("p"))


@pytest.mark.parametrize("silent", [False, True])
def test_a_dead_address_costs_seconds(monkeypatch, tmp_path, silent):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:
            server.listen(8)  # takes connections and says nothing
        use(monkeypatch, tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer in time" if silent else "no connection"):
            next(store_of("s3://b").list("p"))
        assert time.monotonic() - began < 10


def test_without_credentials_the_line_says_which_to_set(monkeypatch, tmp_path, soon):
    use(monkeypatch, tmp_path, "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="there are no credentials for s3://b; set AWS_ACCESS_KEY_ID"):
        store_of("s3://b").head("x", first=True)


# --- where credentials come from ---


def test_profiles_are_read_where_the_environment_has_no_keys(monkeypatch, tmp_path):
    use(monkeypatch, tmp_path, "http://127.0.0.1:9")
    (tmp_path / "no-credentials").write_text("[work]\naws_access_key_id = A\naws_secret_access_key = B\n")
    (tmp_path / "no-config").write_text("[profile work]\nregion = eu-west-3\n[profile sso]\nsso_session = x\n")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert profile_options() == {}  # the keys of the environment go before
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_REGION")
    assert profile_options() == {"access_key_id": "A", "secret_access_key": "B", "region": "eu-west-3"}
    monkeypatch.setenv("AWS_PROFILE", "sso")
    with pytest.raises(StoreError, match="export-credentials --profile sso"):
        profile_options()
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(StoreError, match="names the profile other"):
        profile_options()


def test_a_store_shows_no_secret(bucket):
    assert repr(store_of(bucket.url)) == f"Store('{bucket.url}')"
