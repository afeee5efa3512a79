"""Addresses: what is taken for one, what may not be in one, and what a path of a photo says."""

from __future__ import annotations

import pytest

from isc_fast.errors import InputError
from isc_fast.stores.urls import (
    Meta,
    beside,
    fold,
    is_url,
    join,
    meta_of,
    path_of,
    read_name,
    split,
    unfold,
    unseen,
    without_stamp,
)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("file:///a/b%20c.jpg", "/a/b c.jpg"),
        ("file://localhost/a.jpg", "/a.jpg"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("photos/a.jpg", "photos/a.jpg"),
        ("s3:/not/an/address", "s3:/not/an/address"),
        ("-", "-"),
    ],
)
def test_names_are_read_as_they_are_meant(given, meant):
    assert read_name(given) == meant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s4://b/x", r"there is no scheme s4://; expected a path, file:// or one of s3://"),
        ("gcs://b/x", r"did you mean gs://\?"),
        ("s3:///x", r"s3:// names no bucket; expected s3://NAME/KEY"),
        ("file://host/x", r"names a file of another machine"),
        ("https://me:marker@host/a.jpg", r"https://…@host has a password in it"),
        ("https://host/a.jpg?X-Amz-Signature=marker", r"https://host has a query \(\?…\)"),
    ],
)
def test_what_is_refused_says_why_and_keeps_secrets(given, message):
    with pytest.raises(InputError, match=message) as raised:
        read_name(given)
    assert "marker" not in str(raised.value)


def test_a_file_of_that_name_goes_before_an_unknown_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x:").mkdir()
    (tmp_path / "x:" / "a.txt").touch()
    assert read_name("x://a.txt") == "x://a.txt"


def test_keys_are_as_they_are_in_buckets_and_quoted_on_the_web():
    assert split("s3://b/p/a%20b#1.jpg") == ("s3://b", "p/a%20b#1.jpg")
    assert split("https://h/p/a%20b.jpg") == ("https://h", "p/a b.jpg")
    assert split("s3://b") == split("s3://b/") == ("s3://b", "")
    assert join("https://h", "p/a b.jpg") == "https://h/p/a%20b.jpg"


@pytest.mark.parametrize("key", ["p/a.jpg", "p/a#b.jpg", "p/a#1,2,3", "ü%.jpg"])
def test_a_path_says_what_was_seen(key):
    meta = Meta(key, 12345, 17 * 10**17, (1 << 63) - 1)
    path = path_of("s3://b", meta)
    assert meta_of(path) == meta
    assert without_stamp(path) == f"s3://b/{key}"
    assert meta_of(unseen(f"s3://b/{key}")) is None
    assert is_url(path)


@pytest.mark.parametrize(
    ("folder", "name", "meant"),
    [
        ("/lists", "a.jpg", "/lists/a.jpg"),
        ("/lists", "s3://b/a.jpg", "s3://b/a.jpg"),
        ("/lists", "file:///x/a.jpg", "/x/a.jpg"),
        ("s3://b/lists", "sub/a.jpg", "s3://b/lists/sub/a.jpg"),
        ("s3://b/lists", "../a.jpg", "s3://b/a.jpg"),
        ("s3://b/lists", "../../../a.jpg", "s3://b/a.jpg"),
        ("https://h/lists", "a b.jpg", "https://h/lists/a%20b.jpg"),
    ],
)
def test_lists_name_what_lies_beside_them(folder, name, meant):
    assert beside(folder, name) == meant


def test_addresses_fold_into_the_paths_of_containers():
    for url in ("s3://b/x.tar", "https://h/x.tar"):
        assert "//" not in fold(url)
        assert unfold(fold(url)) == url
    assert unfold("/photos/x.tar") == "/photos/x.tar"
