"""Which tests take long. ``--fast`` leaves them out; ``--note-slow`` measures anew and writes the list ``slow_tests.txt``.

    pytest -n logical --fast --note-slow

A test is slow if it takes more than half a second of processor time, with the processes that it starts and waits for; of a test
with parameters, the mean counts. So is every test of a fixture of a module or session that takes so long: whichever test comes
first pays for it, and if that one is left out, the next one does. Tests with the marker ``slow`` are slow in any case: those that
need packages beyond the fast environment's, and those whose time is spent in waiting. A test that is not in the list, such as a
new one, is fast.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

LIST = Path(__file__).with_suffix(".txt")
MOST_S = 0.5
_BEGAN = pytest.StashKey[float]()
_PREPARED: dict[tuple[str, str], float] = {}  # what each fixture of a module or session took, by its place and name
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
    return sum(os.times()[:4]) + warm.spent_s()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell the process that collects the results, with the last report of a test, what the test took."""
    if call.when == "teardown" and _BEGAN in item.stash:
        fixtures = getattr(item, "fixturenames", ())
        shared = [s for (place, name), s in _PREPARED.items() if name in fixtures and item.nodeid.startswith(place)]
        item.user_properties.append(("cpu_s", max([_processor_time() - item.stash[_BEGAN], *shared])))
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what a fixture of several tests takes, and do not count it for the test that comes first."""
    item = getattr(request, "_pyfuncitem", None)
    if item is None or fixturedef.scope == "function" or _BEGAN not in item.stash:
        yield
        return
    began, counted_from = _processor_time(), item.stash[_BEGAN]
    yield
    nested = item.stash[_BEGAN] - counted_from  # of fixtures that this one asked for, which are counted already
    took = _processor_time() - began - nested
    item.stash[_BEGAN] += took
    _PREPARED[fixturedef.baseid, fixturedef.argname] = took


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
