from __future__ import annotations

import sys

import pytest
from fake_gpu import FakeCuda

from isc_fast.errors import EngineError
from isc_fast.machine import gpus
from isc_fast.machine.devices import parse_devices, split_device


def never() -> int:
    raise AssertionError("nobody asked how many GPUs there are")


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("cpu", ["cpu"]),
        ("cpu,cpu", ["cpu", "cpu"]),
        ("cuda", ["cuda:0"]),
        ("cuda:1", ["cuda:1"]),
        ("cuda:0,1", ["cuda:0", "cuda:1"]),
        ("cuda:3, 1,10", ["cuda:3", "cuda:1", "cuda:10"]),
        ("cuda:0,cuda:2", ["cuda:0", "cuda:2"]),
        ("cuda,cuda", ["cuda:0", "cuda:0"]),
        ("cuda:0,0", ["cuda:0", "cuda:0"]),
        (["cuda:0", "cuda:1"], ["cuda:0", "cuda:1"]),
        (("cpu",), ["cpu"]),
    ],
)
def test_lists_of_devices(text, devices):
    assert parse_devices(text, never) == devices


def test_all_of_them():
    assert parse_devices("cuda:all", lambda: 3) == ["cuda:0", "cuda:1", "cuda:2"]
    assert parse_devices(["cuda:all"], lambda: 1) == ["cuda:0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no device ''"),
        ([], "no device is named"),
        ("gpu", "there is no device 'gpu'"),
        ("0,1", "there is no device '0'"),
        ("cpu,1", "there is no device '1'"),
        ("cpu:1", "there is no device 'cpu:1'"),
        ("cuda:0,", "there is no device ''"),
        ("cuda:all,0", "there is no device 'cuda:all'"),
        ("cuda:0,all", "there is no device 'all'"),
        ("cuda:0:1", "there is no device 'cuda:0:1'"),
        ("cuda:-1", "there is no device 'cuda:-1'"),
        ("cpu,cuda", "cpu,cuda:0 is both processor and GPU"),
    ],
)
def test_what_is_no_device(text, words):
    with pytest.raises(EngineError, match=words):
        parse_devices(text, never)


def test_one_device():
    assert split_device("cpu") == ("cpu", 0)
    assert split_device("cuda") == ("cuda", 0)
    assert split_device("cuda:12") == ("cuda", 12)


def test_gpus_are_counted_and_compared(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    fake.devices = [("Fake H100", 9, 0), ("Fake H100", 9, 0), ("Fake T4", 7, 5)]
    assert gpus.count_devices() == 3
    assert parse_devices("cuda:all", gpus.count_devices) == ["cuda:0", "cuda:1", "cuda:2"]
    gpus.check_alike([0, 1, 0])
    with pytest.raises(EngineError, match=r"GPU 1 is a Fake H100 .* and GPU 2 a Fake T4 .* name those of one model"):
        gpus.check_alike([1, 2])
    with pytest.raises(EngineError, match="there is no GPU 7: this process sees 3"):
        gpus.check_alike([0, 7])
    fake.devices = []
    with pytest.raises(EngineError, match="shows no GPU to this process"):
        gpus.count_devices()
