"""Any mix of executors, kills, orders and shares of arrays leads to one manifest. The long form is `tests/cluster/any_mix.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("simplejpeg")
pytestmark = pytest.mark.slow

from helpers_files import with_two_that_are_none
from mixes import SIZES, play
from ray_room import Room

import isc_fast
from isc_fast.descriptors.manifest import read_manifest
from isc_fast.extraction.pipeline import extract


@pytest.fixture
def photos(tmp_path, folder_of) -> Path:
    """22 photos and two files that are none: three shards."""
    return with_two_that_are_none(folder_of(tmp_path / "in", 22))


@pytest.fixture
def manifest(tmp_path, photos) -> bytes:
    extract(photos, "demo", f"{tmp_path}/first/", **SIZES)
    return (tmp_path / "first" / "manifest.json").read_bytes()


def check(manifest: bytes, photos: Path, output: str) -> None:
    """Nothing is lost, nothing is doubled, and the manifest is that of one run."""
    home = Path(output)
    if home.is_dir():
        assert (home / "manifest.json").read_bytes() == manifest
    found = isc_fast.read_descriptors(output)
    assert sorted(found.ids) == sorted(path.stem for path in photos.iterdir() if "bad" not in path.name)
    assert sum(part.rows for part in read_manifest(output).parts) == 22


def test_a_mix_with_a_cluster(tmp_path, photos, manifest):
    pytest.importorskip("ray")
    with Room() as room:
        room.be_slow()
        how = {"address": room.address, "actors": room.pids, "environment": room.environment}
        done = play(4, photos, f"{tmp_path}/out/", parts=lambda: len(list(tmp_path.glob("out/*/part-*.h5"))), **how)
    assert done["ray"]
    assert sum(count for what, count in done.items() if "killed" in what)
    check(manifest, photos, f"{tmp_path}/out/")


@pytest.mark.parametrize("seed", range(2))
def test_a_mix_in_a_bucket(photos, manifest, bucket, seed):
    url = f"{bucket.url}/out/"
    play(seed, photos, url, environment=os.environ)
    check(manifest, photos, url)
    there = bucket.client.get_object(Bucket=bucket.name, Key="out/manifest.json")["Body"].read()
    assert there == manifest
