"""The list of slow tests is made by measuring, and whichever test comes first does not pay for what several need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import slow_tests

spent = [0.0]
slow_tests._processor_time = lambda: spent[0]
slow_tests.LIST = Path(__file__).with_name("list.txt")

def pytest_addoption(parser):
    parser.addoption("--note-slow", action="store_true")

def pytest_configure(config):
    config.pluginmanager.register(slow_tests)
"""
SUITE = """
import pytest
from conftest import spent

@pytest.fixture(scope="module")
def deep(): spent[0] += 0.7

@pytest.fixture(scope="module")
def wide(deep): spent[0] += 0.1

@pytest.fixture(scope="module")
def cheap(): spent[0] += 0.3

def test_first(wide): pass
def test_second(deep): pass
def test_cheap(cheap): spent[0] += 0.4
def test_dear(cheap): spent[0] += 0.6
def test_alone(): spent[0] += 0.4

@pytest.mark.parametrize("cost", [0.1, 1.0])
def test_mean(cost): spent[0] += cost

@pytest.mark.parametrize("cost", [0.1, 0.8])
def test_cheap_mean(cost): spent[0] += cost
"""


def test_users_of_a_dear_fixture_are_slow_and_the_first_user_of_a_cheap_one_is_not(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(Path(__file__).parents[1])))
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "list.txt").write_text("test_gone.py::test_it\ntest_it.py::test_alone\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--note-slow"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    listed = (tmp_path / "list.txt").read_text().splitlines()
    slow = {"test_first", "test_second", "test_dear", "test_mean"}
    assert listed == ["test_gone.py::test_it", *sorted(f"test_it.py::{name}" for name in slow)]
