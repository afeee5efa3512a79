"""Fetching ahead: in order, at once, within the limit; what nobody wants any more is forgotten."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from isc_fast.stores.ahead import Ahead


def slow(content: bytes, running: list[int], most: list[int]):
    def fetch() -> bytes:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return content

    return fetch


def test_photos_come_as_they_were_asked_for_and_wait_beside_each_other():
    running, most = [], [0]
    ahead = Ahead(8, 1 << 20)
    begun = [ahead.begin(slow(b"%d" % number, running, most), 1) for number in range(40)]
    assert [one() for one in begun] == [b"%d" % number for number in range(40)]
    assert 1 < max(most) <= 9  # eight, and who asks
    assert ahead.bytes == 0


def test_the_limit_holds_also_for_sizes_that_nobody_knew():
    ahead, lying = Ahead(8, 1000), []

    def fetch() -> bytes:
        lying.append(ahead.bytes)
        return bytes(400)

    begun = [ahead.begin(fetch, 100) for _ in range(30)]
    time.sleep(0.2)
    assert sum(one() == bytes(400) for one in begun) == 30
    assert max(lying) <= 1000  # what is said of them
    assert ahead.bytes == 0


def test_a_photo_above_the_limit_is_fetched_alone():
    ahead = Ahead(2, 10)
    assert [one() for one in [ahead.begin(lambda: bytes(100), 100) for _ in range(4)]] == [bytes(100)] * 4


def test_what_nobody_keeps_is_forgotten():
    ahead, fetched = Ahead(1, 10), []
    kept = ahead.begin(lambda: bytes(10), 10)
    for _ in range(50):
        ahead.begin(lambda: fetched.append(1) or bytes(10), 10)
    gc.collect()
    while ahead.bytes != 10 or not kept._done.is_set():
        time.sleep(0.01)
    del kept
    gc.collect()
    assert ahead.bytes == 0
    assert len(fetched) <= 1


def test_an_error_is_raised_where_the_photo_is_asked_for_and_a_second_call_fetches_again():
    ahead, calls = Ahead(2, 100), []

    def fetch() -> bytes:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            raise KeyError("gone")
        return b"here"

    begun = ahead.begin(fetch, 1)
    with pytest.raises(KeyError, match="gone"):
        begun()
    assert begun() == b"here"
    assert ahead.bytes == 0
