"""Extraction on a Ray cluster: a real one, with the demo's engine. The long form is `tests/cluster`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("simplejpeg")
pytestmark = pytest.mark.slow

from fakes import FakeEngine
from images import noise
from PIL import Image
from ray_room import Room, lives, until
from talking_server import SETTINGS, server_that_says

import isc_fast
from isc_fast.cli.main import main
from isc_fast.errors import EngineError, InputError
from isc_fast.extraction.job import Request
from isc_fast.extraction.pipeline import extract, extract_with
from isc_fast.extraction.runners import ray_address
from isc_fast.extraction.runners.cluster import Cluster
from isc_fast.extraction.runners.ray_runner import on_ray
from isc_fast.items import Item
from isc_fast.sources.base import Source
from isc_fast.sources.listing import Listing

SIZES = {"batch_size": 2, "shard_size": 4}


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with pytest.MonkeyPatch.context() as patch, Room() as room:
        for name, value in room.environment.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.syspath_prepend(room.site)
        yield room


@pytest.fixture
def cluster(room: Room) -> Cluster:
    room.forget()
    return Cluster(room.address, workers=(2, 2), patience_s=120)


@pytest.fixture
def inputs(tmp_path, folder_of) -> Path:
    """22 photos and two that are none: six shards of `SIZES`."""
    folder = folder_of(tmp_path / "in", 22)
    for name in ("0bad.jpg", "zbad.jpg"):
        (folder / name).write_text("no picture")
    return folder


@pytest.fixture
def whole(tmp_path, inputs) -> bytes:
    extract(inputs, "demo", tmp_path / "whole.h5", **SIZES)
    return (tmp_path / "whole.h5").read_bytes()


# --- what happens to workers


def test_a_killed_worker_costs_its_shards_alone(tmp_path, inputs, whole, room, cluster):
    """And the result has the bytes of one process."""
    room.be_slow()
    steps: list[tuple[int, int, int]] = []
    killed: list[int] = []

    def kill_one(*step: int) -> None:
        steps.append(step)
        if not killed and len(room.pids()) == 2 and step[0] >= 4:
            killed.append(room.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    made = extract(inputs, "demo", tmp_path / "o.h5", cluster=cluster, progress=kill_one, **SIZES)
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert killed
    assert (made.count, made.computed, len(made.failures)) == (22, 24, 2)
    assert (steps[0], steps[-1]) == ((0, 24, 0), (24, 24, 2))
    parts = [part for _, part in room.noted("part")]
    assert {*parts} == {*range(6)}
    assert len(parts) <= 6 + 1, "at most the shard that was stored when its worker was killed is stored twice"
    assert len(room.noted("run")) <= 12 + 4, "two shards were in its hands"
    until(lambda: not room.pids())


def test_a_photo_that_kills_costs_itself_alone(tmp_path, inputs, room, cluster):
    """The result has the bytes of a run here whose photos were isolated."""
    Image.fromarray(noise(64, 64)).save(inputs / "5poison.jpg")
    extract(inputs, "demo", tmp_path / "isolated.h5", isolated=True, **SIZES)
    room.forget()
    made = extract(inputs, "demo", tmp_path / "o.h5", cluster=cluster, **SIZES)
    assert len(room.noted("dies")) == 3, "two workers, and the process that found out"
    assert (tmp_path / "o.h5").read_bytes() == (tmp_path / "isolated.h5").read_bytes()
    assert {failure.id: failure.stage for failure in made.failures}["5poison"] == "decode"


# --- machines that are not alike


def test_an_unlike_worker_is_refused_or_mixed(tmp_path, inputs, whole, room, cluster, caplog):
    for mixed in (False, True):
        room.forget()
        with on_ray(replace(cluster, mixed=mixed), "demo", "cpu", {}, isolated=False) as runner:
            assert runner.facts.default_batch_size  # the first worker has said what it is
            (room.control / "unlike").touch()
            if mixed:
                extract_with(runner, inputs, tmp_path / "o.h5", Request(**SIZES))
                assert sorted(runner.made_on) == [*range(6)]
                assert len({machine["processor"] for machine in runner.made_on.values()}) == 2
            else:
                with pytest.raises(EngineError, match=r"was refused: a processor with no .*; --mixed allows that"):
                    extract_with(runner, inputs, tmp_path / "o.h5", Request(**SIZES))
            (note,) = runner.notes
        assert note in caplog.text
        assert ("are mixed" in note) == mixed
    assert (tmp_path / "o.h5").read_bytes() == whole  # the processor is the same, whatever that worker said of it


# --- what is refused, each in one line


def refused(kind: type[Exception], *arguments: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        extract(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_address_where_nothing_answers(tmp_path, inputs, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        began = time.monotonic()
        command = ["extract", str(inputs), "--engine", "demo", "-o", str(tmp_path / "o.h5"), "--ray", address]
        assert main(command) == 1
    assert time.monotonic() - began < 15
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: no Ray cluster answers at {address} (Connection refused); start one there: ray start"
    )
    assert not (tmp_path / "o.h5.parts").exists()


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([], "no answer in 1 s"),  # a head that stands still: the system takes connections for it
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "what answers there is something else"),
    ],
)
def test_a_server_that_is_no_cluster(tmp_path, inputs, monkeypatch, answers, why):
    monkeypatch.setattr(ray_address, "CONNECT_S", 1.0)
    with server_that_says(answers) as address:
        text = refused(InputError, inputs, "demo", tmp_path / "o.h5", cluster=Cluster(address))
    assert text.startswith(f"no Ray cluster answers at {address} ({why}); ")


def test_a_head_that_goes_while_it_is_joined(tmp_path, inputs, monkeypatch):
    """Joining has no clock of its own: it waits as long as the head answers."""
    monkeypatch.setattr(ray_address, "CONNECT_S", 1.0)
    with server_that_says([SETTINGS] * 2) as address:
        text = refused(InputError, inputs, "demo", tmp_path / "o.h5", cluster=Cluster(address))
    assert text.startswith(f"cannot join the Ray cluster at {address} (")
    assert "; this machine must be one of its nodes" in text


def test_photos_in_memory_and_loaded_engines(tmp_path, room, cluster):
    class Memory(Source):
        def list(self) -> Listing:
            return Listing([Item("a", "a")])

        def open(self, item: Item) -> bytes:
            return b""

    text = refused(InputError, Memory(), "demo", tmp_path / "o.h5", cluster=cluster)
    assert "opens its photos in this process only" in text
    text = refused(InputError, tmp_path, FakeEngine(), tmp_path / "o.h5", cluster=cluster)
    assert "give the path of its file" in text


def test_a_node_without_the_engine_and_a_cluster_without_room(tmp_path, inputs, room, cluster):
    engine = tmp_path / "gone.onnx"
    text = refused(EngineError, inputs, engine, tmp_path / "o.h5", cluster=cluster)
    assert text.startswith(f"the node {socket.gethostname()} has no file {engine}; ")
    large = Cluster(room.address, cores=64, patience_s=3)
    text = refused(EngineError, inputs, "demo", tmp_path / "o.h5", cluster=large)
    assert text.startswith(
        "0 of 1 workers were there after 3 s; each needs 64 cores, and the cluster had 2 cores and 0 GPUs"
    )


# --- the command line, and a driver that ends


def command(room: Room, *words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "isc_fast", "extract", *map(str, words), "--engine", "demo", "--ray", room.address]
    line += ["--workers", "1:2", "--batch-size", "2", "--shard-size", "4"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_an_interrupted_run_leaves_no_worker_and_goes_on(tmp_path, inputs, whole, room):
    room.forget()
    room.be_slow()
    output = tmp_path / "o.h5"
    process = command(room, inputs, "-o", output)
    until(lambda: list(tmp_path.glob("o.h5.parts/part-*")) or process.poll() is not None)
    pids = room.pids()
    assert pids
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 10, "5 s on an idle machine"
    assert process.returncode == 130
    assert re.search(r"interrupted: [1-9]\d* of \d+ photos are kept; run the same command again\n$", err)
    until(lambda: not any(map(lives, pids)))
    (room.control / "slow").unlink()
    process = command(room, inputs, "-o", output)  # at once
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.startswith(f"{output}: 22 descriptors, 2 images failed")
    assert out.count("\n") == 1, "nothing of Ray's"
    assert all(line.startswith(("extract: ", "failed: ", "note: ")) for line in err.splitlines()), err
    assert output.read_bytes() == whole


def test_the_flags_of_the_command_line(tmp_path, capsys):
    words = ["extract", str(tmp_path), "--engine", "demo", "-o", str(tmp_path / "o.h5")]
    for more, said in (
        (["--workers", "2:8"], "--workers MIN:MAX is about workers on a Ray cluster"),
        (["--mixed"], "--mixed is about workers on a Ray cluster"),
        (["--worker-cores", "2"], "--worker-cores is about"),
        (["--workers", "3:2", "--ray"], "workers are 3:2; expected MIN:MAX with 1 ≤ MIN ≤ MAX"),
        (["--worker-cores", "0", "--ray"], "a worker needs 1 core at least, not 0"),
        (["--ray", "nowhere"], "'nowhere' is no address of a Ray cluster; expected HOST:PORT"),
        (["--ray", "ray://head:10001"], "is the address of a Ray client"),
        (["--ray", "--threads", "2"], "on a cluster a worker has as many threads as cores"),
        (["--ray", "--device", "cuda:0,1"], "on a cluster the device is cpu or cuda"),
    ):
        assert main([*words, *more]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    with pytest.raises(SystemExit):
        main([*words, "--workers", "a:b"])
    assert isc_fast.Cluster is Cluster
