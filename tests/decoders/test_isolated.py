"""Decoding in processes of their own: the same pixels, and what ends a process costs one photo."""

from __future__ import annotations

import contextlib
import os
import signal

import numpy as np
import pytest
from images import encode, noise

from isc_fast.decoders import isolated
from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.errors import InputError
from isc_fast.items import Problem

SMALL = Preprocessing(64, 48)


def pid_of(child: isolated._Child) -> int:
    return child._process.pid


@pytest.mark.parametrize("name", ["pillow", "turbo"])
def test_pixels_problems_and_order_are_the_same(tmp_path, photos, name):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    jobs = [
        [str(photo) for photo in photos[:5]],
        [str(tmp_path / "broken.jpg"), photos[5].read_bytes(), lambda: photos[6].read_bytes(), Problem("read", "gone")],
        [str(tmp_path / "missing.jpg"), str(photos[7])],
    ]
    plain = list(make_decoder(name, 2).batches(jobs, SMALL))
    apart = make_decoder(name, 2, isolated=True)
    made = list(apart.batches(jobs, SMALL))
    assert apart.name == name
    assert [batch.problems for batch in made] == [batch.problems for batch in plain]
    for one, other in zip(made, plain, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


class Killing:
    """Room in memory that first sends a signal to the process that asks, where a photo is large."""

    def __init__(self, decoder: isolated.IsolatedDecoder, sent: signal.Signals) -> None:
        self.decoder, self.sent, self.pids = decoder, sent, set()

    @contextlib.contextmanager
    def taken(self, size: int):
        (child,) = self.decoder._children
        self.pids.add(pid_of(child))
        if size > 1_000_000:
            os.kill(pid_of(child), self.sent)
        yield


@pytest.mark.parametrize(("sent", "words"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL")])
def test_a_crash_costs_one_photo(tmp_path, photos, monkeypatch, sent, words):
    large = encode(noise(900, 900), "PNG")
    small = encode(noise(30, 30), "PNG")
    decoder = make_decoder("pillow", 1, isolated=True)
    killing = Killing(decoder, sent)
    monkeypatch.setattr(isolated, "ROOM", killing)
    (batch,) = decoder.batches([[small, large, small, large, small]], SMALL)
    assert [problem is not None for problem in batch.problems] == [False, True, False, True, False]
    assert words in batch.problems[1].reason
    assert not batch.pixels[1].any()
    np.testing.assert_array_equal(batch.pixels[0], batch.pixels[4])
    assert len(killing.pids) == 3
    for pid in killing.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_hang_costs_one_photo(monkeypatch):
    """The process is stopped, so it does not answer."""
    large, small = encode(noise(900, 900), "PNG"), encode(noise(30, 30), "PNG")
    monkeypatch.setattr(isolated, "PHOTO_S", 5.0)
    decoder = make_decoder("pillow", 1, isolated=True)
    monkeypatch.setattr(isolated, "ROOM", Killing(decoder, signal.SIGSTOP))
    (batch,) = decoder.batches([[small, large, small]], SMALL)
    assert [problem and problem.reason for problem in batch.problems] == [None, "not decoded within 5 s", None]


def test_what_decodes_on_a_gpu_is_not_isolated():
    with pytest.raises(InputError, match="cannot be isolated; use the decoder turbo or pillow"):
        make_decoder("dali-cpu", 1, isolated=True)
