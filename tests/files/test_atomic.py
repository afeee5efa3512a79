"""Temporary files: nobody else's name, nobody's prepared link, gone with their writer; folders that cannot be synced."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isc_fast.errors import OutputError
from isc_fast.files import atomic
from isc_fast.files.atomic import make_folder, replacing, try_to_write, write_text

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys, time
from isc_fast.files.atomic import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def nothing_swept(monkeypatch):
    """Every test stands for a process of its own."""
    monkeypatch.setattr(atomic, "_swept", set())


def started_writer(path: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_writer_left_goes_with_the_next_file_and_what_a_living_one_writes_stays(tmp_path):
    killed, left = started_writer(tmp_path / "a")
    living, held = started_writer(tmp_path / "b")
    try:
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        assert left.exists()
        write_text(tmp_path / "c", "whole")
        assert not left.exists()
        assert held.read_bytes() == b"half"
    finally:
        living.kill()
        living.wait()
    assert sorted(os.listdir(tmp_path)) == [held.name, "c"]


def test_files_that_only_look_alike_stay(tmp_path):
    others = (".x.tmp", "x.isc-fast.tmp", ".a.12345.tmp", ".a.0123456789abcdeg.isc-fast.tmp")
    for name in others:
        (tmp_path / name).write_text("mine")
    write_text(tmp_path / "c", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "c"])


def test_a_prepared_link_is_not_followed(tmp_path, monkeypatch):
    """Whoever guesses the name of a temporary file can put a link there."""
    names = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: next(names))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / f".out.{'0' * 16}.isc-fast.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "out", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    write_text(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "new"


def test_two_writers_of_one_file_have_two_temporary_files(tmp_path):
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "x").read_text() == "one"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "\N{GRINNING FACE}" * 63, "\udcff" * 255])
def test_the_longest_names_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]


def test_a_name_that_is_too_long_is_the_system_s_error(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        write_text(tmp_path / ("x" * 256), "text")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_nothing_can_be_synced_files_are_written_all_the_same(tmp_path, monkeypatch, number):
    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"


def test_a_disk_that_fails_is_still_an_error(tmp_path, monkeypatch):
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_text(tmp_path / "x", "text")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_nobody_may_make_says_what_to_do():
    with pytest.raises(OutputError, match=r"^cannot make the folder /sys/isc-fast: .*; choose another output"):
        make_folder("/sys/isc-fast")


def test_a_trial_leaves_nothing_and_touches_nothing(tmp_path):
    (tmp_path / "x").write_text("old")
    try_to_write(tmp_path / "x")
    try_to_write(tmp_path / "y")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"
    for path, words in ((tmp_path / "none" / "x", "its folder does not exist"), (tmp_path, "it is a folder")):
        with pytest.raises(OutputError, match=words):
            try_to_write(path)
