"""Comparing in tasks on a Ray cluster: a real one. What else may happen to its workers, `tests/extraction/test_ray.py` tries."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("simplejpeg")
pytestmark = pytest.mark.slow

from helpers_search import at_once, two_sides
from ray_room import Room, until

import isc_fast
from isc_fast.errors import MismatchError
from isc_fast.runs.tasks import join_tool
from isc_fast.runs.tasks.searching import search_to_folder


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with pytest.MonkeyPatch.context() as patch, Room() as room:
        for name, value in room.environment.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield room


@pytest.fixture
def cluster(room: Room) -> isc_fast.Cluster:
    room.forget()
    return isc_fast.Cluster(room.address, workers=(2, 2), patience_s=120)


def test_workers_on_a_cluster_one_of_which_is_killed(tmp_path, room, cluster):
    """The bytes are those of one process."""
    sides = two_sides(tmp_path)
    room.be_slow()
    killed: list[int] = []

    def kill_one(done: int, *_: int) -> None:
        if not killed and len(room.pids()) == 2 and done >= 2:
            killed.append(room.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    made = search_to_folder(*sides, tmp_path / "out", k=3, shard_size=64, cluster=cluster, progress=kill_one)
    assert Path(str(made.matches)).read_bytes() == at_once(sides, k=3)
    assert killed
    assert made.tasks <= len(room.noted("run")) <= made.tasks + 1, "it costs the task that it worked on"
    until(lambda: not room.pids())


KINDS = {
    "dedup": ("remove.csv", lambda sides, out, **on: isc_fast.find_duplicates(sides[1], out, threshold=0.9, **on)),
    "find": ("matches.csv", lambda sides, out, **on: isc_fast.find_copies(*sides, out, threshold=0.8, **on)),
    "leaks": ("pairs.csv", lambda sides, out, **on: isc_fast.find_leaks(sides[1], sides[:1], out, threshold=0.8, **on)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_have_of_their_own_is_how_a_worker_opens_their_work(tmp_path, cluster, kind):
    sides = two_sides(tmp_path)
    file, run = KINDS[kind]
    run(sides, tmp_path / "here")
    run(sides, tmp_path / "there", search_cluster=cluster)
    assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()


def test_normalising(tmp_path, cluster):
    sides = two_sides(tmp_path)
    for name, on in (("here", None), ("there", cluster)):
        isc_fast.normalize_to_folder(sides[1], sides[0], tmp_path / name, cluster=on)
    assert (tmp_path / "there" / "manifest.json").read_bytes() == (tmp_path / "here" / "manifest.json").read_bytes()


def test_a_node_that_has_other_descriptors_says_so(tmp_path, monkeypatch, cluster):
    monkeypatch.setattr(join_tool, "identity_of", lambda *_: "0" * 64)
    with pytest.raises(MismatchError, match=r"has other descriptors at .* than the machine that began the run"):
        search_to_folder(*two_sides(tmp_path), tmp_path / "other", k=3, cluster=cluster)
    assert not (tmp_path / "other").exists()
