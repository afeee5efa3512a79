"""Which tests take long. ``--fast`` leaves them out; ``--note-slow`` measures anew and writes the list ``slow_tests.txt``.

    pytest -n logical --fast --note-slow

A test is slow if it takes more than half a second of processor time, with the processes that it starts and waits for; of a test
with parameters, the mean counts. Tests with the marker ``slow`` are slow in any case: those that need packages beyond the fast
environment's, and those whose time is spent in waiting. A test that is not in the list, such as a new one, is fast.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

LIST = Path(__file__).with_suffix(".txt")
MOST_S = 0.5
_BEGAN = pytest.StashKey[float]()
_SPENT: dict[str, list[float]] = defaultdict(list)


def function_of(node: str) -> str:
    """The name of a test's function, without its parameters, as the list has it."""
    return node.partition("[")[0]


def is_slow(item: pytest.Item) -> bool:
    """Whether ``--fast`` leaves a test out."""
    return item.get_closest_marker("slow") is not None or function_of(item.nodeid) in _listed()


@functools.cache
def _listed() -> frozenset[str]:
    return frozenset(LIST.read_text("utf-8").splitlines())


def _processor_time() -> float:
    return sum(os.times()[:4])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell the process that collects the results, with the last report of a test, what the test took."""
    if call.when == "teardown" and _BEGAN in item.stash:
        item.user_properties.append(("cpu_s", _processor_time() - item.stash[_BEGAN]))
    yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin to count."""
    if item.config.getoption("--note-slow"):
        item.stash[_BEGAN] = _processor_time()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test took."""
    for name, value in report.user_properties:
        if name == "cpu_s" and report.when == "teardown":
            _SPENT[function_of(report.nodeid)].append(float(str(value)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the list, in the process that collects the results. What was not run stays as it is in the list."""
    if not session.config.getoption("--note-slow") or hasattr(session.config, "workerinput"):
        return
    slow = {name for name, several in _SPENT.items() if sum(several) / len(several) > MOST_S}
    kept = {name for name in _listed() if name not in _SPENT} if LIST.exists() else set()
    LIST.write_text("".join(f"{name}\n" for name in sorted(slow | kept)), encoding="utf-8")
