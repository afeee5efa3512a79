"""Comparing in tasks on a Ray cluster: a real one. What else may happen to its workers, `tests/extraction/test_ray.py` tries."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("simplejpeg")
pytestmark = pytest.mark.slow

from helpers_search import at_once, two_sides
from ray_room import Room, until

import isc_fast
from isc_fast.errors import MismatchError
from isc_fast.runs import join_tool
from isc_fast.runs.searching import search_to_folder


def test_workers_on_a_cluster_one_of_which_is_killed(tmp_path, monkeypatch):
    """The bytes are those of one process; and a node that has other descriptors there says so."""
    sides = two_sides(tmp_path)
    with Room() as room:
        for name, value in room.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        cluster = isc_fast.Cluster(room.address, workers=(2, 2), patience_s=120)
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
        room.forget()
        # What the others have of their own on a cluster is how a worker opens their work.
        for name, on in (("here", None), ("there", cluster)):
            isc_fast.find_duplicates(sides[1], tmp_path / f"dedup-{name}", threshold=0.9, search_cluster=on)
            isc_fast.normalize_to_folder(sides[1], sides[0], tmp_path / f"normalized-{name}", cluster=on)
            isc_fast.find_copies(*sides, tmp_path / f"find-{name}", threshold=0.8, search_cluster=on)
            isc_fast.find_leaks(sides[1], [sides[0]], tmp_path / f"leaks-{name}", threshold=0.8, search_cluster=on)
        compared = ("dedup-{}/pairs.csv", "dedup-{}/remove.csv", "find-{}/matches.csv", "leaks-{}/pairs.csv")
        for file in (*compared, "normalized-{}/manifest.json"):
            assert (tmp_path / file.format("there")).read_bytes() == (tmp_path / file.format("here")).read_bytes()
        monkeypatch.setattr(join_tool, "identity_of", lambda *_: "0" * 64)
        with pytest.raises(MismatchError, match=r"has other descriptors at .* than the machine that began the run"):
            search_to_folder(*sides, tmp_path / "other", k=3, cluster=cluster)
        assert not (tmp_path / "other").exists()
