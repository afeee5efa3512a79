"""What a run on a cluster decides without a cluster: addresses, patience, which machines are alike."""

from __future__ import annotations

import pytest
from talking_server import SETTINGS, server_that_says

from isc_fast.errors import InputError
from isc_fast.extraction.runners.cluster import SHARDS, Cluster, split_address
from isc_fast.extraction.runners.patience import Patience
from isc_fast.extraction.runners.ray_address import find_cluster
from isc_fast.machine.likeness import hardware, unlike


@pytest.mark.parametrize(
    ("text", "expected"),
    [("head:6379", ("head", 6379)), ("10.0.0.1:1", ("10.0.0.1", 1)), ("[::1]:6379", ("::1", 6379))],
)
def test_an_address(text, expected):
    assert split_address(text) == expected


@pytest.mark.parametrize("text", ["", "head", "head:", ":1", "head:0", "head:70000", "head:x", "a/b:1", "http://a:1/b"])
def test_no_address(text):
    with pytest.raises(InputError, match="is no address of a Ray cluster; expected HOST:PORT"):
        split_address(text)


def test_which_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert find_cluster(None) is None
    (tmp_path / "ray").mkdir()
    with server_that_says([SETTINGS] * 3) as here:
        assert find_cluster(here) == here
        (tmp_path / "ray" / "ray_current_cluster").write_text(here)
        assert find_cluster(None) == here
        monkeypatch.setenv("RAY_ADDRESS", "local")
        assert find_cluster(None) is None
        monkeypatch.setenv("RAY_ADDRESS", here)
        (tmp_path / "ray" / "ray_current_cluster").unlink()
        assert find_cluster(None) == here
    with pytest.raises(InputError, match=f"no Ray cluster answers at {here} "):
        find_cluster(None)
    monkeypatch.delenv("RAY_ADDRESS")
    (tmp_path / "ray" / "ray_current_cluster").write_text(here)
    assert find_cluster(None) is None, "one that ended is not joined, and another is started"


def test_patience_grows_with_the_median():
    patience = Patience(600)
    assert patience.limit_s == 600
    for seconds in (100, 1, 40):
        patience.took(seconds)
    assert patience.limit_s == SHARDS * 40
    for _ in range(1000):
        patience.took(1)
    assert patience.limit_s == 600


@pytest.mark.parametrize("wrong", [{"workers": (0, 1)}, {"workers": (3, 2)}, {"cores": 0}, {"patience_s": 0}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(InputError):
        Cluster(**wrong)


def test_machines_that_are_alike_and_not():
    here = hardware("CPU")
    assert unlike(here, dict(here)) is None
    assert {"processor", "isc-fast", "numpy"} <= set(here)
    first = {"processor": "x86_64 avx2 avx512f", "onnxruntime": "1.32.0"}
    assert unlike(first, {**first, "processor": "x86_64 avx2"}) == "a processor with no avx512f"
    assert unlike(first, {**first, "processor": "x86_64 avx2 amx_int8"}) == "a processor with no avx512f and amx_int8"
    assert unlike(first, {**first, "onnxruntime": "1.33.0"}) == "onnxruntime 1.33.0, not 1.32.0"
    assert unlike(first, {**first, "gpu": "NVIDIA H100"}) == "gpu NVIDIA H100, not none"
