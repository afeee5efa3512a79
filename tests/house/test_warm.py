"""Programs that a process with torch forks are processes like those that `subprocess` starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import warm

pytestmark = pytest.mark.slow  # torch is imported

FACTS = """
import json, os, random, sys
print("heard", file=sys.stderr)
facts = {"name": __name__, "words": sys.argv, "folder": os.getcwd(), "first": sys.path[0], "own": os.environ.get("OWN")}
print(json.dumps({**facts, "random": random.random(), "pid": os.getpid(), "home": os.environ.get("HOME")}))
"""


@pytest.fixture
def script(tmp_path):
    """Write a script and return its path."""

    def write(text):
        (tmp_path / "script.py").write_text(text)
        return str(tmp_path / "script.py")

    return write


def test_a_script_finds_what_a_new_python_gives_it(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [script(FACTS), "a", "b c"]
    environment = {"OWN": "é", "PATH": os.environ["PATH"]}
    cold = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=True)
    facts = []
    for done in (cold, warm.run(words, timeout=60, environment=environment), warm.run(words, timeout=60)):
        assert (done.returncode, done.stderr) == (0, "heard\n")
        facts.append(json.loads(done.stdout))
    same = ("name", "words", "folder", "first", "own", "home")
    assert [facts[0][key] for key in same] == [facts[1][key] for key in same]
    assert facts[2]["own"] is None
    assert facts[2]["home"] == os.environ.get("HOME")
    assert len({(one["random"], one["pid"]) for one in facts}) == 3


@pytest.mark.parametrize(
    ("text", "status", "heard"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('said')", 1, "said\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("import atexit, os; atexit.register(os.write, 2, b'at its end')", 0, "at its end"),
    ],
)
def test_ends_are_told(script, text, status, heard):
    done = warm.run([script(text)], timeout=60)
    assert done.returncode == status == subprocess.run([sys.executable, script(text)], check=False).returncode
    assert heard in done.stderr


def test_their_processor_time_is_known(script):
    before = warm.spent_s()
    text = "import time\nwhile time.process_time() < 0.3: pass"
    assert warm.run([script(text)], timeout=60).returncode == 0
    assert warm.spent_s() - before > 0.25


def test_a_module_is_run_too():
    done = warm.run(["-m", "isc_fast", "--version"], timeout=60)
    assert (done.returncode, done.stdout[:9]) == (0, "isc-fast ")
    done = warm.run(["-m", "isc_fast", "nothing"], timeout=60)
    assert done.returncode == 2
    assert "usage: isc-fast" in done.stderr


def test_what_takes_too_long_is_killed(script, tmp_path):
    file = tmp_path / "pid"
    text = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); print('begun', flush=True); time.sleep(600)"
    warm.run(["-m", "isc_fast", "--version"], timeout=60)  # so that the imports are done
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        warm.run([script(text)], timeout=2)
    assert caught.value.output == "begun\n"
    for _ in range(100):
        if not os.path.exists(f"/proc/{file.read_text()}"):
            return
        time.sleep(0.1)
    pytest.fail("it still runs")


def test_ranks_find_each_other_and_the_one_that_fails_is_told(script):
    text = """
import os, sys, torch
torch.distributed.init_process_group("gloo")
value = torch.tensor([float(os.environ["RANK"]) + 1])
torch.distributed.all_reduce(value)
torch.distributed.destroy_process_group()
print(value.item())
sys.exit(int(os.environ["RANK"]) if "fail" in sys.argv else 0)
"""
    done = warm.run_ranks([script(text)], 2, timeout=60)
    assert (done.returncode, done.stdout) == (0, "3.0\n")
    assert warm.run_ranks([script(text), "fail"], 2, timeout=60).returncode == 1
