"""Standard streams that are closed, full or narrow; names that would steer a terminal; signals wherever they come."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from isc_fast.cli.output import one_printable_line, printable
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors

ROOT = Path(__file__).resolve().parents[2]
ISC_FAST = f"{sys.executable} -m isc_fast"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = np.eye(3, dtype=np.float32)
    write_descriptors(tmp_path / "x.h5", Descriptors(rows, ["a", "b", "c"], {"engine_id": "0" * 64}))
    return tmp_path / "x.h5"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_in_no_file(file, closed):
    out = file.with_name("matches.csv")
    done = shell(f"{ISC_FAST} search {file} {file} -o {out} {closed}; echo status $? >&1")
    assert done.stdout.splitlines()[-1] == "status 0"
    assert "Traceback" not in done.stderr
    assert out.read_text().splitlines()[:2] == ["query_id,reference_id,score", "a,a,1.0"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_one_line(file, unbuffered):
    done = shell(f"{ISC_FAST} info {file} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (
        1, "error: cannot write to standard output: No space left on device\n",
    )  # fmt: skip


def test_a_full_standard_error_costs_no_work(file):
    out = file.with_name("matches.csv")
    done = shell(f"{ISC_FAST} search {file} {file} -o {out} 2>/dev/full")
    assert done.returncode == 0
    assert done.stdout == f"{out}: 9 pairs of 3 queries and 3 references\n"


def test_narrow_streams_take_any_name():
    done = shell(f"{ISC_FAST} info $'\\xc3\\xa9\\xff.h5'", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert done.stderr == "error: there is no \\xe9\udcff.h5; expected a file or folder that isc-fast reads or writes\n"


def test_what_steers_a_terminal_is_shown_as_its_number(file):
    name = "a\x1b]0;title\x07\nb\u202ec.h5"
    done = subprocess.run(
        [sys.executable, "-m", "isc_fast", "info", name], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stderr.startswith("error: there is no a\\x1b]0;title\\x07\\nb\\u202ec.h5; expected a file or folder")
    assert printable("one\ntwo\tthree \x9b31m é") == "one\ntwo\tthree \\x9b31m é"
    assert one_printable_line("one\ntwo") == "one\\ntwo"


def test_an_unpaired_surrogate_in_a_message_is_no_traceback(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"query_id": "q", "reference_id": "r", "score": "\\ud800"}\n')
    done = shell(f"{ISC_FAST} info {path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}, line 1: ")
    assert done.stderr.count("\n") == 1


AT_EVERY_POINT = """
import os, signal, sys
from isc_fast.descriptors import patient
name, number = sys.argv[1], int(sys.argv[2])
honest, left = getattr(patient.PatientFile, name), [number]
def interrupted(self, *arguments):
    left[0] -= 1
    if left[0] == 0: os.kill(os.getpid(), signal.SIGINT)
    return honest(self, *arguments)
setattr(patient.PatientFile, name, interrupted)
from isc_fast.cli.main import main
status = main(sys.argv[3:])
print("points", min(number, number - left[0]), flush=True)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("call", "number"), [("write", 1), ("write", 2), ("write", 5), ("seek", 1), ("seek", 5), ("truncate", 1)]
)
def test_an_interrupt_inside_hdf5_ends_with_130(tmp_path, file, call, number):
    """HDF5 calls Python to write, and cannot pass on what Python raises."""
    out = tmp_path / "out.h5"
    command = [sys.executable, "-c", AT_EVERY_POINT, call, str(number), "convert", str(file), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert f"points {number}" in done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith("interrupted; run the same command again\n")
    assert sorted(os.listdir(tmp_path)) in (["x.h5"], ["out.h5", "x.h5"])


@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_that_is_ignored_from_the_start_stays_ignored(tmp_path, file, ignored):
    """A script's background ignores SIGINT."""
    code = "import signal, sys\n" + ("signal.signal(signal.SIGINT, signal.SIG_IGN)\n" if ignored else "")
    code += "import os\nfrom isc_fast.cli import info, main\nhonest = info.run\n"
    code += "def run(arguments):\n os.kill(os.getpid(), signal.SIGINT)\n return honest(arguments)\n"
    code += "info.run = run\nsys.exit(main.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "info", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if ignored else 130), done.stderr


def test_the_second_signal_ends_the_process_without_a_word(tmp_path):
    code = (
        "import os, signal, sys, threading, time\nfrom isc_fast.cli import info, main\n"
        "def run(arguments):\n threading.Thread(target=time.sleep, args=(60,)).start()\n os.kill(os.getpid(), signal.SIGINT)\n"
        "info.run = run\nstatus = main.main(['info', 'x'])\nprint('first', flush=True)\nsys.exit(status)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_nothing_is_imported_before_an_interrupt_is_caught():
    """Beside what Python has loaded to begin: each import would take milliseconds in which Ctrl-C prints a traceback."""
    code = "import sys; before = set(sys.modules); import isc_fast.__main__; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    ours = {"isc_fast", "isc_fast.__main__", "isc_fast.silence", "__future__", "openvino_telemetry"}
    assert set(done.stdout.split()) <= ours


def test_an_interrupt_during_the_imports_ends_quietly():
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'isc_fast.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from isc_fast.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("kind", ["folder", "list", "zip"])
def test_ids_are_the_same_in_a_locale_without_their_letters(tmp_path, photos, kind):
    """A folder that was described in the locale C is known in any other; names in lists and archives are text."""
    pytest.importorskip("faiss")
    (tmp_path / "in").mkdir()
    for name in ("日本語.jpg", "b.jpg"):
        shutil.copy(photos[0], tmp_path / "in" / name)
    (tmp_path / "list.txt").write_text("in/日本語.jpg\nin/b.jpg\n", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "zip.zip", "w") as archive:
        for path in sorted((tmp_path / "in").iterdir()):
            archive.write(path, path.name)
    given = tmp_path / {"folder": "in", "list": "list.txt", "zip": "zip.zip"}[kind]
    command = f"{sys.executable} -m isc_fast dedup {given} -o {tmp_path / 'out'}"
    plain = shell(command, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="utf-8")
    assert plain.returncode == 0, plain.stderr
    table = (tmp_path / "out" / "pairs.csv").read_text(encoding="utf-8")
    assert "日本語" in table
    again = shell(command, PYTHONUTF8="1")
    assert again.returncode == 0, again.stderr
    assert not re.search(r"[1-9]\d* (new|changed|gone)", again.stderr), "the ids are those that are there"
    assert (tmp_path / "out" / "pairs.csv").read_text(encoding="utf-8") == table
